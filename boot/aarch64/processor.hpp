// SPDX-License-Identifier: MIT
//
// The fast paths of the machine on aarch64, at EL1. machine.hpp describes each function.
//
//   tpidr_el1     the CPU's ProcessorRecord
//   daif.I        interrupts are kept out
#pragma once

#include <cstdint>

#include "kernel/processor_record.hpp"
#include "kernel/text.hpp"

namespace boot {

inline constexpr Text architecture = "aarch64";
inline constexpr bool signals_are_non_maskable = false;

[[gnu::always_inline]] inline ProcessorRecord* own_record() noexcept {
  ProcessorRecord* record;
  asm("mrs %0, tpidr_el1" : "=r"(record));
  return record;
}
[[gnu::always_inline]] inline std::uint32_t cpu() noexcept {
  return static_cast<std::uint32_t>(own_record()->number);
}

template <std::uint32_t slot>
[[gnu::always_inline]] inline void* local() noexcept {
  return const_cast<void* volatile&>(own_record()->local[slot]);
}
template <std::uint32_t slot>
[[gnu::always_inline]] inline void set_local(void* value) noexcept {
  const_cast<void* volatile&>(own_record()->local[slot]) = value;
}

using InterruptState = std::uint64_t;
inline constexpr InterruptState interrupts_masked = 1 << 7;

[[gnu::always_inline]] inline InterruptState save_interrupts() noexcept {
  InterruptState before;
  asm volatile("mrs %0, daif\n msr daifset, #2" : "=r"(before) : : "memory");
  return before;
}
[[gnu::always_inline]] inline void restore_interrupts(InterruptState state) noexcept {
  asm volatile("msr daif, %0" : : "r"(state) : "memory");
}
[[gnu::always_inline]] inline void enable_interrupts() noexcept {
  asm volatile("msr daifclr, #2" : : : "memory");
}
[[gnu::always_inline]] inline bool interrupts_enabled() noexcept {
  InterruptState now;
  asm volatile("mrs %0, daif" : "=r"(now) : : "memory");
  return (now & interrupts_masked) == 0;
}

[[gnu::always_inline]] inline void relax() noexcept { asm volatile("yield" : : : "memory"); }
[[gnu::always_inline]] inline void wait_for_interrupt() noexcept {
  asm volatile("wfi" : : : "memory");
}

/// Event counter 0, which counts instructions (machine.cpp). The barriers keep measured code
/// between its two readings.
[[gnu::always_inline]] inline std::uint64_t instructions() noexcept {
  std::uint64_t count;
  asm volatile("isb\n mrs %0, pmevcntr0_el0\n isb" : "=r"(count) : : "memory");
  return count;
}
[[gnu::always_inline]] inline void count_down(std::uint64_t iterations) noexcept {
  asm volatile("1: subs %0, %0, #1\n b.ne 1b" : "+r"(iterations) : : "cc");
}

}  // namespace boot
