// SPDX-License-Identifier: MIT
//
// MemoryWaiters: lets allocations of a heap wait until others free its memory.
//
//   waiter                                       a call that frees memory
//
//   waiters_ + 1                                 frees
//   seen = changes_ ◄──────────┐                 waiters_ is 0? done
//   finds memory? done         │                 changes_ + 1
//   waits for changes_ != seen ┘                 wakes all waiters
//
// A waiter announces itself before it looks for memory, and the other side frees before it looks
// for waiters. Both change `waiters_` by a read-modify-write, so one of them comes first. If the
// waiter does, the other side sees it. Else the waiter sees the freed memory. So no wake-up is
// lost.
//
// All waiters look again after each change, and the first to look gets the memory. The wait hook
// ends the wait at its deadline, for which it has a word for all looks of one caller.
#pragma once

#include <cstdint>

#include "slabmalloc/kernel/hooks.hpp"
#include "slabmalloc/kernel/waiting.hpp"

namespace slabmalloc {

/// The waiting allocations of one heap. Thread: any, where not said otherwise.
template <KernelHooks Hooks, class Atomics>
class MemoryWaiters {
 public:
  /// Looks of one waiter, so that each wait ends even if its hook keeps no deadline.
  static constexpr std::uint32_t most_looks = std::uint32_t{1} << 16;

  /// Thread: any, while nobody waits.
  void set_enabled(bool is_enabled) noexcept { is_enabled_.store(is_enabled, Order::relaxed); }
  bool is_enabled() const noexcept { return is_enabled_.load(Order::relaxed); }

  /// Calls look() until it returns true, then before_sleep() and a sleep after each look that found
  /// nothing. False at the deadline. Context: one that may wait, with nothing held.
  /// Order: acq_rel, with has_some(): the looks see what was freed before the other side saw no
  /// waiter.
  template <class Look, class BeforeSleep>
  [[gnu::cold]] bool wait(Look&& look, BeforeSleep&& before_sleep) noexcept {
    change_waiters(1);
    bool has_found = false;
    bool goes_on = true;
    std::uint64_t deadline = 0;
    for (std::uint32_t looks = 0; !has_found && goes_on && looks < most_looks; ++looks) {
      const Change change{*this, changes()};
      has_found = look();
      if (!has_found) {
        before_sleep();
        goes_on = wait_until<Hooks>({&Change::has_come, &change, &deadline});
      }
    }
    change_waiters(~std::uint32_t{0});
    return has_found;
  }

  /// Whether a caller waits for what was freed just before. Cost: one load if waiting is not
  /// enabled, else an atomic operation.
  bool has_some() noexcept { return is_enabled() && change_waiters(0) != 0; }
  /// The same as a hint, at the cost of one load.
  bool may_have_some() const noexcept { return waiters_.load(Order::relaxed) != 0; }
  /// Wakes all waiters. Thread: any that holds nothing and may call Hooks::wake().
  /// Order: release, with the acquire in changes(): a waiter that sees the change sees the memory.
  [[gnu::cold]] void wake() noexcept {
    {
      const UpdateGuard<Hooks, Atomics> guard;
      changes_.fetch_add(1, Order::release);
    }
    wake_waiters<Hooks>();
  }
  /// Tells waiters, if there are any, that memory became free.
  void note_change() noexcept {
    if (has_some()) [[unlikely]] {
      wake();
    }
  }

 private:
  struct Change {
    const MemoryWaiters& waiters;
    std::uint32_t seen;

    static bool has_come(const void* self) noexcept {
      const auto& change = *static_cast<const Change*>(self);
      return change.waiters.changes() != change.seen;
    }
  };

  /// Order: acquire, with the release in wake().
  std::uint32_t changes() const noexcept { return changes_.load(Order::acquire); }
  /// Adds `count`, and returns the number before. Order: acq_rel, with itself.
  std::uint32_t change_waiters(std::uint32_t count) noexcept {
    const UpdateGuard<Hooks, Atomics> guard;
    return waiters_.fetch_add(count, Order::acq_rel);
  }

  typename Atomics::template Cell<std::uint32_t> waiters_;
  typename Atomics::template Cell<std::uint32_t> changes_;
  typename Atomics::template Cell<bool> is_enabled_;
};

}  // namespace slabmalloc
