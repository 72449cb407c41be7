// SPDX-License-Identifier: MIT
//
// ZoneAllocator: all sizes of one owner (a CPU, a thread), one SizeClass for each.
//
//   client ──► zone ──► size class ──► page ──► pager          a free walks back only as far as
//                │                      ▲                      the page
//                └── remote buffer ─────┘ (another zone's)
//
// allocate():   the class's current word; else its next word; else the inbox is drained, then a
//               partial or idle page of the class; else a page of the depot, an idle page of another
//               class, a frame of the pager; else everything announced is taken in and the current
//               pages of other classes may serve, if they are empty; else OutOfMemory.
// deallocate(): own page: set a bit. Another owner's: gather in the remote buffer, deliver by word.
//
// Two forms: ZoneAllocator is refilled and reclaimed by hand; PagedZone does both through its pager.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>

#include "slabmalloc/base/layout.hpp"
#include "slabmalloc/zone/class_banks.hpp"
#include "slabmalloc/zone/pager.hpp"
#include "slabmalloc/zone/remote_buffer.hpp"

namespace slabmalloc {

/// Allocates objects of any size up to MAX_ALLOC_SIZE, and beyond where the pager gives runs.
/// It must not move, and outlives its objects; its destructor does nothing (release_all()).
/// Thread: one owner at a time, but for the static functions.
template <class ConfigT, Pager PagerT = NoPager>
class BasicZoneAllocator {
 public:
  using Config = ConfigT;
  using Atomics = typename Config::Atomics;
  using SizeClasses = typename Config::SizeClasses;

  static constexpr bool is_paged = !std::same_as<PagerT, NoPager>;
  static constexpr bool has_runs = RunPager<PagerT>;
  static constexpr std::uint32_t class_count = SizeClasses::count;
  /// The largest size in bytes that comes from a size class.
  static constexpr std::size_t MAX_ALLOC_SIZE = SizeClasses::max_size;

 private:
  using Header = PageHeader<Atomics>;
  using Banks = typename BanksFor<SizeClasses, typename Config::Pages>::Type;
  static_assert(class_count <= 256, "a page header has 8 bits for the class");

 public:
  /// The largest size in bytes that lives on base pages.
  static constexpr std::size_t MAX_BASE_ALLOC_SIZE = SizeClasses::size_of(Banks::Bank::count - 1);

  constexpr BasicZoneAllocator() noexcept
    requires(!is_paged)
      : BasicZoneAllocator(nullptr) {}

  /// Pre: `pager` outlives the zone.
  constexpr explicit BasicZoneAllocator(PagerT& pager) noexcept
    requires is_paged
      : BasicZoneAllocator(&pager) {}

  BasicZoneAllocator(const BasicZoneAllocator&) = delete;
  BasicZoneAllocator& operator=(const BasicZoneAllocator&) = delete;

  // ---- objects ---------------------------------------------------------------------------------

  /// A block for `layout`; a size of 0 counts as 1. Thread: owner.
  /// Fails: OutOfMemory where nothing is free (without a pager: refill and try again); InvalidLayout
  /// above MAX_ALLOC_SIZE (size or alignment) unless the pager gives runs.
  /// Cost: constant in the number of pages and objects; the pager's call apart.
  [[gnu::always_inline]] Result<void*> allocate(Layout layout) noexcept {
    const std::uint32_t index = class_for(layout);
    if (index == SizeClasses::no_class) [[unlikely]] {
      return allocate_run(layout).address_or_error;
    }
    return allocate_class(index);
  }

  /// As allocate(), of size class `index`. Pre: index < class_count.
  [[gnu::always_inline]] Result<void*> allocate_class(std::uint32_t index) noexcept {
    return banks_.with_class(index, [&](auto& bank, auto& size_class) -> Result<void*> {
      if (void* object = size_class.allocate_fast()) [[likely]] {
        return object;
      }
      return allocate_slow(bank, size_class);
    });
  }

