// SPDX-License-Identifier: MIT
//
// Entries of the page tables, for addresses above those that start.S maps (Intel 64 and IA-32
// Manual, volume 3, section 4.5).
#pragma once

#include <cstdint>

#include "kernel/region.hpp"

namespace boot {

struct Translation {
  static constexpr unsigned index_bits = 9;
  static constexpr unsigned root_shift = 39;  ///< Of the bits that an entry of the root maps.
  static constexpr Region range{std::uintptr_t{1} << root_shift, std::size_t{16} << 20};

  static std::uint64_t* root() noexcept {
    std::uint64_t address;
    asm volatile("movq %%cr3, %0" : "=r"(address));
    return reinterpret_cast<std::uint64_t*>(address);
  }
  static std::uint64_t table_entry(std::uintptr_t table) noexcept { return table | 3; }
  static std::uint64_t page_entry(std::uintptr_t frame) noexcept { return frame | 3; }
  static std::uintptr_t address_of(std::uint64_t entry) noexcept {
    return entry & ~std::uint64_t{4095};
  }
  /// Begins and ends the use of root() by this CPU.
  static void begin() noexcept {}
  static void end() noexcept {}
  /// Lets CPUs see new entries.
  static void publish() noexcept {}
  /// Makes this CPU forget all translations.
  static void flush() noexcept {
    asm volatile("movq %%cr3, %%rax\n movq %%rax, %%cr3" ::: "rax", "memory");
  }
};

}  // namespace boot
