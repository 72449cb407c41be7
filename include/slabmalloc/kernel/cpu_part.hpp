// SPDX-License-Identifier: MIT
//
// CpuPart: one CPU's part of a CpuZones. Sections use it (cpu_parts.hpp).
//
//   others' frees ──► zone ──empty pages──► frame cache ──► other CPUs, pager
//                      │ ▲                    │
//                      │ └──────frames────────┘
//                      └──► reserve of objects ──► handlers and NMIs of all CPUs
//
// It owns all of these, and the CPU's progress with work in steps: a drain, a search, turns.
//
// Invariant, with its line in validate(), beside those of the zone and of the frame cache:
//   K5  the class with which a drain goes on <= number of classes, which means that none goes on
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/kernel/frame_cache.hpp"
#include "slabmalloc/kernel/frame_reserve.hpp"
#include "slabmalloc/kernel/hooks.hpp"
#include "slabmalloc/kernel/memory_waiters.hpp"
#include "slabmalloc/kernel/object_reserve.hpp"
#include "slabmalloc/kernel/part_array.hpp"
#include "slabmalloc/kernel/part_owner.hpp"
#include "slabmalloc/zone/zone_allocator.hpp"

namespace slabmalloc {

/// The frees of each size class that a CPU made; only those in sections if `InSections`.
template <class Atomics, std::uint32_t Classes, bool InSections>
class FreeCounts {
 public:
  /// Counts the free of `object` unless it is null. Thread: its CPU, in a section.
  [[gnu::always_inline]] void add(std::uint32_t index, const void* object) noexcept {
    if constexpr (InSections) {
      auto& count = in_sections_[index];
      count.store(count.load(Order::relaxed) + (object != nullptr ? 1 : 0), Order::relaxed);
    }
  }
  /// Counts a free that came while the part was occupied. Thread: any.
  void add_nested(std::uint32_t index, const void* object) noexcept {
    if (object != nullptr) {
      nested_[index].fetch_add(1, Order::relaxed);
    }
  }

  std::size_t nested(std::uint32_t index) const noexcept {
    return nested_[index].load(Order::relaxed);
  }
  std::size_t nested() const noexcept {
    std::size_t sum = 0;
    for (std::uint32_t index = 0; index < Classes; ++index) {
      sum += nested(index);
    }
    return sum;
  }
  std::size_t all(std::uint32_t index) const noexcept
    requires InSections
  {
    return in_sections_[index].load(Order::relaxed) + nested(index);
  }

 private:
  using Count = typename Atomics::template Cell<std::size_t>;

  Count in_sections_[InSections ? Classes : 1];
  Count nested_[Classes];
};

/// A drain of a zone in steps of a constant length, in rounds: first remote frees, then the empty
/// pages of each class. Thread: the zone's owner in a section, where not said otherwise.
template <class Zone, class Atomics>
class ZoneDrain {
 public:
  /// Has the next slow paths of the CPU do a round. Thread: any, in any context.
  void want() noexcept { is_wanted_.store(true, Order::relaxed); }
  /// True while a round is wanted or goes on. Thread: any; a hint for all but the owner.
  bool is_under_way() const noexcept {
    return is_wanted_.load(Order::relaxed) || next() != Zone::class_count;
  }
  /// Makes the next step begin a round.
  void begin_anew() noexcept { next_.store(Zone::class_count, Order::relaxed); }

  /// Drains up to `pages` queued pages, or moves empty pages of the next class that has any into
  /// the frame cache, and looks at a few. Remote frees that arrive meanwhile cause a further round.
  /// False at a round's end.
  bool step(Zone& zone, std::uint32_t pages) noexcept {
    std::uint32_t index = next();
    if (index == Zone::class_count) {
      // Before the step looks at anything: a request from here on means another round.
      is_wanted_.store(false, Order::relaxed);
      index = 0;
    }
    if (pages != 0 && zone.has_remote_frees()) {
      if (index != 0) {
        want();  // This may empty a page of a class that the round has already passed.
      }
      next_.store(index, Order::relaxed);
      zone.drain_some(pages);
      return true;
    }
    bool has_trimmed = false;
    for (std::uint32_t looks = 0;
         looks < looks_per_step && index < Zone::class_count && !has_trimmed; ++looks) {
      has_trimmed = zone.has_empty_page(index);
      if (has_trimmed) {
        zone.trim_class(index);
      }
      ++index;
    }
    next_.store(index, Order::relaxed);
    const bool goes_on = index != Zone::class_count;
    if (!goes_on && zone.has_remote_frees()) {
      want();
    }
    return goes_on;
  }
  /// As step(), for a search: by turns with remote frees and without. So remote frees that arrive
  /// as fast as it drains them do not keep the search from empty pages.
  bool step_of_search(Zone& zone) noexcept {
    takes_pages_ = !takes_pages_;
    return step(zone, takes_pages_ ? 1 : 0);
  }

  /// K5, or null.
  const char* validate() const noexcept {
    return next() <= Zone::class_count ? nullptr : "K5: the class to drain next <= classes";
  }

