// SPDX-License-Identifier: MIT
//
// Zone: all size classes of one owner (a CPU, a thread). Objects are named by class and address
// here; zone_allocator.hpp adds layouts.
//
//   Zone
//   ├── RemoteFreeQueue   others' frees of its objects, on their way in; its address is the tag
//   ├── ClassTable        one SizeClass for each object size
//   ├── PageSupply        pages from the pager and back
//   └── RemoteBuffer      its frees of others' objects, on their way out
//
//   allocate   the class's claimed slots ► its next word ► drain some remote frees ► its other
//              pages ► a page of the depot or of another class ► a frame of the pager
//              ► drain all, and empty pages of all classes ► OutOfMemory
//   free       own page: set a bit       another owner's page: remote buffer
//
// Slow paths drain a few queued pages at a time, at the latest every claims_per_drain claims.
// Without that bound, a class that always finds free words would never drain. drain() drains all
// pages.
//
// Its invariants are those of its parts.
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/base/result.hpp"
#include "slabmalloc/page/lookup.hpp"
#include "slabmalloc/zone/class_table.hpp"
#include "slabmalloc/zone/page_supply.hpp"
#include "slabmalloc/zone/pager.hpp"
#include "slabmalloc/zone/remote_buffer.hpp"

namespace slabmalloc {

/// Given to a zone's constructor: makes the zone of threads that have none. All its bytes are zero,
/// so it takes no room in a program's file and no start-up. Only functions that find nothing to do
/// may be called: tag(), merge_remote(), and allocate_fast() and pages() of its classes.
struct EmptyZone {};

/// Objects of all size classes, for one owner. Thread: the owner, where nothing else is said. Its
/// address must not change.
template <class ConfigT, Pager PagerT>
class Zone {
 protected:
  using Supply = PageSupply<ConfigT, PagerT>;
  using Table = ClassTable<ConfigT>;

 public:
  using Config = ConfigT;
  using Atomics = typename Config::Atomics;
  using SizeClasses = typename Config::SizeClasses;
  using Queue = typename Table::Queue;
  using Header = PageHeader<Atomics>;
  using Buffer = RemoteBuffer<Atomics, Config::remote_buffer_entries, typename Queue::Lock>;

  /// How the first class finds its frames.
  using FramesOfClass = FramesOf<typename Table::Group::Page>;

  static constexpr bool is_paged = Supply::is_paged;
  static constexpr std::uint32_t class_count = SizeClasses::count;

  constexpr explicit Zone(EmptyZone) noexcept : supply_(nullptr) {}
  constexpr explicit Zone(PagerT* pager) noexcept : table_(queue_), supply_(pager) {}
  Zone(const Zone&) = delete;
  Zone& operator=(const Zone&) = delete;

  /// Makes class `index`, on pages of a size known at run time, one of slots laid out by `geometry`
  /// in `frames`. Pre: nobody uses the zone.
  template <class Frames>
  constexpr void configure_class(std::uint32_t index, const SlotGeometry& geometry,
                                 const Frames& frames) noexcept {
    table_.with_class(index, [&](auto&, auto& size_class) {
      size_class.configure(geometry, index, queue_, frames);
    });
  }

  /// The tag of this zone's open pages.
  [[gnu::always_inline]] std::uintptr_t tag() const noexcept { return queue_.tag(); }

  /// The class numbered `index`.
  [[gnu::always_inline]] constexpr auto& class_at(std::uint32_t index) noexcept {
    return table_.with_class(index, [](auto&, auto& one) -> auto& { return one; });
  }

  // ---- allocation -------------------------------------------------------------------------------

  /// An object of class `index`. Its slow path drains up to `pages` queued pages.
  /// Pre: index < class_count. Fails: OutOfMemory.
  [[gnu::always_inline]] Result<void*> allocate_class(
      std::uint32_t index, std::uint32_t pages = Config::drain_pages) noexcept {
    return table_.with_class(index, [&](auto& group, auto& size_class) -> Result<void*> {
      if (void* object = issue(group, size_class, index)) [[likely]] {
        return object;
      }
      return allocate_slow(group, size_class, pages);
    });
  }

