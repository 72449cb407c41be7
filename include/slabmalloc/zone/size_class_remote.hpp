// SPDX-License-Identifier: MIT
//
// The members of SizeClass that take in what others freed: the owner's side of the protocol that
// page_header.hpp draws and RemoteFree begins.
#pragma once

#include "slabmalloc/zone/size_class.hpp"

namespace slabmalloc {

template <AllocablePage Page>
inline void SizeClass<Page>::drain_page(Header* page) noexcept {
  const std::uint32_t announced = page->announced.exchange(0, Order::acq_rel);
  const bool found_some = drain_remote_bits(page);
  page->pending = (page->pending - announced) & 0xFFFFFFu;
  counts_.remote_frees.add(announced);
  if (page == current_.load(Order::relaxed)) {
    return;
  }
  const std::uintptr_t state = page->tag.load(Order::relaxed) & PageState::mask;
  if (state == PageState::idle) {
    return;  // Double frees alone, begun before the page was idle: it is where it belongs.
  }
  if (state == PageState::full && found_some) {
    relist(page);
  }
  retire_if_empty(page);
}

template <AllocablePage Page>
inline bool SizeClass<Page>::drain_remote_bits(Header* page) noexcept {
  bool found_some = false;
  for (std::uint32_t index = 0; index < geometry_.words; ++index) {
    auto& remote = page->remote(index, geometry_.words);
    if (remote.load(Order::relaxed) == 0) {
      continue;
    }
    const Word drained = remote.exchange(0, Order::acquire);
    auto& local = page->local(index);
    const Word before = local.load(Order::relaxed);
    const Word twice = drained & before;
    local.store(before | drained, Order::relaxed);
    page->pending = (page->pending + count_ones(drained)) & 0xFFFFFFu;
    found_some = found_some || (drained & ~before) != 0;
    if (twice != 0) [[unlikely]] {
      RemoteFree<Atomics>{page, Page::slots_of(page), &geometry_, index, twice}
          .report_double_frees(twice);
    }
  }
  return found_some;
}

}  // namespace slabmalloc
