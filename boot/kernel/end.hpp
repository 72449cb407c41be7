// SPDX-License-Identifier: MIT
//
// The end of the kernel. Its last line always has the status. From that line scripts/boot knows
// that the emulator's status is the kernel's.
#pragma once

#include <cstdint>

#include "kernel/print.hpp"

namespace boot {

/// Ends the machine with `status`, or 125 if it is greater.
[[noreturn]] void end_kernel(std::uint64_t status) noexcept;

/// Prints the defect and ends the machine with status 1. Thread: any CPU, in any context.
template <class... Values>
[[noreturn]] void panic(const Values&... values) noexcept {
  ConsoleAtAnyPrice console;
  console.print_line("PANIC on CPU ", cpu(), ": ", values...);
  console.give_back();
  end_kernel(1);
}

}  // namespace boot
