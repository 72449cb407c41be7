// SPDX-License-Identifier: MIT
//
// ZoneAllocator: blocks of any size and alignment from the zone of one owner (a CPU, a thread).
//
//   client ─► layout ─► zone ─► size class ─► page ─► pager      a free walks back only as far as
//                        │                     ▲                 the page
//                        └─── remote buffer ───┘ (another zone's)
//
// Two forms: the client of a ZoneAllocator refills and reclaims by hand; a PagedZone does both
// through its pager.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>

#include "slabmalloc/base/layout.hpp"
#include "slabmalloc/base/layout_allocator.hpp"
#include "slabmalloc/zone/pager.hpp"
#include "slabmalloc/zone/zone.hpp"

namespace slabmalloc {

/// Allocates blocks up to MAX_ALLOC_SIZE, and beyond where the pager gives runs: a zone that takes
/// layouts. It must not move, and outlives its objects; its destructor does nothing
/// (release_all()).
/// `PagerT` is a Pager, once the zone is made: a pager may hold a pointer to it.
/// Thread: one owner at a time, but for the static functions.
template <class ConfigT, class PagerT = NoPager>
class BasicZoneAllocator : public Zone<ConfigT, PagerT> {
  using Base = Zone<ConfigT, PagerT>;
  using typename Base::Header;
  using typename Base::Table;
  using Runs = PagerRuns<PagerT>;

 public:
  using Base::is_paged;
  using typename Base::Config;
  using typename Base::SizeClasses;

  static constexpr bool has_runs = Runs::exist;

  /// The largest size in bytes that a size class serves.
  static constexpr std::size_t MAX_ALLOC_SIZE = SizeClasses::max_size;
  /// The largest size in bytes that lives on base pages.
  static constexpr std::size_t MAX_BASE_ALLOC_SIZE = SizeClasses::size_of(Table::Group::count - 1);

  constexpr BasicZoneAllocator() noexcept
    requires(!is_paged)
      : Base(nullptr) {}

  /// Pre: `pager` outlives the zone.
  constexpr explicit BasicZoneAllocator(PagerT& pager) noexcept
    requires is_paged
      : Base(&pager) {}

  constexpr explicit BasicZoneAllocator(EmptyZone empty) noexcept : Base(empty) {}

  // ---- objects ---------------------------------------------------------------------------------

  /// A block for `layout`; a size of 0 counts as 1. Thread: owner.
  /// Fails: OutOfMemory where nothing is free (without a pager: refill and try again);
  /// InvalidLayout above MAX_ALLOC_SIZE (size or alignment) unless the pager gives runs.
  /// Cost: constant in the number of pages and objects, the pager's call apart. Before it says
  /// OutOfMemory, O(queued pages + size classes).
  [[gnu::always_inline]] Result<void*> allocate(Layout layout) noexcept {
    const std::uint32_t index = class_for(layout);
    if (index == SizeClasses::no_class) [[unlikely]] {
      return Runs::allocate(this->supply_.pager(), layout).address_or_error;
    }
    return this->allocate_class(index);
  }

  /// Room for one `T`, by a class that the compiler chooses. Otherwise as allocate(). A type that
  /// no class serves is a compile-time error.
  template <class T>
  [[gnu::always_inline]] Result<void*> allocate_one() noexcept {
    return this->allocate_class(class_of<T>);
  }

  /// Frees the room of one `T`. Otherwise as deallocate(). Pre: `object` is not null.
  template <class T>
  [[gnu::always_inline]] void deallocate_one(T* object) noexcept {
    if (object == nullptr) {
      __builtin_unreachable();
    }
    this->deallocate_class(object, class_of<T>);
  }

  /// As allocate(), but every byte of `layout.size()` is 0. It does not write memory again that it
  /// knows to be zero.
  Result<void*> allocate_zeroed(Layout layout) noexcept {
    const std::uint32_t index = class_for(layout);
    if (index == SizeClasses::no_class) {
      const typename Runs::Run run = Runs::allocate(this->supply_.pager(), layout);
      if (run.address_or_error && !run.zeroed) {
        __builtin_memset(run.address_or_error.value(), 0, layout.size());
      }
      return run.address_or_error;
    }
    const Result<void*> object = this->allocate_class(index);
    if (object) {
      if (!this->is_zero(index, object.value())) {
        __builtin_memset(object.value(), 0, layout.size());
      }
    }
    return object;
  }