 private:
  static constexpr std::uint32_t looks_per_step = 3;

  std::uint32_t next() const noexcept { return next_.load(Order::relaxed); }

  typename Atomics::template Cell<bool> is_wanted_;
  /// Zone::class_count while none goes on.
  typename Atomics::template Cell<std::uint32_t> next_{Zone::class_count};
  bool takes_pages_ = false;  ///< The last search step drained, or tried to.
};

template <KernelHooks Hooks, class Config>
struct CpuPart;
template <KernelHooks Hooks, class Config>
class CpuPartPointers;

/// The pager of a CPU's zone. It asks its own frame cache, then those of the others on its NUMA
/// node, then the reserved frames if the allocation may have them. Thread: the part's owner, inside
/// a section.
template <KernelHooks Hooks, class Config>
class FrameCachePager {
 public:
  using Part = CpuPart<Hooks, Config>;
  using Reserve = FrameReserve<Hooks, typename Config::Pages, typename Config::Atomics>;
  using There = PartsThere<typename Config::Atomics, Hooks::maximum_cpus, Config::makes_parts_late>;

  constexpr FrameCachePager() noexcept = default;

  /// Pre: `parts` has Hooks::maximum_cpus elements, and element `own` holds this; `there` tells
  /// which of them there are.
  constexpr void attach(Part* parts, std::uint32_t own, const There& there = {}) noexcept {
    parts_ = parts;
    own_ = own;
    there_ = there.view();
  }

  Frame allocate_frame(std::size_t bytes) noexcept {
    if (handed_ != nullptr) {
      return take_back();
    }
    std::uint32_t number = own_;
    do {
      void* const frame =
          there_.has(number) && may_use(number) ? parts_[number].frame_cache.pop(bytes) : nullptr;
      if (frame != nullptr) {
        return frame;
      }
      number = number + 1 < Hooks::maximum_cpus ? number + 1 : 0;
    } while (number != own_);
    return reserve_ != nullptr ? reserve_->take(bytes) : nullptr;
  }
  /// Takes from `reserve` when the frame caches are empty, until the next call, with null. So a
  /// reserved frame becomes a page of the zone in one step: no other CPU can take it on the way.
  void use_reserve(Reserve* reserve) noexcept { reserve_ = reserve; }
  /// Makes the next request return `frame`, unless a caller takes it back before. No other CPU can
  /// take it on the way either.
  void hand(void* frame) noexcept { handed_ = frame; }
  void* take_back() noexcept {
    void* const frame = handed_;
    handed_ = nullptr;
    return frame;
  }

  /// True if `tag` is that of a zone of the heap: it frees objects of these alone. Thread: any.
  bool knows_zone(std::uintptr_t tag) const noexcept {
    return tag - reinterpret_cast<std::uintptr_t>(parts_) < Hooks::maximum_cpus * sizeof(Part);
  }

  /// Takes from the frame caches of other nodes too, until the next call, with false.
  void use_all_nodes(bool all) noexcept { uses_all_nodes_ = all; }

  void deallocate_frame(void* frame, std::size_t bytes) noexcept {
    parts_[own_].frame_cache.push(frame, bytes);
    parts_[own_].has_news = true;
  }

 private:
  bool may_use([[maybe_unused]] std::uint32_t number) const noexcept {
    if constexpr (NodeHooks<Hooks>) {
      return uses_all_nodes_ || Hooks::node(number) == Hooks::node(own_);
    } else {
      return true;
    }
  }

  Part* parts_ = nullptr;
  Reserve* reserve_ = nullptr;
  void* handed_ = nullptr;
  std::uint32_t own_ = 0;
  bool uses_all_nodes_ = false;
  [[no_unique_address]] typename There::View there_;
};

/// One CPU's part. Its address must not change.
/// Thread: its owner in a section, where not said otherwise: its CPU, or another one for a step.
template <KernelHooks Hooks, class Config>
struct alignas(64) CpuPart {
  using Atomics = typename Config::Atomics;
  using Zone = PagedZone<FrameCachePager<Hooks, Config>, Config>;
  using Caches = FrameCaches<Hooks, typename Config::Pages>;
  using Reserve = ObjectReserve<Atomics, Zone::class_count, Config::reserve_objects>;
  using Frees = FreeCounts<Atomics, Zone::class_count, Config::counts_frees>;
  template <class T>
  using Cell = typename Atomics::template Cell<T>;

  static constexpr bool has_nodes = NodeHooks<Hooks>;

  constexpr CpuPart() noexcept : zone(own_pager()) {}

  // ---- the slow paths of the zone, with their counts --------------------------------------------

