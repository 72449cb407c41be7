// SPDX-License-Identifier: MIT
#include "slabmalloc/kernel/node_frames.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "kernel/frame_fixture.hpp"
#include "kernel/node_fixture.hpp"
#include "support/misuse_recorder.hpp"
#include "support/random.hpp"
#include "support/run_threads.hpp"

namespace slabmalloc::test {
namespace {

struct ThreeNodes : NodeOptions {
  static constexpr std::uint32_t nodes = 3;
  static constexpr std::uint32_t limits = 2;
};
using Three = NodeFrames<NodeKernel, ThreeNodes, 256>;
static_assert(FindingPager<Three> && FindingPager<ChosenFrames<Three>>);

constinit Three made_by_the_compiler;

TEST(NodeFrames, an_order_is_sound_if_it_has_each_bank_once) {
  int sound = 0;
  for (std::uint32_t number = 0; number < 4 * 4 * 4 * 5; ++number) {
    const std::uint16_t order[] = {
        static_cast<std::uint16_t>(number % 4), static_cast<std::uint16_t>(number / 4 % 4),
        static_cast<std::uint16_t>(number / 16 % 4), static_cast<std::uint16_t>(number / 64)};
    const std::set<std::uint16_t> banks(std::begin(order), std::end(order));
    const bool expected = banks.size() == 4 && *banks.rbegin() < 4;
    EXPECT_EQ(has_each_once(order), expected) << number;
    sound += expected ? 1 : 0;
  }
  EXPECT_EQ(sound, 24);
  std::uint16_t many[100] = {};
  for (std::uint16_t bank = 0; bank < 100; ++bank) {
    many[bank] = static_cast<std::uint16_t>(99 - bank);
  }
  EXPECT_TRUE(has_each_once(many));
  many[10] = many[74];
  EXPECT_FALSE(has_each_once(many));
}

TEST(NodeFrames, have_nothing_at_first) {
  EXPECT_EQ(made_by_the_compiler.allocate_frame(256).address, nullptr);
  EXPECT_EQ(made_by_the_compiler.validate(), nullptr);
}

/// All sequences of three calls with any stretch of five addresses and any node.
TEST(NodeFrames, every_sequence_of_told_nodes_agrees_with_a_record_of_each_byte) {
  constexpr std::size_t bytes = 4;
  constexpr std::uint32_t untold = 9;
  struct Step {
    std::size_t first, end;
    std::uint32_t node;
  };
  std::vector<Step> steps;
  for (std::size_t first = 0; first <= bytes; ++first) {
    for (std::size_t end = first; end <= bytes; ++end) {
      for (std::uint32_t node = 0; node < 3; ++node) {
        steps.push_back({first, end, node});
      }
    }
  }
  const auto frames = std::make_unique<Three>();
  for (const Step& one : steps) {
    for (const Step& two : steps) {
      for (const Step& three : steps) {
        std::destroy_at(frames.get());
        std::construct_at(frames.get());
        std::array<std::uint32_t, bytes> model;
        model.fill(untold);
        for (const Step& step : {one, two, three}) {
          bool is_possible = true;
          for (std::size_t at = step.first; at < step.end; ++at) {
            is_possible = is_possible && (model[at] == untold || model[at] == step.node);
          }
          const auto told = frames->set_node({100 + step.first, step.end - step.first}, step.node);
          ASSERT_EQ(static_cast<bool>(told), is_possible);
          for (std::size_t at = step.first; is_possible && at < step.end; ++at) {
            model[at] = step.node;
          }
        }
        ASSERT_EQ(frames->validate(), nullptr);
        for (std::size_t at = 0; at < bytes; ++at) {
          ASSERT_EQ(frames->node_at(reinterpret_cast<void*>(100 + at)),
                    model[at] == untold ? 0 : model[at]);
        }
      }
    }
  }
}

struct FewRanges : ThreeNodes {
  static constexpr std::uint32_t ranges = 2;
};

TEST(NodeFrames, refuse_more_ranges_than_there_is_room_for) {
  NodeFrames<NodeKernel, FewRanges, 256> frames;
  EXPECT_TRUE(frames.set_node({0x1000, 0x1000}, 1));
  EXPECT_TRUE(frames.set_node({0x4000, 0x1000}, 1));
  EXPECT_FALSE(frames.set_node({0x6000, 0x1000}, 1));
  EXPECT_TRUE(frames.set_node({0x2000, 0x2000}, 1)) << "joins both";
  EXPECT_TRUE(frames.set_node({0x6000, 0x1000}, 2));
  EXPECT_FALSE(frames.set_node({0x8000, 0x1000}, 3)) << "no such node";
}

/// A machine of three nodes: each has memory in each of three bands, in stretches by turns.
class ThreeNodesTest : public testing::Test {
 protected:
  static constexpr std::size_t stretch = 64 * 256;
  static constexpr std::uint32_t nodes = 3, bands = 3;