  /// Frees a block of this zone or of any other zone of the same configuration, or nothing for a
  /// null pointer.
  /// Thread: owner.
  /// Pre: with embedded meta-data, the frame of `layout`'s page kind around `object` is readable.
  /// Fails: DoubleFree, MisalignedFree, ForeignPointer or SizeMismatch to the misuse hook.
  /// Cost: constant, and lock-free where the block is another zone's.
  [[gnu::always_inline]] void deallocate(void* object, Layout layout) noexcept {
    const std::uint32_t index = class_for(layout);
    if (index == SizeClasses::no_class) [[unlikely]] {
      Runs::deallocate(this->supply_.pager(), object, layout);
      return;
    }
    this->deallocate_class(object, index);
  }

  /// Frees a block of any zone of this configuration. Thread: any, also one without a zone, and
  /// interrupt handlers; lock-free and without a wait. Passes blocks above MAX_ALLOC_SIZE to
  /// deallocate().
  /// Fails: as deallocate().
  static void deallocate_remote(void* object, Layout layout) noexcept {
    const std::uint32_t index = class_for(layout);
    if (index == SizeClasses::no_class) {
      report_misuse({.kind = MisuseKind::SizeMismatch,
                     .address = object,
                     .object_size = 0,
                     .slot = 0,
                     .given_size = layout.size()});
      return;
    }
    Base::deallocate_remote_class(object, index);
  }

  /// Makes a block of `old_layout` one of `new_layout`, and moves it if the slot requires that. The
  /// first min(old, new) bytes stay. For a null pointer it allocates anew. Thread: owner.
  /// Fails: as allocate(), and then leaves the block untouched; InvalidLayout after it reported
  /// misuse, as deallocate() does.
  Result<void*> reallocate(void* object, Layout old_layout, Layout new_layout) noexcept {
    if (object == nullptr) {
      return allocate(new_layout);
    }
    const std::uint32_t old_class = class_for(old_layout);
    if (old_class != SizeClasses::no_class) {
      if (!is_live(object, old_class)) {
        return AllocationError::InvalidLayout;
      }
      if (old_class == class_for(new_layout)) {
        return object;
      }
    }
    const Result<void*> moved = allocate(new_layout);
    if (moved) {
      const std::size_t common =
          old_layout.size() < new_layout.size() ? old_layout.size() : new_layout.size();
      __builtin_memcpy(moved.value(), object, common);
      deallocate(object, old_layout);
    }
    return moved;
  }

  /// The bytes that a block of `layout` may use; 0 if no size class serves it.
  static constexpr std::size_t usable_size(Layout layout) noexcept {
    const std::uint32_t index = class_for(layout);
    return index == SizeClasses::no_class ? 0 : SizeClasses::size_of(index);
  }

  /// The largest size in bytes that fits the slot of a block of `size` bytes. A reallocation up to
  /// it stays in place. Fails: InvalidLayout above MAX_ALLOC_SIZE.
  static constexpr Result<std::size_t> get_max_size(std::size_t size) noexcept {
    const std::uint32_t index = SizeClasses::index_for(size);
    if (index == SizeClasses::no_class) {
      return AllocationError::InvalidLayout;
    }
    return SizeClasses::size_of(index);
  }

  /// The size class of `layout`, or SizeClasses::no_class.
  [[gnu::always_inline]] static constexpr std::uint32_t class_for(Layout layout) noexcept {
    if (layout.align() <= natural_alignment(SizeClasses::size_of(0))) [[likely]] {
      return SizeClasses::index_for(layout.size());
    }
    return SizeClasses::index_for(layout.size(), layout.align());
  }

  /// True if allocate() serves such a layout while there is memory.
  [[gnu::always_inline]] static constexpr bool serves(Layout layout) noexcept {
    return has_runs || class_for(layout) != SizeClasses::no_class;
  }

  // ---- pages -----------------------------------------------------------------------------------

