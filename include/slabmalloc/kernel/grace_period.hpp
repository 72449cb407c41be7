// SPDX-License-Identifier: MIT
//
// Grace periods: the kernel's hooks that tell when readers without locks are done (RCU, epochs).
//
//   reader   ──[ reads an object ]──────────           a read section that began before
//   writer   unlink ─► grace_period_begin() = e ─────► has_passed(e) ─► free
//
// A grace period has passed once every read section that was open at its beginning is closed.
// McKenney and Slingwine, Read-Copy Update: Using Execution History to Solve Concurrency Problems,
// 1998. Linux has the two hooks as start_poll_synchronize_rcu() and poll_state_synchronize_rcu(),
// FreeBSD as smr_advance() and smr_poll().
#pragma once

#include <concepts>
#include <cstdint>

#include "slabmalloc/kernel/hooks.hpp"
#include "slabmalloc/kernel/waiting.hpp"

namespace slabmalloc {

/// Hooks that know grace periods:
///   grace_period_begin()   the number of a grace period that begins now, or later. All that the
///                          caller wrote before is visible to read sections that open after that
///   has_passed(number)     true once it has passed, for ever. The caller then sees all that was
///                          done in the read sections that the period waited for
/// Both are called with interrupts saved, by callers that may call the pager. They take little
/// time, do not wait, and do not call the heap. has_passed() changes nothing that a WaitCondition
/// may not. A kernel with wait() calls its wake() when a grace period ends.
template <class H>
concept GraceHooks = KernelHooks<H> && requires(std::uintptr_t number) {
  { H::grace_period_begin() } noexcept -> std::same_as<std::uintptr_t>;
  { H::has_passed(number) } noexcept -> std::same_as<bool>;
};

/// Waits until all read sections that are open now are closed: synchronize_rcu(). False if that
/// took too long (waiting.hpp).
/// Context: one that may wait, with nothing held, in no read section.
template <GraceHooks Hooks>
bool wait_for_grace_period() noexcept {
  std::uintptr_t number = 0;
  {
    const InterruptGuard<Hooks> interrupts;
    number = Hooks::grace_period_begin();
  }
  return wait_until<Hooks>({[](const void* argument) noexcept {
                              const InterruptGuard<Hooks> interrupts;
                              return Hooks::has_passed(
                                  *static_cast<const std::uintptr_t*>(argument));
                            },
                            &number});
}

}  // namespace slabmalloc
