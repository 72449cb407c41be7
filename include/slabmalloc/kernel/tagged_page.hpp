// SPDX-License-Identifier: MIT
//
// TaggedPage: a page kind for heaps with tags. It has a byte for each slot, outside the slots.
//
//   frame (aligned to its size)
//   | slot 0 | … | slot n-1 | unused | tags n-1 … 0 | remote bitmap | local bitmap | PageHeader |
//
// A byte is the tag of the block in its slot, plus 1. It is 0 if no tag is charged for the slot.
// Four bytes share a word of 32 bits, since some processors have no atomic operation on a byte. A
// page costs a byte for each slot, and at most one slot more than those bytes take.
//
// Linux (slabobj_ext) and XNU (zone tags) keep such arrays outside the page: a word for each slot
// and two bytes. Here an overflow of the last slot can reach the bytes, as it can the bitmaps.
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/page/allocable_page.hpp"
#include "slabmalloc/zone/config.hpp"

namespace slabmalloc {

/// A page type whose frames have one size and hold the meta-data, bitmaps and header, at their end.
template <class P>
concept PageWithRoomForTags = AllocablePage<P> && requires {
  P::size_bytes;
  requires sizeof(P) == P::size_bytes;
};

/// `PageT` with a tag for each slot.
template <AllocablePage PageT>
class TaggedPage : public PageT {
  static_assert(PageWithRoomForTags<PageT>,
                "tags lie beside the bitmaps at the end of a frame: the pages of a heap with tags "
                "are EmbeddedPages");

 public:
  using typename PageT::Atomics;
  using typename PageT::Header;

  static constexpr SlotGeometry geometry(std::size_t object_size) noexcept {
    SlotGeometry result = PageT::geometry(object_size);
    // So many slots fit with a byte each; the bytes of the last word may be too many.
    std::uint32_t slots = PageT::geometry(object_size + 1).slots;
    while (slots != 0 && slots * object_size + tag_bytes(slots) > room_for(slots)) {
      --slots;
    }
    if (slots == 0) {
      return {};
    }
    result.slots = slots;
    result.words = words_of(slots);
    return result;
  }

  static void open(Header* header, const SlotGeometry& geometry) noexcept {
    PageT::open(header, geometry);
    for (std::uint32_t slot = 0; slot < geometry.slots; slot += tags_per_word) {
      tags_of(header, geometry.words, slot).store(0, Order::relaxed);
    }
  }

  /// Makes `code` the byte of slot `slot`, on a page of `words` bitmap words; returns what it was.
  /// Thread: any, in any context, of a slot that is live or was.
  static std::uint32_t exchange_tag(Header* header, std::uint32_t words, std::uint32_t slot,
                                    std::uint32_t code) noexcept {
    const std::uint32_t shift = slot % tags_per_word * 8;
    TagWord& tags = tags_of(header, words, slot);
    std::uint32_t before = tags.load(Order::relaxed);
    while (!tags.compare_exchange(before, (before & ~(0xFFu << shift)) | code << shift,
                                  Order::relaxed)) {
    }
    return before >> shift & 0xFFu;
  }
  /// The byte of a slot. Thread: as above.
  static std::uint32_t tag_code(Header* header, std::uint32_t words, std::uint32_t slot) noexcept {
    return tags_of(header, words, slot).load(Order::relaxed) >> slot % tags_per_word * 8 & 0xFFu;
  }

 private:
  using TagWord = typename Atomics::template Cell<std::uint32_t>;
  static constexpr std::uint32_t tags_per_word = 4;
  static_assert(sizeof(TagWord) == tags_per_word);

  static constexpr std::uint32_t words_of(std::uint32_t slots) noexcept {
    return static_cast<std::uint32_t>((slots + word_bits - 1) / word_bits);
  }
  static constexpr std::size_t tag_bytes(std::uint32_t slots) noexcept {
    return align_up(std::size_t{slots}, sizeof(TagWord));
  }
  /// The bytes below the bitmaps of `slots` slots.
  static constexpr std::size_t room_for(std::uint32_t slots) noexcept {
    return PageT::size_bytes - sizeof(Header) - 2 * sizeof(Word) * words_of(slots);
  }
  /// The word with the byte of `slot`. The bitmaps lie directly below the header.
  static TagWord& tags_of(Header* header, std::uint32_t words, std::uint32_t slot) noexcept {
    std::byte* const end =
        reinterpret_cast<std::byte*>(header) - 2 * sizeof(Word) * std::size_t{words};
    return reinterpret_cast<TagWord*>(end)[-1 - static_cast<std::ptrdiff_t>(slot / tags_per_word)];
  }
};

/// The page kinds `Pages` with tags.
template <class Pages>
struct TaggedPages;
template <class... Kinds>
struct TaggedPages<PageKinds<Kinds...>> {
  using Type = PageKinds<PageKind<TaggedPage<typename Kinds::Page>, Kinds::max_object_bytes>...>;
};

}  // namespace slabmalloc
