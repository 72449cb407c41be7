// SPDX-License-Identifier: MIT
//
// Starts all CPUs and runs work on them. After start_cpus() every CPU but 0 sleeps between the
// ticks of its timer and waits for work. CPU 0 runs the jobs.
//
//   CPU 0   ... run_on_all_cpus(f) ── f(0) ──── waits ──┐ ...
//   CPU 1   sleeps ─────────────────── f(1) ── sleeps ──┤
//   CPU 2   sleeps ───────────────────── f(2) ─ sleeps ─┘
#pragma once

#include <cstdint>

#include "kernel/interrupts.hpp"
#include "kernel/machine.hpp"

namespace boot {

/// Time between two ticks of a CPU's timer.
inline constexpr std::uint32_t tick_microseconds = 1000;

inline std::uint32_t cpu_count() noexcept { return machine.cpu_count; }

/// Starts all other CPUs and every timer, and enables interrupts on all of them.
/// Pre: called once, by CPU 0. Post: each CPU can be given work.
void start_cpus() noexcept;

/// Makes each CPU but 0 call `work` before it sleeps, also after each interrupt; null: nothing.
/// Thread: CPU 0. A CPU may be at the old work until run_on_all_cpus() returns.
void set_idle_work(void (*work)() noexcept) noexcept;

/// Calls `work(cpu())` on every CPU at once and returns when all have returned.
/// Thread: CPU 0, not from within such work.
/// Order: the work sees all earlier writes of CPU 0. Afterwards CPU 0 sees all writes of the work.
void run_on_all_cpus(void (*work)(std::uint32_t cpu)) noexcept;

/// The same, while each CPU calls `on_tick` at its ticks and `on_signal` at signals. Afterwards no
/// handler runs. Thread: CPU 0, not from within such work.
void run_amid_interrupts(InterruptHandler on_tick, InterruptHandler on_signal,
                         void (*work)(std::uint32_t cpu)) noexcept;

/// A barrier for all CPUs, which they may use any number of times.
class Barrier {
 public:
  /// Returns when every CPU has called it.
  /// Order: acq_rel and acquire, with each other: afterwards all CPUs see each CPU's earlier
  /// writes.
  void wait() noexcept {
    const std::uint32_t round = round_.load(Order::relaxed);
    if (arrived_.fetch_add(1, Order::acq_rel) + 1 == cpu_count()) {
      arrived_.store(0, Order::relaxed);
      round_.store(round + 1, Order::release);
      return;
    }
    while (round_.load(Order::acquire) == round) {
      relax();
    }
  }

 private:
  Cell<std::uint32_t> arrived_{0};
  Cell<std::uint32_t> round_{0};
};

}  // namespace boot
