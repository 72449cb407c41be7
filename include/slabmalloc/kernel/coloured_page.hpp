// SPDX-License-Identifier: MIT
//
// ColouredPage: an embedded page whose slots begin a little above its frame. The amount differs
// from frame to frame. So the objects of different pages do not all compete for the same few cache
// lines, nor do their most used members. (See Bonwick, The Slab Allocator, USENIX Summer 1994,
// section 4.1.)
//
//   frame                                                               (aligned to its size)
//   | colour | slot 0 | slot 1 | … | slot n-1 | unused | remote | local | PageHeader |
//    0 … colours - 1 steps
//
// The colour follows from the frame's address. So no word stores it, and a free finds the slots
// before the frame is a page. It uses the bytes that the slots leave unused, and costs no slot.
//
//   colours = the largest power of two <= unused / step + 1
//   colour  = the highest bits of (frame / bytes of a frame) * 2^32 / golden ratio, mod 2^32
//
// A power of two lets a free find the colour by shifts and a multiplication. The multiplication
// spreads frames at any regular distance over all colours (Knuth, The Art of Computer Programming,
// volume 3, section 6.4).
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/page/embedded_page.hpp"

namespace slabmalloc {

/// A page of `FrameBytes` for objects of `ObjectBytes`, whose first slot is a multiple of
/// `StepBytes`, a power of two, above the frame.
template <std::size_t FrameBytes, std::size_t ObjectBytes, std::size_t StepBytes,
          class AtomicsT = HardwareAtomics>
class ColouredPage : public EmbeddedPage<FrameBytes, AtomicsT> {
  static_assert(is_power_of_two(StepBytes), "a step keeps the slots aligned");
  using Plain = EmbeddedPage<FrameBytes, AtomicsT>;
  static constexpr SlotGeometry slots = Plain::geometry(ObjectBytes);

 public:
  using typename Plain::Header;

  /// The bytes that neither slots nor meta-data use.
  static constexpr std::size_t unused_bytes = FrameBytes - sizeof(Header) -
                                              2 * sizeof(Word) * slots.words -
                                              std::size_t{slots.slots} * slots.object_size;
  /// The number of places that the first slot may have.
  static constexpr std::size_t colours = std::size_t{1}
                                         << highest_bit(unused_bytes / StepBytes + 1);

  static constexpr SlotGeometry geometry(std::size_t object_size) noexcept {
    return object_size == ObjectBytes ? slots : SlotGeometry{};
  }

  /// The number of the place of the first slot of the frame around `address`.
  [[gnu::always_inline]] static std::size_t colour_of(const void* address) noexcept {
    if constexpr (colours == 1) {
      return 0;
    } else {
      const auto number =
          static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(address) / FrameBytes);
      return (number * 0x9E3779B9u) >> (32 - highest_bit(colours));
    }
  }

  [[gnu::always_inline]] static std::byte* slots_of(Header* header) noexcept {
    return Plain::frame_of(header) + colour_of(header) * StepBytes;
  }
  [[gnu::always_inline]] static std::size_t offset_of(const void* address,
                                                      Header* header) noexcept {
    return static_cast<std::size_t>(static_cast<const std::byte*>(address) - slots_of(header));
  }
};

}  // namespace slabmalloc