  /// As allocate(), every byte of `layout.size()` being 0. Memory that is known to be zero is not
  /// written again.
  Result<void*> allocate_zeroed(Layout layout) noexcept {
    const std::uint32_t index = class_for(layout);
    if (index == SizeClasses::no_class) {
      const Run run = allocate_run(layout);
      if (run.address_or_error && !run.zeroed) {
        __builtin_memset(run.address_or_error.value(), 0, layout.size());
      }
      return run.address_or_error;
    }
    const Result<void*> object = allocate_class(index);
    if (object) {
      if (!last_allocation_is_zero(index)) {
        __builtin_memset(object.value(), 0, layout.size());
      }
    }
    return object;
  }

  /// Frees a block of this zone or of any other zone of the same configuration. Thread: owner.
  /// Pre: with embedded meta-data, the frame of `layout`'s page kind around `object` is readable.
  /// Fails: DoubleFree, MisalignedFree, ForeignPointer or SizeMismatch to the misuse hook.
  /// Cost: constant, and lock-free where the block is another zone's.
  [[gnu::always_inline]] void deallocate(void* object, Layout layout) noexcept {
    const std::uint32_t index = class_for(layout);
    if (index == SizeClasses::no_class) [[unlikely]] {
      deallocate_run(object, layout);
      return;
    }
    banks_.with_class(index, [&](auto& bank, auto& size_class) {
      deallocate_in(bank, size_class, object);
    });
  }

  /// Frees a block of any zone of this configuration. Thread: any, also one without a zone, and
  /// interrupt handlers; lock-free and without a wait. Blocks above MAX_ALLOC_SIZE go to deallocate().
  /// Fails: as deallocate().
  static void deallocate_remote(void* object, Layout layout) noexcept {
    const std::uint32_t index = class_for(layout);
    if (index == SizeClasses::no_class) {
      report_misuse({MisuseKind::SizeMismatch, object, 0, 0});
      return;
    }
    Banks::with_bank(index, [object]<class Bank>(std::uint32_t position) {
      const RemoteFree<Atomics> free = find<Bank>(object, position);
      if (free.page != nullptr) {
        free.deliver();
      }
    });
  }

