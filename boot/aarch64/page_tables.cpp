// SPDX-License-Identifier: MIT
//
// Translation with a granule of page_bytes, for addresses of 36 bits (Arm Architecture Reference
// Manual, chapter D8). A table fills one page. The number of its entries decides how many address
// bits a level resolves.
//
//   granule   levels    a page    a block
//    4 KiB    1, 2, 3    4 KiB     2 MiB, 1 GiB
//   16 KiB    2, 3      16 KiB    32 MiB
//   64 KiB    2, 3      64 KiB   512 MiB
//
// Blocks map a range where they fit; pages map its edges. To catch faults, nothing is mapped at
// address 0, code cannot be written, and nothing else can be executed.
#include "page_tables.hpp"

#include <bit>
#include <cstddef>
#include <cstdint>

#include "kernel/end.hpp"
#include "kernel/machine.hpp"

namespace boot {
namespace {

constexpr unsigned page_shift = std::countr_zero(page_bytes);
constexpr unsigned bits_per_level = page_shift - 3;
constexpr unsigned address_bits = 36;
constexpr std::size_t entries = std::size_t{1} << bits_per_level;
static_assert(page_bytes == 4 << 10 || page_bytes == 16 << 10 || page_bytes == 64 << 10,
              "the architecture has these three granules");

/// One entry of a table at `level` maps 2^shift bytes.
constexpr unsigned shift_at(unsigned level) { return page_shift + (3 - level) * bits_per_level; }
constexpr unsigned root_level = shift_at(2) + bits_per_level >= address_bits ? 2 : 1;
static_assert(shift_at(root_level) + bits_per_level >= address_bits);
/// A block may be mapped at level 2, and with 4 KiB pages at level 1 as well.
constexpr unsigned first_block_level = page_bytes == 4 << 10 ? 1 : 2;

struct Table {
  alignas(page_bytes) std::uint64_t entry[entries];
};

// One table is the root, two are for devices. Memory needs one for each edge of a range and each
// level.
constexpr std::size_t table_count = 16;
constinit Table tables[table_count] = {};
constinit std::size_t tables_used = 1;

constexpr std::uint64_t table_or_page = 3;
constexpr std::uint64_t block = 1;
constexpr std::uint64_t address_mask = (std::uint64_t{1} << 48) - page_bytes;

enum Access : std::uint64_t {
  accessed = 1 << 10,
  inner_shareable = 3 << 8,
  read_only = 2 << 6,
  memory = 0 << 2,  // indices of memory_types
  device = 1 << 2,
  never_executed = std::uint64_t{3} << 53,
};
constexpr std::uint64_t memory_types = 0x00'ff;  // 0: write-back memory, 1: nGnRnE devices

constexpr std::uint64_t for_code = accessed | inner_shareable | read_only | memory;
constexpr std::uint64_t for_constants = for_code | never_executed;
constexpr std::uint64_t for_data = accessed | inner_shareable | memory | never_executed;
constexpr std::uint64_t for_devices = accessed | device | never_executed;

Table& table_behind(std::uint64_t& entry) noexcept {
  if (entry == 0) {
    if (tables_used == table_count) {
      panic("there are too few page tables");
    }
    entry = reinterpret_cast<std::uint64_t>(&tables[tables_used++]) | table_or_page;
  }
  return *reinterpret_cast<Table*>(entry & address_mask);
}

/// Maps the part of `range` that `table`, at `level`, covers.
void map(Table& table, unsigned level, Region range, std::uint64_t access) noexcept {
  const std::size_t step = std::size_t{1} << shift_at(level);
  while (range.bytes > 0) {
    const std::uintptr_t next = (range.start / step + 1) * step;
    const Region part = Region::between(range.start, next < range.end() ? next : range.end());
    std::uint64_t& entry = table.entry[(part.start >> shift_at(level)) % entries];
    if (level == 3) {
      entry = part.start | access | table_or_page;
    } else if (part.bytes == step && level >= first_block_level) {
      entry = part.start | access | block;
    } else {
      map(table_behind(entry), level + 1, part, access);
    }
    range = Region::between(part.end(), range.end());
  }
}

/// Pre: `range` begins and ends with a page.
void map(Region range, std::uint64_t access) noexcept { map(tables[0], root_level, range, access); }

constexpr std::uint64_t mmu_and_caches = 1 << 12 | 1 << 2 | 1 << 0;
constexpr unsigned granule_shift = 14;
constexpr std::uint64_t granule = page_bytes == 4 << 10 ? 0 : page_bytes == 16 << 10 ? 2 : 1;

Region between(const std::byte* start, const std::byte* end) noexcept {
  return Region::between(reinterpret_cast<std::uintptr_t>(start),
                         reinterpret_cast<std::uintptr_t>(end));
}

enum class Use { read, write };

/// True if the MMU lets EL1 use `address` in this way.
bool is_allowed(const std::byte* address, Use use) noexcept {
  std::uint64_t result;
  if (use == Use::read) {
    asm volatile("at s1e1r, %1\n isb\n mrs %0, par_el1" : "=r"(result) : "r"(address));
  } else {
    asm volatile("at s1e1w, %1\n isb\n mrs %0, par_el1" : "=r"(result) : "r"(address));
  }
  return (result & 1) == 0;
}

}  // namespace

void make_page_tables() noexcept {
  constexpr std::uintptr_t end_of_addresses = std::uintptr_t{1} << address_bits;
  reserve_memory(Region::between(end_of_addresses, ~std::uintptr_t{0}));

  constexpr Region devices{0x0800'0000, 0x0200'0000};  // interrupt controller, UART
  map(devices, for_devices);
  map(between(image_start, constants_start), for_code);
  map(between(constants_start, data_start), for_constants);
  map(between(data_start, image_end), for_data);
  for_each_free([](Region region) { map(region, for_data); });
}

void use_page_tables() noexcept {
  constexpr std::uint64_t write_back_tables = 3 << 12 | 1 << 10 | 1 << 8;
  constexpr std::uint64_t no_upper_half = 1 << 23;
  constexpr std::uint64_t addresses_of_40_bits = std::uint64_t{2} << 32;
  constexpr std::uint64_t control = addresses_of_40_bits | no_upper_half |
                                    granule << granule_shift | write_back_tables |
                                    (64 - address_bits);
  asm volatile(
      "msr mair_el1, %0\n"
      "msr tcr_el1, %1\n"
      "msr ttbr0_el1, %2\n"
      "dsb ish\n"
      "tlbi vmalle1\n"
      "dsb ish\n"
      "isb\n"
      "mrs x9, sctlr_el1\n"
      "orr x9, x9, %3\n"
      "msr sctlr_el1, x9\n"
      "isb\n"
      :
      : "r"(memory_types), "r"(control), "r"(&tables[0]), "r"(mmu_and_caches)
      : "x9", "memory");
}

Text check_translation() noexcept {
  std::uint64_t system;
  std::uint64_t translation;
  asm volatile("mrs %0, sctlr_el1\n mrs %1, tcr_el1" : "=r"(system), "=r"(translation));
  if ((system & mmu_and_caches) != mmu_and_caches) {
    return "the MMU is off";
  }
  if ((translation >> granule_shift & 3) != granule) {
    return "the granule is not that of page_bytes";
  }
  if (is_allowed(nullptr, Use::read)) {
    return "address 0 is mapped";
  }
  if (is_allowed(image_start, Use::write) || is_allowed(constants_start, Use::write)) {
    return "code or constants are writable";
  }
  if (!is_allowed(image_start, Use::read) || !is_allowed(data_start, Use::write)) {
    return "the kernel is not mapped";
  }
  return {};
}

}  // namespace boot
