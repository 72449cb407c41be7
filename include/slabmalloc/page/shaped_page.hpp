// SPDX-License-Identifier: MIT
//
// ShapedPage: an embedded page whose frame size and first slot are known at run time. So one body
// of code serves pages of every size.
//
//   frame                                                                  (aligned to its size)
//   | colour | slot 0 | slot 1 | … | slot n-1 | unused | remote | local | PageHeader | distance |
//            ^                                                          ^
//            └──────────────────────── distance ────────────────────────┘
//
// The size class holds the frame's size, and so finds the header. The header holds the distance
// from the first slot, 4 bytes that take no room on 64 bits. The supplier of the frame writes it,
// before any zone has the frame, and nobody writes it afterwards.
//
// SizedPage: such a page whose frame size is a constant, and whose slots begin where the frame
// does. A configuration of them has one body of code for all its sizes (class_table.hpp). The zone
// writes the distance, when a frame becomes a page.
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/page/allocable_page.hpp"
#include "slabmalloc/page/embedded_page.hpp"

namespace slabmalloc {

/// A page that tells where its slots begin. Code never constructs one.
template <class AtomicsT>
class ShapedPage {
 public:
  using Atomics = AtomicsT;
  using Header = PageHeader<Atomics>;

 private:
  struct ShapedHeader : Header {
    std::uint32_t distance;  ///< Bytes from the first slot to the header.
  };
  static_assert(sizeof(void*) != 8 || sizeof(ShapedHeader) == sizeof(Header),
                "the distance lies in the padding of the header");

 public:
  ShapedPage() = delete;

  /// Bytes at the end of a frame that no slot and no bitmap may use.
  static constexpr std::size_t header_bytes = sizeof(ShapedHeader);

  /// The size of a class's frames.
  class Frames {
   public:
    constexpr Frames() noexcept = default;
    /// Pre: `bytes` is a power of two, and frames are aligned to it.
    constexpr explicit Frames(std::size_t bytes) noexcept
        : low_bits_(static_cast<std::uint32_t>(bytes - 1)) {}

    constexpr std::size_t bytes() const noexcept { return std::size_t{low_bits_} + 1; }
    [[gnu::always_inline]] Header* header_of(const void* address) const noexcept {
      return reinterpret_cast<Header*>((reinterpret_cast<std::uintptr_t>(address) | low_bits_) -
                                       (header_bytes - 1));
    }
    /// How far `address` lies above the start of its frame.
    [[gnu::always_inline]] std::size_t offset_in_frame(const void* address) const noexcept {
      return reinterpret_cast<std::uintptr_t>(address) & low_bits_;
    }
    std::byte* frame_of(Header* header) const noexcept {
      return reinterpret_cast<std::byte*>(reinterpret_cast<std::uintptr_t>(header) &
                                          ~std::uintptr_t{low_bits_});
    }

   private:
    std::uint32_t low_bits_ = 0;  ///< Pages are below 4 GiB, as SlotGeometry asks.
  };

  /// Makes slots begin at `first`. Pre: no page of a size class is in the frame.
  static void set_slots(Header* header, const std::byte* first) noexcept {
    static_cast<ShapedHeader*>(header)->distance =
        static_cast<std::uint32_t>(reinterpret_cast<const std::byte*>(header) - first);
  }
  [[gnu::always_inline]] static std::byte* slots_of(Header* header) noexcept {
    return reinterpret_cast<std::byte*>(header) - static_cast<ShapedHeader*>(header)->distance;
  }
  [[gnu::always_inline]] static std::size_t offset_of(const void* address,
                                                      Header* header) noexcept {
    // In this order it is one instruction less than with slots_of().
    return static_cast<std::size_t>(static_cast<const std::byte*>(address) -
                                    reinterpret_cast<const std::byte*>(header)) +
           static_cast<ShapedHeader*>(header)->distance;
  }

  static void open(Header*, const SlotGeometry&) noexcept {}
  static void close(Header*, const SlotGeometry&) noexcept {}
};
static_assert(RunTimePage<ShapedPage<HardwareAtomics>>);

/// A ShapedPage of `FrameBytes` without a colour.
template <std::size_t FrameBytes, class AtomicsT = HardwareAtomics>
class SizedPage : public EmbeddedPage<FrameBytes, AtomicsT, ShapedPage<AtomicsT>::header_bytes> {};

template <class P>
inline constexpr bool is_sized_page = false;
template <std::size_t FrameBytes, class Atomics>
inline constexpr bool is_sized_page<SizedPage<FrameBytes, Atomics>> = true;

}  // namespace slabmalloc
