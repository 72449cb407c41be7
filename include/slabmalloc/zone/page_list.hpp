// SPDX-License-Identifier: MIT
//
// PageList: a doubly linked FIFO of pages through their headers. Owner only.
#pragma once

namespace slabmalloc {

/// Pages in the order in which they came; any page can be taken out in constant time.
template <class Header>
class PageList {
 public:
  constexpr PageList() noexcept = default;

  Header* front() const noexcept { return front_; }

  void push_back(Header* page) noexcept {
    page->next = nullptr;
    page->previous = back_;
    (back_ != nullptr ? back_->next : front_) = page;
    back_ = page;
  }

  /// Pre: `page` is in this list.
  void remove(Header* page) noexcept {
    (page->previous != nullptr ? page->previous->next : front_) = page->next;
    (page->next != nullptr ? page->next->previous : back_) = page->previous;
    page->next = page->previous = nullptr;
  }

  /// Takes the page that came first, or null.
  Header* pop_front() noexcept {
    Header* page = front_;
    if (page != nullptr) {
      remove(page);
    }
    return page;
  }

 private:
  Header* front_ = nullptr;
  Header* back_ = nullptr;
};

}  // namespace slabmalloc
