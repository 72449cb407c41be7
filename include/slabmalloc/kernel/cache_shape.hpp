// SPDX-License-Identifier: MIT
//
// CacheShape: the page of an object cache and how objects lie in it, from their size and alignment.
//
//   frame                                                               (aligned to its size)
//   | colour | slot 0 | slot 1 | … | slot n-1 | unused | remote | local | header |
//    0 … colours - 1 steps
//
// The page is the smallest power of two of granules whose slots waste at most 1/8, meta-data
// included. The bound is that of Bonwick, The Slab Allocator, USENIX Summer 1994, section 3.2.2.
// Objects have at most 1/8 of the largest page. So on that page no more is wasted beside the
// meta-data.
//
// Slots begin a little above the frame, by an amount that differs from frame to frame. So the
// objects of different pages do not all compete for the same few cache lines, nor do their most
// used members (the same paper, section 4.1). The colour uses the bytes that the slots leave
// unused, and costs no slot.
//
//   colours = the largest power of two <= unused / step + 1
//   colour  = the highest bits of (frame / bytes of a frame) * 2^32 / golden ratio, mod 2^32
//
// The multiplication spreads frames at any regular distance over all colours (Knuth, The Art of
// Computer Programming, volume 3, section 6.4).
//
// Invariants of a shape without an error, each with its line in validate():
//   Q1  object size and step are multiples of the alignment
//   Q2  slots + meta-data + colours <= page
//   Q3  page - slots - meta-data <= page / 8
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/base/bits.hpp"
#include "slabmalloc/classes/slot_geometry.hpp"
#include "slabmalloc/page/shaped_page.hpp"

namespace slabmalloc {

/// The reason why there is no cache.
enum class CacheError : std::uint8_t {
  None,
  NoSize,             ///< Objects of 0 bytes.
  AlignmentNotPower,  ///< The alignment is no power of two.
  TooLarge,           ///< Above 1/8 of Options::largest_page_bytes, rounded up to the alignment.
  OutOfMemory,        ///< For the cache itself.
};

/// The words of `error` for a message.
constexpr const char* describe(CacheError error) noexcept {
  switch (error) {
    case CacheError::None:
      return "no error";
    case CacheError::NoSize:
      return "objects of no size";
    case CacheError::AlignmentNotPower:
      return "an alignment that is no power of two";
    case CacheError::TooLarge:
      return "objects larger than an eighth of the largest page";
    case CacheError::OutOfMemory:
      return "no memory for the cache";
  }
  return "an error";
}

/// The pages of one cache. A value.
struct CacheShape {
  SlotGeometry geometry{};
  std::size_t page_bytes = 0;
  std::size_t alignment = 1;
  std::uint32_t step_bytes = 1;   ///< From one colour to the next.
  std::uint32_t colour_bits = 0;  ///< Pages have 2^colour_bits colours.
  CacheError error = CacheError::None;

  /// The shape for objects of `bytes`, each aligned to `alignment` and to Options::alignment, a
  /// power of two. A debug mode has `ExtraBytes` more in each slot, an alignment of at least
  /// `Least`, and `GuardBytes` before the first slot.
  /// Fails: NoSize, AlignmentNotPower or TooLarge in `error`.
  template <class Options, std::size_t ExtraBytes = 0, std::size_t Least = 1,
            std::size_t GuardBytes = 0>
  static constexpr CacheShape of(std::size_t bytes, std::size_t alignment) noexcept {
    constexpr std::size_t own = Options::alignment > Least ? Options::alignment : Least;
    CacheShape shape;
    shape.alignment = alignment > own ? alignment : own;
    shape.error = check(bytes, alignment, shape.alignment, Options::largest_page_bytes / 8);
    if (shape.error != CacheError::None) {
      return shape;
    }
    // SlotGeometry has no slots of less than 2 bytes.
    const std::size_t least = SlotGeometry::minimum_object_size;
    const std::size_t object_bytes =
        align_up((bytes > least ? bytes : least) + ExtraBytes, shape.alignment);
    const std::size_t step =
        shape.alignment > Options::colour_bytes ? shape.alignment : Options::colour_bytes;
    const std::size_t header =
        ShapedPage<typename Options::Atomics>::header_bytes + lead_for(GuardBytes, step);
    for (shape.page_bytes = Options::granule_bytes;; shape.page_bytes *= 2) {
      shape.geometry = SlotGeometry::fit(object_bytes, shape.page_bytes, header, true);
      if (shape.waste() <= shape.page_bytes / 8 ||
          shape.page_bytes >= Options::largest_page_bytes) {
        break;
      }
    }
    const std::size_t unused =
        shape.waste() - header - 2 * sizeof(Word) * std::size_t{shape.geometry.words};
    shape.step_bytes = static_cast<std::uint32_t>(step);
    shape.colour_bits = highest_bit(unused / step + 1);
    return shape;
  }