  ThreeNodesTest() {
    frames_.set_limit(0, address(nodes * stretch), LowMemory::Last);
    frames_.set_limit(1, address(2 * nodes * stretch), LowMemory::Shared);
    model_.is_last = {true, false, false};
    for (std::uint32_t part = 0; part < nodes * bands; ++part) {
      EXPECT_TRUE(frames_.set_node(memory_.region(part * stretch, stretch), part % nodes));
    }
  }
  void SetUp() override { HostedCpu::number = 0; }
  void TearDown() override {
    HostedCpu::number = 0;
    EXPECT_EQ(frames_.validate(), nullptr);
  }
  std::uintptr_t address(std::size_t offset) const {
    return reinterpret_cast<std::uintptr_t>(memory_.at(offset));
  }
  void add_all() {
    const MemoryRegion region = memory_.region(0, nodes * bands * stretch);
    EXPECT_TRUE(frames_.add(&region, 1));
  }
  using BankName = OrderModel<nodes, bands>::BankName;
  BankName bank_of(const void* frame) const {
    const auto part = static_cast<std::uint32_t>(memory_.offset_of(frame) / stretch);
    return {part % nodes, part / nodes};
  }

  MisuseRecorder misuse_;
  PhysicalMemory memory_{nodes * bands * stretch, 2 * mebibyte};
  OrderModel<nodes, bands> model_;
  Three frames_;
};

TEST_F(ThreeNodesTest, an_early_memory_is_handed_over_to_all_banks) {
  EarlyMemory<> early;
  ASSERT_TRUE(early.add(memory_.region(0, nodes * bands * stretch)));
  ASSERT_TRUE(early.reserve(memory_.region(stretch / 2, stretch)));
  ASSERT_TRUE(early.hand_over(frames_));
  std::size_t sum = 0;
  for (std::uint32_t node = 0; node < nodes; ++node) {
    const std::size_t missing = node < 2 ? stretch / 2 : 0;
    EXPECT_EQ(frames_.statistics(node).managed_bytes, bands * stretch - missing);
    sum += frames_.statistics(node).managed_bytes;
  }
  EXPECT_EQ(frames_.statistics().managed_bytes, sum);
}

TEST_F(ThreeNodesTest, memory_too_little_for_its_meta_data_stays_out) {
  const MemoryRegion regions[] = {memory_.region(0, 256), memory_.region(stretch, stretch)};
  EXPECT_FALSE(frames_.add(regions, 1));
  EXPECT_TRUE(frames_.add(regions, 2));
  EXPECT_FALSE(frames_.owns(memory_.at(0)));
  EXPECT_TRUE(frames_.owns(memory_.at(stretch)));
}

TEST_F(ThreeNodesTest, allocate_by_the_order_of_the_node_for_all_distances) {
  Random random;
  add_all();
  for (int round = 0; round < 50; ++round) {
    for (std::uint32_t from = 0; from < nodes; ++from) {
      for (std::uint32_t to = 0; to < nodes; ++to) {
        model_.distances[from][to] = 10 + random.below(3);
        frames_.set_distance(from, to, static_cast<std::uint8_t>(model_.distances[from][to]));
      }
    }
    for (std::uint32_t limit = 0; limit < 2; ++limit) {
      model_.is_last[limit] = random.one_in(2);
      frames_.set_limit(limit, address((limit + 1) * nodes * stretch),
                        model_.is_last[limit] ? LowMemory::Last : LowMemory::Shared);
    }
    for (std::uint32_t node = 0; node < nodes; ++node) {
      HostedCpu::number = node * NodeKernel::cpus_of_node + random.below(2);
      std::vector<BankName> found;
      std::vector<std::byte*> all;
      while (void* const frame = frames_.allocate_frame(256).address) {
        if (found.empty() || found.back() != bank_of(frame)) {
          found.push_back(bank_of(frame));
        }
        all.push_back(static_cast<std::byte*>(frame));
      }
      ASSERT_EQ(found, model_.order(node));
      HostedCpu::number = random.below(6);
      for (std::byte* const frame : all) {
        frames_.deallocate_frame(frame, 256);
      }
    }
  }
  for (std::uint32_t node = 0; node < nodes; ++node) {
    EXPECT_EQ(frames_.statistics(node).used_bytes, 0u) << "frees go home";
  }
}

/// Random choices, from any CPU, freed on any other.
TEST_F(ThreeNodesTest, each_choice_gets_the_first_bank_that_has_memory) {
  Random random;
  add_all();
  std::map<std::byte*, std::size_t> runs;
  std::array<std::size_t, nodes> local{}, remote{};
  const auto free_one = [&] {
    const auto run =
        std::next(runs.begin(), static_cast<std::ptrdiff_t>(random.below(runs.size())));
    EXPECT_TRUE(frames_.deallocate_run(run->first, run->second, 1));
    runs.erase(run);
  };
  for (int step = 0; step < 4000; ++step) {
    HostedCpu::number = random.below(6);
    if (!runs.empty() && random.one_in(step / 300 % 2 == 0 ? 4 : 2)) {
      free_one();
      continue;
    }
    NodeChoice choice;
    choice.node = random.one_in(2) ? NodeChoice::here : random.below(nodes);
    choice.only = random.one_in(4);
    std::uint32_t end_of_bands = bands;
    if (random.one_in(2)) {
      const std::size_t limit = random.below(3 * nodes * stretch + 1);
      choice.below = address(limit);
      end_of_bands =
          static_cast<std::uint32_t>(std::min<std::size_t>(limit / (nodes * stretch), bands - 1));
    }
    const std::size_t bytes = random.between(1, 12 * 256);
    auto* const run = static_cast<std::byte*>(frames_.allocate_run(bytes, 1, choice).address);
    const std::uint32_t here = HostedCpu::number / NodeKernel::cpus_of_node;
    const std::uint32_t from = choice.node == NodeChoice::here ? here : choice.node;
    for (const auto& [node, band] : model_.order(from)) {
      if (band >= end_of_bands || (choice.only && node != from)) {
        ASSERT_TRUE(run == nullptr || bank_of(run) != BankName(node, band)) << "not chosen";
        continue;
      }
      if (run != nullptr && bank_of(run) == BankName(node, band)) {
        ASSERT_LE(reinterpret_cast<std::uintptr_t>(run) + bytes, choice.below);
        break;
      }
      auto& bank = frames_.frames_at(memory_.at((band * nodes + node) * stretch));
      ASSERT_EQ(bank.allocate_run(bytes, 1).address, nullptr) << "it came first";
    }
    if (run != nullptr) {
      runs.emplace(run, bytes);
      ++(bank_of(run).first == here ? local : remote)[bank_of(run).first];
    }
    for (std::uint32_t node = 0; node < nodes; ++node) {
      const NodeStatistics statistics = frames_.statistics(node);
      ASSERT_EQ(statistics.local_allocations, local[node]);
      ASSERT_EQ(statistics.remote_allocations, remote[node]);
      ASSERT_EQ(statistics.allocations, local[node] + remote[node]);
    }
  }
  while (!runs.empty()) {
    free_one();
  }
  EXPECT_EQ(frames_.statistics().used_bytes, 0u);
}

TEST_F(ThreeNodesTest, a_bad_free_is_reported_by_its_bank) {
  add_all();
  void* const frame = frames_.allocate_frame(256).address;
  EXPECT_EQ(frames_.block_at(frame).use, PagerUse::Frame);
  frames_.deallocate_frame(frame, 256);
  frames_.deallocate_frame(frame, 256);
  EXPECT_EQ(misuse_.take_kinds(), std::vector{MisuseKind::DoubleFree});
  EXPECT_FALSE(frames_.owns(&memory_));
  frames_.deallocate_frame(&misuse_, 256);
  EXPECT_EQ(misuse_.take_kinds(), std::vector{MisuseKind::ForeignPointer});
}

TEST_F(ThreeNodesTest, a_batch_of_frames_may_come_from_several_banks) {
  add_all();
  const std::size_t count = frames_.statistics().free_bytes / 256;
  std::vector<void*> all(count + 5);
  EXPECT_EQ(frames_.allocate_frames(256, all.data(), all.size()), count);
  EXPECT_EQ(frames_.statistics(0).local_allocations, frames_.statistics(0).allocations);
  EXPECT_EQ(frames_.statistics(2).remote_allocations, frames_.statistics(2).allocations);
  EXPECT_EQ(frames_.statistics().allocations, count);
  for (std::size_t index = 0; index < count; ++index) {
    frames_.deallocate_frame(all[index], 256);
  }
}

// ---- heaps over two nodes -----------------------------------------------------------------------

struct TwoNodes : NodeOptions {
  static constexpr std::uint32_t nodes = 2;
  static constexpr std::uint32_t limits = 1;
  static constexpr bool has_owners = true;
};
using Two = NodeFrames<NodeKernel, TwoNodes>;

class NodeHeapTest : public testing::Test {
 protected:
  /// Node 0: 1 MiB below the limit and 4 above; node 1: 4 MiB.
  NodeHeapTest() {
    frames_.set_limit(0, limit(), LowMemory::Last);
    EXPECT_TRUE(frames_.set_node(memory_.region(5 * mebibyte, 4 * mebibyte), 1));
    const MemoryRegion region = memory_.region(0, 9 * mebibyte);
    EXPECT_TRUE(frames_.add(&region, 1));
  }
  void TearDown() override {
    HostedCpu::number = 0;
    EXPECT_EQ(frames_.validate(), nullptr);
  }
  std::uintptr_t limit() const { return reinterpret_cast<std::uintptr_t>(memory_.at(mebibyte)); }
  static constexpr Layout layout = Layout::from_size_align(256, 8).value();

