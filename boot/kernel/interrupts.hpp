// SPDX-License-Identifier: MIT
//
// Counts ticks and signals for each CPU, and calls a handler. Handlers run on the interrupted
// stack, with interrupts disabled, and leave them so.
#pragma once

#include <cstdint>

#include "kernel/machine.hpp"

namespace boot {

using InterruptHandler = void (*)() noexcept;

/// The counts of one CPU. Only that CPU's handlers write them.
struct alignas(64) InterruptCounts {
  Cell<std::uint64_t> ticks{0};
  Cell<std::uint64_t> signals{0};
};
extern InterruptCounts interrupt_counts[maximum_cpus];

/// Makes every CPU call `handler` at each tick of its timer from now on; null for none. The
/// replaced handler may still be running.
/// Order: release, with the acquire in on_timer(): the handler sees the caller's earlier writes.
void set_timer_handler(InterruptHandler handler) noexcept;

/// The same for signals. If signals_are_non_maskable, the handler interrupts all code, critical
/// sections included.
void set_signal_handler(InterruptHandler handler) noexcept;

}  // namespace boot
