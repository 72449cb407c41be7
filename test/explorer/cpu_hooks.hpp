// SPDX-License-Identifier: MIT
//
// The hooks of explored kernel services. One CPU has the same number for all threads: its handlers.
#pragma once

#include <cstdint>

#include "explorer/explorer.hpp"

namespace slabmalloc::explorer {

/// A kernel with room for `Cpus` CPUs.
template <std::uint32_t Cpus>
struct CpuHooks {
  static constexpr std::uint32_t maximum_cpus = Cpus;
  using InterruptState = int;
  static std::uint32_t cpu() noexcept { return 0; }
  static InterruptState save_interrupts() noexcept { return 0; }
  static void restore_interrupts(InterruptState) noexcept {}
  static void panic(const char* line) noexcept {
    expect(false, line);
    __builtin_trap();
  }
  static void log(const char*) noexcept {}
};

}  // namespace slabmalloc::explorer
