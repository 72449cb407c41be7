// SPDX-License-Identifier: MIT
//
// CPU 0 stores the work and increments `order`. Each CPU compares `order` with the last one that it
// has seen. If it is new, the CPU carries the work out and increments `done`.
#include "kernel/cpus.hpp"

#include "kernel/stacks.hpp"

namespace boot {
namespace {

constinit Cell<std::uint32_t> running{1};  // CPUs that are up
constinit Cell<std::uint32_t> order{0};    // how often there was work
constinit Cell<std::uint32_t> done{0};     // CPUs that have finished it
using Work = void (*)(std::uint32_t);
constinit Work current_work = nullptr;
using IdleWork = void (*)() noexcept;
constinit Cell<IdleWork> idle_work{nullptr};

void begin_ticking() noexcept {
  start_timer(tick_microseconds);
  enable_interrupts();
}

}  // namespace

void start_cpus() noexcept {
  for (std::uint32_t cpu = 1; cpu < cpu_count(); ++cpu) {
    stacks[cpu].prepare();
    start_cpu(cpu);
    // One at a time. Order: acquire, with the release in secondary_main(): that CPU no longer needs
    // the data of its start.
    while (running.load(Order::acquire) != cpu + 1) {
      relax();
    }
  }
  begin_ticking();
}

void secondary_main() noexcept {
  begin_ticking();
  // Order: release, with the acquire in start_cpus().
  running.fetch_add(1, Order::release);
  for (std::uint32_t seen = 0;;) {
    // Order: acquire, with the release in run_on_all_cpus(): this CPU sees the work and the data
    // that CPU 0 prepared for it.
    if (order.load(Order::acquire) == seen) {
      // Order: acquire, with the release in set_idle_work().
      if (const IdleWork work = idle_work.load(Order::acquire)) {
        work();
      }
      wait_for_interrupt();  // an order given meanwhile is found at the next tick
      continue;
    }
    ++seen;
    current_work(cpu());
    // Order: release, with the acquire in run_on_all_cpus().
    done.fetch_add(1, Order::release);
  }
}

void set_idle_work(IdleWork work) noexcept {
  // Order: release, with the acquire in secondary_main(): the CPUs see what the work needs.
  idle_work.store(work, Order::release);
}

void run_on_all_cpus(void (*work)(std::uint32_t cpu)) noexcept {
  current_work = work;
  done.store(0, Order::relaxed);
  // Order: release, with the acquire in secondary_main().
  order.fetch_add(1, Order::release);
  work(cpu());
  // Order: acquire, with the release in secondary_main(): CPU 0 sees all writes of the work.
  while (done.load(Order::acquire) != cpu_count() - 1) {
    relax();
  }
}

void run_amid_interrupts(InterruptHandler on_tick, InterruptHandler on_signal,
                         void (*work)(std::uint32_t cpu)) noexcept {
  set_timer_handler(on_tick);
  set_signal_handler(on_signal);
  run_on_all_cpus(work);
  set_timer_handler(nullptr);
  set_signal_handler(nullptr);
  // A signal or a tick may still be on its way.
  run_on_all_cpus([](std::uint32_t) noexcept { count_down(100'000); });
}

}  // namespace boot
