// SPDX-License-Identifier: MIT
//
// Reclaimer: all heaps and caches that can give memory back, and the way to make them do so.
//
//   constinit Reclaimer<MyKernel> reclaimer;
//   reclaimer.add(inodes_entry);
//   heap.set_reclaim(&reclaimer.reclaim_for, &reclaimer);   // for allocations that may wait
//
//   first_                      hand_: where the next to reclaim begins
//     ▼                           ▼
//   entry 3 ◄──► entry 4 ◄──► entry 9 ◄──► (back to the first)
//
// A walk holds the lock for steps from entry to entry alone. A caller at an entry counts itself as
// its walker, which keeps the entry in the list. It calls heaps, pagers, constructors and
// callbacks with nothing held, and they may call the reclaimer again.
//
// One thread at a time calls shrink callbacks, in a turn (turn.hpp). An allocation that may wait
// waits for its own turn. The thread whose turn it is never waits for it, whatever its callback
// calls.
//
// Invariants, with their lines in validate():
//   L1  numbers ascend from the first entry on; next and previous lead to each other
//   L2  the hand is null, with no entries, or an entry of the list
// and those of the turn.
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/kernel/reclaimable.hpp"
#include "slabmalloc/kernel/spin_lock.hpp"
#include "slabmalloc/kernel/turn.hpp"

namespace slabmalloc {

/// A list of heaps and caches. Thread: any, in contexts that may call the pager. In handlers only
/// where the hooks' save_interrupts() keeps handlers away.
template <class HooksT, class Atomics = HardwareAtomics>
class Reclaimer {
  static_assert(sizeof(HooksMessage<HooksT>) != 0);
  using Hooks = CheckedHooks<HooksT>;

 public:
  constexpr Reclaimer() noexcept = default;
  Reclaimer(const Reclaimer&) = delete;
  Reclaimer& operator=(const Reclaimer&) = delete;

  // ---- the list --------------------------------------------------------------------------------

  /// Pre: `entry` is in no list, and a remove() takes it out before it ends.
  void add(Reclaimable& entry) noexcept {
    const Guard guard(lock_);
    require<Hooks>(entry.number_ == 0, "an entry is in one list");
    entry.number_ = ++last_number_;
    entry.leaves_ = false;
    if (first_ == nullptr) {
      first_ = hand_ = entry.next_ = entry.previous_ = &entry;
      return;
    }
    entry.next_ = first_;
    entry.previous_ = first_->previous_;
    entry.previous_->next_ = &entry;
    first_->previous_ = &entry;
  }

  /// Takes `entry` out. False while a caller is at the entry, which includes its own callback: no
  /// new caller arrives then, and the client must ask again. It does not wait, since the caller
  /// knows best how to wait.
  [[nodiscard]] bool remove(Reclaimable& entry) noexcept {
    const Guard guard(lock_);
    if (entry.number_ == 0) {
      return true;
    }
    if (entry.walkers_ != 0) {
      entry.leaves_ = true;
      return false;
    }
    Reclaimable* const next = entry.next_ != &entry ? entry.next_ : nullptr;
    entry.previous_->next_ = entry.next_;
    entry.next_->previous_ = entry.previous_;
    first_ = first_ == &entry ? next : first_;
    hand_ = hand_ == &entry ? next : hand_;
    entry.number_ = 0;
    return true;
  }

  /// Calls visitor(entry) for each entry, oldest first, with nothing held.
  template <class Visitor>
  void for_each(Visitor&& visitor) noexcept {
    for (Walk walk(*this, false); walk.entry() != nullptr; walk.next()) {
      visitor(*walk.entry());
    }
  }

  // ---- memory pressure -------------------------------------------------------------------------

  /// Gives memory back to the pagers until it gave `bytes`; returns how much it gave. It takes
  /// empty frames first, then remote frees of objects of this CPU and of idle ones. The last are
  /// the objects that shrink callbacks free. It also stops once the callbacks say that they freed
  /// so many bytes: they may free frames of their own. Each walk begins where the last one ended.
  /// It asks the other CPUs to drain. A call from inside a shrink callback, or while another thread
  /// is in one, calls none.
  std::size_t reclaim(std::size_t bytes) noexcept {
    bool has_freed = false;
    constexpr std::size_t most = ReclaimRequest::everything;
    return reclaim({bytes < most ? bytes : most}, false, has_freed);
  }

  /// A ReclaimCallback. If there is too little without shrink callbacks, and another thread is in
  /// one, it waits for its turn. Pre: `reclaimer` is the address of one of this type.
  static bool reclaim_for(void* reclaimer, const ReclaimRequest& request) noexcept {
    bool has_freed = false;
    const std::size_t given = static_cast<Reclaimer*>(reclaimer)->reclaim(request, true, has_freed);
    return given != 0 || has_freed;
  }

  /// CpuZones::trim() of all; returns the bytes that went back to the pagers.
  std::size_t trim() noexcept {
    std::size_t given = 0;
    drain_all(~std::size_t{0}, given);
    return given;
  }
  /// CpuZones::drain_this_cpu() of all; false if a part was occupied. For inter-processor calls.
  bool drain_this_cpu() noexcept {
    bool all = true;
    for_each([&all](Reclaimable& entry) { all = entry.drain_this_cpu() && all; });
    return all;
  }
  /// CpuZones::enter_idle() of all; false if a part was occupied. For idle loops. Cost: if this CPU
  /// used none since the last call, a step of the walk and a few loads each.
  bool enter_idle() noexcept {
    bool all = true;
    for_each([&all](Reclaimable& entry) { all = entry.enter_idle() && all; });
    return all;
  }
  /// CpuZones::drain_later() of all.
  void drain_later() noexcept {
    for_each([](Reclaimable& entry) { entry.drain_later(); });
  }

