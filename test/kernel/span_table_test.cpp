// SPDX-License-Identifier: MIT
#include "slabmalloc/kernel/span_table.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

namespace slabmalloc::test {
namespace {

using Table = SpanTable<4096>;
using Span = Table::Span;
using Ranges = std::vector<std::pair<std::uintptr_t, std::uintptr_t>>;

/// A table over frames that no memory stands behind.
class SpanTableTest : public testing::Test {
 protected:
  Span* make(FrameRange range) {
    memory_.push_back(std::make_unique<std::byte[]>(Span::metadata_bytes(range)));
    return Span::create(memory_.back().get(), range);
  }
  /// The spans that `ranges` would make.
  static Ranges planned(const Table& table, const Ranges& ranges, Table::Plan& plan) {
    std::vector<MemoryRegion> regions;
    for (const auto& [first, end] : ranges) {
      regions.push_back({first * 4096, (end - first) * 4096});
    }
    const MemoryMap<4096> map(regions.data(), regions.size());
    plan = table.plan(map);
    Ranges result;
    table.plan(map, plan.bridged,
               [&](FrameRange range) { result.emplace_back(range.first, range.end); });
    EXPECT_EQ(plan.spans, result.size());
    return result;
  }

  Table table_;
  std::vector<std::unique_ptr<std::byte[]>> memory_;
};

TEST_F(SpanTableTest, finds_each_frame_in_whatever_order_spans_came) {
  std::vector<FrameRange> ranges = {{10, 20}, {20, 30}, {50, 51}, {900, 2000}};
  const auto is_lower = [](FrameRange a, FrameRange b) { return a.first < b.first; };
  do {
    Table table;
    for (const FrameRange range : ranges) {
      table.insert(make(range));
    }
    ASSERT_EQ(table.validate(), nullptr);
    EXPECT_EQ(table.room(), Table::maximum_spans - ranges.size());
    for (const FrameRange range : ranges) {
      for (const std::uintptr_t frame : {range.first, range.end - 1}) {
        ASSERT_NE(table.find(frame), nullptr);
        EXPECT_EQ(table.find(frame)->range().first, range.first);
      }
    }
    for (const std::uintptr_t frame : {9u, 30u, 49u, 51u, 899u, 2000u}) {
      EXPECT_EQ(table.find(frame), nullptr) << frame;
    }
    EXPECT_EQ(table.first_above(51)->range().first, 900u);
    EXPECT_EQ(table.first_above(2000), nullptr);
  } while (std::next_permutation(ranges.begin(), ranges.end(), is_lower));
}

TEST_F(SpanTableTest, spans_that_overlap_break_its_invariant) {
  table_.insert(make({10, 20}));
  table_.insert(make({19, 30}));
  EXPECT_STREQ(table_.validate(), "A1: spans are sorted by address and do not overlap");
}

TEST_F(SpanTableTest, the_smallest_block_that_will_do_serves_and_the_lowest_of_several) {
  EXPECT_EQ(table_.best_fit(0).span, nullptr);
  for (const FrameRange range : {FrameRange{64, 128}, {256, 260}, {512, 516}}) {
    table_.insert(make(range));
    table_.find(range.first)->fill(range);
  }
  EXPECT_EQ(table_.best_fit(1).span, table_.find(256));
  EXPECT_EQ(table_.best_fit(1).order, 2u);
  EXPECT_EQ(table_.best_fit(3).span, table_.find(64));
  EXPECT_EQ(table_.best_fit(7).span, nullptr);
}

TEST_F(SpanTableTest, new_memory_makes_spans_around_old_ones_and_over_small_holes) {
  table_.insert(make({1000, 1010}));
  Table::Plan plan;
  EXPECT_EQ(planned(table_, {{1, 100}, {100 + Table::bridged_frames, 500}, {900, 1100}}, plan),
            (Ranges{{1, 500}, {900, 1000}, {1010, 1100}}));
  EXPECT_EQ(plan.frames, 99u + (500 - 100 - Table::bridged_frames) + 100 + 90);
  EXPECT_EQ(plan.largest.first, 100u + Table::bridged_frames);
  EXPECT_EQ(planned(table_, {{1, 100}, {101 + Table::bridged_frames, 500}}, plan),
            (Ranges{{1, 100}, {101 + Table::bridged_frames, 500}}));
  EXPECT_EQ(planned(table_, {{1002, 1008}}, plan), Ranges{});
}

TEST_F(SpanTableTest, larger_holes_are_bridged_where_there_is_no_room_for_more_spans) {
  Ranges ranges;
  for (std::uintptr_t number = 0; number < 2 * Table::maximum_spans; ++number) {
    ranges.emplace_back(number * 1000 + 1, number * 1000 + 2);
  }
  Table::Plan plan;
  EXPECT_LE(planned(table_, ranges, plan).size(), table_.room());
  EXPECT_EQ(plan.frames, ranges.size());
  // Every second one is there already: no hole can be bridged over it.
  for (std::size_t number = 0; number < Table::maximum_spans; ++number) {
    table_.insert(make({ranges[2 * number].first, ranges[2 * number].second}));
  }
  EXPECT_EQ(planned(table_, ranges, plan).size(), Table::maximum_spans);
  EXPECT_EQ(table_.room(), 0u);
}

}  // namespace
}  // namespace slabmalloc::test
