// SPDX-License-Identifier: MIT
//
// Entries of the page tables of page_tables.cpp, for the addresses that they leave unmapped.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "kernel/region.hpp"

namespace boot {

struct Translation {
  static constexpr unsigned page_shift = std::countr_zero(std::size_t{SLABMALLOC_BOOT_PAGE_BYTES});
  static constexpr unsigned index_bits = page_shift - 3;
  /// Of the bits that an entry of the root maps. For 36 bits, only 4 KiB pages need three levels.
  static constexpr unsigned root_shift = page_shift + (page_shift == 12 ? 2 : 1) * index_bits;
  static constexpr Region range{(std::uintptr_t{1} << 36) - (std::uintptr_t{1} << root_shift),
                                std::size_t{16} << 20};

  static std::uint64_t* root() noexcept {
    std::uint64_t address;
    asm volatile("mrs %0, ttbr0_el1" : "=r"(address));
    return reinterpret_cast<std::uint64_t*>(address_of(address));
  }
  static std::uint64_t table_entry(std::uintptr_t table) noexcept { return table | 3; }
  /// Accessed, inner shareable, write-back memory that is never executed.
  static std::uint64_t page_entry(std::uintptr_t frame) noexcept {
    return frame | std::uint64_t{3} << 53 | 1 << 10 | 3 << 8 | 3;
  }
  static std::uintptr_t address_of(std::uint64_t entry) noexcept {
    return entry & ((std::uint64_t{1} << 48) - (std::uint64_t{1} << page_shift));
  }
  /// Begins and ends the use of root() by this CPU.
  static void begin() noexcept {}
  static void end() noexcept {}
  /// Lets CPUs see new entries.
  static void publish() noexcept { asm volatile("dsb ishst\n isb" ::: "memory"); }
  /// Makes this CPU forget all translations.
  static void flush() noexcept {
    asm volatile("dsb ishst\n tlbi vmalle1\n dsb ish\n isb" ::: "memory");
  }
};

}  // namespace boot
