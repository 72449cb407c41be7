// SPDX-License-Identifier: MIT
//
// The fast paths of the machine on x86-64. machine.hpp describes each function.
//
//   gs base       the CPU's ProcessorRecord
//   rflags.IF     interrupts are taken
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernel/processor_record.hpp"
#include "kernel/text.hpp"

namespace boot {

inline constexpr Text architecture = "x86_64";
inline constexpr bool signals_are_non_maskable = true;

[[gnu::always_inline]] inline std::uint32_t cpu() noexcept {
  std::uint32_t number;
  asm("movl %%gs:0, %0" : "=r"(number));
  return number;
}

template <std::uint32_t slot>
[[gnu::always_inline]] inline void* local() noexcept {
  void* value;
  asm volatile("movq %%gs:%c1, %0" : "=r"(value) : "i"(offsetof(ProcessorRecord, local[slot])));
  return value;
}
template <std::uint32_t slot>
[[gnu::always_inline]] inline void set_local(void* value) noexcept {
  asm volatile("movq %0, %%gs:%c1"
               :
               : "er"(value), "i"(offsetof(ProcessorRecord, local[slot]))
               : "memory");
}

using InterruptState = std::uint64_t;
inline constexpr InterruptState interrupt_flag = 1 << 9;

[[gnu::always_inline]] inline InterruptState save_interrupts() noexcept {
  InterruptState before;
  asm volatile("pushfq; popq %0; cli" : "=r"(before) : : "memory");
  return before & interrupt_flag;
}
[[gnu::always_inline]] inline void enable_interrupts() noexcept {
  asm volatile("sti" : : : "memory");
}
[[gnu::always_inline]] inline void restore_interrupts(InterruptState state) noexcept {
  if (state != 0) {
    enable_interrupts();
  }
}
[[gnu::always_inline]] inline bool interrupts_enabled() noexcept {
  InterruptState now;
  asm volatile("pushfq; popq %0" : "=r"(now) : : "memory");
  return (now & interrupt_flag) != 0;
}

[[gnu::always_inline]] inline void relax() noexcept { asm volatile("pause" : : : "memory"); }
[[gnu::always_inline]] inline void wait_for_interrupt() noexcept {
  asm volatile("hlt" : : : "memory");
}

/// The time stamp counter. Under -icount shift=0 it grows by one with each instruction.
[[gnu::always_inline]] inline std::uint64_t instructions() noexcept {
  std::uint32_t low;
  std::uint32_t high;
  asm volatile("rdtsc" : "=a"(low), "=d"(high) : : "memory");
  return std::uint64_t{high} << 32 | low;
}
[[gnu::always_inline]] inline void count_down(std::uint64_t iterations) noexcept {
  asm volatile("1: subq $1, %0\n jnz 1b" : "+r"(iterations) : : "cc");
}

}  // namespace boot
