// SPDX-License-Identifier: MIT
//
// Page tables of three levels (RISC-V Privileged Architecture, Sv39), which a CPU uses between
// begin() and end() alone. They map each address below 255 GiB to itself.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernel/region.hpp"

namespace boot {

struct Translation {
  static constexpr unsigned index_bits = 9;
  static constexpr unsigned root_shift = 30;  ///< Of the bits that an entry of the root maps.
  static constexpr std::size_t own_entry = 255;
  static constexpr Region range{own_entry << root_shift, std::size_t{16} << 20};

  static std::uint64_t* root() noexcept { return entries; }
  static std::uint64_t table_entry(std::uintptr_t table) noexcept { return table >> 2 | 1; }
  /// Dirty, accessed, writable, readable, valid.
  static std::uint64_t page_entry(std::uintptr_t frame) noexcept { return frame >> 2 | 0xc7; }
  static std::uintptr_t address_of(std::uint64_t entry) noexcept { return entry >> 10 << 12; }
  /// Begins and ends the use of root() by this CPU. Pre: the first call has returned before another
  /// CPU makes one.
  static void begin() noexcept {
    for (std::size_t index = 0; index < own_entry && entries[own_entry - 1] == 0; ++index) {
      entries[index] = (index << root_shift) >> 2 | 0xcf;
    }
    constexpr std::uint64_t sv39 = std::uint64_t{8} << 60;
    const std::uint64_t satp = sv39 | reinterpret_cast<std::uintptr_t>(entries) >> 12;
    asm volatile("sfence.vma\n csrw satp, %0\n sfence.vma" ::"r"(satp) : "memory");
  }
  static void end() noexcept { asm volatile("csrw satp, zero\n sfence.vma" ::: "memory"); }
  /// Lets CPUs see new entries. Of those without, the emulator keeps no translation.
  static void publish() noexcept { asm volatile("sfence.vma" ::: "memory"); }
  /// Makes this CPU forget all translations.
  static void flush() noexcept { asm volatile("sfence.vma" ::: "memory"); }

 private:
  alignas(4096) static constinit inline std::uint64_t entries[512]{};
};

}  // namespace boot
