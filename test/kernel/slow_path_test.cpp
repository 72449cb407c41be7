// SPDX-License-Identifier: MIT
#include "slabmalloc/kernel/slow_path.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernel/hosted_kernel.hpp"
#include "slabmalloc/kernel/kernel_config.hpp"
#include "support/frames.hpp"

namespace slabmalloc::test {
namespace {

struct ForAllConfig : KernelConfig {
  static constexpr bool reserved_frames_are_for_all = true;
};

/// Counts the looks of waits, on two nodes.
struct CountingKernel : OpenKernel {
  static inline std::size_t looks = 0;
  static void relax() noexcept { ++looks; }
  static std::uint32_t node(std::uint32_t cpu) noexcept { return cpu % 2; }
};

template <class Config, class Kernel = OpenKernel>
class SlowPathOf : public testing::Test {
 protected:
  using Parts = CpuParts<Kernel, Config>;
  using Memory = CpuMemory<Kernel, FrameSource, Config, PlainFrames>;

  void SetUp() override { HostedCpu::number = 0; }
  void TearDown() override {
    EXPECT_EQ(parts.validate(), nullptr);
    parts.drain_all();
    memory.release_all();
    EXPECT_EQ(pager.live_bytes(), 0u);
  }
  void* allocate(Context context) { return slow_path.allocate(small, context).value_or(nullptr); }
  /// Uses up all that lies in the heap.
  void use_up() {
    while (allocate(Context::Interrupt) != nullptr) {
    }
  }

  static constexpr std::size_t base_bytes = Memory::Caches::base_bytes;
  static constexpr std::uint32_t small = Parts::Zone::class_for(Layout::of<std::uint64_t[8]>());
  FrameSource pager;
  Parts parts;
  Memory memory{parts, pager, {}};
  SlowPath<Memory, Config> slow_path{parts, memory};
};
using SlowPathTest = SlowPathOf<KernelConfig>;
using SlowPathWithReserveForAll = SlowPathOf<ForAllConfig>;
using SlowPathWithNodes = SlowPathOf<KernelConfig, CountingKernel>;

TEST_F(SlowPathTest, searches_only_where_the_pager_has_nothing) {
  EXPECT_NE(allocate(Context::MayWait), nullptr);
  EXPECT_NE(allocate(Context::Interrupt), nullptr) << "what lies in the zone";
  pager.set_exhausted(true);
  use_up();
  EXPECT_EQ(slow_path.searches(), 0u);
  EXPECT_EQ(slow_path.failures(), 1u);
  EXPECT_EQ(allocate(Context::MayNotWait), nullptr);
  EXPECT_EQ(allocate(Context::MayWait), nullptr);
  EXPECT_EQ(slow_path.searches(), 2u);
  EXPECT_EQ(slow_path.failures(), 3u);
}

TEST_F(SlowPathTest, only_an_allocation_that_may_wait_reclaims_and_then_asks_the_pager_again) {
  pager.set_exhausted(true);
  slow_path.set_reclaim(
      [](void* argument, const ReclaimRequest&) noexcept {
        static_cast<FrameSource*>(argument)->set_exhausted(false);
        return true;
      },
      &pager);
  for (const Context context : {Context::Interrupt, Context::Emergency, Context::MayNotWait}) {
    EXPECT_EQ(allocate(context), nullptr);
  }
  EXPECT_NE(allocate(Context::MayWait), nullptr);
  EXPECT_EQ(slow_path.failures(), 3u);
}

/// Records the requests, and says that it freed something for the first `rounds` of them.
struct ReclaimRecord {
  std::vector<ReclaimRequest> requests;
  std::size_t rounds = ~std::size_t{0};