  /// The first broken invariant, as an equation, or null.
  const char* validate() noexcept;

 private:
  using Guard = typename SpinLock<Hooks, Atomics>::Guard;

  /// Returns the bytes that it gave to pagers. `has_freed` is true afterwards if its callbacks
  /// freed something, or if it got its turn after others, whose callbacks may have.
  std::size_t reclaim(const ReclaimRequest& request, bool may_wait, bool& has_freed) noexcept {
    const std::size_t bytes = request.bytes;
    std::size_t given = 0;
    for (Walk walk(*this, true); walk.entry() != nullptr; walk.next(given < bytes)) {
      given += walk.entry()->give_back();
    }
    if (given < bytes) {
      drain_all(bytes, given);
    }
    if (given >= bytes) {
      return given;
    }
    // An allocation first looks at what it has, before it waits for more.
    bool has_waited = false;
    if (turn_.begin(may_wait && (given == 0 || !request.is_first()), has_waited)) {
      // What others freed meanwhile may be enough. So the first request calls no
      // callbacks, and the allocation looks again.
      const bool looks = has_waited && request.is_first();
      has_freed = (!looks && shrink_all(request, given)) || has_waited;
      turn_.end();
      if (given < bytes && has_freed) {
        drain_all(bytes, given);
      }
    }
    return given;
  }

  void drain_all(std::size_t bytes, std::size_t& given) noexcept {
    for (Walk walk(*this, true); walk.entry() != nullptr; walk.next(given < bytes)) {
      given += walk.entry()->trim();
    }
  }
  /// True if a callback freed something. Pre: given < request.bytes.
  bool shrink_all(const ReclaimRequest& request, std::size_t& given) noexcept {
    const std::size_t before = given;
    std::size_t shrunk = 0;
    std::size_t freed = given;
    for (Walk walk(*this, true); walk.entry() != nullptr; walk.next(freed < request.bytes)) {
      Reclaimable& entry = *walk.entry();
      if (entry.has_shrink()) {
        shrunk += entry.shrink(request.without(freed));
        given += entry.trim();
        // Bytes that callbacks freed may be among those given, and need not be.
        freed = before + shrunk > given ? before + shrunk : given;
      }
    }
    return shrunk != 0;
  }

  /// The way from entry to entry, each at most once, from the hand or the first one on. It may
  /// leave out entries that a caller adds meanwhile. It must run to its end.
  class Walk {
   public:
    [[gnu::noinline]] Walk(Reclaimer& list, bool by_hand) noexcept
        : list_(list), is_by_hand_(by_hand) {
      const Guard guard(list_.lock_);
      Reclaimable* const begin = by_hand ? list_.hand_ : list_.first_;
      if (begin == nullptr) {
        return;
      }
      start_ = begin->number_;
      entry_ = begin->leaves_ ? after(begin) : begin;
      count_walker();
    }
    Walk(const Walk&) = delete;
    Walk& operator=(const Walk&) = delete;

    /// The caller is its walker. Null at the end.
    Reclaimable* entry() const noexcept { return entry_; }

    /// Goes to the next entry, or to the end if `goes_on` is false. The hand is then at the next.
    /// Pre: there is an entry.
    [[gnu::noinline]] void next(bool goes_on = true) noexcept {
      const Guard guard(list_.lock_);
      --entry_->walkers_;
      if (is_by_hand_) {
        list_.hand_ = entry_->next_;
      }
      entry_ = goes_on ? after(entry_) : nullptr;
      count_walker();
    }

   private:
    void count_walker() noexcept {
      if (entry_ != nullptr) {
        ++entry_->walkers_;
      }
    }
    /// The entry after `entry`, or null at the end of the walk.
    Reclaimable* after(Reclaimable* entry) noexcept {
      for (;;) {
        entry = entry->next_;
        const bool is_around = entry == list_.first_;
        // The entry at which the walk began may be gone.
        if ((is_around && is_wrapped_) ||
            ((is_around || is_wrapped_) && entry->number_ >= start_)) {
          return nullptr;
        }
        is_wrapped_ = is_wrapped_ || is_around;
        if (!entry->leaves_) {
          return entry;
        }
      }
    }

    Reclaimer& list_;
    Reclaimable* entry_ = nullptr;
    std::size_t start_ = 0;  ///< The number of the entry at which it began.
    bool is_wrapped_ = false;
    bool is_by_hand_;
  };

  SpinLock<Hooks, Atomics> lock_;
  Reclaimable* first_ = nullptr;
  Reclaimable* hand_ = nullptr;
  std::size_t last_number_ = 0;
  Turn<Hooks, Atomics> turn_;  ///< To call shrink callbacks.
};

template <class Hooks, class Atomics>
const char* Reclaimer<Hooks, Atomics>::validate() noexcept {
  if (const char* const broken = turn_.validate()) {
    return broken;
  }
  const Guard guard(lock_);
  bool has_hand = hand_ == first_;
  for (Reclaimable* entry = first_; entry != nullptr;) {
    Reclaimable* const next = entry->next_;
    has_hand = has_hand || entry == hand_;
    if (next->previous_ != entry || (next != first_ && next->number_ <= entry->number_)) {
      return "L1: numbers ascend; next and previous lead to each other";
    }
    entry = next != first_ ? next : nullptr;
  }
  return has_hand ? nullptr : "L2: the hand is an entry of the list, or null with no entries";
}

}  // namespace slabmalloc