  /// Makes a block of `old_layout` one of `new_layout`, moved where the slot does not allow it. The
  /// first min(old, new) bytes stay. Thread: owner. Fails: as allocate(); then the block is untouched.
  Result<void*> reallocate(void* object, Layout old_layout, Layout new_layout) noexcept {
    const std::uint32_t old_class = class_for(old_layout);
    const std::uint32_t new_class = class_for(new_layout);
    if (old_class == new_class && old_class != SizeClasses::no_class) {
      return object;
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

  /// The largest size in bytes that fits the slot which a block of `size` bytes gets, so that a
  /// reallocation up to it stays in place. Fails: InvalidLayout above MAX_ALLOC_SIZE.
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

  // ---- pages -----------------------------------------------------------------------------------

  /// Bytes of the frames that serve `layout`, or 0 if no size class does.
  static constexpr std::size_t frame_bytes(Layout layout) noexcept {
    const std::uint32_t index = class_for(layout);
    return index == SizeClasses::no_class
               ? 0
               : Banks::with_bank(index, [index]<class Bank>(std::uint32_t) {
                   return Bank::Page::frame_bytes(SizeClasses::size_of(index));
                 });
  }

  /// Gives an empty frame to the class of `layout`. Thread: owner. Cost: the words of one page.
  /// Pre: a frame that this very zone used before a warm restart was cleared.
  /// Fails: InvalidLayout where the class lives on pages of another size; the same, with InvalidPage
  /// to the misuse hook, if the frame is null, misaligned or in this zone already. Nothing was written.
  template <class Page>
  Result<void> refill_with(Layout layout, Page* page) noexcept {
    const std::uint32_t index = class_for(layout);
    if (index == SizeClasses::no_class) {
      return AllocationError::InvalidLayout;
    }
    return banks_.with_class(index, [&](auto& bank, auto& size_class) -> Result<void> {
      using Bank = typename std::remove_reference_t<decltype(bank)>;
      if constexpr (std::same_as<typename Bank::Page, Page>) {
        if (accept_frame(size_class, page)) {
          take_in(size_class, Page::header_of(page), false);
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
    collect();
    std::size_t count = 0;
    banks_.for_each_bank([&](auto& bank) noexcept {
      using Bank = typename std::remove_reference_t<decltype(bank)>;
      if constexpr (std::same_as<typename Bank::Page, Page>) {
        while (count < limit) {
          Header* page = take_empty(bank);
          if (page == nullptr) {
            break;
          }
          reclaim(reinterpret_cast<Page*>(Page::frame_of(page)));
          ++count;
        }
      }
    });
    return count;
  }
  template <class Reclaim, class C = Config>
  std::size_t try_reclaim_base_pages(std::size_t limit, Reclaim&& reclaim) noexcept {
    return try_reclaim_pages<typename C::BasePage>(limit, reclaim);
  }
  template <class Reclaim, class C = Config>
  std::size_t try_reclaim_large_pages(std::size_t limit, Reclaim&& reclaim) noexcept {
    return try_reclaim_pages<typename C::LargePage>(limit, reclaim);
  }

  /// Gives every empty page back to the pager; returns their bytes. Thread: owner.
  std::size_t trim() noexcept
    requires is_paged
  {
    collect();
    const std::size_t before = frame_bytes_.get();
    banks_.for_each_bank([&](auto& bank) noexcept {
      for (auto& size_class : bank.classes) {
        size_class.leave_current();
        while (size_class.idle_pages() != 0) {
          give_back(bank, size_class.frame_bytes(), size_class.remove_idle_page());
        }
      }
      while (Header* page = bank.depot.pop()) {
        give_back(bank, uniform_frame_bytes(bank), page);
      }
    });
    return before - frame_bytes_.get();
  }

  /// Hands every page to `give(void* frame, std::size_t bytes)`, whatever lives in it, and starts anew.
  /// Thread: owner. Pre: no other thread has or will free an object of this zone.
  template <class Give>
  void release_all(Give&& give) noexcept {
    collect();
    banks_.for_each_bank([&](auto& bank) noexcept {
      using Page = typename std::remove_reference_t<decltype(bank)>::Page;
      for (auto& size_class : bank.classes) {
        size_class.remove_all_pages([&](Header* page) noexcept {
          give(static_cast<void*>(Page::frame_of(page)), size_class.frame_bytes());
        });
      }
      while (Header* page = bank.depot.pop()) {
        give(static_cast<void*>(Page::frame_of(page)), uniform_frame_bytes(bank));
      }
    });
    frame_bytes_.set(0);
  }

  /// Delivers what the remote buffer holds and takes in every free by others that was announced.
  /// Thread: owner. Cost: O(queued pages).
  void collect() noexcept {
    remote_.flush_all();
    while (absorb_one()) {
    }
  }

  /// Parks: delivers gathered frees and settles the counts of current pages, so that another thread
  /// can adopt the zone, or look at it, without a rest. Thread: owner.
  void settle() noexcept {
    collect();
    banks_.for_each_bank([&](auto& bank) noexcept {
      for (auto& size_class : bank.classes) {
        size_class.leave_current();
        retire_excess(bank, size_class);
      }
    });
  }

  // ---- looking ---------------------------------------------------------------------------------

  /// A snapshot of size class `index`. Thread: owner. Cost: O(pages of the class).
  ClassStatistics class_statistics(std::uint32_t index) const noexcept {
    return const_cast<Banks&>(banks_).with_class(
        index, [](auto&, auto& size_class) { return size_class.statistics(); });
  }

  /// The sums over all classes. Thread: owner. Cost: O(pages).
  ZoneStatistics statistics() const noexcept {
    ZoneStatistics result;
    banks_.for_each_bank([&](const auto& bank) noexcept {
      for (const auto& size_class : bank.classes) {
        const ClassStatistics one = size_class.statistics();
        result.used_bytes += one.used * one.object_size;
        result.page_bytes += one.pages * one.page_bytes;
        result.allocations += one.allocations;
        result.frees += one.frees;
        result.remote_frees += one.remote_frees;
        result.refills += one.refills;
        result.reclaims += one.reclaims;
      }
    });
    result.depot_bytes = frame_bytes_.get() - result.page_bytes;
    result.frame_bytes_high_water = frame_bytes_high_water_.get();
    result.withheld_bytes = remote_.withheld_bytes();
    return result;
  }

  /// Objects of class `index` given out, frees by others taken in, and slots claimed. Thread: any; see
  /// SizeClass.
  std::size_t allocations(std::uint32_t index) const noexcept {
    return const_cast<Banks&>(banks_).with_class(
        index, [](auto&, auto& size_class) { return size_class.allocations(); });
  }
  std::size_t claimed_slots(std::uint32_t index) const noexcept {
    return const_cast<Banks&>(banks_).with_class(
        index, [](auto&, auto& size_class) { return std::size_t{size_class.claimed_slots()}; });
  }
  std::size_t remote_frees(std::uint32_t index) const noexcept {
    return const_cast<Banks&>(banks_).with_class(
        index, [](auto&, auto& size_class) { return size_class.remote_frees(); });
  }

  /// Calls `visitor(void* object, std::size_t bytes)` for every live object of the size classes.
  /// Thread: owner; the visitor must not call into the zone.
  template <class Visitor>
  void visit_live(Visitor&& visitor) const noexcept {
    banks_.for_each_bank([&](const auto& bank) noexcept {
      for (const auto& size_class : bank.classes) {
        size_class.visit_live(visitor);
      }
    });
  }

  /// The first broken invariant, as an equation, or null. Thread: owner. Cost: O(pages).
  const char* validate() const noexcept {
    const char* broken = nullptr;
    std::size_t bytes = 0;
    banks_.for_each_bank([&](const auto& bank) noexcept {
      for (const auto& size_class : bank.classes) {
        if (broken == nullptr) {
          broken = size_class.validate();
        }
        bytes += size_class.pages() * size_class.frame_bytes();
      }
      bytes += bank.depot.size() * uniform_frame_bytes(bank);
    });
    if (broken == nullptr && bytes != frame_bytes_.get()) {
      broken = "Z1: frame bytes = pages of all classes + depots";
    }
    return broken;
  }

  // ---- for allocators built on a zone whose pages describe themselves ----------------------------

  /// The tag of this zone's open pages.
  [[gnu::always_inline]] std::uintptr_t tag() const noexcept { return owner_.tag(); }

  /// A block of class `index` from the selected word, or null. Thread: owner. Cost: constant, no call.
  [[gnu::always_inline]] void* allocate_class_fast(std::uint32_t index) noexcept {
    return banks_.with_class(
        index, [](auto&, auto& size_class) { return size_class.allocate_fast(); });
  }

  /// True if the block of class `index` that was allocated last is known to be all zero.
  bool last_allocation_is_zero(std::uint32_t index) noexcept {
    return banks_.with_class(
        index, [](auto&, auto& size_class) { return size_class.last_allocation_is_zero(); });
  }

  /// Frees slot `slot` of a page of class `index` whose tag is tag(). Thread: owner.
  /// Post: if the outcome is not `freed`, finish_free() follows.
  [[gnu::always_inline]] FreeOutcome free_open_slot(Header* page, std::uint32_t index,
                                                    const SlotGeometry& geometry,
                                                    std::uint32_t slot) noexcept {
    return banks_.with_class(index, [&](auto&, auto& size_class) {
      return size_class.template free_slot<Config::hardened>(page, geometry, slot);
    });
  }

  /// What is left to do if free_open_slot() of the slot at `object` did not simply free it. Thread: owner.
  [[gnu::noinline]] void finish_free(FreeOutcome outcome, Header* page, std::uint32_t index,
                                     std::uint32_t slot, void* object) noexcept {
    if (outcome == FreeOutcome::rejected) {
      deallocate_slot(page, index, slot, object);
      return;
    }
    banks_.with_class(index, [&](auto& bank, auto& size_class) {
      size_class.page_emptied(page);
      retire_excess(bank, size_class);
    });
  }

  /// True if slot `slot` of a page of class `index` of any zone is seen to be free; see SizeClass.
  bool is_free(Header* page, std::uint32_t index, std::uint32_t slot) noexcept {
    return banks_.with_class(
        index, [&](auto&, auto& size_class) { return size_class.is_free(page, slot); });
  }

  /// Frees slot `slot`, at `object`, of a page of class `index` of any zone. Thread: owner.
  [[gnu::noinline]] void deallocate_slot(Header* page, std::uint32_t index, std::uint32_t slot,
                                         void* object) noexcept {
    banks_.with_class(index, [&](auto& bank, auto& size_class) {
      using Bank = typename std::remove_reference_t<decltype(bank)>;
      if (Owner<Atomics>::of(page->tag.load(Order::relaxed)) == &owner_) {
        size_class.template free_in_any_state<Config::hardened>(page, slot, object);
        retire_excess(bank, size_class);
      } else {
        gather(remote_free<Bank>(page, index - Bank::first, slot));
      }
    });
  }

  /// Frees slot `slot` of a page of class `index` of any zone. Thread: any.
  static void deallocate_slot_remote(Header* page, std::uint32_t index,
                                     std::uint32_t slot) noexcept {
    Banks::with_bank(index, [&]<class Bank>(std::uint32_t position) {
      remote_free<Bank>(page, position, slot).deliver();
    });
  }

 private:
  struct Run {
    Result<void*> address_or_error;
    bool zeroed;
  };

  constexpr explicit BasicZoneAllocator(PagerT* pager) noexcept : pager_(pager) {
    std::uint32_t index = 0;
    banks_.for_each_bank([&](auto& bank) noexcept {
      std::uint32_t position = 0;
      for (auto& size_class : bank.classes) {
        size_class.configure(bank.geometries.at[position++], index++, owner_);
      }
    });
  }

  // ---- allocation's slow path ------------------------------------------------------------------

  template <class Bank, class Class>
  [[gnu::noinline]] Result<void*> allocate_slow(Bank& bank, Class& size_class) noexcept {
    if (void* object = size_class.allocate_from_current()) {
      return object;
    }
    remote_.flush_all();
    for (std::uint32_t count = 0; count < Config::drain_pages && absorb_one(); ++count) {
    }
    if (void* object = size_class.allocate_from_pages()) {
      retire_excess(bank, size_class);
      return object;
    }
    if (add_page(bank, size_class)) {
      return size_class.allocate_from_pages();
    }
    return allocate_from_rest(bank, size_class);
  }

  /// The last resort: takes in all of the inbox, of which the slow path drained a part, and makes empty
  /// pages of other classes serve this one, current pages too. The pager is asked once more only if that
  /// gave it frames.
  template <class Bank, class Class>
  [[gnu::cold, gnu::noinline]] Result<void*> allocate_from_rest(Bank& bank,
                                                                Class& size_class) noexcept {
    const std::size_t held_bytes = frame_bytes_.get();
    settle();
    if (void* object = size_class.allocate_from_pages()) {
      return object;
    }
    if (Header* page = take_spare(bank, size_class.frame_bytes())) {
      size_class.add_page(page, false);
      return size_class.allocate_from_pages();
    }
    if (frame_bytes_.get() < held_bytes && add_page(bank, size_class)) {
      return size_class.allocate_from_pages();
    }
    return AllocationError::OutOfMemory;
  }

  /// Takes an empty page from the depot or from a class with such frames, or null.
  template <class Bank>
  static Header* take_spare(Bank& bank, std::size_t bytes) noexcept {
    Header* page = has_depot<Bank> ? bank.depot.pop() : nullptr;
    return page != nullptr ? page : borrow_idle(bank, bytes);
  }

  /// Gives the class a page from wherever there is one.
  template <class Bank, class Class>
  bool add_page(Bank& bank, Class& size_class) noexcept {
    const std::size_t bytes = size_class.frame_bytes();
    if (Header* page = take_spare(bank, bytes)) {
      size_class.add_page(page, false);
      return true;
    }
    if constexpr (is_paged) {
      // The pager may allocate from this zone: nothing read before this call is used after it.
      const Frame frame = pager_->allocate_frame(bytes);
      if (frame.address != nullptr) {
        if ((reinterpret_cast<std::uintptr_t>(frame.address) & (bytes - 1)) != 0) [[unlikely]] {
          report_misuse({MisuseKind::InvalidPage, frame.address, 0, 0});
          pager_->deallocate_frame(frame.address, bytes);
          return false;
        }
        take_in(size_class, Bank::Page::header_of(frame.address), frame.zeroed);
        return true;
      }
    }
    return false;
  }

  /// Takes an idle page from a class of the bank whose frames are of `bytes`, or null.
  template <class Bank>
  static Header* borrow_idle(Bank& bank, std::size_t bytes) noexcept {
    for (auto& size_class : bank.classes) {
      if (size_class.idle_pages() != 0 && size_class.frame_bytes() == bytes) {
        return size_class.remove_idle_page();
      }
    }
    return nullptr;
  }

  template <class Class>
  void take_in(Class& size_class, Header* page, bool zeroed) noexcept {
    frame_bytes_.add(size_class.frame_bytes());
    frame_bytes_high_water_.raise_to(frame_bytes_.get());
    size_class.add_page(page, zeroed);
  }

  // ---- empty pages -----------------------------------------------------------------------------

  /// A depot holds frames of one size.
  template <class Bank>
  static constexpr bool has_depot =
      Bank::Page::frame_bytes(SizeClasses::size_of(Bank::first)) ==
      Bank::Page::frame_bytes(SizeClasses::size_of(Bank::first + Bank::count - 1));

  template <class Bank>
  static constexpr std::size_t uniform_frame_bytes(const Bank&) noexcept {
    return Bank::Page::frame_bytes(SizeClasses::size_of(Bank::first));
  }

  /// Lets go of the idle pages that a class has beyond what it may keep, if there is a place for them.
  template <class Bank, class Class>
  [[gnu::always_inline]] void retire_excess([[maybe_unused]] Bank& bank,
                                            [[maybe_unused]] Class& size_class) noexcept {
    if constexpr (is_paged || has_depot<Bank>) {
      while (size_class.idle_pages() > Config::idle_pages_per_class) [[unlikely]] {
        retire_one(bank, size_class);
      }
    }
  }

  template <class Bank, class Class>
  [[gnu::noinline]] void retire_one(Bank& bank, Class& size_class) noexcept {
    Header* page = size_class.remove_idle_page();
    if (has_depot<Bank> && (!is_paged || bank.depot.size() < Config::depot_pages)) {
      bank.depot.push(page, owner_.tag());
    } else {
      give_back(bank, size_class.frame_bytes(), page);
    }
  }

  template <class Bank>
  void give_back(Bank&, std::size_t bytes, Header* page) noexcept {
    frame_bytes_.subtract(bytes);
    pager_->deallocate_frame(Bank::Page::frame_of(page), bytes);
  }

  /// Takes an empty page of the bank out of the zone, from its depot or its classes, or null.
  template <class Bank>
  Header* take_empty(Bank& bank) noexcept {
    if (Header* page = bank.depot.pop()) {
      frame_bytes_.subtract(uniform_frame_bytes(bank));
      return page;
    }
    for (auto& size_class : bank.classes) {
      size_class.leave_current();
      if (Header* page = size_class.remove_idle_page()) {
        frame_bytes_.subtract(size_class.frame_bytes());
        return page;
      }
    }
    return nullptr;
  }

  template <class Class, class Page>
  bool accept_frame(const Class& size_class, const Page* page) const noexcept {
    const auto address = reinterpret_cast<std::uintptr_t>(page);
    bool sound = page != nullptr && (address & (size_class.frame_bytes() - 1)) == 0;
    if (sound) {
      const Header* header = Page::header_of(page);
      if (Owner<Atomics>::of(header->tag.load(Order::relaxed)) == &owner_) {
        sound = !Depot<Header>::is_marked(header) && !has_seal_of_any_class<Page>(header);
      }
    }
    if (!sound) {
      report_misuse({MisuseKind::InvalidPage, page, size_class.geometry().object_size, 0});
    }
    return sound;
  }

  // ---- free ------------------------------------------------------------------------------------

  template <class Bank, class Class>
  [[gnu::always_inline]] void deallocate_in(Bank& bank, Class& size_class, void* object) noexcept {
    using Page = typename Bank::Page;
    Header* page = Page::header_of(object);
    if (page->tag.load(Order::relaxed) == owner_.tag() &&
        page->class_index == size_class.index()) [[likely]] {
      const std::uint32_t slot = size_class.geometry().slot_at(
          static_cast<std::size_t>(static_cast<std::byte*>(object) - Page::frame_of(page)));
      if (slot != SlotGeometry::no_slot) [[likely]] {
        const FreeOutcome outcome =
            size_class.template free_slot<Config::hardened>(page, size_class.geometry(), slot);
        if (outcome != FreeOutcome::freed) [[unlikely]] {
          finish_free(outcome, page, size_class.index(), slot, object);
        }
        return;
      }
    }
    deallocate_slow(bank, size_class, object);
  }

  template <class Bank, class Class>
  [[gnu::noinline]] void deallocate_slow(Bank& bank, Class& size_class, void* object) noexcept {
    const RemoteFree<Atomics> free = find<Bank>(object, size_class.index() - Bank::first);
    if (free.page == nullptr) {
      return;
    }
    if (Owner<Atomics>::of(free.page->tag.load(Order::relaxed)) == &owner_) {
      size_class.template free_in_any_state<Config::hardened>(
          free.page, free.word * word_bits + lowest_bit(free.mask), object);
      retire_excess(bank, size_class);
    } else {
      gather(free);
    }
  }

  /// Keeps a free of another owner's object for a while, where that is allowed.
  void gather(const RemoteFree<Atomics>& free) noexcept {
    if (Config::hardened || free.geometry->object_size > Config::remote_buffer_max_object_bytes) {
      free.deliver();
    } else {
      remote_.add(free, Config::remote_buffer_bytes);
    }
  }

  template <class Bank>
  static RemoteFree<Atomics> remote_free(Header* page, std::uint32_t position,
                                         std::uint32_t slot) noexcept {
    return {page, Bank::Page::frame_of(page), &Bank::geometries.at[position], slot / word_bits,
            Word{1} << (slot % word_bits)};
  }

  /// The page and slot of `object` of the class at `position` of the bank; without a page after a
  /// report.
  template <class Bank>
  static RemoteFree<Atomics> find(void* object, std::uint32_t position) noexcept {
    using Page = typename Bank::Page;
    const SlotGeometry& geometry = Bank::geometries.at[position];
    Header* page = Page::head_of(object);
    if (page == nullptr ||
        page->seal.load(Order::relaxed) != page->seal_for(geometry.object_size)) [[unlikely]] {
      const bool other_class = page != nullptr && has_seal_of_any_class<Page>(page);
      report_misuse({other_class ? MisuseKind::SizeMismatch : MisuseKind::ForeignPointer, object,
                     geometry.object_size, 0});
      return {};
    }
    const std::uint32_t slot = geometry.slot_at(
        static_cast<std::size_t>(static_cast<std::byte*>(object) - Page::frame_of(page)));
    if (slot == SlotGeometry::no_slot) [[unlikely]] {
      report_misuse({MisuseKind::MisalignedFree, object, geometry.object_size, 0});
      return {};
    }
    return remote_free<Bank>(page, position, slot);
  }

  template <class Page>
  [[gnu::cold]] static bool has_seal_of_any_class(const Header* page) noexcept {
    for (std::uint32_t index = 0; index < class_count; ++index) {
      if (page->seal.load(Order::relaxed) == page->seal_for(SizeClasses::size_of(index))) {
        return true;
      }
    }
    return false;
  }

  bool absorb_one() noexcept {
    Header* page = owner_.take();
    if (page == nullptr) {
      return false;
    }
    banks_.with_class(page->class_index, [&](auto& bank, auto& size_class) {
      size_class.absorb(page);
      retire_excess(bank, size_class);
    });
    return true;
  }

  // ---- runs ------------------------------------------------------------------------------------

  [[gnu::noinline]] Run allocate_run(Layout layout) noexcept {
    if constexpr (has_runs) {
      const Frame run = pager_->allocate_run(layout.size(), layout.align());
      if (run.address != nullptr) {
        return {run.address, run.zeroed};
      }
      return {AllocationError::OutOfMemory, false};
    } else {
      return {AllocationError::InvalidLayout, false};
    }
  }

  [[gnu::noinline]] void deallocate_run(void* object, Layout layout) noexcept {
    if constexpr (has_runs) {
      pager_->deallocate_run(object, layout.size(), layout.align());
    } else {
      report_misuse({MisuseKind::SizeMismatch, object, 0, 0});
    }
  }

  Owner<Atomics> owner_;
  PagerT* pager_;
  Banks banks_;
  RemoteBuffer<Atomics, Config::remote_buffer_entries> remote_;
  Counter<Atomics> frame_bytes_;
  Counter<Atomics> frame_bytes_high_water_;
};

/// The seed of the library: every size to 128 KiB, refilled and reclaimed by hand.
using ZoneAllocator = BasicZoneAllocator<DefaultConfig>;

/// A zone that refills itself from a pager and gives empty pages back to it.
template <Pager PagerT, class Config = DefaultConfig>
using PagedZone = BasicZoneAllocator<Config, PagerT>;

/// A paged zone that gives all its pages back when it ends.
template <Pager PagerT, class Config = DefaultConfig>
class ScopedZone : public PagedZone<PagerT, Config> {
 public:
  /// Pre: `pager` outlives the zone.
  constexpr explicit ScopedZone(PagerT& pager) noexcept
      : PagedZone<PagerT, Config>(pager), pager_of_frames_(pager) {}
  /// Pre: no object of the zone is used any more. Runs must have been freed one by one.
  ~ScopedZone() {
    this->release_all([&](void* frame, std::size_t bytes) noexcept {
      pager_of_frames_.deallocate_frame(frame, bytes);
    });
  }

 private:
  PagerT& pager_of_frames_;
};

/// What code that is generic over allocators may use: zones and size-class allocators both have it.
template <class A>
concept LayoutAllocator = requires(A& allocator, void* object, Layout layout) {
  { allocator.allocate(layout) } noexcept -> std::same_as<Result<void*>>;
  { allocator.deallocate(object, layout) } noexcept;
  { allocator.collect() } noexcept;
};

}  // namespace slabmalloc
