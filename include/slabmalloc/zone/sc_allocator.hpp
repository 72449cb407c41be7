// SPDX-License-Identifier: MIT
//
// SCAllocator: one object size, over pages of one type, refilled by hand.
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
    class_.configure(
        sound ? Page::geometry(static_cast<std::size_t>(align_up(wanted, alignment)))
              : SlotGeometry{},
        0, owner_);
  }

  /// The size in bytes it was made for.
  constexpr std::size_t size() const noexcept { return size_; }
  /// Bytes of a slot: all of them may be used.
  constexpr std::size_t usable_size() const noexcept { return class_.geometry().object_size; }

  /// True if every slot has the size and alignment of `layout`, and one fits a page.
  constexpr bool serves(Layout layout) const noexcept {
    const SlotGeometry& geometry = class_.geometry();
    return geometry.slots != 0 && layout.size() <= geometry.object_size &&
           (geometry.object_size & (layout.align() - 1)) == 0 &&
           layout.align() <= class_.frame_bytes();
  }

  /// An object of at most usable_size() bytes.
  /// Fails: InvalidLayout if the layout's size or alignment is more than every slot has, or if not one
  /// object fits a page; OutOfMemory if nothing is free: refill() and try again.
  /// Cost: constant; at most the words of two pages and the absorption of `drain_pages` pages; before it says
  /// OutOfMemory, O(queued pages).
  Result<void*> allocate(Layout layout) noexcept {
    if (!serves(layout)) [[unlikely]] {
      return AllocationError::InvalidLayout;
    }
    if (void* object = class_.allocate_fast()) [[likely]] {
      return object;
    }
    return allocate_slow();
  }

  /// Frees an object of this allocator; a null pointer is none. Thread: owner.
  /// Fails: DoubleFree, MisalignedFree, ForeignPointer or SizeMismatch to the misuse hook.
  void deallocate(void* object, Layout layout) noexcept {
    std::uint32_t slot = 0;
    if (Header* page = find(object, layout, slot)) {
      if (Owner<Atomics>::of(page->tag.load(Order::relaxed)) == &owner_) {
        class_.template free_in_any_state<false>(page, slot, object);
      } else {
        deliver(page, slot);
      }
    }
  }

  /// Frees an object of this or any other SCAllocator of the same page type and slot size.
  /// Thread: any; lock-free and without a wait, callable in interrupt handlers.
  void deallocate_remote(void* object, Layout layout) noexcept {
    std::uint32_t slot = 0;
    if (Header* page = find(object, layout, slot)) {
      deliver(page, slot);
    }
  }

  /// Gives it an empty frame. Thread: owner. Cost: the words of one page.
  /// Pre: a frame that this very allocator used before a warm restart was cleared.
  /// Fails: InvalidLayout, with InvalidPage to the misuse hook, if `page` is null, misaligned or in use
  /// here already: nothing was written. InvalidLayout alone if no object fits such a page.
  Result<void> refill(Page* page) noexcept {
    if (class_.geometry().slots == 0) {
      return AllocationError::InvalidLayout;
    }
    if (!accept_frame(page)) {
      return AllocationError::InvalidLayout;
    }
    class_.add_page(Page::header_of(page), false);
    return {};
  }

  /// Hands at most `limit` wholly empty pages to `reclaim(Page*)`; returns how many. Thread: owner.
  template <class Reclaim>
  std::size_t try_reclaim_pages(std::size_t limit, Reclaim&& reclaim) noexcept {
    collect();
    class_.leave_current();
    std::size_t count = 0;
    while (count < limit) {
      Header* page = class_.remove_idle_page();
      if (page == nullptr) {
        break;
      }
      reclaim(reinterpret_cast<Page*>(Page::frame_of(page)));
      ++count;
    }
    return count;
  }

  /// Takes in every free by others that was announced. Thread: owner.
  void collect() noexcept {
    while (absorb_one()) {
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
  static constexpr std::uint32_t drain_pages = 8;

  Result<void*> allocate_slow() noexcept {
    if (void* object = class_.allocate_from_current()) {
      return object;
    }
    for (std::uint32_t count = 0; count < drain_pages && absorb_one(); ++count) {
    }
    if (void* object = class_.allocate_from_pages()) {
      return object;
    }
    // The inbox may hold more than one slow path drains.
    collect();
    if (void* object = class_.allocate_from_pages()) {
      return object;
    }
    return AllocationError::OutOfMemory;
  }

  bool absorb_one() noexcept {
    Header* page = owner_.take();
    if (page == nullptr) {
      return false;
    }
    class_.absorb(page);
    return true;
  }

  /// The page and slot of `object`; null for a null pointer and after a report.
  Header* find(void* object, Layout layout, std::uint32_t& slot) const noexcept {
    if (object == nullptr) {
      return nullptr;
    }
    const SlotGeometry& geometry = class_.geometry();
    if (!serves(layout)) {
      report_misuse({MisuseKind::SizeMismatch, object, geometry.object_size, 0});
      return nullptr;
    }
    Header* page = Page::head_of(object);
    if (page == nullptr ||
        page->seal.load(Order::relaxed) != page->seal_for(geometry.object_size)) {
      report_misuse({MisuseKind::ForeignPointer, object, 0, 0});
      return nullptr;
    }
    slot = geometry.slot_at(static_cast<std::size_t>(static_cast<std::byte*>(object) -
                                                     Page::frame_of(page)));
    if (slot == SlotGeometry::no_slot) {
      report_misuse({MisuseKind::MisalignedFree, object, geometry.object_size, 0});
      return nullptr;
    }
    return page;
  }

  void deliver(Header* page, std::uint32_t slot) const noexcept {
    RemoteFree<Atomics>{page, Page::frame_of(page), &class_.geometry(), slot / word_bits,
                        Word{1} << (slot % word_bits)}
        .deliver();
  }

  bool accept_frame(const Page* page) const noexcept {
    const auto address = reinterpret_cast<std::uintptr_t>(page);
    bool sound = page != nullptr && (address & (class_.frame_bytes() - 1)) == 0;
    if (sound) {
      const Header* header = Page::header_of(page);
      sound = Owner<Atomics>::of(header->tag.load(Order::relaxed)) != &owner_ ||
              header->seal.load(Order::relaxed) != header->seal_for(class_.geometry().object_size);
    }
    if (!sound) {
      report_misuse({MisuseKind::InvalidPage, page, class_.geometry().object_size, 0});
    }
    return sound;
  }

  Owner<Atomics> owner_;
  SizeClass<Page> class_;
  std::size_t size_;
};

}  // namespace slabmalloc