  /// An object of class `index` that is claimed already, or null: allocate_class() then does more.
  /// Cost: constant, no call.
  [[gnu::always_inline]] void* allocate_fast(std::uint32_t index) noexcept {
    return table_.with_class(
        index, [index](auto& group, auto& size_class) { return issue(group, size_class, index); });
  }

  /// The same for allocators that know the object size of the class.
  [[gnu::always_inline]] void* allocate_fast(std::uint32_t index,
                                             std::uint32_t object_size) noexcept {
    return table_.with_class(index, [object_size](auto&, auto& size_class) {
      check_if_hardened(size_class);
      return size_class.allocate_fast(object_size);
    });
  }

  /// The same for allocators that know the class, `size_class`, which is one of this zone's.
  template <class Class>
  [[gnu::always_inline]] static void* allocate_claimed(Class& size_class) noexcept {
    check_if_hardened(size_class);
    return size_class.allocate_fast();
  }

  /// Claims slots of the current page of `size_class`, a class of this zone, and issues one; null
  /// if the page has none free. At times it drains up to `pages` queued pages.
  /// Pre: the class has nothing claimed.
  template <class Class>
  [[gnu::always_inline]] void* claim(Class& size_class,
                                     std::uint32_t pages = Config::drain_pages) noexcept {
    void* const object = size_class.claim();
    count_claim(object, pages);
    return object;
  }

  /// As allocate_class(), for callers that know that the class can claim nothing.
  /// Pre: index < class_count; claim() of class_at(index) returned null.
  [[gnu::always_inline]] Result<void*> allocate_unclaimed(std::uint32_t index) noexcept {
    return table_.with_class(index, [&](auto& group, auto& size_class) -> Result<void*> {
      return allocate_from_pages(group, size_class, Config::drain_pages);
    });
  }

  /// An object of class `index` from its pages or a frame of the pager's, or null.
  /// Pre: allocate_class() found none; pages or frames came in since.
  void* allocate_again(std::uint32_t index) noexcept {
    return table_.with_class(index, [this](auto& group, auto& size_class) -> void* {
      void* const object = size_class.allocate_from_pages();
      return object == nullptr && supply_.add_frame(group, size_class)
                 ? size_class.allocate_from_pages()
                 : object;
    });
  }

  /// True if `object`, of class `index` and just allocated, is known to be all zero.
  bool is_zero(std::uint32_t index, const void* object) noexcept {
    return table_.with_class(
        index, [object](auto&, auto& size_class) { return size_class.is_zero(object); });
  }

  // ---- free -------------------------------------------------------------------------------------

  /// Frees an object of class `index` of this zone or of any other zone of the same configuration;
  /// a null pointer is none. Pre: index < class_count. Fails: misuse to the hook.
  [[gnu::always_inline]] void deallocate_class(void* object, std::uint32_t index) noexcept {
    // By a call, the index would be no constant any more. GCC chooses that for several callers.
    table_.with_class(index, [&](auto& group, auto& size_class) __attribute__((always_inline)) {
      const FreeOutcome outcome = free_if_open(group, size_class, index, object);
      if (outcome != FreeOutcome::Freed) [[unlikely]] {
        finish_deallocate_in(group, size_class, outcome, object);
      }
    });
  }

  /// Frees an object of class `index` of any zone of this configuration. Pre: index < class_count.
  /// Thread: any; lock-free and never waits.
  static void deallocate_remote_class(void* object, std::uint32_t index) noexcept {
    Table::with_group(index, [object]<class Group>(std::uint32_t position) {
      const auto [page, slot] = find<Group>(object, position);
      if (page != nullptr) {
        remote_free<Group>(page, position, slot).deliver();
      }
    });
  }