  /// Bytes of the frames that serve `layout`, or 0 if no size class does.
  static constexpr std::size_t frame_bytes(Layout layout) noexcept {
    const std::uint32_t index = class_for(layout);
    return index == SizeClasses::no_class ? 0 : Base::frame_bytes_of_class(index);
  }
  /// Gives an empty frame to the class of `layout`. Thread: owner. Cost: the words of one page.
  /// Pre: a frame that this very zone used before a warm restart was cleared.
  /// Fails: InvalidLayout where the class lives on pages of another size. The same, with
  /// InvalidPage to the misuse hook, if the frame is null, misaligned or in this zone already. It
  /// wrote nothing then.
  template <class Page>
  Result<void> refill_with(Layout layout, Page* page) noexcept {
    const std::uint32_t index = class_for(layout);
    if (index == SizeClasses::no_class) {
      return AllocationError::InvalidLayout;
    }
    return this->table_.with_class(index, [&](auto& group, auto& size_class) -> Result<void> {
      using Group = typename std::remove_reference_t<decltype(group)>;
      if constexpr (Group::template has_pages<Page>) {
        if (size_class.template has_frames_of<Page>() &&
            this->supply_.refill(group, size_class, page)) {
          return {};
        }
      }
      return AllocationError::InvalidLayout;
    });
  }

  /// refill_with() a base page.
  template <class C = Config>
  Result<void> refill(Layout layout, typename C::BasePage* page) noexcept {
    return refill_with(layout, page);
  }
  /// refill_with() a large page.
  template <class C = Config>
  Result<void> refill_large(Layout layout, typename C::LargePage* page) noexcept {
    return refill_with(layout, page);
  }

  /// Hands at most `limit` wholly empty pages of type `Page` to `reclaim(Page*)`; returns how many.
  /// Thread: owner. Cost: O(size classes + limit).
  template <class Page, class Reclaim>
  std::size_t try_reclaim_pages(std::size_t limit, Reclaim&& reclaim) noexcept {
    this->drain();
    return this->supply_.template remove_empty_pages<Page>(this->table_, limit, reclaim);
  }
  template <class Reclaim, class C = Config>
  std::size_t try_reclaim_base_pages(std::size_t limit, Reclaim&& reclaim) noexcept {
    return try_reclaim_pages<typename C::BasePage>(limit, reclaim);
  }
  template <class Reclaim, class C = Config>
  std::size_t try_reclaim_large_pages(std::size_t limit, Reclaim&& reclaim) noexcept {
    return try_reclaim_pages<typename C::LargePage>(limit, reclaim);
  }

 private:
  template <class T>
  static constexpr std::uint32_t class_of = [] {
    constexpr std::uint32_t index = class_for(Layout::of<T>());
    static_assert(index != SizeClasses::no_class, "no size class of this zone serves the type");
    return index;
  }();

  /// True if `object` is a live object of class `index`. Fails: reports misuse; then false.
  bool is_live(void* object, std::uint32_t index) noexcept {
    return this->table_.with_class(index, [&](auto& group, auto& size_class) {
      using Group = typename std::remove_reference_t<decltype(group)>;
      const auto [page, slot] = Base::template find<Group>(object, index - Group::first);
      if (page == nullptr) {
        return false;
      }
      if (size_class.is_free(page, slot)) {
        const BlockState state = page->is_owned_by(this->queue_.tag())
                                     ? size_class.state_of_free(page, slot)
                                     : BlockState::Free;
        report_misuse({MisuseKind::DoubleFree, object, size_class.geometry().object_size, slot,
                       object, state});
        return false;
      }
      return true;
    });
  }
};

/// The seed of the library: every size to 128 KiB, with refills and reclaims by hand.
using ZoneAllocator = BasicZoneAllocator<DefaultConfig>;

/// A zone that refills itself from a pager and gives empty pages back to it.
template <class PagerT, class Config = DefaultConfig>
using PagedZone = BasicZoneAllocator<Config, PagerT>;

/// A paged zone that gives all its pages back when it ends.
template <class PagerT, class Config = DefaultConfig>
class ScopedZone : public PagedZone<PagerT, Config> {
 public:
  /// Pre: `pager` outlives the zone.
  constexpr explicit ScopedZone(PagerT& pager) noexcept
      : PagedZone<PagerT, Config>(pager), pager_of_frames_(pager) {}
  /// Pre: no client uses an object of the zone any more. Clients must have freed each run.
  ~ScopedZone() {
    this->release_all([&](void* frame, std::size_t bytes) noexcept {
      pager_of_frames_.deallocate_frame(frame, bytes);
    });
  }

 private:
  PagerT& pager_of_frames_;
};

}  // namespace slabmalloc
