// SPDX-License-Identifier: MIT
#include "slabmalloc/kernel/span_table.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "kernel/frame_model.hpp"
#include "support/random.hpp"

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
  static Ranges planned(const Table& table, const Ranges& ranges) {
    std::vector<MemoryRegion> regions;
    for (const auto& [first, end] : ranges) {
      regions.push_back({first * 4096, (end - first) * 4096});
    }
    const MemoryMap<4096> map(regions.data(), regions.size());
    Ranges result;
    table.plan(map, [&](const Table::NewSpan& span) {
      result.emplace_back(span.range.first, span.range.end);
      EXPECT_LE(Span::metadata_bytes(span.range), span.largest.frames() * 4096);
    });
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
    std::vector<std::uintptr_t> cleared;
    table.clear([&](Span* span) {
      cleared.push_back(span->range().first);
      std::memset(static_cast<void*>(span), 0xA5, sizeof *span);  // nothing reads it any more
    });
    std::sort(cleared.begin(), cleared.end());
    EXPECT_EQ(cleared, (std::vector<std::uintptr_t>{10, 20, 50, 900}));
    EXPECT_EQ(table.first_above(0), nullptr);
    EXPECT_EQ(table.validate(), nullptr);
  } while (std::next_permutation(ranges.begin(), ranges.end(), is_lower));
}

TEST_F(SpanTableTest, spans_that_overlap_break_its_invariant) {
  table_.insert(make({10, 20}));
  table_.insert(make({19, 30}));
  EXPECT_STREQ(table_.validate(), "A1: spans are sorted by address and do not overlap");
}

TEST_F(SpanTableTest, the_smallest_block_that_will_do_serves_and_the_lowest_of_several) {
  EXPECT_EQ(table_.allocate(0, 1), 0u);
  for (const FrameRange range : {FrameRange{64, 128}, {256, 260}, {512, 516}}) {
    table_.insert(make(range));
    table_.fill(range);
  }
  EXPECT_EQ(table_.allocate(1, 2), 256u);
  EXPECT_EQ(table_.allocate(3, 8), 64u);
  EXPECT_EQ(table_.allocate(7, 100), 0u);
  EXPECT_EQ(table_.allocate(2, 4), 512u);
  EXPECT_EQ(table_.validate(), nullptr);
}

TEST_F(SpanTableTest, new_memory_makes_spans_around_old_ones_and_over_small_holes) {
  table_.insert(make({1000, 1010}));
  EXPECT_EQ(planned(table_, {{1, 100}, {100 + Table::bridged_frames, 500}, {900, 1100}}),
            (Ranges{{1, 500}, {900, 1000}, {1010, 1100}}));
  EXPECT_EQ(planned(table_, {{1, 100}, {101 + Table::bridged_frames, 500}}),
            (Ranges{{1, 100}, {101 + Table::bridged_frames, 500}}));
  EXPECT_EQ(planned(table_, {{1002, 1008}}), Ranges{});
}

TEST_F(SpanTableTest, a_span_is_no_larger_than_one_of_its_ranges_has_meta_data_for) {
  Ranges ranges;
  for (std::uintptr_t number = 0; number < 100; ++number) {
    ranges.emplace_back(number * 250 + 1, number * 250 + 2);
  }
  const Ranges spans = planned(table_, ranges);
  EXPECT_GT(spans.size(), 5u);
  EXPECT_LT(spans.size(), 20u);
}

/// A model that examines every frame of a table of many spans, joined or apart.
class ManySpans : public SpanTableTest {
 protected:
  static constexpr std::uintptr_t frames = 900;

  /// Spans of random lengths, in random order, some of them joined.
  void make_spans(Random& random) {
    std::vector<FrameRange> ranges;
    for (std::uintptr_t first = 1 + random.below(20); first < frames;) {
      const std::uintptr_t end = std::min<std::uintptr_t>(first + random.between(1, 60), frames);
      ranges.push_back({first, end});
      first = end + (random.one_in(3) ? random.between(1, 20) : 0);
    }
    for (std::size_t index = ranges.size(); index > 1; --index) {
      std::swap(ranges[index - 1], ranges[random.below(index)]);
    }
    for (const FrameRange range : ranges) {
      table_.insert(make(range));
      ASSERT_EQ(table_.validate(), nullptr);
      table_.fill(range);
      model_.set(range.first, range.frames(), true);
    }
  }
  void expect_sound() {
    ASSERT_EQ(table_.validate(), nullptr);
    table_.for_each([](const Span& span) { ASSERT_EQ(span.validate(), nullptr); });
  }

  FrameModel model_{{1, frames}};
};

TEST_F(ManySpans, serve_every_run_that_lies_free_in_a_row) {
  Random random;
  make_spans(random);
  std::vector<FrameRange> runs;
  std::size_t across = 0;
  for (int step = 0; step < 4000 && !HasFatalFailure(); ++step) {
    if (!runs.empty() && random.one_in((step / 200) % 2 == 0 ? 3 : 2)) {
      const std::size_t index = random.below(runs.size());
      const FrameRange run = runs[index];
      ASSERT_TRUE(table_.judge(run.first, run.frames()).is_sound);
      ASSERT_EQ(table_.judge(run.first, run.frames() + 1).kind, MisuseKind::SizeMismatch);
      table_.deallocate(run.first, run.frames());
      model_.set(run.first, run.frames(), true);
      runs[index] = runs.back();
      runs.pop_back();
    } else {
      const std::uint32_t alignment = random.one_in(2) ? 0 : random.below(7);
      const std::size_t wanted =
          random.one_in(2) ? std::size_t{1} << alignment : random.between(1, 100);
      const std::size_t larger = std::max(wanted, std::size_t{1} << alignment);
      const std::uint32_t order = larger == 1 ? 0 : highest_bit(larger - 1) + 1;
      std::uintptr_t first = table_.allocate(order, wanted);
      if (first == 0) {
        first = table_.allocate_across(alignment, wanted);
        across += first != 0 ? 1u : 0u;
      }
      const bool is_sure = wanted >= frames / 32 || wanted == std::size_t{1} << alignment;
      ASSERT_TRUE(first != 0 || !is_sure || !model_.has_row(wanted, alignment)) << wanted;
      if (first != 0) {
        ASSERT_EQ(first % (std::uintptr_t{1} << alignment), 0u);
        ASSERT_TRUE(model_.is_free(first, wanted));
        model_.set(first, wanted, false);
        runs.push_back({first, first + wanted});
      }
    }
    expect_sound();
  }
  EXPECT_GT(across, 50u);
}

TEST_F(SpanTableTest, thousands_of_spans_lie_in_a_shallow_tree) {
  // The addresses ascend, as those of a memory map do.
  for (const std::uintptr_t distance : {1u, 1000u, 1u << 14, 1u << 20}) {
    Table table;
    for (std::uintptr_t number = 1; number <= 4000; ++number) {
      table.insert(make({number * distance, number * distance + 1}));
    }
    EXPECT_EQ(table.validate(), nullptr);
    EXPECT_LE(table.depth(), 40u) << distance;
  }
}

}  // namespace
}  // namespace slabmalloc::test