  /// As deallocate_remote_class(), by any zone whose class has the same slots and frames: that of
  /// another owner, or in the middle of a call of this one.
  void deallocate_remote_as(void* object, std::uint32_t index) const noexcept {
    table_.with_class(index, [&](const auto& group, const auto& size_class) {
      const auto [page, slot] = find_in(group, size_class, object);
      if (page != nullptr && check_kin(size_class, page, object)) {
        remote_free_in(group, size_class, page, slot).deliver();
      }
    });
  }

  /// The part of deallocate_class() without a call. An outcome other than Freed is for
  /// finish_deallocate(). Cost: constant.
  [[gnu::always_inline]] FreeOutcome deallocate_fast(std::uint32_t index, void* object) noexcept {
    return table_.with_class(index,
                             [&](auto& group, auto& size_class) __attribute__((always_inline)) {
                               return free_if_open(group, size_class, index, object);
                             });
  }
  /// The same for allocators that know the class's geometry and frames.
  template <class Page>
  [[gnu::always_inline]] FreeOutcome deallocate_fast(std::uint32_t index, void* object,
                                                     const SlotGeometry& geometry,
                                                     const FramesOf<Page>& frames) noexcept {
    return free_if_open_in<typename Table::Group>(index, object, geometry, frames);
  }
  void finish_deallocate(std::uint32_t index, FreeOutcome outcome, void* object) noexcept {
    table_.with_class(index, [&](auto& group, auto& size_class) {
      finish_deallocate_in(group, size_class, outcome, object);
    });
  }

  // ---- free, for allocators that find page and slot themselves ----------------------------------

  /// Frees slot `slot`, at `object`, of a page of class `index` of any zone.
  [[gnu::noinline]] void deallocate_slot(Header* page, std::uint32_t index, std::uint32_t slot,
                                         void* object) noexcept {
    table_.with_class(index, [&](auto& group, auto& size_class) {
      using Group = typename std::remove_reference_t<decltype(group)>;
      if (page->is_owned_by(queue_.tag())) {
        free_own(group, size_class, page, slot, object);
      } else {
        buffer(remote_free<Group>(page, index - Group::first, slot));
      }
    });
  }

  /// Frees slot `slot`, at `object`, of a full page of class `index` of this zone.
  [[gnu::always_inline]] void deallocate_in_full_page(Header* page, std::uint32_t index,
                                                      std::uint32_t slot, void* object) noexcept {
    table_.with_class(index, [&](auto& group, auto& size_class) {
      free_in_full_page(group, size_class, page, slot, object);
    });
  }

  /// The same for any thread, and for any page; lock-free and never waits.
  static void deallocate_slot_remote(Header* page, std::uint32_t index,
                                     std::uint32_t slot) noexcept {
    Table::with_group(index, [&]<class Group>(std::uint32_t position) {
      remote_free<Group>(page, position, slot).deliver();
    });
  }

  /// Does the rest after PageHeader::free_slot() of a page of class `index` was WordEmptied.
  [[gnu::noinline]] void word_emptied(Header* page, std::uint32_t index) noexcept {
    table_.with_class(index, [&](auto& group, auto& size_class) {
      size_class.word_emptied(page);
      supply_.retire_excess(group, size_class);
    });
  }

  /// What is known of slot `slot` of a page of class `index` of this zone, which is_free().
  [[gnu::cold]] BlockState state_of_free(Header* page, std::uint32_t index,
                                         std::uint32_t slot) noexcept {
    return table_.with_class(
        index, [&](auto&, auto& size_class) { return size_class.state_of_free(page, slot); });
  }

  /// Buffers the free of slot `slot` of another owner's page if frees of its word are buffered;
  /// false, and nothing done, if none are, or if this is a second free. Cost: constant, no call.
  [[gnu::always_inline]] bool merge_remote(Header* page, std::uint32_t slot) noexcept {
    return !Config::hardened && buffer_.merge(page, slot);
  }

  /// True if a zone buffers the frees of other owners' objects of `object_bytes`.
  static constexpr bool is_buffered(std::size_t object_bytes) noexcept {
    return !Config::hardened && object_bytes <= Config::remote_buffer_max_object_bytes;
  }

