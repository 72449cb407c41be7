// SPDX-License-Identifier: MIT
//
// The hooks of this kernel for slabmalloc's kernel services.
//
//   constinit slabmalloc::CpuZones<boot::Hooks, Frames> heap(frames);
#pragma once

#include <cstdint>

#include "kernel/end.hpp"
#include "kernel/machine.hpp"
#include "kernel/print.hpp"
#include "slabmalloc/kernel/hooks.hpp"

namespace boot {

struct Hooks {
  static constexpr std::uint32_t maximum_cpus = boot::maximum_cpus;
  using InterruptState = boot::InterruptState;

  [[gnu::always_inline]] static std::uint32_t cpu() noexcept { return boot::cpu(); }
  [[gnu::always_inline]] static InterruptState save_interrupts() noexcept {
    return boot::save_interrupts();
  }
  [[gnu::always_inline]] static void restore_interrupts(InterruptState state) noexcept {
    boot::restore_interrupts(state);
  }
  [[gnu::always_inline]] static void relax() noexcept { boot::relax(); }
  template <std::uint32_t slot>
  [[gnu::always_inline]] static void* local() noexcept {
    return boot::local<slot>();
  }
  template <std::uint32_t slot>
  [[gnu::always_inline]] static void set_local(void* value) noexcept {
    boot::set_local<slot>(value);
  }
  [[noreturn]] static void panic(const char* line) noexcept {
    boot::panic(Text::zero_terminated(line));
  }
  static void log(const char* line) noexcept { print_line(Text::zero_terminated(line)); }
};
static_assert(slabmalloc::LocalHooks<Hooks>);

}  // namespace boot
