// SPDX-License-Identifier: MIT
#include "slabmalloc/kernel/cpu_part.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernel/hosted_kernel.hpp"
#include "slabmalloc/kernel/kernel_config.hpp"
#include "support/frames.hpp"

namespace slabmalloc::test {
namespace {

/// A zone with so many queued pages, and empty pages of some classes.
struct DrainedZone {
  static constexpr std::uint32_t class_count = 10;

  bool has_remote_frees() const { return queued_pages != 0; }
  void drain_some(std::uint32_t pages) {
    EXPECT_NE(pages, 0u);
    queued_pages -= pages < queued_pages ? pages : queued_pages;
  }
  bool has_empty_page(std::uint32_t index) const { return has_empty[index]; }
  void trim_class(std::uint32_t index) {
    EXPECT_TRUE(has_empty[index]);
    has_empty[index] = false;
    trimmed.push_back(index);
  }

  std::uint32_t queued_pages = 0;
  bool has_empty[class_count] = {};
  std::vector<std::uint32_t> trimmed;
};
using Drain = ZoneDrain<DrainedZone, HardwareAtomics>;

TEST(ZoneDrain, goes_through_queued_pages_and_then_all_classes) {
  DrainedZone zone;
  zone.queued_pages = 5;
  zone.has_empty[2] = zone.has_empty[9] = true;
  Drain drain;
  EXPECT_FALSE(drain.is_under_way());
  drain.want();
  EXPECT_TRUE(drain.is_under_way());
  std::vector<std::uint32_t> queued;
  int steps = 1;
  for (; drain.step(zone, 2); ++steps) {
    queued.push_back(zone.queued_pages);
    EXPECT_TRUE(drain.is_under_way());
    EXPECT_EQ(drain.validate(), nullptr);
  }
  EXPECT_EQ(queued, (std::vector{3u, 1u, 0u, 0u, 0u, 0u}));
  EXPECT_EQ(steps, 7) << "three of pages, then classes up to 2, 5, 8, 9";
  EXPECT_EQ(zone.trimmed, (std::vector{2u, 9u}));
  EXPECT_FALSE(drain.is_under_way());
}

TEST(ZoneDrain, goes_round_again_for_what_came_meanwhile) {
  DrainedZone zone;
  Drain drain;
  drain.want();
  while (drain.step(zone, 0)) {
    zone.queued_pages = 1;
  }
  EXPECT_TRUE(drain.is_under_way()) << "the round took in no pages";
  drain.begin_anew();
  while (drain.step(zone, 1)) {
  }
  EXPECT_FALSE(drain.is_under_way());
}

TEST(ZoneDrain, of_a_search_ends_its_round_whatever_others_free) {
  DrainedZone zone;
  zone.has_empty[7] = true;
  Drain drain;
  int steps = 1;
  do {
    zone.queued_pages = 3;
    ++steps;
  } while (drain.step_of_search(zone) && steps < 100);
  EXPECT_EQ(zone.trimmed, std::vector{7u});
  EXPECT_LE(steps, 9) << "four steps of classes, each after one of pages";
}

class CpuPartTest : public testing::Test {
 protected:
  using Part = CpuPart<SingleKernel, KernelConfig>;
  using Turn = Part::Turn;

  CpuPartTest() { part.pager.attach(&part, 0); }
  ~CpuPartTest() override {
    part.zone.release_all(
        [&](void* frame, std::size_t bytes) noexcept { frames.deallocate_frame(frame, bytes); });
  }
  void add_frame() { part.frame_cache.push(frames.frame(base_bytes), base_bytes); }

  static constexpr std::size_t base_bytes = Part::Caches::base_bytes;
  static constexpr std::uint32_t index = Part::Zone::class_for(Layout::of<std::uint64_t[8]>());
  FrameSource frames;
  Part part;
};

TEST_F(CpuPartTest, has_what_waits_done_by_turns) {
  std::vector<Turn> turns;
  for (int count = 0; count < 8; ++count) {
    turns.push_back(part.next_turn());
  }
  const std::vector expected = {Turn::Reserve, Turn::Runs, Turn::Drain, Turn::Excess};
  EXPECT_EQ(std::vector(turns.begin(), turns.begin() + 4), expected);
  EXPECT_EQ(std::vector(turns.begin() + 4, turns.end()), expected);
}

TEST_F(CpuPartTest, fills_its_reserve_first_or_drains_first) {
  add_frame();
  EXPECT_FALSE(part.run_deferred(Turn::Reserve, 1)) << "nothing waits";
  part.reserve.want(index, 2);
  part.drain.want();
  EXPECT_TRUE(part.run_deferred(Turn::Drain, 1));
  EXPECT_EQ(part.reserve.size(index), 0u);
  EXPECT_TRUE(part.run_deferred(Turn::Reserve, 1));
  EXPECT_EQ(part.reserve.size(index), 2u);
  EXPECT_TRUE(part.drain.is_under_way());
  while (part.run_deferred(Turn::Reserve, 1)) {
  }
  EXPECT_FALSE(part.drain.is_under_way());
  EXPECT_EQ(part.validate(), nullptr);
}

TEST_F(CpuPartTest, drains_where_its_reserve_cannot_be_filled) {
  part.reserve.want(index, 1);
  part.drain.want();
  EXPECT_TRUE(part.run_deferred(Turn::Reserve, 1));
  EXPECT_TRUE(part.reserve.has_work());
  while (part.run_deferred(Turn::Reserve, 1)) {
  }
  EXPECT_FALSE(part.drain.is_under_way());
}

TEST_F(CpuPartTest, gives_back_in_every_second_step_of_a_search_while_runs_wait) {
  EXPECT_TRUE(part.search_gives_back(true));
  for (int step = 0; step < 100; ++step) {
    EXPECT_FALSE(part.search_gives_back(true) && part.search_gives_back(true));
  }
  int steps = 0;
  while (!part.search_gives_back(false)) {
    ASSERT_LT(++steps, 100) << "a round ends";
  }
  EXPECT_FALSE(part.search_gives_back(false)) << "another round";
}

TEST_F(CpuPartTest, a_frame_that_was_handed_over_serves_before_its_cache_and_the_reserve_after) {
  FrameCachePager<SingleKernel, KernelConfig>::Reserve reserve;
  reserve.want(base_bytes, 1);
  void* const reserved = frames.frame(base_bytes);
  ASSERT_TRUE(reserve.refill(reserved, base_bytes));
  void* const cached = frames.frame(base_bytes);
  part.frame_cache.push(cached, base_bytes);
  void* const handed = frames.frame(base_bytes);
  part.pager.hand(handed);
  EXPECT_EQ(part.pager.allocate_frame(base_bytes).address, handed);
  EXPECT_EQ(part.pager.take_back(), nullptr);
  EXPECT_EQ(part.pager.allocate_frame(base_bytes).address, cached);
  EXPECT_EQ(part.pager.allocate_frame(base_bytes).address, nullptr);
  part.pager.use_reserve(&reserve);
  EXPECT_EQ(part.pager.allocate_frame(base_bytes).address, reserved);
  part.pager.use_reserve(nullptr);
}

}  // namespace
}  // namespace slabmalloc::test