  // ---- objects whose class the caller does not know ---------------------------------------------

  /// The size class of the page in the frame of `bytes` at `frame`, by the page's seal; no_class if
  /// there is none.
  /// Thread: any. Pre: the frame is readable. Cost: O(page kinds).
  static std::uint32_t class_of_page(const void* frame, std::size_t bytes) noexcept {
    std::uint32_t result = SizeClasses::no_class;
    for (std::uint32_t first = 0; first < class_count && result == SizeClasses::no_class;) {
      Table::with_group(first, [&]<class Group>(std::uint32_t) {
        first = Group::first + Group::count;
        const Header* const header = Group::may_have_frames_of(bytes)
                                         ? FramesOf<typename Group::Page>::of(bytes).head_of(frame)
                                         : nullptr;
        const std::size_t size = header != nullptr ? header->size_to_prove() : 0;
        const std::uint32_t index = size != 0 ? SizeClasses::index_for(size) : result;
        if (index >= Group::first && index < first && SizeClasses::size_of(index) == size &&
            Group::frame_bytes_at(index - Group::first) == bytes && header->has_seal_for(size)) {
          result = index;
        }
      });
    }
    return result;
  }

  /// True if an object of class `index` of any zone is in use at `object`. A free of it may be on
  /// its way. Thread: any. Fails: misuse to the hook, then false.
  static bool is_in_use(void* object, std::uint32_t index) noexcept {
    return Table::with_group(index, [object]<class Group>(std::uint32_t position) {
      const auto [page, slot] = find<Group>(object, position);
      const SlotGeometry& geometry = Group::geometries.at[position];
      if (page != nullptr && page->is_free(slot, geometry.words)) {
        report_misuse(
            {MisuseKind::DoubleFree, object, geometry.object_size, slot, object, BlockState::Free});
        return false;
      }
      return page != nullptr;
    });
  }

  /// Calls f<Page>(page, slot, geometry) for the object of class `index` at `object`, of any zone
  /// of this configuration; `Page` is its page type. It does nothing for a null pointer.
  /// Thread: any. Fails: as deallocate_class(), but for a double free; then no call.
  template <class F>
  static void with_slot(void* object, std::uint32_t index, F&& f) noexcept {
    Table::with_group(index, [&]<class Group>(std::uint32_t position) {
      const FoundSlot<Header> found = find<Group>(object, position);
      if (found.page != nullptr) {
        f.template operator()<typename Group::Page>(found.page, found.slot,
                                                    Group::geometries.at[position]);
      }
    });
  }

  /// The slot that holds the byte at `address`, on a page of the kind that class `index` has. The
  /// page may be another class's, or another heap's.
  /// Thread: any. Pre: as deallocate_class(). Cost: constant.
  static FoundAround slot_around(const void* address, std::uint32_t index) noexcept {
    return Table::with_group(index, [address]<class Group>(std::uint32_t) -> FoundAround {
      using Page = typename Group::Page;
      Header* const page = Page::head_of(address);
      const std::size_t size = page != nullptr ? page->size_to_prove() : 0;
      if (size < SlotGeometry::minimum_object_size || !page->has_seal_for(size)) {
        return {};
      }
      const SlotGeometry geometry = Page::geometry(size);
      const std::uint32_t slot = geometry.slot_around(Page::offset_of(address, page));
      if (slot == SlotGeometry::no_slot) {
        return {nullptr, size, 0};
      }
      return {Page::slots_of(page) + std::size_t{slot} * size, size, slot};
    });
  }

  // ---- remote frees -----------------------------------------------------------------------------

  /// Delivers all buffered frees and drains every announced free by others. Cost: O(queued pages).
  [[gnu::noinline]] void drain() noexcept {
    buffer_.flush_all();
    while (drain_queued_page()) {
    }
  }

