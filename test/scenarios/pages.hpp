// SPDX-License-Identifier: MIT
//
// PageSource supplies pages of any type for refills by hand.
#pragma once

#include <cstddef>

#include "scenarios/configs.hpp"
#include "slabmalloc/zone/sc_allocator.hpp"

namespace slabmalloc::scenario {

/// Supplies pages of type `Page`. Returns, at its end, the pages that a scenario did not return.
template <class Page>
class PageSource {
 public:
  explicit PageSource(Trial& trial) noexcept : frames_(trial) {}

  Page* page() noexcept { return frames_.template page<Page>(); }
  void take_back(Page* page) noexcept { frames_.take_page(page); }
  std::size_t live_pages() const noexcept { return frames_.live_frames(); }

 private:
  Frames frames_;
};

/// Refills `allocator` with so many pages.
template <class Page>
void refill(Trial& trial, SCAllocator<Page>& allocator, PageSource<Page>& source,
            std::size_t pages) noexcept {
  for (std::size_t page = 0; page < pages; ++page) {
    trial.check(static_cast<bool>(allocator.refill(source.page())), "a page is taken in");
  }
}

/// Reclaims every empty page; returns how many.
template <class Page>
std::size_t reclaim_all(SCAllocator<Page>& allocator, PageSource<Page>& source) noexcept {
  return allocator.try_reclaim_pages(~std::size_t{0}, [&](Page* page) { source.take_back(page); });
}

/// All objects that `allocator` issues for `layout` until it is out of memory.
template <class Allocator>
Objects allocate_all(Trial& trial, Allocator& allocator, Layout layout,
                     std::size_t capacity) noexcept {
  Objects objects(trial, capacity);
  while (void* object = allocator.allocate(layout).value_or(nullptr)) {
    objects.push_back(object);
  }
  return objects;
}

}  // namespace slabmalloc::scenario
