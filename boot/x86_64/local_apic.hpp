// SPDX-License-Identifier: MIT
//
// The local APIC of the calling CPU, by its memory-mapped registers (Intel SDM, volume 3, chapter
// 11). The same addresses lead every CPU to its own.
#pragma once

#include <cstdint>

namespace boot::local_apic {

enum Register : std::uintptr_t {
  id = 0x20,
  end_of_interrupt = 0xb0,
  spurious_vector = 0xf0,
  command_low = 0x300,
  command_high = 0x310,
  timer_entry = 0x320,
  pin0_entry = 0x350,
  timer_initial_count = 0x380,
  timer_divider = 0x3e0,
};

inline volatile std::uint32_t& at(Register which) noexcept {
  constexpr std::uintptr_t base = 0xfee0'0000;
  return *reinterpret_cast<volatile std::uint32_t*>(base + which);
}

/// Enables it. Masks the interrupts of the old controller, which arrive by pin 0.
inline void enable(std::uint8_t spurious) noexcept {
  constexpr std::uint32_t enabled = 1 << 8;
  constexpr std::uint32_t masked = 1 << 16;
  at(pin0_entry) = masked;
  at(spurious_vector) = enabled | spurious;
}

/// The effect of a command on the other CPU.
enum Delivery : std::uint32_t {
  non_maskable = 4 << 8,
  init = 5 << 8,
  startup = 6 << 8,  ///< Or-ed with the number of the page where it starts.
};

/// Sends a command to the CPU whose local APIC has the id `target`. Returns when it has been sent.
inline void send(std::uint32_t target, std::uint32_t command) noexcept {
  constexpr std::uint32_t level_assert = 1 << 14;
  constexpr std::uint32_t pending = 1 << 12;
  at(command_high) = target << 24;
  at(command_low) = level_assert | command;
  while ((at(command_low) & pending) != 0) {
  }
}

/// Raises `vector` every `microseconds`. QEMU's timer counts nanoseconds before it divides.
inline void start_timer(std::uint8_t vector, std::uint32_t microseconds) noexcept {
  constexpr std::uint32_t periodic = 1 << 17;
  constexpr std::uint32_t divide_by_1 = 0xb;
  at(timer_divider) = divide_by_1;
  at(timer_entry) = periodic | vector;
  at(timer_initial_count) = microseconds * 1000;
}

}  // namespace boot::local_apic