  /// Delivers some of the buffered frees and drains up to `pages` queued pages.
  void drain_some(std::uint32_t pages = Config::drain_pages) noexcept {
    claims_since_drain_ = 0;
    buffer_.flush_some(Config::flush_words);
    for (; pages != 0 && !queue_.is_empty() && drain_queued_page(); --pages) {
    }
  }

  /// As drain(), and makes every current page one of the others, so that the empty ones are idle.
  /// Cost: O(queued pages + size classes).
  void drain_and_leave_current() noexcept {
    drain();
    table_.for_each_group([&](auto& group) noexcept {
      for (auto& size_class : group.classes) {
        size_class.leave_current();
        supply_.retire_excess(group, size_class);
      }
    });
  }

  /// True if frees wait here: announced frees of this zone's objects, or buffered frees of others'.
  /// Thread: any; a hint.
  bool has_remote_frees() const noexcept { return !queue_.is_empty() || buffer_.holds_some(); }

  /// For threads that look after the zone of an owner that sleeps, with the calls that the queue's
  /// policy and the buffer have for them.
  Queue& queue() noexcept { return queue_; }
  Buffer& buffered_frees() noexcept { return buffer_; }

  // ---- pages ------------------------------------------------------------------------------------

  /// True if class `index` has a page for trim_class() to give back.
  bool has_empty_page(std::uint32_t index) noexcept {
    return table_.with_class(index,
                             [](auto&, auto& size_class) { return size_class.has_empty_page(); });
  }

  /// Gives every empty page back to the pager; returns their bytes.
  std::size_t trim() noexcept
    requires is_paged
  {
    drain();
    return supply_.give_back_all(table_);
  }

  /// Gives the empty pages of class `index` back to the pager.
  /// Cost: O(its idle pages + the words of one page); a class of a paged zone has few idle pages.
  void trim_class(std::uint32_t index) noexcept
    requires is_paged
  {
    supply_.give_back_class(table_, index);
  }

  /// Hands every page to `give(void* frame, std::size_t bytes)`, whatever lives in it, and starts
  /// anew.
  /// Pre: no other thread has or will free an object of this zone.
  template <class Give>
  void release_all(Give&& give) noexcept {
    drain();
    supply_.remove_all_pages(table_, give);
  }

  /// Bytes of the frames that serve class `index`. Thread: any.
  std::size_t frame_bytes_of(std::uint32_t index) const noexcept {
    return table_.with_class(
        index, [](const auto&, const auto& size_class) { return size_class.frame_bytes(); });
  }
  /// The same by the configuration alone.
  static constexpr std::size_t frame_bytes_of_class(std::uint32_t index) noexcept {
    return Table::with_group(
        index, []<class Group>(std::uint32_t position) { return Group::frame_bytes_at(position); });
  }

  /// How the slots of class `index` lie in a page. Thread: any.
  const SlotGeometry& class_geometry(std::uint32_t index) const noexcept {
    return table_.with_class(index, [](const auto&, const auto& size_class) -> const SlotGeometry& {
      return size_class.geometry();
    });
  }
  /// The objects of class `index` that fit a page, by the configuration alone.
  static constexpr std::size_t slots_per_page(std::uint32_t index) noexcept {
    return Table::with_group(index, []<class Group>(std::uint32_t position) {
      return std::size_t{Group::geometries.at[position].slots};
    });
  }

  // ---- statistics and checks --------------------------------------------------------------------

  /// A snapshot of size class `index`. Cost: O(pages of the class).
  ClassStatistics class_statistics(std::uint32_t index) const noexcept {
    return table_.with_class(
        index, [](const auto&, const auto& size_class) { return size_class.statistics(); });
  }

  /// The counters of size class `index`, without `used` and `frees`. Thread: any; others than the
  /// owner may see it lag.
  ClassStatistics class_counts(std::uint32_t index) const noexcept {
    return table_.with_class(
        index, [](const auto&, const auto& size_class) { return size_class.counts(); });
  }

  /// The sums over all classes. Cost: O(pages).
  ZoneStatistics statistics() const noexcept {
    ZoneStatistics result = supply_.statistics(table_);
    result.buffered_bytes = buffer_.buffered_bytes();
    return result;
  }

