// SPDX-License-Identifier: MIT
//
// Ticks and signals, counted for each CPU and passed on to a handler. Handlers run on the stack of
// what they interrupted, with interrupts disabled, and leave them so.
#pragma once

#include <cstdint>

#include "kernel/machine.hpp"

namespace boot {

using InterruptHandler = void (*)() noexcept;

/// What happened to one CPU. Written by that CPU's handlers alone.
struct alignas(64) InterruptCounts {
  Cell<std::uint64_t> ticks{0};
  Cell<std::uint64_t> signals{0};
};
extern InterruptCounts interrupt_counts[maximum_cpus];

/// Has every CPU call `handler` at each tick of its timer from now on; null for nothing.
/// Order: release, with the acquire in on_timer(): the handler sees what was set up for it. A
/// handler that was replaced may still be running.
void set_timer_handler(InterruptHandler handler) noexcept;

/// The same for signals. Where signals_are_non_maskable the handler interrupts anything, critical
/// sections included.
void set_signal_handler(InterruptHandler handler) noexcept;

}  // namespace boot
