// SPDX-License-Identifier: MIT
//
// SizeClass: how pages come into the class and leave it, and move between its lists. Part of size_class.hpp.
#pragma once

#include "slabmalloc/zone/size_class.hpp"

namespace slabmalloc {

template <AllocablePage Page>
inline void SizeClass<Page>::add_page(Header* page, bool zeroed) noexcept {
  format(page);
  Page::open(page, geometry_);
  page->tag.store(owner_->tag() | PageState::idle, Order::relaxed);
  counts_.pages.add(1);
  counts_.pages_high_water.raise_to(counts_.pages.get());
  counts_.refills.add(1);
  push_idle(page);
  fresh_idle_ = zeroed ? page : nullptr;
}

template <AllocablePage Page>
inline typename SizeClass<Page>::Header* SizeClass<Page>::remove_idle_page() noexcept {
  bool fresh = false;
  while (Header* page = take_from_idle(fresh)) {
    drain_remote_bits(page);
    if (is_empty(page)) {
      dissolve(page);
      return page;
    }
    page->tag.store(owner_->tag(), Order::relaxed);
    partial_.push_back(page);
  }
  return nullptr;
}

template <AllocablePage Page>
inline void SizeClass<Page>::enter(Header* page, bool fresh, bool was_idle) noexcept {
  page->tag.store(owner_->tag(), Order::relaxed);
  page->previous = page;
  word_index_ = 0;
  if (was_idle) {
    first_sweep_.begin(Page::slots_of(page), fresh);
  } else {
    first_sweep_.skip(geometry_.words);
  }
  current_.store(page, Order::relaxed);
}

template <AllocablePage Page>
inline void SizeClass<Page>::leave_current() noexcept {
  cancel_hand_off();
  allocations_.subtract(selected_.give_up());
  selected_.deselect();
  hand_off_page_ = nullptr;
  Header* page = current_.load(Order::relaxed);
  if (page == nullptr) {
    return;
  }
  const std::uint32_t free = count_free(page);
  current_.store(nullptr, Order::relaxed);
  first_sweep_.end();
  if (free == 0) {
    page->tag.store(owner_->tag() | PageState::full, Order::relaxed);
    full_.push_back(page);
    return;
  }
  partial_.push_back(page);
  if (free == geometry_.slots) {
    word_emptied(page);
  }
}

template <AllocablePage Page>
template <class Give>
inline std::size_t SizeClass<Page>::remove_empty_pages(std::size_t limit, Give&& give) noexcept {
  leave_current();
  std::size_t count = 0;
  for (; count < limit; ++count) {
    Header* page = remove_idle_page();
    if (page == nullptr) {
      break;
    }
    give(page);
  }
  return count;
}

template <AllocablePage Page>
template <class Give>
inline void SizeClass<Page>::remove_all_pages(Give&& give) noexcept {
  leave_current();
  while (Header* page = partial_.front() != nullptr ? partial_.pop_front() : full_.pop_front()) {
    dissolve(page);
    give(page);
  }
  while (Header* page = remove_idle_page()) {
    give(page);
  }
}

template <AllocablePage Page>
inline void SizeClass<Page>::word_emptied(Header* page) noexcept {
  if (!is_empty(page)) {
    return;
  }
  // A free by someone else of an object that the owner freed too may be under way: its bit, once
  // drained, is pending until its announcement, and so pins the page.
  drain_remote_bits(page);
  retire_if_empty(page);
}

template <AllocablePage Page>
inline void SizeClass<Page>::retire_if_empty(Header* page) noexcept {
  if (is_empty(page)) {
    partial_.remove(page);
    page->tag.store(owner_->tag() | PageState::idle, Order::relaxed);
    push_idle(page);
  }
}

template <AllocablePage Page>
inline void SizeClass<Page>::push_idle(Header* page) noexcept {
  page->next = idle_;
  idle_ = page;
  ++idle_count_;
}

template <AllocablePage Page>
inline typename SizeClass<Page>::Header* SizeClass<Page>::take_from_idle(bool& fresh) noexcept {
  Header* page = idle_;
  if (page != nullptr) {
    idle_ = page->next;
    page->next = nullptr;
    --idle_count_;
    fresh = page == fresh_idle_;
    fresh_idle_ = nullptr;
  }
  return page;
}

template <AllocablePage Page>
inline void SizeClass<Page>::format(Header* page) noexcept {
  page->next = page->previous = page->inbox_next = nullptr;
  page->announced.store(0, Order::relaxed);
  page->pending = 0;
  page->class_index = index_ & 0xFFu;
  for (std::uint32_t word = 0; word < geometry_.words; ++word) {
    page->local(word).store(~Word{0}, Order::relaxed);
    page->remote(word, geometry_.words).store(0, Order::relaxed);
  }
  page->seal.store(page->seal_for(geometry_.object_size), Order::relaxed);
}

template <AllocablePage Page>
inline void SizeClass<Page>::dissolve(Header* page) noexcept {
  page->tag.store(0, Order::relaxed);
  page->seal.store(0, Order::relaxed);
  Page::close(page, geometry_);
  counts_.pages.subtract(1);
  counts_.reclaims.add(1);
}

}  // namespace slabmalloc
