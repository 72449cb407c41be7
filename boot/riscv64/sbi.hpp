// SPDX-License-Identifier: MIT
//
// Calls of the firmware: RISC-V Supervisor Binary Interface 1.0, chapters 3, 6, 7 and 9.
#pragma once

#include <cstdint>

namespace boot::sbi {

/// Calls `function` of `extension`. Returns the error, 0 for none.
inline std::int64_t call(std::uint64_t extension, std::uint64_t function, std::uint64_t first,
                         std::uint64_t second = 0, std::uint64_t third = 0) noexcept {
  register std::uint64_t a0 asm("a0") = first;
  register std::uint64_t a1 asm("a1") = second;
  register std::uint64_t a2 asm("a2") = third;
  register std::uint64_t a6 asm("a6") = function;
  register std::uint64_t a7 asm("a7") = extension;
  asm volatile("ecall" : "+r"(a0), "+r"(a1) : "r"(a2), "r"(a6), "r"(a7) : "memory");
  return static_cast<std::int64_t>(a0);
}

/// Makes the timer interrupt this hart when the clock reaches `time`. Clears a pending timer
/// interrupt.
inline void set_timer(std::uint64_t time) noexcept { call(0x5449'4d45, 0, time); }

/// Sends a software interrupt to one hart.
inline std::int64_t send_ipi(std::uint64_t hart) noexcept { return call(0x73'5049, 0, 1, hart); }

/// Starts a hart at `address` with a0 = hart.
inline std::int64_t hart_start(std::uint64_t hart, std::uint64_t address) noexcept {
  return call(0x48'534d, 0, hart, address, 0);
}

}  // namespace boot::sbi
