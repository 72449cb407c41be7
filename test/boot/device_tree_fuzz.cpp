// SPDX-License-Identifier: MIT
//
// A libFuzzer target: the reader of device trees. A tree that is well-formed must give the answers
// that went into it. A damaged one must be refused or read without a step outside of it.
#include <string>
#include <vector>

#include "boot/device_tree_blob.hpp"
#include "kernel/device_tree.hpp"
#include "support/fuzz.hpp"

namespace boot {
namespace {

using slabmalloc::test::FuzzInput;
using test::Bytes;
using Cells = std::vector<std::uint32_t>;

/// The answers of a tree to the kernel's questions.
struct Answers {
  std::vector<Region> memory, reserved;
  std::vector<std::uint64_t> cpus;
  std::vector<std::uint32_t> nodes;      ///< Of the memory, then of the CPUs.
  std::vector<std::uint32_t> distances;  ///< Triples.
  std::string bootargs;
  std::uint32_t frequency = 0;
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
  static_cast<void>(tree.initial_file_system());
  const Text text = tree.bootargs();
  answers.bootargs.assign(text.begin(), text.end());
  answers.frequency = tree.timebase_frequency();
  return answers;
}

std::uint32_t some_word(FuzzInput& input) {
  const std::size_t small = input.below(256);
  return static_cast<std::uint32_t>(input.one_in(2) ? small << 24 | small : small);
}

/// A machine of any memory, reservations and CPUs, and what a reader should find.
Bytes some_machine(FuzzInput& input, Answers& answers) {
  test::BlobBuilder blob;
  for (std::size_t count = input.below(4); count != 0; --count) {
    const Region region{some_word(input) + std::uintptr_t{1}, some_word(input)};
    blob.reserve(region.start, region.bytes);
    answers.reserved.push_back(region);
  }
  const auto cells = static_cast<std::uint32_t>(input.between(1, 2));
  blob.begin("").property("#address-cells", Cells{cells}).property("#size-cells", Cells{cells});
  const auto reg = [&](std::vector<Region>* regions) {
    Bytes bytes;
    for (std::size_t count = input.below(4); count != 0; --count) {
      const Region region{some_word(input), some_word(input) + std::size_t{1}};
      test::append(bytes, region.start, cells);
      test::append(bytes, region.bytes, cells);
      if (regions != nullptr) {
        regions->push_back(region);
      }
    }
    return bytes;
  };
  for (std::size_t count = input.below(4); count != 0; --count) {
    const bool is_memory = input.one_in(2);
    const bool is_enabled = !input.one_in(4);
    blob.begin("memory@" + std::to_string(count));
    blob.property("device_type", std::string(is_memory ? "memory" : "serial"));
    if (!is_enabled || input.one_in(2)) {
      blob.property("status", std::string(is_enabled ? "okay" : "disabled"));
    }
    blob.property("reg", reg(is_memory && is_enabled ? &answers.memory : nullptr));
    const std::uint32_t node = some_word(input);
    blob.property("numa-node-id", Cells{node});
    answers.nodes.resize(answers.memory.size(), node);
    if (input.one_in(2)) {
      blob.nop().begin("inner").property("reg", Bytes(input.below(9))).end();
    }
    blob.end();
  }
  blob.begin("cpus").property("#address-cells", Cells{1}).property("#size-cells", Cells{0});
  answers.frequency = some_word(input);
  blob.property("timebase-frequency", Cells{answers.frequency});
  for (std::size_t count = input.below(4); count != 0; --count) {
    const std::uint32_t id = some_word(input);
    blob.begin("cpu@" + std::to_string(id)).property("device_type", std::string("cpu"));
    blob.property("reg", Cells{id}).end();
    answers.cpus.push_back(id);
    answers.nodes.push_back(0);
  }
  blob.end();
  answers.distances.resize(3 * input.below(4), some_word(input));
  blob.begin("distance-map").property("distance-matrix", answers.distances).end();
  answers.bootargs = std::string(input.below(30), 'x');
  blob.begin("chosen").property("bootargs", answers.bootargs).end();
  return blob.end().finish();
}

}  // namespace
}  // namespace boot

SLABMALLOC_FUZZ_TARGET(slabmalloc::test::FuzzInput& input) {
  using namespace boot;
  Answers expected;
  Bytes blob = some_machine(input, expected);
  const bool is_damaged = !input.is_empty();
  if (is_damaged) {
    blob.resize(input.below(blob.size() + 1));
  }
  while (!input.is_empty() && blob.size() >= 4) {
    // A token, a small or a very large length, or one byte.
    const std::size_t place = input.below(blob.size() / 4) * 4;
    constexpr std::uint32_t words[] = {0, 1, 2, 3, 4, 9, 0xffff'ffff, 0xffff'fff0, 0x7fff'ffff};
    if (input.one_in(2)) {
      test::overwrite(blob, place, words[input.below(std::size(words))]);
    } else {
      blob[place + input.below(4)] = static_cast<std::byte>(input.below(256));
    }
  }
  // AddressSanitizer watches both ends.
  const std::vector<std::byte> copy(blob);
  DeviceTree tree;
  const bool is_read = tree.open(copy.data(), copy.size()).empty();
  const Answers found = ask(tree);
  if (!is_damaged) {
    EXPECT_TRUE(is_read);
    EXPECT_EQ(found.memory, expected.memory);
    EXPECT_EQ(found.reserved, expected.reserved);
    EXPECT_EQ(found.cpus, expected.cpus);
    EXPECT_EQ(found.nodes, expected.nodes);
    EXPECT_EQ(found.distances, expected.distances);
    EXPECT_EQ(found.bootargs, expected.bootargs);
    EXPECT_EQ(found.frequency, expected.frequency);
  }
  if (!is_read) {
    EXPECT_TRUE(found.memory.empty() && found.reserved.empty() && found.cpus.empty());
  }
}
