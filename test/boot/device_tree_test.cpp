// SPDX-License-Identifier: MIT
#include "kernel/device_tree.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "boot/device_tree_blob.hpp"
#include "support/random.hpp"

namespace boot {
namespace {

using test::BlobBuilder;
using test::Bytes;
using test::GuardedCopy;
using Cells = std::vector<std::uint32_t>;

std::string string_of(Text text) { return {text.begin(), text.end()}; }

/// The answers of a tree to the kernel's questions.
struct Answers {
  std::vector<Region> memory, reserved;
  std::vector<std::uint64_t> cpus;
  std::vector<std::uint32_t> nodes;      ///< Of the memory, then of the CPUs.
  std::vector<std::uint32_t> distances;  ///< Triples.
  Region initial_file_system;
  std::string bootargs;
  std::uint32_t frequency;
};

Answers ask(const DeviceTree& tree) {
  Answers answers;
  tree.for_each_memory([&](Region region, std::uint32_t node) {
    answers.memory.push_back(region);
    answers.nodes.push_back(node);
  });
  tree.for_each_reservation([&](Region region) { answers.reserved.push_back(region); });
  tree.for_each_cpu([&](std::uint64_t id, std::uint32_t node) {
    answers.cpus.push_back(id);
    answers.nodes.push_back(node);
  });
  tree.for_each_distance([&](std::uint32_t from, std::uint32_t to, std::uint32_t distance) {
    answers.distances.insert(answers.distances.end(), {from, to, distance});
  });
  answers.initial_file_system = tree.initial_file_system();
  answers.bootargs = string_of(tree.bootargs());
  answers.frequency = tree.timebase_frequency();
  return answers;
}

/// Opens a blob whose last byte is followed by unmapped memory, and returns the answers.
std::string open(const Bytes& blob, Answers* answers = nullptr) {
  const GuardedCopy copy(blob);
  DeviceTree tree;
  const std::string wrong = string_of(tree.open(copy.data(), blob.size()));
  const Answers found = ask(tree);
  if (answers != nullptr) {
    *answers = found;
  }
  return wrong;
}

Answers answers_of(const Bytes& blob) {
  Answers answers;
  EXPECT_EQ(open(blob, &answers), "");
  return answers;
}

/// A machine with every node that the kernel asks for.
Bytes whole_machine() {
  return BlobBuilder()
      .reserve(0x4000'0000, 0x1000)
      .begin("")
      .property("#address-cells", Cells{2})
      .property("#size-cells", Cells{2})
      .begin("chosen")
      .property("bootargs", std::string("run=machine operations=5"))
      .property("linux,initrd-start", Cells{0x4800'0000})
      .property("linux,initrd-end", Cells{0, 0x4800'1234})
      .end()
      .begin("memory@40000000")
      .property("reg", Cells{0, 0x4000'0000, 0, 0x1000'0000, 1, 0, 2, 0})
      .property("numa-node-id", Cells{1})
      .property("device_type", std::string("memory"))
      .end()
      .begin("cpus")
      .property("#address-cells", Cells{1})
      .property("#size-cells", Cells{0})
      .property("timebase-frequency", Cells{10'000'000})
      .begin("cpu@0")
      .property("device_type", std::string("cpu"))
      .property("reg", Cells{0})
      .begin("interrupt-controller")
      .end()
      .end()
      .begin("cpu@3")
      .property("device_type", std::string("cpu"))
      .property("status", std::string("okay"))
      .property("reg", Cells{3})
      .property("numa-node-id", Cells{1})
      .end()
      .begin("cpu-map")
      .end()
      .end()
      .begin("distance-map")
      .property("compatible", std::string("numa-distance-map-v1"))
      .property("distance-matrix", Cells{0, 1, 20, 1, 0, 21})
      .end()
      .begin("reserved-memory")
      .property("#address-cells", Cells{2})
      .property("#size-cells", Cells{2})
      .begin("firmware@40080000")
      .property("reg", Cells{0, 0x4008'0000, 0, 0x8'0000})
      .end()
      .end()
      .end()
      .finish();
}

TEST(DeviceTree, answers_every_question_of_the_kernel) {
  const Answers answers = answers_of(whole_machine());
  EXPECT_EQ(answers.memory,
            (std::vector<Region>{{0x4000'0000, 0x1000'0000}, {0x1'0000'0000, 0x2'0000'0000}}));
  EXPECT_EQ(answers.reserved,
            (std::vector<Region>{{0x4000'0000, 0x1000}, {0x4008'0000, 0x8'0000}}));
  EXPECT_EQ(answers.cpus, (std::vector<std::uint64_t>{0, 3}));
  EXPECT_EQ(answers.nodes, (Cells{1, 1, 0, 1}));
  EXPECT_EQ(answers.distances, (Cells{0, 1, 20, 1, 0, 21}));
  EXPECT_EQ(answers.initial_file_system, (Region{0x4800'0000, 0x1234})) << "of one cell and two";
  EXPECT_EQ(answers.bootargs, "run=machine operations=5");
  EXPECT_EQ(answers.frequency, 10'000'000u);
}

TEST(DeviceTree, an_empty_tree_answers_nothing) {
  const Answers answers = answers_of(BlobBuilder().begin("").end().finish());
  EXPECT_TRUE(answers.memory.empty() && answers.reserved.empty() && answers.cpus.empty());
  EXPECT_EQ(answers.initial_file_system, Region{});
  EXPECT_EQ(answers.bootargs, "");
  EXPECT_EQ(answers.frequency, 0u);
}

TEST(DeviceTree, addresses_have_the_cells_that_the_parent_prescribes) {
  const Answers answers = answers_of(BlobBuilder()
                                         .begin("")
                                         .property("#address-cells", Cells{1})
                                         .property("#size-cells", Cells{1})
                                         .begin("memory")
                                         .property("device_type", std::string("memory"))
                                         .property("reg", Cells{0x1000, 0x2000, 0x8000, 0x3000})
                                         .end()
                                         .begin("cpus")
                                         .property("#address-cells", Cells{2})
                                         .begin("cpu")
                                         .property("device_type", std::string("cpu"))
                                         .property("reg", Cells{1, 2})
                                         .end()
                                         .end()
                                         .end()
                                         .finish());
  EXPECT_EQ(answers.memory, (std::vector<Region>{{0x1000, 0x2000}, {0x8000, 0x3000}}));
  EXPECT_EQ(answers.cpus, (std::vector<std::uint64_t>{0x1'0000'0002}));
}

TEST(DeviceTree, numbers_of_more_than_64_bits_are_ignored) {
  const Answers answers = answers_of(BlobBuilder()
                                         .begin("")
                                         .property("#address-cells", Cells{3})
                                         .property("#size-cells", Cells{2})
                                         .begin("memory")
                                         .property("device_type", std::string("memory"))
                                         .property("reg", Cells{0, 0, 0x1000, 0, 0x2000})
                                         .end()
                                         .end()
                                         .finish());
  EXPECT_TRUE(answers.memory.empty());
}

TEST(DeviceTree, leaves_disabled_nodes_out) {
  const Answers answers = answers_of(BlobBuilder()
                                         .begin("")
                                         .property("#size-cells", Cells{2})
                                         .begin("memory@0")
                                         .property("device_type", std::string("memory"))
                                         .property("status", std::string("disabled"))
                                         .property("reg", Cells{0, 0, 0, 0x1000})
                                         .end()
                                         .begin("cpus")
                                         .begin("cpu@0")
                                         .property("device_type", std::string("cpu"))
                                         .property("status", std::string("fail"))
                                         .property("reg", Cells{0})
                                         .end()
                                         .begin("cpu@1")
                                         .property("device_type", std::string("cpu"))
                                         .property("status", std::string("ok"))
                                         .property("reg", Cells{1})
                                         .end()
                                         .end()
                                         .end()
                                         .finish());
  EXPECT_TRUE(answers.memory.empty());
  EXPECT_EQ(answers.cpus, (std::vector<std::uint64_t>{1}));
}

TEST(DeviceTree, nops_may_be_anywhere) {
  const Answers answers = answers_of(BlobBuilder()
                                         .nop()
                                         .begin("")
                                         .nop()
                                         .property("#size-cells", Cells{1})
                                         .nop()
                                         .nop()
                                         .property("#address-cells", Cells{1})
                                         .nop()
                                         .begin("chosen")
                                         .nop()
                                         .end()
                                         .nop()
                                         .begin("memory")
                                         .nop()
                                         .property("device_type", std::string("memory"))
                                         .nop()
                                         .property("reg", Cells{0x1000, 0x2000})
                                         .end()
                                         .end()
                                         .nop()
                                         .finish());
  EXPECT_EQ(answers.memory, (std::vector<Region>{{0x1000, 0x2000}}));
}

TEST(DeviceTree, reports_bytes_that_are_no_tree) {
  const Bytes good = whole_machine();
  EXPECT_EQ(open({}), "there is no device tree");
  EXPECT_EQ(open(Bytes(good.begin(), good.begin() + 39)), "there is no device tree");
  Bytes blob = good;
  blob[3] ^= std::byte{1};
  EXPECT_EQ(open(blob), "there is no device tree");
  blob = good;
  test::overwrite(blob, 20, 16);
  EXPECT_EQ(open(blob), "it is of another version");
  blob = good;
  test::overwrite(blob, 24, 18);
  EXPECT_EQ(open(blob), "it is of another version");
  blob = good;
  test::overwrite(blob, 4, static_cast<std::uint32_t>(good.size() + 1));
  EXPECT_EQ(open(blob), "it is longer than there is room");
}

TEST(DeviceTree, reports_malformed_structures) {
  EXPECT_EQ(open(BlobBuilder().finish()), "there is no node");
  EXPECT_EQ(open(BlobBuilder().begin("").finish()), "a node does not end");
  EXPECT_EQ(open(BlobBuilder().begin("").end().end().finish()), "a node ends that has not begun");
  EXPECT_EQ(open(BlobBuilder().begin("").end().begin("").end().finish()), "there are two roots");
  EXPECT_EQ(open(BlobBuilder().property("reg", Cells{1}).begin("").end().finish()),
            "a property is outside of all nodes");
  EXPECT_EQ(open(BlobBuilder().begin("").end().assemble()),
            "a token is malformed or out of bounds");
  EXPECT_EQ(open(BlobBuilder().begin("").token(7).end().finish()),
            "a token is malformed or out of bounds");
}

TEST(DeviceTree, a_tree_that_did_not_open_is_empty) {
  const Bytes good = whole_machine();
  DeviceTree tree;
  ASSERT_TRUE(tree.open(good.data(), good.size()).empty());
  ASSERT_FALSE(tree.open(good.data(), good.size() - 1).empty());
  EXPECT_FALSE(tree.root());
  EXPECT_EQ(tree.bytes(), 0u);
  EXPECT_TRUE(ask(tree).memory.empty());
}

TEST(DeviceTree, refuses_every_truncated_tree) {
  const Bytes good = whole_machine();
  for (std::size_t length = 0; length < good.size(); ++length) {
    Bytes blob(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(length));
    EXPECT_NE(open(blob), "") << length;
    if (length >= DeviceTree::header_bytes) {
      test::overwrite(blob, 4, static_cast<std::uint32_t>(length));  // and the header says so
      EXPECT_NE(open(blob), "") << length;
    }
  }
}

// For any blob, the tree reads only bytes of it, and every question ends. The bytes after the blob
// are unmapped.
TEST(DeviceTree, one_wrong_byte_never_leads_outside) {
  const Bytes good = whole_machine();
  std::size_t refused = 0;
  for (std::size_t offset = 0; offset < good.size(); ++offset) {
    for (const unsigned value : {0x00u, 0x01u, 0x02u, 0x03u, 0x04u, 0x09u, 0x7fu, 0x80u, 0xffu}) {
      Bytes blob = good;
      blob[offset] = static_cast<std::byte>(value);
      refused += open(blob).empty() ? 0u : 1u;
    }
  }
  EXPECT_GT(refused, 0u);
}

TEST(DeviceTree, random_bytes_never_lead_outside) {
  slabmalloc::test::Random random;
  const Bytes good = whole_machine();
  std::size_t refused = 0;
  for (int round = 0; round < 3000; ++round) {
    Bytes blob = good;
    const std::size_t changes = random.between(1, 8);
    for (std::size_t change = 0; change < changes; ++change) {
      // Mostly small numbers, which are often valid offsets.
      const auto word = static_cast<std::uint32_t>(random.next() >> random.between(32, 63));
      test::overwrite(blob, random.below(blob.size() / 4) * 4, word);
    }
    refused += open(blob).empty() ? 0u : 1u;
  }
  EXPECT_GT(refused, 0u);
}

}  // namespace
}  // namespace boot
