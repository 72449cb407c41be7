// SPDX-License-Identifier: MIT
//
// A reader of the ACPI tables that tell of NUMA nodes (ACPI Specification 6.4, chapter 5): SRAT,
// to which node memory and CPUs belong, and SLIT, how far nodes are from one another.
//
//   root pointer ──► XSDT: addresses of tables, 64 bits each  ──► SRAT   header, entries
//                └─► RSDT: the same, 32 bits each                 SLIT   header, n, n * n distances
//
// A table begins with its signature and its length, and the sum of its bytes is 0. The reader skips
// tables whose sum is another one. It reads no byte beyond a table's length.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernel/region.hpp"
#include "kernel/text.hpp"

namespace boot {

/// A table, whose numbers are little-endian.
class AcpiTable {
 public:
  static constexpr std::size_t header_bytes = 36;

  constexpr AcpiTable() noexcept = default;
  constexpr AcpiTable(const std::byte* data, std::size_t bytes) noexcept
      : data_(data), bytes_(bytes) {}

  explicit operator bool() const noexcept { return bytes_ != 0; }
  std::size_t bytes() const noexcept { return bytes_; }
  /// The number of `count` bytes at `offset`, at most 8; 0 if they are not inside.
  std::uint64_t number(std::size_t offset, std::size_t count) const noexcept {
    std::uint64_t value = 0;
    if (offset <= bytes_ && count <= bytes_ - offset) {
      for (std::size_t index = count; index-- > 0;) {
        value = value << 8 | std::to_integer<std::uint64_t>(data_[offset + index]);
      }
    }
    return value;
  }
  bool begins_with(Text signature) const noexcept {
    return bytes_ >= signature.length() &&
           Text(reinterpret_cast<const char*>(data_), signature.length()) == signature;
  }
  bool is_sound() const noexcept {
    unsigned sum = 0;
    for (std::size_t index = 0; index < bytes_; ++index) {
      sum += std::to_integer<unsigned>(data_[index]);
    }
    return bytes_ != 0 && sum % 256 == 0;
  }

 private:
  const std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
};

/// The tables to which the root pointer at an address leads; none if there is none. All of them
/// must be mapped at their addresses.
class AcpiTables {
 public:
  explicit AcpiTables(std::uint64_t root_address) noexcept {
    constexpr std::size_t root_bytes = 20;
    constexpr std::size_t extended_root_bytes = 36;
    const AcpiTable root(at(root_address), root_address != 0 ? root_bytes : 0);
    if (!root.is_sound() || !root.begins_with("RSD PTR ")) {
      return;
    }
    const AcpiTable extended(at(root_address), extended_root_bytes);
    const bool is_extended = root.number(15, 1) >= 2 && extended.number(24, 8) != 0;
    address_bytes_ = is_extended ? 8 : 4;
    index_ = table_at(is_extended ? extended.number(24, 8) : root.number(16, 4));
  }

  /// The first sound table with that signature, or none.
  AcpiTable find(Text signature) const noexcept {
    for (std::size_t at = AcpiTable::header_bytes; at + address_bytes_ <= index_.bytes();
         at += address_bytes_) {
      const AcpiTable table = table_at(index_.number(at, address_bytes_));
      if (table.begins_with(signature)) {
        return table;
      }
    }
    return {};
  }

  /// Calls cpu(APIC id, node) and memory(region, node) for all that are enabled in the SRAT.
  template <class Cpu, class Memory>
  void for_each_affinity(Cpu&& cpu, Memory&& memory) const noexcept {
    constexpr std::size_t first_entry = AcpiTable::header_bytes + 12;
    const AcpiTable table = find("SRAT");
    for (std::size_t at = first_entry; at + 2 <= table.bytes();) {
      const std::uint64_t length = table.number(at + 1, 1);
      if (length < 2) {
        return;
      }
      switch (table.number(at, 1)) {
        case 0:  // local APIC: the node in byte 2 and bytes 9 to 11
          if ((table.number(at + 4, 4) & 1) != 0) {
            cpu(table.number(at + 3, 1), table.number(at + 2, 1) | table.number(at + 9, 3) << 8);
          }
          break;
        case 1:  // memory
          if ((table.number(at + 28, 4) & 1) != 0) {
            memory(Region{table.number(at + 8, 8), table.number(at + 16, 8)},
                   table.number(at + 2, 4));
          }
          break;
        case 2:  // local x2APIC
          if ((table.number(at + 12, 4) & 1) != 0) {
            cpu(table.number(at + 8, 4), table.number(at + 4, 4));
          }
          break;
        default:
          break;
      }
      at += length;
    }
  }
  /// Calls visit(from, to, distance) for all pairs of nodes in the SLIT.
  template <class Visit>
  void for_each_distance(Visit&& visit) const noexcept {
    constexpr std::size_t matrix = AcpiTable::header_bytes + 8;
    const AcpiTable table = find("SLIT");
    const std::uint64_t nodes = table.number(AcpiTable::header_bytes, 8);
    if (nodes > 4096 || matrix + nodes * nodes > table.bytes()) {
      return;
    }
    for (std::uint64_t from = 0; from < nodes; ++from) {
      for (std::uint64_t to = 0; to < nodes; ++to) {
        visit(from, to, table.number(matrix + from * nodes + to, 1));
      }
    }
  }

 private:
  static const std::byte* at(std::uint64_t address) noexcept {
    return reinterpret_cast<const std::byte*>(address);
  }
  /// The table at `address`; none if that is 0 or it is not sound.
  static AcpiTable table_at(std::uint64_t address) noexcept {
    if (address == 0) {
      return {};
    }
    const AcpiTable header(at(address), AcpiTable::header_bytes);
    const AcpiTable table(at(address), header.number(4, 4));
    return table.bytes() >= AcpiTable::header_bytes && table.is_sound() ? table : AcpiTable();
  }

  AcpiTable index_;
  std::size_t address_bytes_ = 4;
};

}  // namespace boot
