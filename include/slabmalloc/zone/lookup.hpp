// SPDX-License-Identifier: MIT
//
// What an owner must know of an address before it frees an object there or takes in a frame: the checks
// that zones and stand-alone size classes share, with their reports.
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/base/misuse.hpp"
#include "slabmalloc/page/allocable_page.hpp"
#include "slabmalloc/zone/remote_buffer.hpp"

namespace slabmalloc {

/// The free of slot `slot` of `page`, laid out by `geometry`, which outlives it.
template <AllocablePage Page>
RemoteFree<typename Page::Atomics> free_of_slot(typename Page::Header* page,
                                                const SlotGeometry& geometry,
                                                std::uint32_t slot) noexcept {
  return {page, Page::slots_of(page), &geometry, slot / word_bits, Word{1} << (slot % word_bits)};
}

/// The free of `object`, of a page laid out by `geometry`; without a page for a null pointer.
/// `is_other_size(header)` tells whether what is no such page is one of objects of another size.
/// Thread: any. Fails: ForeignPointer, SizeMismatch or MisalignedFree, reported; then without a page.
template <AllocablePage Page, class IsOtherSize>
RemoteFree<typename Page::Atomics> find_object(void* object, const SlotGeometry& geometry,
                                               IsOtherSize&& is_other_size) noexcept {
  if (object == nullptr) {
    return {};
  }
  typename Page::Header* page = Page::head_of(object);
  if (page == nullptr ||
      page->seal.load(Order::relaxed) != page->seal_for(geometry.object_size)) [[unlikely]] {
    const bool other_size = page != nullptr && is_other_size(page);
    report_misuse({other_size ? MisuseKind::SizeMismatch : MisuseKind::ForeignPointer, object,
                   geometry.object_size, 0});
    return {};
  }
  const std::uint32_t slot = geometry.slot_at(Page::offset_of(object, page));
  if (slot == SlotGeometry::no_slot) [[unlikely]] {
    report_misuse({MisuseKind::MisalignedFree, object, geometry.object_size, 0});
    return {};
  }
  return free_of_slot<Page>(page, geometry, slot);
}

/// True if the frame at `page`, of `bytes`, may become a page of `owner`: it is aligned, and no header in it
/// with the owner's tag says, by `is_held(header)`, that the owner has it already.
/// Fails: InvalidPage, reported, with the `object_size` that the frame was meant for; then false.
template <AllocablePage Page, class IsHeld>
bool accept_frame(const Page* page, std::size_t bytes, std::size_t object_size,
                  const Owner<typename Page::Atomics>& owner, IsHeld&& is_held) noexcept {
  bool sound = page != nullptr && (reinterpret_cast<std::uintptr_t>(page) & (bytes - 1)) == 0;
  if (sound) {
    const typename Page::Header* header = Page::header_of(page);
    sound = Owner<typename Page::Atomics>::of(header->tag.load(Order::relaxed)) != &owner ||
            !is_held(header);
  }
  if (!sound) {
    report_misuse({MisuseKind::InvalidPage, page, object_size, 0});
  }
  return sound;
}

}  // namespace slabmalloc
