// SPDX-License-Identifier: MIT
//
// SizeClass: slots of full pages that a free passes on to the next allocation. Part of size_class.hpp.
//
//   free into a full page ──► nothing is claimed, and nothing can be? ── no ──► the page becomes partial
//                                   │ yes
//                                   ▼
//                             the slot alone is claimed ── allocation ──► issued: the page was full all along
//                                   │
//                                   └── a second free in that page, or a look for empty ones ──► taken back
//
// So where single objects of a full heap are replaced, no page moves between lists. While slots are handed off, no word
// of the current page is selected; one is again when an allocation finds nothing claimed.
#pragma once

#include "slabmalloc/zone/size_class.hpp"

namespace slabmalloc {

template <AllocablePage Page>
[[gnu::always_inline]] inline bool SizeClass<Page>::hand_off(Header* page, std::uint32_t slot,
                                                            void* object) noexcept {
  if (hand_off_page_ == nullptr || selected_.claimed() != 0 ||
      page->announced.load(Order::relaxed) != 0) {
    return false;
  }
  hand_off_page_ = page;
  selected_.claim_freed(page->local(slot / word_bits), slot % word_bits, object,
                        geometry_.object_size);
  allocations_.add(1);
  return true;
}

template <AllocablePage Page>
inline void SizeClass<Page>::start_handing_off(Header* page) noexcept {
  const Word free = selected_.claimed() | selected_.claimable();
  if (free == 0 && !first_sweep_.is_fresh() && geometry_.slots != 1) {
    selected_.deselect();
    hand_off_page_ = page;
  }
}

template <AllocablePage Page>
template <bool Hardened>
inline FreeOutcome SizeClass<Page>::free_in_full_page(Header* page, std::uint32_t slot,
                                                      void* object) noexcept {
  if constexpr (!Hardened) {
    start_handing_off(page);
    if (hand_off(page, slot, object)) {
      return FreeOutcome::Freed;
    }
  }
  const std::uint32_t index = slot / word_bits;
  const Word mask = Word{1} << (slot % word_bits);
  const Word free = page->local(index).load(Order::relaxed);
  Word seen_free = free;
  if constexpr (Hardened) {
    seen_free |= page->remote(index, geometry_.words).load(Order::relaxed);
  }
  if ((seen_free & mask) != 0) {
    return FreeOutcome::Rejected;
  }
  page->local(index).store(free | mask, Order::relaxed);
  relist(page);
  return (free | mask) == ~Word{0} ? FreeOutcome::WordEmptied : FreeOutcome::Freed;
}

template <AllocablePage Page>
inline bool SizeClass<Page>::has_handed_off_slot() const noexcept {
  return hand_off_page_ != nullptr && selected_.claimed() != 0;
}

template <AllocablePage Page>
inline void SizeClass<Page>::cancel_hand_off() noexcept {
  Header* page = hand_off_page_;
  if (has_handed_off_slot()) {
    relist(page);
    word_emptied(page);
  }
}

template <AllocablePage Page>
inline void SizeClass<Page>::relist(Header* page) noexcept {
  if (page == hand_off_page_) {
    if (has_handed_off_slot()) {
      selected_.give_up();
      allocations_.subtract(1);
    }
    // The page may be given back before another word is selected.
    selected_.deselect();
  }
  page->tag.store(owner_->tag(), Order::relaxed);
  full_.remove(page);
  partial_.push_back(page);
}

}  // namespace slabmalloc
