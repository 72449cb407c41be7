// SPDX-License-Identifier: MIT
//
// Calls the current handler for an interrupt of the architecture.
#include "kernel/interrupts.hpp"

namespace boot {

constinit InterruptCounts interrupt_counts[maximum_cpus];

namespace {

void ignore() noexcept {}

constinit Cell<InterruptHandler> timer_handler{&ignore};
constinit Cell<InterruptHandler> signal_handler{&ignore};

// Only this CPU writes the count, and no handler interrupts another of its kind.
void count(Cell<std::uint64_t>& counter) noexcept {
  counter.store(counter.load(Order::relaxed) + 1, Order::relaxed);
}

}  // namespace

void set_timer_handler(InterruptHandler handler) noexcept {
  timer_handler.store(handler != nullptr ? handler : &ignore, Order::release);
}

void set_signal_handler(InterruptHandler handler) noexcept {
  signal_handler.store(handler != nullptr ? handler : &ignore, Order::release);
}

void on_timer() noexcept {
  count(interrupt_counts[cpu()].ticks);
  // Order: acquire, with the release in set_timer_handler().
  timer_handler.load(Order::acquire)();
}

void on_signal() noexcept {
  count(interrupt_counts[cpu()].signals);
  // Order: acquire, with the release in set_signal_handler().
  signal_handler.load(Order::acquire)();
}

}  // namespace boot