  static bool reclaim(void* self, const ReclaimRequest& request) noexcept {
    auto& record = *static_cast<ReclaimRecord*>(self);
    record.requests.push_back(request);
    return record.requests.size() <= record.rounds;
  }
};

TEST_F(SlowPathTest, asks_for_twice_as_much_while_memory_is_freed_and_at_last_for_all) {
  pager.set_exhausted(true);
  ReclaimRecord record;
  slow_path.set_reclaim(&ReclaimRecord::reclaim, &record);
  EXPECT_EQ(allocate(Context::MayWait), nullptr);
  ASSERT_EQ(record.requests.size(), 15u);
  EXPECT_EQ(record.requests.back().bytes, ReclaimRequest::everything);
  for (std::size_t round = 0; round < 14; ++round) {
    EXPECT_EQ(record.requests[round].bytes, (256 * kibibyte) << round);
    EXPECT_EQ(record.requests[round].block_bytes, base_bytes);
  }
  record = {{}, 3};
  EXPECT_EQ(allocate(Context::MayWait), nullptr);
  EXPECT_EQ(record.requests.size(), 4u) << "nothing was freed, so more requests free nothing";
}

TEST_F(SlowPathTest, a_run_asks_for_a_block_that_holds_it_aligned) {
  pager.set_exhausted(true);
  ReclaimRecord record{{}, 0};
  slow_path.set_reclaim(&ReclaimRecord::reclaim, &record);
  for (const auto& [size, alignment, block] :
       std::vector<std::array<std::size_t, 3>>{{100'000, 8, 128 * kibibyte},
                                               {128 * kibibyte, 8, 128 * kibibyte},
                                               {128 * kibibyte + 1, 8, 256 * kibibyte},
                                               {100'000, 2 * mebibyte, 2 * mebibyte},
                                               {3072 * mebibyte, 8, 4096 * mebibyte}}) {
    record.requests.clear();
    const Layout layout = Layout::from_size_align(size, alignment).value();
    EXPECT_FALSE(slow_path.allocate_run(layout, Context::MayWait));
    ASSERT_EQ(record.requests.size(), 1u);
    EXPECT_EQ(record.requests[0].block_bytes, block);
    EXPECT_EQ(record.requests[0].bytes, std::max(block, 256 * kibibyte));
  }
  record = {};
  EXPECT_FALSE(slow_path.allocate_run(Layout::from_size_align(3072 * mebibyte, 8).value(),
                                      Context::MayWait));
  ASSERT_EQ(record.requests.size(), 2u);
  EXPECT_TRUE(record.requests[1].is_last());
}

TEST_F(SlowPathTest, finds_what_others_freed_where_the_callback_found_nothing_to_free) {
  pager.set_exhausted(true);
  slow_path.set_reclaim(
      [](void* argument, const ReclaimRequest&) noexcept {
        static_cast<FrameSource*>(argument)->set_exhausted(false);
        return false;
      },
      &pager);
  EXPECT_NE(allocate(Context::MayWait), nullptr);
  pager.set_exhausted(true);
  const Layout large = Layout::from_size_align(100'000, 8).value();
  const Result<void*> run = slow_path.allocate_run(large, Context::MayWait);
  ASSERT_TRUE(run);
  memory.runs().deallocate(run.value(), large, Context::MayWait);
}

TEST_F(SlowPathTest, memory_of_others_is_not_reclaimed_again_against_the_own_limit) {
  memory.frames().account().set_limit(base_bytes - 1, nullptr, nullptr);
  ReclaimRecord record;
  slow_path.set_reclaim(&ReclaimRecord::reclaim, &record);
  EXPECT_EQ(allocate(Context::MayWait), nullptr);
  EXPECT_EQ(record.requests.size(), 1u);
  EXPECT_FALSE(
      slow_path.allocate_run(Layout::from_size_align(100'000, 8).value(), Context::MayWait));
  EXPECT_EQ(record.requests.size(), 2u);
}

TEST_F(SlowPathTest, reserved_frames_come_before_reserved_objects) {
  parts.enter()->reserve.want(small, 1);
  ASSERT_TRUE(memory.fill_object_reserve(small, Context::MayWait));
  ASSERT_TRUE(memory.reserve_frames(base_bytes, 1, Context::MayWait));
  pager.set_exhausted(true);
  memory.give_back(0);
  while (parts.enter()->zone.allocate_again(small) != nullptr) {
  }
  EXPECT_NE(allocate(Context::Emergency), nullptr);
  EXPECT_EQ(memory.reserve().bytes(), 0u);
  EXPECT_EQ(parts[0].reserve.size(small), 1u);
  while (parts.enter()->zone.allocate_again(small) != nullptr) {
  }
  EXPECT_NE(allocate(Context::Interrupt), nullptr);
  EXPECT_EQ(parts[0].reserve.size(small), 0u);
  EXPECT_EQ(allocate(Context::Emergency), nullptr);
}

TEST_F(SlowPathWithReserveForAll, every_context_ends_with_the_reserved_frames) {
  for (const Context context : {Context::MayWait, Context::MayNotWait, Context::Interrupt}) {
    pager.set_exhausted(false);
    ASSERT_TRUE(memory.reserve_frames(base_bytes, 1, Context::MayWait));
    pager.set_exhausted(true);
    while (parts.enter()->zone.allocate_again(small) != nullptr) {
    }
    EXPECT_NE(allocate(context), nullptr);
    EXPECT_EQ(memory.reserve().bytes(), 0u);
  }
}

TEST_F(SlowPathWithNodes, a_handler_waits_once_for_a_cpu_that_has_its_part) {
  ASSERT_NE(allocate(Context::MayWait), nullptr);
  ASSERT_TRUE(memory.reserve_frames(base_bytes, 1, Context::MayWait));
  ASSERT_TRUE(parts.offer());
  PartOwner<HardwareAtomics>& owner = parts.begin()->owner;
  ASSERT_TRUE(owner.begin_step());
  CountingKernel::looks = 0;
  EXPECT_EQ(allocate(Context::Emergency), nullptr);
  EXPECT_EQ(CountingKernel::looks, bounded_looks);
  owner.end_step();
}

TEST_F(SlowPathTest, runs_are_searched_for_too) {
  const Layout large = Layout::from_size_align(100'000, 8).value();
  void* run = slow_path.allocate_run(large, Context::MayNotWait).value_or(nullptr);
  ASSERT_NE(run, nullptr);
  pager.set_limit(100'000);
  for (const Context context : {Context::MayWait, Context::MayNotWait}) {
    memory.runs().deallocate(run, large, Context::Interrupt);
    run = slow_path.allocate_run(large, context).value_or(nullptr);
    ASSERT_NE(run, nullptr) << "the deferred run went back to the pager";
  }
  EXPECT_EQ(slow_path.searches(), 2u);
  EXPECT_EQ(slow_path.allocate_run(large, Context::Emergency).error(),
            AllocationError::OutOfMemory);
  EXPECT_EQ(slow_path.failures(), 1u);
  memory.runs().deallocate(run, large, Context::MayWait);
}

TEST_F(SlowPathTest, does_what_waits_in_turns_until_nothing_is_left) {
  const Layout large = Layout::from_size_align(100'000, 8).value();
  for (int count = 0; count < 3; ++count) {
    memory.runs().deallocate(slow_path.allocate_run(large, Context::MayWait).value(), large,
                             Context::Interrupt);
  }
  parts.drain_later();
  EXPECT_EQ(allocate(Context::Interrupt), nullptr) << "nothing lies in the heap";
  EXPECT_TRUE(memory.runs().has_deferred()) << "a handler does nothing of it";
  slow_path.run_deferred();
  EXPECT_FALSE(memory.runs().has_deferred());
  EXPECT_FALSE(parts[0].drain.is_under_way());
}

}  // namespace
}  // namespace slabmalloc::test