  MisuseRecorder misuse_;
  PhysicalMemory memory_{9 * mebibyte};
  Two frames_;
};

struct TaggedConfig : KernelConfig {
  static constexpr std::uint32_t tags = 2;
};

TEST_F(NodeHeapTest, tags_of_runs_are_kept_by_the_banks) {
  ChosenFrames low(frames_, NodeChoice{.below = limit()});
  CpuZones<NodeKernel, Two, TaggedConfig> heap(frames_);
  CpuZones<NodeKernel, ChosenFrames<Two>, TaggedConfig> low_heap(low);
  constexpr Layout run = Layout::from_size_align(20'000, 8).value();
  for (HostedCpu::number = 0; HostedCpu::number < 4; ++HostedCpu::number) {
    void* const block = heap.allocate(run, Context::MayWait, 1).value_or(nullptr);
    void* const low_block = low_heap.allocate(run, Context::MayWait, 1).value_or(nullptr);
    EXPECT_NE(frames_.owner(block), 0u);
    EXPECT_NE(low.owner(low_block), frames_.owner(block));
    EXPECT_EQ(heap.tag_statistics(1).bytes, 20'480u);
    EXPECT_EQ(low_heap.tag_statistics(1).bytes, 20'480u);
    heap.deallocate(block, run);
    low_heap.deallocate(low_block);
    EXPECT_EQ(heap.tag_statistics(1).bytes, 0u);
    EXPECT_EQ(low_heap.tag_statistics(1).bytes, 0u);
  }
}

TEST_F(NodeHeapTest, each_cpu_gets_memory_of_its_node_and_then_of_the_other) {
  CpuZones<NodeKernel, Two> heap(frames_);
  std::map<void*, std::uint32_t> objects;
  bool is_remote = false;
  // Node 1 alone is used up, then the rest.
  HostedCpu::number = 2;
  while (void* const object = heap.allocate(layout).value_or(nullptr)) {
    const std::uint32_t node = frames_.node_at(object);
    is_remote = is_remote || node == 0;
    EXPECT_FALSE(node == 0 && frames_.statistics(1).free_bytes >= 4096) << "some was nearer";
    objects.emplace(object, node);
  }
  EXPECT_TRUE(is_remote);
  EXPECT_EQ(frames_.statistics(1).remote_allocations, 0u);
  EXPECT_EQ(frames_.statistics(0).local_allocations, 0u);
  // Another CPU frees everything, and all of it goes home.
  HostedCpu::number = 0;
  for (const auto& [object, node] : objects) {
    heap.deallocate(object, layout);
  }
  for (int round = 0; round < 2; ++round) {
    for (HostedCpu::number = 0; HostedCpu::number < 4; ++HostedCpu::number) {
      heap.run_deferred();
      EXPECT_TRUE(heap.drain_this_cpu());
    }
  }
  HostedCpu::number = 0;
  heap.give_back();
  EXPECT_EQ(frames_.statistics(0).used_bytes, 0u);
  EXPECT_EQ(frames_.statistics(1).used_bytes, 0u);
}

TEST_F(NodeHeapTest, a_cpu_leaves_the_frame_caches_of_the_other_node_alone) {
  CpuZones<NodeKernel, Two> heap(frames_);
  void* const first = heap.allocate(layout).value();
  heap.deallocate(first, layout);
  EXPECT_TRUE(heap.drain_this_cpu());
  ASSERT_NE(heap.statistics().cached_frame_bytes, 0u) << "node 0 has an empty frame";
  HostedCpu::number = 2;
  EXPECT_EQ(frames_.node_at(heap.allocate(layout).value()), 1u);
  HostedCpu::number = 1;
  const std::size_t before = frames_.statistics().allocations;
  EXPECT_EQ(frames_.node_at(heap.allocate(layout).value()), 0u);
  EXPECT_EQ(frames_.statistics().allocations, before) << "it came from CPU 0, on its own node";
  heap.release_all();
}

TEST_F(NodeHeapTest, frame_caches_of_the_other_node_are_the_last_resort_of_each_context) {
  CpuZones<NodeKernel, Two> heap(frames_);
  for (const Context context : {Context::Interrupt, Context::MayNotWait, Context::MayWait}) {
    HostedCpu::number = 0;
    void* const first = heap.allocate(layout).value();
    while (frames_.allocate_frame(4096).address != nullptr) {
    }
    heap.deallocate(first, layout);
    EXPECT_TRUE(heap.drain_this_cpu());
    ASSERT_NE(heap.statistics().cached_frame_bytes, 0u) << "node 0 has an empty frame";
    HostedCpu::number = 2;
    void* object = nullptr;
    for (int call = 0; object == nullptr && call < 100; ++call) {
      object = heap.allocate(layout, context).value_or(nullptr);
    }
    ASSERT_NE(object, nullptr) << static_cast<int>(context);
    heap.deallocate(object, layout);
    heap.release_all();
    // What the test itself took.
    std::vector<void*> all;
    frames_.for_each_block([&](void* address, std::size_t bytes, FrameUse use) {
      if (use == FrameUse::Allocated && bytes == 4096) {
        all.push_back(address);
      }
    });
    for (void* const frame : all) {
      frames_.deallocate_frame(frame, 4096);
    }
  }
}

/// CPUs of both nodes use both up together, and free what others have allocated.
TEST_F(NodeHeapTest, cpus_of_all_nodes_share_the_memory_and_the_accounts_stay_exact) {
  constexpr std::size_t cpus = 4;
  std::array<std::vector<void*>, cpus> all;
  run_threads(cpus, [&](std::size_t cpu) {
    HostedCpu::number = static_cast<std::uint32_t>(cpu);
    while (void* const frame = frames_.allocate_frame(4096).address) {
      *static_cast<std::size_t*>(frame) = cpu;
      all[cpu].push_back(frame);
    }
  });
  EXPECT_EQ(frames_.statistics().free_bytes, 0u);
  run_threads(cpus, [&](std::size_t cpu) {
    const std::size_t other = (cpu + 2) % cpus;
    for (void* const frame : all[other]) {
      EXPECT_EQ(*static_cast<std::size_t*>(frame), other);
      frames_.deallocate_frame(frame, 4096);
    }
  });
  for (const std::uint32_t node : {0u, 1u}) {
    const NodeStatistics statistics = frames_.statistics(node);
    EXPECT_EQ(statistics.used_bytes, 0u);
    EXPECT_EQ(statistics.local_allocations + statistics.remote_allocations, statistics.allocations);
    EXPECT_EQ(statistics.allocations, statistics.frees);
  }
}

TEST_F(NodeHeapTest, memory_below_a_limit_is_for_those_who_ask_for_it) {
  ChosenFrames low(frames_, {.below = reinterpret_cast<std::uintptr_t>(memory_.at(mebibyte))});
  ObjectCache<std::uint64_t, NodeKernel, ChosenFrames<Two>> descriptors("descriptor", low);
  HostedCpu::number = 3;
  std::uint64_t* const one = descriptors.allocate();
  EXPECT_LT(reinterpret_cast<std::byte*>(one), memory_.at(mebibyte));
  descriptors.deallocate(one);
  EXPECT_EQ(descriptors.destroy(), 0u);
  EXPECT_EQ(frames_.statistics().used_bytes, 0u);
}

}  // namespace
}  // namespace slabmalloc::test