  /// Objects of class `index` given out, and frees by others drained. Thread: any; see SizeClass.
  std::size_t allocations(std::uint32_t index) const noexcept {
    return table_.with_class(
        index, [](const auto&, const auto& size_class) { return size_class.allocations(); });
  }
  std::size_t remote_frees(std::uint32_t index) const noexcept {
    return table_.with_class(
        index, [](const auto&, const auto& size_class) { return size_class.remote_frees(); });
  }

  /// Calls `visitor(void* object, std::size_t bytes)` for every live object of the size classes.
  /// The visitor must not call into the zone.
  template <class Visitor>
  void visit_live(Visitor&& visitor) const noexcept {
    table_.for_each_class([&](const auto& size_class) noexcept { size_class.visit_live(visitor); });
  }

  /// The same for every slot of the pages, in use or free.
  template <class Visitor>
  void visit_slots(Visitor&& visitor) const noexcept {
    table_.for_each_class(
        [&](const auto& size_class) noexcept { size_class.visit_slots(visitor); });
  }

  /// The first broken invariant, as an equation, or null. Cost: O(pages).
  const char* validate() const noexcept { return supply_.validate(table_); }

 protected:
  /// The slot of class `position` of a group that begins at `object`; none for a null pointer and
  /// after a report.
  template <class Group>
  static FoundSlot<Header> find(void* object, std::uint32_t position) noexcept {
    using Page = typename Group::Page;
    return find_slot<Page>(object, Group::geometries.at[position],
                           Table::template has_seal_of_any_class<Page>, Group::frames_at(position));
  }
  /// The same for a class.
  template <class Group, class Class>
  static FoundSlot<Header> find_in(const Group&, const Class& size_class, void* object) noexcept {
    using Page = typename Group::Page;
    return find_slot<Page>(object, lasting_geometry<Group>(size_class),
                           Table::template has_seal_of_any_class<Page>, size_class.frames());
  }

  Queue queue_;
  Table table_;
  Supply supply_;

 private:
  /// The geometry of class `index`, as a constant where the index is one.
  template <class Group, class Class>
  [[gnu::always_inline]] static const SlotGeometry& geometry_of(Group&, const Class& size_class,
                                                                std::uint32_t index) noexcept {
    if constexpr (requires { Group::geometries; }) {
      return __builtin_constant_p(index) ? Group::geometries.at[index - Group::first]
                                         : size_class.geometry();
    } else {
      return size_class.geometry();
    }
  }
  /// The frames of class `index`, in the same way.
  template <class Group, class Class>
  [[gnu::always_inline]] static FramesOf<typename Group::Page> frames_of(
      Group&, const Class& size_class, std::uint32_t index) noexcept {
    if constexpr (requires { Group::geometries; }) {
      if (__builtin_constant_p(index)) {
        return Group::frames_at(index - Group::first);
      }
    }
    return size_class.frames();
  }
  /// The geometry of a class, for frees that may be delivered later.
  template <class Group, class Class>
  static const SlotGeometry& lasting_geometry(const Class& size_class) noexcept {
    if constexpr (AllocablePage<typename Group::Page>) {
      return Group::geometries.at[size_class.index() - Group::first];
    } else {
      return size_class.geometry();
    }
  }

  template <class Class>
  [[gnu::always_inline]] static void check_if_hardened(
      [[maybe_unused]] Class& size_class) noexcept {
    if constexpr (Config::hardened) {
      size_class.check_selected_word();
    }
  }

  /// A slot of class `index` from the selected word, or null.
  template <class Group, class Class>
  [[gnu::always_inline]] static void* issue(Group& group, Class& size_class,
                                            std::uint32_t index) noexcept {
    check_if_hardened(size_class);
    return size_class.allocate_fast(geometry_of(group, size_class, index).object_size);
  }

