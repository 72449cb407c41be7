// SPDX-License-Identifier: MIT
//
// The checks of an address before a write: is it a slot of a page, and may a frame become a page? A
// check that says "no" reports to the misuse hook.
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/base/misuse.hpp"
#include "slabmalloc/page/allocable_page.hpp"

namespace slabmalloc {

/// A slot of a page; none if `page` is null.
template <class Header>
struct FoundSlot {
  Header* page = nullptr;
  std::uint32_t slot = 0;
};

/// A slot of a page whose seal is sound. `bytes` is 0 where no page is, and `begin` null where the
/// page has no slot.
struct FoundAround {
  std::byte* begin = nullptr;
  std::size_t bytes = 0;
  std::uint32_t slot = 0;
};

/// Reports `object`, an address in `page` that is not a slot's first byte.
template <ClassPage Page>
[[gnu::cold, gnu::noinline]] void report_misaligned(const void* object, typename Page::Header* page,
                                                    const SlotGeometry& geometry) noexcept {
  Misuse misuse{MisuseKind::MisalignedFree, object, geometry.object_size, 0};
  const std::uint32_t slot = geometry.slot_around(Page::offset_of(object, page));
  if (slot != SlotGeometry::no_slot) {
    misuse.slot = slot;
    misuse.block = Page::slots_of(page) + std::size_t{slot} * geometry.object_size;
    misuse.state = page->is_free(slot, geometry.words) ? BlockState::Free : BlockState::InUse;
  }
  report_misuse(misuse);
}

/// The slot that begins at `object`, in a page of `frames` laid out by `geometry`; none for a null
/// pointer. `is_other_size(header)` tells whether a header without the right seal is one of another
/// size.
/// Thread: any. Fails: ForeignPointer, SizeMismatch or MisalignedFree, reported; then none.
template <ClassPage Page, class IsOtherSize>
FoundSlot<typename Page::Header> find_slot(void* object, const SlotGeometry& geometry,
                                           IsOtherSize&& is_other_size,
                                           const FramesOf<Page>& frames = {}) noexcept {
  if (object == nullptr) {
    return {};
  }
  typename Page::Header* page = frames.head_of(object);
  if (page == nullptr || !page->has_seal_for(geometry.object_size)) [[unlikely]] {
    const bool other_size = page != nullptr && is_other_size(page);
    report_misuse({other_size ? MisuseKind::SizeMismatch : MisuseKind::ForeignPointer, object,
                   geometry.object_size, 0});
    return {};
  }
  const std::uint32_t slot = geometry.slot_at(Page::offset_of(object, page));
  if (slot == SlotGeometry::no_slot) [[unlikely]] {
    report_misaligned<Page>(object, page, geometry);
    return {};
  }
  return {page, slot};
}

/// True if the frame at `page`, of `bytes`, may become a page of the owner with `owner_tag`. The
/// frame must be aligned. No header in it may say, by the tag and by `is_held(header)`, that the
/// owner has the frame already.
/// Fails: InvalidPage, reported, with the `object_size` that the frame was meant for; then false.
template <AllocablePage Page, class IsHeld>
bool accept_frame(const Page* page, std::size_t bytes, std::size_t object_size,
                  std::uintptr_t owner_tag, IsHeld&& is_held) noexcept {
  bool sound = page != nullptr && (reinterpret_cast<std::uintptr_t>(page) & (bytes - 1)) == 0;
  if (sound) {
    const typename Page::Header* header = Page::header_of(page);
    sound = !header->is_owned_by(owner_tag) || !is_held(header);
  }
  if (!sound) {
    report_misuse({MisuseKind::InvalidPage, page, object_size, 0});
  }
  return sound;
}

}  // namespace slabmalloc
