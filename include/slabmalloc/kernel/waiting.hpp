// SPDX-License-Identifier: MIT
//
// Waiting: lets a caller that may wait do so, by the kernel's hooks or else by a spin.
//
//   waiter:  wait(condition) ──► sleeps ──────────► looks again ──► true, or false at the deadline
//   other:                    changes memory ──► wake()
//
// A wait always ends. The hook has a deadline, which the kernel chooses, and the spin a number of
// looks. So a cycle of callers that wait for each other costs time, and one of them fails.
#pragma once

#include <cstdint>
#include <type_traits>

#include "slabmalloc/kernel/hooks.hpp"

namespace slabmalloc {

/// The looks of a spin: with one look in 1 to 10 ns it lasts 1 to 10 seconds.
inline constexpr std::uint32_t spin_looks = std::uint32_t{1} << 30;

/// Waits until `condition` holds; false if that took too long. Context: one that may wait, with
/// nothing held. Cost: without the hook, at most `most_looks` looks in all waits of one caller, who
/// gives them one `deadline`. On one CPU a spin would keep others from running, so there it looks
/// once.
template <KernelHooks Hooks>
[[gnu::cold]] bool wait_until(WaitCondition condition,
                              std::uint32_t most_looks = spin_looks) noexcept {
  std::uint64_t own_deadline = 0;
  if (condition.deadline == nullptr) {
    condition.deadline = &own_deadline;
  }
  constexpr bool has_some = requires { Hooks::wait(condition); } || requires { Hooks::wake(); };
  static_assert(!has_some || WaitingHooks<Hooks>,
                "the hooks wait(), wake() and thread() come together, and are noexcept");
  if constexpr (has_some) {
    return Hooks::wait(condition);
  } else {
    const std::uint32_t most = Hooks::maximum_cpus == 1 ? 1 : most_looks;
    for (std::uint64_t& looks = *condition.deadline; looks < most; ++looks) {
      if (condition()) {
        return true;
      }
      relax<Hooks>();
    }
    return false;
  }
}

/// Makes callers in wait_until() look again. Thread: any that holds nothing.
template <KernelHooks Hooks>
void wake_waiters() noexcept {
  if constexpr (WaitingHooks<Hooks>) {
    Hooks::wake();
  }
}

/// The running thread, not 0; without the hook, its CPU. Thread: with interrupts saved.
template <KernelHooks Hooks>
std::uintptr_t running_thread() noexcept {
  if constexpr (requires { Hooks::thread(); }) {
    static_assert(std::is_same_v<decltype(Hooks::thread()), std::uintptr_t>,
                  "the hook thread() returns a std::uintptr_t: a number of the thread, not 0");
    return Hooks::thread();
  } else {
    return std::uintptr_t{1} + Hooks::cpu();
  }
}

}  // namespace slabmalloc