  /// Allocation's slow path. Drains up to `pages` queued pages on the way.
  template <class Group, class Class>
  [[gnu::noinline]] Result<void*> allocate_slow(Group& group, Class& size_class,
                                                std::uint32_t pages) noexcept {
    void* const object = size_class.claim_by_call();
    count_claim(object, pages);
    return object != nullptr ? object : allocate_from_pages(group, size_class, pages);
  }

  /// Drains up to `pages` queued pages after every claims_per_drain claims. `object` is that of a
  /// claim.
  [[gnu::always_inline]] void count_claim(const void* object, std::uint32_t pages) noexcept {
    if (object != nullptr && ++claims_since_drain_ == Config::claims_per_drain) [[unlikely]] {
      drain_some(pages);
    }
  }

  /// The slow path after the current page's words were found to hold nothing.
  template <class Group, class Class>
  [[gnu::noinline]] Result<void*> allocate_from_pages(Group& group, Class& size_class,
                                                      std::uint32_t pages) noexcept {
    drain_some(pages);
    if (void* object = size_class.allocate_from_pages()) {
      supply_.retire_excess(group, size_class);
      return object;
    }
    if (supply_.add_page(group, size_class)) {
      return size_class.allocate_from_pages();
    }
    if constexpr (Config::last_resort) {
      return allocate_from_rest(group, size_class);
    }
    return AllocationError::OutOfMemory;
  }

  /// The last resort: drains all of the queue, of which the slow path drained a part, and makes
  /// empty pages of other classes serve this one, current pages too. The pager is asked once more
  /// only if that gave it frames.
  template <class Group, class Class>
  [[gnu::cold, gnu::noinline]] Result<void*> allocate_from_rest(Group& group,
                                                                Class& size_class) noexcept {
    const std::size_t held_bytes = supply_.frame_bytes();
    drain_and_leave_current();
    if (void* object = size_class.allocate_from_pages()) {
      return object;
    }
    if (Header* page = supply_.take_spare(group, size_class.frame_bytes())) {
      size_class.add_page(page, false);
      return size_class.allocate_from_pages();
    }
    if (supply_.frame_bytes() < held_bytes && supply_.add_page(group, size_class)) {
      return size_class.allocate_from_pages();
    }
    return AllocationError::OutOfMemory;
  }

  /// Frees `object` if its page is an open one of this owner and of class `index`; else Rejected.
  template <class Group, class Class>
  [[gnu::always_inline]] FreeOutcome free_if_open(Group& group, Class& size_class,
                                                  std::uint32_t index, void* object) noexcept {
    return free_if_open_in<Group>(index, object, geometry_of(group, size_class, index),
                                  frames_of(group, size_class, index));
  }
  template <class Group>
  [[gnu::always_inline]] FreeOutcome free_if_open_in(
      std::uint32_t index, void* object, const SlotGeometry& geometry,
      const FramesOf<typename Group::Page>& frames) noexcept {
    if (object == nullptr) [[unlikely]] {
      return FreeOutcome::Rejected;
    }
    Header* page = frames.header_of(object);
    if (page->tag.load(Order::relaxed) != queue_.tag() ||
        (class_count != 1 && page->class_index != index)) [[unlikely]] {
      return FreeOutcome::Rejected;
    }
    const std::uint32_t slot = geometry.slot_at(Group::offset_of(object, page, frames));
    if (slot == SlotGeometry::no_slot) [[unlikely]] {
      return FreeOutcome::Rejected;
    }
    return page->template free_slot<Config::hardened>(geometry.words, slot);
  }

  /// Does the rest of a free that was not simply Freed.
  template <class Group, class Class>
  [[gnu::noinline]] void finish_deallocate_in(Group& group, Class& size_class, FreeOutcome outcome,
                                              void* object) noexcept {
    if (outcome == FreeOutcome::WordEmptied) {
      size_class.word_emptied(size_class.frames().header_of(object));
      supply_.retire_excess(group, size_class);
    } else if (object != nullptr) {
      deallocate_slow(group, size_class, object);
    }
  }

