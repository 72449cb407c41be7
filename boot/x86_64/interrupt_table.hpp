// SPDX-License-Identifier: MIT
//
// The interrupt descriptor table.
#pragma once

#include <cstdint>

namespace boot {

inline constexpr std::uint8_t timer_vector = 0x40;

/// Fills the table. Pre: called once.
void fill_interrupt_table() noexcept;

/// Makes this CPU use the table and its local APIC. It still takes only non-maskable interrupts.
void accept_interrupts() noexcept;

}  // namespace boot