  /// An object of class `index`, or null. Drains fewer remote frees while other work remains.
  void* allocate(std::uint32_t index) noexcept {
    const bool is_behind = drain.is_under_way() || reserve.has_work();
    return zone.allocate_class(index, is_behind ? 1 : Config::drain_pages).value_or(nullptr);
  }
  /// As the zone's allocate_again(), from the frame caches of all nodes.
  void* allocate_from_all_nodes(std::uint32_t index) noexcept {
    pager.use_all_nodes(true);
    void* const object = zone.allocate_again(index);
    pager.use_all_nodes(false);
    return object;
  }
  void deallocate(void* object, std::uint32_t index) noexcept {
    zone.deallocate_class(object, index);
    frees.add(index, object);
    has_news = true;
  }
  /// At a section's end: true if its user freed memory for which a caller waits. Where callers may
  /// wait, no free stays buffered.
  bool has_news_for_waiters() noexcept {
    if (!has_news) {
      return false;
    }
    has_news = false;
    if (waiters == nullptr || !waiters->is_enabled()) {
      return false;
    }
    zone.buffered_frees().flush_all();
    return waiters->has_some();
  }
  /// True if a page of the zone is empty. Cost: O(size classes).
  bool has_empty_page() noexcept {
    for (std::uint32_t index = 0; index < Zone::class_count; ++index) {
      if (zone.has_empty_page(index)) {
        return true;
      }
    }
    return false;
  }
  /// True if nobody owns the part, and another CPU would find something to drain there. Thread:
  /// any; a hint. Cost: a few loads.
  bool needs_help() const noexcept {
    return owner.is_nobody() && (zone.has_remote_frees() || drain.is_under_way());
  }
  /// See ObjectReserve.
  bool adjust_reserve(std::uint32_t index) noexcept {
    return reserve.adjust(index, getter(), giver());
  }

  // ---- work in steps ---------------------------------------------------------------------------

  /// The kind of deferred work to do first. They take turns, so that endless work of one kind
  /// blocks no other. The pager's turns leave out the zone's half entirely.
  enum class Turn : std::uint8_t { Reserve, Runs, Drain, Excess };
  Turn next_turn() noexcept { return static_cast<Turn>(turns_++ % 4); }
  static constexpr bool is_of_zone(Turn turn) noexcept {
    return turn == Turn::Reserve || turn == Turn::Drain;
  }

  /// Does a step of deferred work for the zone and the reserve; a drain handles `pages` queued
  /// pages. False if nothing was left to do.
  bool run_deferred(Turn turn, std::uint32_t pages) noexcept {
    // A fast path may have emptied a page after the last round, and wakes nobody. run_deferred() of
    // the heap does one round, so that it ends.
    if (pages == 0 && waiters != nullptr && waiters->may_have_some()) [[unlikely]] {
      drain.want();
    }
    const bool drains = drain.is_under_way();
    // A reserve that nothing can fill now does not keep the drain from empty pages.
    if (!(drains && turn == Turn::Drain) && reserve.has_work() &&
        reserve.adjust_one(getter(), giver())) {
      return true;
    }
    if (drains) {
      drain.step(zone, pages);
    }
    return drains;
  }

  /// True at every second step of a search: it is for an idle CPU, if one has work.
  bool search_helps() noexcept {
    search_helped_ = !search_helped_;
    return search_helped_;
  }
  /// Does a step of a search: drains, unless it is the turn of giving memory back. True then, and
  /// the caller gives it back. At least every second step gives back a waiting run. The step after
  /// a round's end gives back a frame.
  bool search_gives_back(bool has_deferred_runs) noexcept {
    const bool gives = search_ended_round_ || (!search_gave_ && has_deferred_runs);
    search_gave_ = gives;
    search_ended_round_ = !gives && !drain.step_of_search(zone);
    return gives;
  }

  /// The first broken invariant, or null. Pre: no CPU allocates or frees.
  const char* validate() const noexcept {
    const char* broken = zone.validate();
    broken = broken != nullptr ? broken : frame_cache.validate();
    broken = broken != nullptr ? broken : drain.validate();
    return broken != nullptr ? broken : owner.validate();
  }

  Zone zone;  ///< First: its address is then the tag of its pages.
  FrameCachePager<Hooks, Config> pager;
  CpuPartPointers<Hooks, Config>* pointers = nullptr;  ///< Those among which the part's is.
  MemoryWaiters<Hooks, Atomics>* waiters = nullptr;    ///< Of the heap; null: it has none.
  bool has_news = false;                               ///< Memory became free in this section.
  PartOwner<Atomics> owner;                            ///< Thread: as PartOwner.
  ZoneDrain<Zone, Atomics> drain;
  Caches frame_cache;  ///< Thread: as FrameCaches.
  Reserve reserve;     ///< Thread: as ObjectReserve.
  Frees frees;
  Cell<std::size_t> nested_allocations;  ///< Calls that came while the part was in use.
  Counter<Atomics> steps_for_others;     ///< Steps of drains of other CPUs' parts.

 private:
  constexpr FrameCachePager<Hooks, Config>& own_pager() noexcept { return pager; }
  auto getter() noexcept {
    return [this](std::uint32_t index) { return allocate(index); };
  }
  auto giver() noexcept {
    return [this](std::uint32_t index, void* object) { deallocate(object, index); };
  }

  std::uint32_t turns_ = 0;
  bool search_helped_ = false;
  // The results of the last search step.
  bool search_gave_ = false;
  bool search_ended_round_ = false;
};

}  // namespace slabmalloc