  /// Frees an object whose page is not an open one of this owner: most often a full one.
  template <class Group, class Class>
  [[gnu::noinline]] void deallocate_slow(Group& group, Class& size_class, void* object) noexcept {
    using Page = typename Group::Page;
    Header* page = size_class.frames().header_of(object);
    if (page->tag.load(Order::relaxed) == (queue_.tag() | PageState::full) &&
        page->class_index == size_class.index()) [[likely]] {
      const std::uint32_t slot = size_class.geometry().slot_at(Page::offset_of(object, page));
      if (slot != SlotGeometry::no_slot) [[likely]] {
        free_in_full_page(group, size_class, page, slot, object);
        return;
      }
    }
    deallocate_anywhere(group, size_class, object);
  }

  /// Frees slot `slot`, at `object`, of a page of this owner in whatever state.
  template <class Group, class Class>
  [[gnu::noinline]] void free_own(Group& group, Class& size_class, Header* page, std::uint32_t slot,
                                  void* object) noexcept {
    size_class.template free_in_any_state<Config::hardened>(page, slot, object);
    supply_.retire_excess(group, size_class);
  }

  /// The same for a full page.
  template <class Group, class Class>
  [[gnu::always_inline]] void free_in_full_page(Group& group, Class& size_class, Header* page,
                                                std::uint32_t slot, void* object) noexcept {
    size_class.template free_in_full_page<Config::hardened>(page, slot, object);
    supply_.retire_excess(group, size_class);
  }

  template <class Group, class Class>
  [[gnu::noinline]] void deallocate_anywhere(Group& group, Class& size_class,
                                             void* object) noexcept {
    const auto [page, slot] = find_in(group, size_class, object);
    if (page == nullptr) {
      return;
    }
    if (page->is_owned_by(queue_.tag())) {
      free_own(group, size_class, page, slot, object);
    } else if (check_kin(size_class, page, object)) {
      buffer(remote_free_in(group, size_class, page, slot));
    }
  }

  /// False, and a report, if the pager knows all zones whose objects this one may free, and the
  /// owner of `page` is none of them. A page without an owner holds no object: the free finds that.
  template <class Class>
  bool check_kin([[maybe_unused]] const Class& size_class, [[maybe_unused]] const Header* page,
                 [[maybe_unused]] const void* object) const noexcept {
    if constexpr (requires(std::uintptr_t tag) { supply_.pager()->knows_zone(tag); }) {
      const std::uintptr_t tag = page->tag.load(Order::relaxed) & ~PageState::mask;
      if (tag != 0 && !supply_.pager()->knows_zone(tag)) [[unlikely]] {
        report_misuse({MisuseKind::ForeignPointer, object, size_class.geometry().object_size, 0});
        return false;
      }
    }
    return true;
  }

  /// Buffers a free of another owner's object, where that is allowed; else delivers it.
  void buffer(const RemoteFree<Atomics>& free) noexcept {
    if (is_buffered(free.geometry->object_size)) {
      buffer_.add(free, Config::remote_buffer_bytes);
    } else {
      free.deliver();
    }
  }

  /// Drains one queued page; false if none is queued.
  bool drain_queued_page() noexcept {
    Header* page = queue_.take();
    if (page != nullptr) {
      table_.with_class(page->class_index, [&](auto& group, auto& size_class) {
        size_class.drain_page(page);
        supply_.retire_excess(group, size_class);
      });
    }
    return page != nullptr;
  }

  template <class Group>
  static RemoteFree<Atomics> remote_free(Header* page, std::uint32_t position,
                                         std::uint32_t slot) noexcept {
    return free_of_slot<typename Group::Page>(page, Group::geometries.at[position], slot);
  }

  template <class Group, class Class>
  static RemoteFree<Atomics> remote_free_in(const Group&, const Class& size_class, Header* page,
                                            std::uint32_t slot) noexcept {
    return free_of_slot<typename Group::Page>(page, lasting_geometry<Group>(size_class), slot);
  }

  std::uint32_t claims_since_drain_ = 0;
  Buffer buffer_;
};

}  // namespace slabmalloc
