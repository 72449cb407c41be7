// SPDX-License-Identifier: MIT
//
// The table of interrupts.
#pragma once

#include <cstdint>

namespace boot {

inline constexpr std::uint8_t timer_vector = 0x40;

/// Fills the table, once.
void fill_interrupt_table() noexcept;

/// Has this CPU use the table and its local APIC. It still takes no interrupts but non-maskable
/// ones.
void accept_interrupts() noexcept;

}  // namespace boot
