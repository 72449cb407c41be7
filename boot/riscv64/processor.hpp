// SPDX-License-Identifier: MIT
//
// The fast paths of the machine on riscv64, in supervisor mode. machine.hpp describes each
// function.
//
//   tp            the CPU's ProcessorRecord
//   sstatus.SIE   interrupts are taken
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernel/processor_record.hpp"
#include "kernel/text.hpp"

namespace boot {

inline constexpr Text architecture = "riscv64";
inline constexpr bool signals_are_non_maskable = false;

[[gnu::always_inline]] inline std::uint32_t cpu() noexcept {
  std::uint32_t number;
  asm("lwu %0, 0(tp)" : "=r"(number));
  return number;
}

template <std::uint32_t slot>
[[gnu::always_inline]] inline void* local() noexcept {
  void* value;
  asm volatile("ld %0, %1(tp)" : "=r"(value) : "i"(offsetof(ProcessorRecord, local[slot])));
  return value;
}
template <std::uint32_t slot>
[[gnu::always_inline]] inline void set_local(void* value) noexcept {
  asm volatile("sd %z0, %1(tp)"
               :
               : "rJ"(value), "i"(offsetof(ProcessorRecord, local[slot]))
               : "memory");
}

using InterruptState = std::uint64_t;
inline constexpr InterruptState supervisor_interrupts = 1 << 1;

[[gnu::always_inline]] inline InterruptState save_interrupts() noexcept {
  InterruptState before;
  asm volatile("csrrci %0, sstatus, %1" : "=r"(before) : "i"(supervisor_interrupts) : "memory");
  return before & supervisor_interrupts;
}
[[gnu::always_inline]] inline void restore_interrupts(InterruptState state) noexcept {
  asm volatile("csrs sstatus, %0" : : "r"(state) : "memory");
}
[[gnu::always_inline]] inline void enable_interrupts() noexcept {
  restore_interrupts(supervisor_interrupts);
}
[[gnu::always_inline]] inline bool interrupts_enabled() noexcept {
  InterruptState now;
  asm volatile("csrr %0, sstatus" : "=r"(now) : : "memory");
  return (now & supervisor_interrupts) != 0;
}

[[gnu::always_inline]] inline void relax() noexcept {
  asm volatile(".insn i 0x0f, 0, x0, x0, 0x010" : : : "memory");  // PAUSE, of extension Zihintpause
}
[[gnu::always_inline]] inline void wait_for_interrupt() noexcept {
  asm volatile("wfi" : : : "memory");
}

[[gnu::always_inline]] inline std::uint64_t instructions() noexcept {
  std::uint64_t count;
  asm volatile("rdinstret %0" : "=r"(count) : : "memory");
  return count;
}
[[gnu::always_inline]] inline void count_down(std::uint64_t iterations) noexcept {
  asm volatile("1: addi %0, %0, -1\n bnez %0, 1b" : "+r"(iterations));
}

}  // namespace boot
