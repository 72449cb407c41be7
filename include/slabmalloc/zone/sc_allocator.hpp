// SPDX-License-Identifier: MIT
//
// SCAllocator: one object size, on pages of one type, which the client refills by hand.
//
//   constinit SCAllocator<ObjectPage> allocator(64);
//   allocator.refill(page);                                  // an ObjectPage* from anywhere
//   auto layout = Layout::of<Thing>();
//   void* thing = allocator.allocate(layout).value_or(nullptr);
//   allocator.deallocate(thing, layout);
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/base/layout.hpp"
#include "slabmalloc/base/layout_allocator.hpp"
#include "slabmalloc/page/lookup.hpp"
#include "slabmalloc/zone/config.hpp"
#include "slabmalloc/zone/size_class.hpp"

namespace slabmalloc {

/// Allocates objects of one size. Pages come only from refill() and leave only by
/// try_reclaim_pages(). It must not move, and must outlive its objects.
/// Thread: one owner at a time, but for deallocate_remote().
template <AllocablePage Page>
class SCAllocator {
 public:
  using Header = typename Page::Header;
  using Atomics = typename Page::Atomics;

  /// Objects of `size` bytes, each aligned to `alignment` bytes, a power of two: slots are `size`
  /// rounded up to it. An alignment of 1 packs them.
  constexpr explicit SCAllocator(std::size_t size, std::size_t alignment = 8) noexcept
      : size_(size) {
    const std::size_t wanted =
        size > SlotGeometry::minimum_object_size ? size : SlotGeometry::minimum_object_size;
    const bool sound = is_power_of_two(alignment) && wanted <= PTRDIFF_MAX - alignment;
    class_.configure(sound ? Page::geometry(static_cast<std::size_t>(align_up(wanted, alignment)))
                           : SlotGeometry{},
                     0, queue_);
  }

  /// The size in bytes that the client asked for.
  constexpr std::size_t size() const noexcept { return size_; }
  /// Bytes of a slot: a client may use all of them.
  constexpr std::size_t usable_size() const noexcept { return class_.geometry().object_size; }

  /// True if every slot has the size and alignment of `layout`, and one fits a page.
  constexpr bool serves(Layout layout) const noexcept {
    const SlotGeometry& geometry = class_.geometry();
    return geometry.slots != 0 && layout.size() <= geometry.object_size &&
           (geometry.object_size & (layout.align() - 1)) == 0 &&
           layout.align() <= class_.frame_bytes();
  }

  /// An object of at most usable_size() bytes.
  /// Fails: InvalidLayout if the layout's size or alignment is more than every slot has, or if no
  /// object fits a page; OutOfMemory if nothing is free: refill() and try again.
  /// Cost: constant; at most the words of three pages and a drain of `drain_pages` pages; O(queued
  /// pages) before it says OutOfMemory.
  Result<void*> allocate(Layout layout) noexcept {
    if (!serves(layout)) [[unlikely]] {
      return AllocationError::InvalidLayout;
    }
    if (void* object = class_.allocate_fast()) [[likely]] {
      return object;
    }
    return allocate_slow();
  }

  /// Frees an object of this allocator, or nothing for a null pointer. Thread: owner.
  /// Fails: DoubleFree, MisalignedFree, ForeignPointer or SizeMismatch to the misuse hook.
  void deallocate(void* object, Layout layout) noexcept {
    const auto [page, slot] = find(object, layout);
    if (page == nullptr) {
      return;
    }
    if (page->is_owned_by(queue_.tag())) {
      class_.template free_in_any_state<false>(page, slot, object);
    } else {
      free_of_slot<Page>(page, class_.geometry(), slot).deliver();
    }
  }

  /// Frees an object of this or any other SCAllocator of the same page type and slot size.
  /// Thread: any; lock-free and without a wait, callable in interrupt handlers.
  void deallocate_remote(void* object, Layout layout) noexcept {
    const auto [page, slot] = find(object, layout);
    if (page != nullptr) {
      free_of_slot<Page>(page, class_.geometry(), slot).deliver();
    }
  }

  /// Gives it an empty frame. Thread: owner. Cost: the words of one page.
  /// Pre: a frame that this very allocator used before a warm restart was cleared.
  /// Fails: InvalidLayout, with InvalidPage to the misuse hook, if `page` is null, misaligned or in
  /// use here already: nothing was written. InvalidLayout alone if no object fits such a page.
  Result<void> refill(Page* page) noexcept {
    const std::size_t object_size = class_.geometry().object_size;
    const auto is_held = [object_size](const Header* header) {
      return header->has_seal_for(object_size);
    };
    if (class_.geometry().slots == 0 ||
        !accept_frame(page, class_.frame_bytes(), object_size, queue_.tag(), is_held)) {
      return AllocationError::InvalidLayout;
    }
    class_.add_page(Page::header_of(page), false);
    return {};
  }

  /// Hands at most `limit` wholly empty pages to `reclaim(Page*)`; returns how many. Thread: owner.
  template <class Reclaim>
  std::size_t try_reclaim_pages(std::size_t limit, Reclaim&& reclaim) noexcept {
    drain();
    return class_.remove_empty_pages(limit, [&](Header* page) noexcept {
      reclaim(reinterpret_cast<Page*>(Page::frame_of(page)));
    });
  }

  /// Drains every remote free that was announced. Thread: owner.
  void drain() noexcept {
    while (drain_queued_page()) {
    }
  }

  ClassStatistics statistics() const noexcept { return class_.statistics(); }

  /// Calls `visitor(void* object, std::size_t bytes)` for every live object. Thread: owner.
  template <class Visitor>
  void visit_live(Visitor&& visitor) const noexcept {
    class_.visit_live(visitor);
  }

  /// The first broken invariant, or null. Thread: owner.
  const char* validate() const noexcept { return class_.validate(); }

 private:
  Result<void*> allocate_slow() noexcept {
    if (void* object = class_.claim()) {
      // Words that become free again in time may suffice for ever.
      if (++claims_since_drain_ == CommonConfig::claims_per_drain) [[unlikely]] {
        drain_some();
      }
      return object;
    }
    drain_some();
    if (void* object = class_.allocate_from_pages()) {
      return object;
    }
    // The queue may hold more pages than one slow path drains.
    drain();
    if (void* object = class_.allocate_from_pages()) {
      return object;
    }
    return AllocationError::OutOfMemory;
  }

  void drain_some() noexcept {
    claims_since_drain_ = 0;
    for (std::uint32_t count = 0; count < CommonConfig::drain_pages && drain_queued_page();
         ++count) {
    }
  }

  bool drain_queued_page() noexcept {
    Header* page = queue_.take();
    if (page == nullptr) {
      return false;
    }
    class_.drain_page(page);
    return true;
  }

  /// The slot that begins at `object`; none for a null pointer and after a report.
  FoundSlot<Header> find(void* object, Layout layout) const noexcept {
    const SlotGeometry& geometry = class_.geometry();
    if (object != nullptr && !serves(layout)) {
      report_misuse({.kind = MisuseKind::SizeMismatch,
                     .address = object,
                     .object_size = geometry.object_size,
                     .slot = 0,
                     .given_size = layout.size()});
      return {};
    }
    return find_slot<Page>(object, geometry, [](const Header*) { return false; });
  }

  RemoteFreeQueue<Atomics> queue_;
  SizeClass<Page> class_;
  std::size_t size_;
  std::uint32_t claims_since_drain_ = 0;
};

}  // namespace slabmalloc
