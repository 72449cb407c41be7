// SPDX-License-Identifier: MIT
//
// The interrupt controller, GICv3, for a CPU's own interrupts only (Arm IHI 0069, chapter 12).
// Software sends 0 to 15; 27 is the virtual timer.
#pragma once

#include <cstdint>

namespace boot::gic {

inline constexpr std::uint32_t signal_interrupt = 0;
inline constexpr std::uint32_t timer_interrupt = 27;
/// acknowledge() returns this when no interrupt is pending any more. Do not end it.
inline constexpr std::uint32_t none_pending = 1023;

/// The first CPU calls this once.
inline void enable_distributor() noexcept {
  constexpr std::uintptr_t distributor = 0x0800'0000;
  constexpr std::uint32_t by_affinity = 1 << 4;
  constexpr std::uint32_t group_1 = 1 << 1;
  *reinterpret_cast<volatile std::uint32_t*>(distributor) = by_affinity | group_1;
}

/// Each CPU calls this for itself.
inline void enable(std::uint32_t cpu) noexcept {
  // QEMU lays the redistributors out by CPU, two frames each. The second frame is for the CPU's own
  // interrupts.
  constexpr std::uintptr_t redistributors = 0x080a'0000;
  constexpr std::uintptr_t frame = 0x1'0000;
  const std::uintptr_t own = redistributors + cpu * 2 * frame;
  const auto at = [](std::uintptr_t address) {
    return reinterpret_cast<volatile std::uint32_t*>(address);
  };
  constexpr std::uint32_t processor_sleeps = 1 << 1;
  constexpr std::uint32_t children_sleep = 1 << 2;
  volatile std::uint32_t* const waker = at(own + 0x14);
  *waker = *waker & ~processor_sleeps;
  while ((*waker & children_sleep) != 0) {
  }
  *at(own + frame + 0x80) = ~0u;                                              // all in group 1
  *at(own + frame + 0x100) = 1u << signal_interrupt | 1u << timer_interrupt;  // enabled

  constexpr std::uint64_t lowest_priority = 0xff;
  asm volatile(
      "msr icc_sre_el1, %0\n"
      "isb\n"
      "msr icc_pmr_el1, %1\n"
      "msr icc_igrpen1_el1, %0\n"
      "isb\n"
      :
      : "r"(std::uint64_t{1}), "r"(lowest_priority));
}

/// Returns the pending interrupt; the CPU now handles it.
inline std::uint32_t acknowledge() noexcept {
  std::uint64_t number;
  asm volatile("mrs %0, icc_iar1_el1\n dsb sy" : "=r"(number) : : "memory");
  return static_cast<std::uint32_t>(number);
}

/// Ends the handling of `interrupt`.
inline void end(std::uint32_t number) noexcept {
  asm volatile("msr icc_eoir1_el1, %0\n isb" : : "r"(std::uint64_t{number}) : "memory");
}

/// Sends the signal to the CPU with this affinity (MPIDR_EL1).
inline void send_signal(std::uint64_t affinity) noexcept {
  const auto part = [&](unsigned level) { return affinity >> level * 8 & 0xff; };
  const std::uint64_t command = part(2) << 32 | std::uint64_t{signal_interrupt} << 24 |
                                part(1) << 16 | (part(0) / 16) << 44 |
                                std::uint64_t{1} << part(0) % 16;
  asm volatile("dsb ishst\n msr icc_sgi1r_el1, %0\n isb" : : "r"(command) : "memory");
}

}  // namespace boot::gic
