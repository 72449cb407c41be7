// SPDX-License-Identifier: MIT
//
// The members of SizeClass that look and change nothing: its statistics, its live objects and its
// invariants, which size_class.hpp states.
#pragma once

#include "slabmalloc/zone/size_class.hpp"

namespace slabmalloc {

template <AllocablePage Page>
ClassStatistics SizeClass<Page>::counts() const noexcept {
  ClassStatistics result;
  read_counters(counts_, result);
  result.object_size = geometry_.object_size;
  result.page_bytes = frame_bytes();
  result.slots = result.pages * geometry_.slots;
  result.allocations = allocations();
  return result;
}

template <AllocablePage Page>
ClassStatistics SizeClass<Page>::statistics() const noexcept {
  ClassStatistics result = counts();
  for_each_page([&](Header* page) noexcept {
    result.used += geometry_.slots - count_free(page) + page->pending;
  });
  result.frees = result.allocations - result.used;
  return result;
}

template <AllocablePage Page>
template <class Visitor>
void SizeClass<Page>::for_each_page(Visitor&& visitor) const noexcept {
  if (Header* page = current_.load(Order::relaxed); page != nullptr) {
    visitor(page);
  }
  Header* const lists[] = {partial_.front(), full_.front(), idle_};
  for (Header* first : lists) {
    for (Header* page = first; page != nullptr; page = page->next) {
      visitor(page);
    }
  }
}

template <AllocablePage Page>
template <class Visitor>
void SizeClass<Page>::visit_live(Visitor&& visitor) const noexcept {
  for_each_page([&](Header* page) noexcept {
    std::byte* slots = Page::slots_of(page);
    for (std::uint32_t word = 0; word < geometry_.words; ++word) {
      Word live = geometry_.word_mask(word) & ~page->local(word).load(Order::relaxed) &
                  ~page->remote(word, geometry_.words).load(Order::relaxed);
      for (; live != 0; live &= live - 1) {
        const std::size_t slot = std::size_t{word} * word_bits + lowest_bit(live);
        visitor(static_cast<void*>(slots + slot * geometry_.object_size),
                std::size_t{geometry_.object_size});
      }
    }
  });
}

template <AllocablePage Page>
const char* SizeClass<Page>::validate_page(Header* page, std::uintptr_t state) const noexcept {
  if (page->tag.load(Order::relaxed) != (owner_->tag() | state)) {
    return "I2-I4: a page's tag is its owner's and shows its list";
  }
  if (page->seal.load(Order::relaxed) != page->seal_for(geometry_.object_size) ||
      page->class_index != (index_ & 0xFFu)) {
    return "I5: a page's seal and class are those of its size class";
  }
  for (std::uint32_t word = 0; word < geometry_.words; ++word) {
    const Word beyond = ~geometry_.word_mask(word);
    if ((page->local(word).load(Order::relaxed) & beyond) != beyond ||
        (page->remote(word, geometry_.words).load(Order::relaxed) & beyond) != 0) {
      return "I5: at or above `slots` every bit of local is set and none of remote";
    }
  }
  return nullptr;
}

template <AllocablePage Page>
const char* SizeClass<Page>::validate() const noexcept {
  std::size_t pages = 0;
  if (Header* page = current_.load(Order::relaxed); page != nullptr) {
    ++pages;
    if (const char* broken = validate_page(page, PageState::open)) {
      return broken;
    }
    if (!page->is_current()) {
      return "I6: the current page shows that it is";
    }
    if (const char* broken = first_sweep_.validate(page, geometry_.words)) {
      return broken;
    }
  }
  if (hand_off_page_ != nullptr && selected_.is_selected() &&
      hand_off_page_->tag.load(Order::relaxed) != (owner_->tag() | PageState::full)) {
    return "I7: the word of a slot that was handed off is of a full page";
  }
  if (const char* broken = selected_.validate()) {
    return broken;
  }
  for (Header* page = partial_.front(); page != nullptr; page = page->next, ++pages) {
    if (const char* broken = validate_page(page, PageState::open)) {
      return broken;
    }
    if (count_free(page) == 0 || is_empty(page)) {
      return "I2: a partial page has free slots and used ones";
    }
  }
  for (Header* page = full_.front(); page != nullptr; page = page->next, ++pages) {
    if (const char* broken = validate_page(page, PageState::full)) {
      return broken;
    }
    if (count_free(page) != (page == hand_off_page_ && has_handed_off_slot() ? 1 : 0)) {
      return "I3: a full page has no free slot but one that was handed off";
    }
  }
  std::size_t idle = 0;
  for (Header* page = idle_; page != nullptr; page = page->next, ++idle) {
    if (const char* broken = validate_page(page, PageState::idle)) {
      return broken;
    }
    if (!is_empty(page) || page->announced.load(Order::relaxed) != 0) {
      return "I4: an idle page has nothing used, announced or pending";
    }
  }
  if (idle != idle_count_ || pages + idle != counts_.pages.get()) {
    return "I1: pages = |current| + |partial| + |full| + |idle|";
  }
  return nullptr;
}

}  // namespace slabmalloc