  constexpr std::size_t object_bytes() const noexcept { return geometry.object_size; }
  constexpr std::size_t objects_per_page() const noexcept { return geometry.slots; }
  /// The number of places that the first slot may have.
  constexpr std::size_t colours() const noexcept { return std::size_t{1} << colour_bits; }
  /// Bytes of a page that are in no slot.
  constexpr std::size_t waste() const noexcept {
    return page_bytes - std::size_t{geometry.slots} * geometry.object_size;
  }

  /// The number of the place of the first slot of the frame at `frame`.
  std::size_t colour_of(const void* frame) const noexcept {
    if (colour_bits == 0) {
      return 0;
    }
    const auto number = static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(frame) >>
                                                   highest_bit(page_bytes));
    return (number * 0x9E3779B9u) >> (32 - colour_bits);
  }
  /// The first slot of the frame at `frame`.
  std::byte* first_slot(void* frame) const noexcept {
    return static_cast<std::byte*>(frame) + colour_of(frame) * step_bytes;
  }

  /// The pages that hold `objects` objects however `cpus` CPUs share them out; see
  /// Cache::reserve().
  constexpr std::size_t pages_for(std::size_t objects, std::size_t cpus) const noexcept {
    return objects < cpus ? objects : cpus + (objects - cpus) / objects_per_page();
  }

  /// The first broken invariant, as an equation, or null. `header_bytes` is of the page type. Pre:
  /// there is no error.
  constexpr const char* validate(std::size_t header_bytes) const noexcept {
    const char* const broken = validate_slots(header_bytes);
    return broken != nullptr || waste() - meta_data(header_bytes) <= page_bytes / 8
               ? broken
               : "Q3: page - slots - meta-data <= page / 8";
  }

 protected:
  /// The least multiple of `step`, a power of two, that has room for `guard_bytes`.
  static constexpr std::size_t lead_for(std::size_t guard_bytes, std::size_t step) noexcept {
    return guard_bytes != 0 ? align_up(guard_bytes, step) : 0;
  }
  constexpr std::size_t meta_data(std::size_t header_bytes) const noexcept {
    return header_bytes + 2 * sizeof(Word) * std::size_t{geometry.words};
  }
  /// Q1 and Q2, or null.
  constexpr const char* validate_slots(std::size_t header_bytes) const noexcept {
    if (geometry.object_size % alignment != 0 || step_bytes % alignment != 0) {
      return "Q1: object size and step are multiples of the alignment";
    }
    return waste() >= meta_data(header_bytes) + (colours() - 1) * step_bytes
               ? nullptr
               : "Q2: slots + meta-data + colours <= page";
  }

 private:
  static constexpr CacheError check(std::size_t bytes, std::size_t alignment, std::size_t greater,
                                    std::size_t most) noexcept {
    if (bytes == 0) {
      return CacheError::NoSize;
    }
    if (!is_power_of_two(alignment)) {
      return CacheError::AlignmentNotPower;
    }
    // Of the second, align_up() might wrap around.
    return bytes > most || greater > most || align_up(bytes, greater) > most ? CacheError::TooLarge
                                                                             : CacheError::None;
  }
};

}  // namespace slabmalloc
