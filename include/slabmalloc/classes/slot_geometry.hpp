// SPDX-License-Identifier: MIT
//
// SlotGeometry: the layout of one size class's slots in a page, and the slot of an address.
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/base/bits.hpp"

namespace slabmalloc {

/// The slots of a page: `slots` adjacent slots of `object_size` bytes, and `words` bitmap words for
/// them.
///
/// A multiplication finds the slot of an offset. Let m = ceil(2^32 / size) and e = m * size - 2^32
/// < size. Slot k starts at offset k * size, and (k * size * m) >> 32 = k + ((k * e) >> 32) = k.
/// This holds because k * e < k * size < 2^32 for every page below 4 GiB.
///
/// For any other offset no k satisfies k * size = offset. So multiplying back tells exactly whether
/// an address is the first byte of a slot. (Granlund and Montgomery, "Division by Invariant
/// Integers using Multiplication", PLDI 1994, for the general case.)
///
/// The malloc's ChunkInfo (src/arena/chunk.hpp) uses a 64-bit reciprocal instead. The lower half of
/// its 128-bit product replaces the multiplying back here. That saves a free 3 of 35.8 instructions
/// with GCC 12, 2 of 40.2 with clang 14 and 2 of 35.8 with clang 19. The core cannot do the same:
/// 32-bit processors have no such product. test/malloc/slot_test.cpp compares the two for every
/// class and offset of the malloc.
struct SlotGeometry {
  std::uint32_t object_size = 0;  ///< Bytes from one slot to the next.
  std::uint32_t reciprocal = 0;   ///< ceil(2^32 / object_size).
  std::uint32_t slots = 0;        ///< 0: such objects do not fit the page.
  std::uint32_t words = 0;        ///< ceil(slots / word_bits).

  static constexpr std::uint32_t no_slot = ~std::uint32_t{0};
  static constexpr std::size_t minimum_object_size = 2;
  /// A page header counts pending frees in 24 bits. A page with room for more leaves the rest
  /// unused.
  static constexpr std::size_t maximum_slots = (std::size_t{1} << 24) - 1;

  /// Fits as many slots of `object_size` bytes as possible into `page_bytes`. The header takes
  /// `fixed_bytes`, and with `bitmaps_inside` the bitmaps take two words for every `word_bits`
  /// slots.
  static constexpr SlotGeometry fit(std::size_t object_size, std::size_t page_bytes,
                                    std::size_t fixed_bytes, bool bitmaps_inside) noexcept {
    const std::size_t room = page_bytes - fixed_bytes;
    if (object_size < minimum_object_size || object_size > room) {
      return {};
    }
    std::size_t slots = room / object_size;
    slots = slots < maximum_slots ? slots : maximum_slots;
    if (bitmaps_inside) {
      while (slots != 0 && slots * object_size + bitmap_bytes(slots) > room) {
        // Each step removes the slots that exceed the room, so the steps are few.
        const std::size_t excess = slots * object_size + bitmap_bytes(slots) - room;
        const std::size_t steps = excess / (object_size + 2 * sizeof(Word));
        slots -= steps != 0 ? steps : 1;
      }
    }
    if (slots == 0) {
      return {};
    }
    return {static_cast<std::uint32_t>(object_size),
            reciprocal_of(static_cast<std::uint32_t>(object_size)),
            static_cast<std::uint32_t>(slots),
            static_cast<std::uint32_t>((slots + word_bits - 1) / word_bits)};
  }

  /// The slot that starts `offset` bytes above the first one, or no_slot. For an address below the
  /// first slot the offset wraps around to a value above every page.
  [[gnu::always_inline]] constexpr std::uint32_t slot_at(std::size_t offset) const noexcept {
    if (__builtin_constant_p(object_size) && object_size != 0) {
      const Word slot = exact_quotient(offset, object_size);
      return slot < slots ? static_cast<std::uint32_t>(slot) : no_slot;
    }
    const auto slot = static_cast<std::uint32_t>((std::uint64_t{offset} * reciprocal) >> 32);
    const bool starts_here = std::uint64_t{slot} * object_size == offset;
    return starts_here && slot < slots ? slot : no_slot;
  }

  /// The slot that contains the byte `offset` bytes above the first slot, or no_slot.
  constexpr std::uint32_t slot_around(std::size_t offset) const noexcept {
    if (offset >= std::size_t{slots} * object_size) {
      return no_slot;
    }
    // For an offset inside a slot the product may be one too large.
    const auto slot = static_cast<std::uint32_t>((std::uint64_t{offset} * reciprocal) >> 32);
    return std::uint64_t{slot} * object_size > offset ? slot - 1 : slot;
  }

  /// The bits of bitmap word `index` that stand for slots.
  constexpr Word word_mask(std::uint32_t index) const noexcept {
    const std::uint32_t rest = slots - index * word_bits;
    return rest >= word_bits ? ~Word{0} : (Word{1} << rest) - 1;
  }

  friend constexpr bool operator==(const SlotGeometry&, const SlotGeometry&) = default;

 private:
  /// k for the offset k * size; for all others a number above every slot. Multiplication by the
  /// inverse of the size's odd part, and a rotation by its power of two, permute all words. They
  /// take k * size to k for each k up to 2^word_bits / size, so no other offset to such a k.
  /// Where the size is a constant, the quotient and both checks of it are one comparison.
  [[gnu::always_inline]] static constexpr Word exact_quotient(Word offset, Word size) noexcept {
    const std::uint32_t shift = lowest_bit(size);
    return rotate_right(offset * inverse_of_odd(size >> shift), shift);
  }

  /// ceil(2^32 / size) for a size of at least 2. It avoids a 64-bit division, which 32-bit
  /// processors leave to a library.
  static constexpr std::uint32_t reciprocal_of(std::uint32_t size) noexcept {
    return ~std::uint32_t{0} / size + 1;
  }

  /// Bytes of the two bitmaps, local and remote, of `slots` slots.
  static constexpr std::size_t bitmap_bytes(std::size_t slots) noexcept {
    return 2 * sizeof(Word) * ((slots + word_bits - 1) / word_bits);
  }
};

}  // namespace slabmalloc
