// SPDX-License-Identifier: MIT
#include "kernel/acpi.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

namespace boot {
namespace {

using Bytes = std::vector<std::byte>;

void append(Bytes& bytes, std::uint64_t value, std::size_t count) {
  for (std::size_t index = 0; index < count; ++index) {
    bytes.push_back(static_cast<std::byte>(index < 8 ? value >> 8 * index : 0));
  }
}
void append(Bytes& bytes, const std::string& text) {
  for (const char character : text) {
    bytes.push_back(static_cast<std::byte>(character));
  }
}
/// Makes the sum of the first `count` bytes 0 by the one at `place`.
void balance(Bytes& bytes, std::size_t place, std::size_t count) {
  bytes[place] = std::byte{0};
  unsigned sum = 0;
  for (std::size_t index = 0; index < count; ++index) {
    sum += std::to_integer<unsigned>(bytes[index]);
  }
  bytes[place] = static_cast<std::byte>(0u - sum);
}
Bytes table(const std::string& signature, const Bytes& content) {
  Bytes bytes;
  append(bytes, signature);
  append(bytes, AcpiTable::header_bytes + content.size(), 4);
  bytes.resize(AcpiTable::header_bytes);
  bytes.insert(bytes.end(), content.begin(), content.end());
  balance(bytes, 9, bytes.size());
  return bytes;
}
std::uint64_t address_of(const Bytes& bytes) {
  return reinterpret_cast<std::uint64_t>(bytes.data());
}

Bytes affinities() {
  Bytes bytes(12);
  // A CPU of node 0x102: the number lies in two places.
  append(bytes, 0, 1), append(bytes, 16, 1), append(bytes, 0x02, 1), append(bytes, 7, 1);
  append(bytes, 1, 4), append(bytes, 0, 1), append(bytes, 0x000001, 3), append(bytes, 0, 4);
  // One that is not enabled.
  append(bytes, 0, 1), append(bytes, 16, 1), append(bytes, 0, 1), append(bytes, 8, 1);
  append(bytes, 0, 12);
  // Memory of node 1, and some that is not enabled.
  for (const std::uint64_t enabled : {1u, 0u}) {
    append(bytes, 1, 1), append(bytes, 40, 1), append(bytes, 1, 4), append(bytes, 0, 2);
    append(bytes, 0x1'0000'0000, 8), append(bytes, 0x4000'0000, 8), append(bytes, 0, 4);
    append(bytes, enabled, 4), append(bytes, 0, 8);
  }
  // An entry of a kind that is not known, and a CPU by its x2APIC.
  append(bytes, 9, 1), append(bytes, 4, 1), append(bytes, 0, 2);
  append(bytes, 2, 1), append(bytes, 24, 1), append(bytes, 0, 2), append(bytes, 3, 4);
  append(bytes, 300, 4), append(bytes, 1, 4), append(bytes, 0, 8);
  return bytes;
}

/// Tables in memory, with a root pointer of either kind.
class AcpiTest : public testing::Test {
 protected:
  void make_root() {
    for (const Bytes* one : {&other_, &srat_, &slit_}) {
      append(addresses_, address_of(*one), 8);
    }
    xsdt_ = table("XSDT", addresses_);
    append(root_, "RSD PTR ");
    root_.resize(15);
    append(root_, 2, 1), append(root_, 0, 4), append(root_, 36, 4);
    append(root_, address_of(xsdt_), 8), append(root_, 0, 4);
    balance(root_, 8, 20);
    balance(root_, 32, 36);
  }
  void ask() {
    const AcpiTables tables(address_of(root_));
    tables.for_each_affinity(
        [&](std::uint64_t id, std::uint64_t node) { cpus_.emplace_back(id, node); },
        [&](Region region, std::uint64_t node) { memory_.emplace_back(region, node); });
    tables.for_each_distance([&](std::uint64_t from, std::uint64_t to, std::uint64_t distance) {
      distances_.emplace_back(from, to, distance);
    });
  }

  Bytes other_ = table("FACP", Bytes(4));
  Bytes srat_ = table("SRAT", affinities());
  Bytes slit_ = [] {
    Bytes bytes;
    append(bytes, 2, 8);
    append(bytes, 10, 1), append(bytes, 20, 1), append(bytes, 31, 1), append(bytes, 10, 1);
    return table("SLIT", bytes);
  }();
  Bytes addresses_, xsdt_, root_;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> cpus_;
  std::vector<std::pair<Region, std::uint64_t>> memory_;
  std::vector<std::tuple<std::uint64_t, std::uint64_t, std::uint64_t>> distances_;
};

TEST_F(AcpiTest, tells_the_nodes_of_enabled_cpus_and_memory) {
  make_root();
  ask();
  EXPECT_EQ(cpus_, (std::vector<std::pair<std::uint64_t, std::uint64_t>>{{7, 0x102}, {300, 3}}));
  ASSERT_EQ(memory_.size(), 1u);
  EXPECT_EQ(memory_[0].first, (Region{0x1'0000'0000, 0x4000'0000}));
  EXPECT_EQ(memory_[0].second, 1u);
  EXPECT_EQ(distances_, (decltype(distances_){{0, 0, 10}, {0, 1, 20}, {1, 0, 31}, {1, 1, 10}}));
}

TEST_F(AcpiTest, tells_nothing_without_a_sound_root) {
  const AcpiTables none(0);
  EXPECT_FALSE(none.find("SRAT"));
  make_root();
  root_[8] ^= std::byte{1};
  ask();
  EXPECT_TRUE(cpus_.empty() && memory_.empty() && distances_.empty());
}

TEST_F(AcpiTest, skips_a_table_whose_sum_is_wrong) {
  srat_.back() ^= std::byte{1};
  make_root();
  ask();
  EXPECT_TRUE(cpus_.empty() && memory_.empty());
  EXPECT_EQ(distances_.size(), 4u);
}

/// AddressSanitizer watches the end of each table.
TEST_F(AcpiTest, reads_nothing_beyond_a_table_of_any_length) {
  const Bytes whole = affinities();
  for (std::size_t length = 0; length <= whole.size(); ++length) {
    srat_ =
        table("SRAT", Bytes(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length)));
    slit_ = table("SLIT", Bytes(length, std::byte{3}));
    addresses_.clear(), root_.clear(), cpus_.clear();
    make_root();
    ask();
    EXPECT_LE(cpus_.size(), 2u);
  }
}

TEST_F(AcpiTest, ends_at_an_entry_without_a_length) {
  srat_ = table("SRAT", Bytes(64));
  make_root();
  ask();
  EXPECT_TRUE(cpus_.empty());
}

}  // namespace
}  // namespace boot
