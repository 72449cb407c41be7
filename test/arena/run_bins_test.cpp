// SPDX-License-Identifier: MIT
#include "arena/run_bins.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace slabmalloc {
namespace {

constexpr RunRequest for_chunks(std::uint32_t chunks) { return {chunks, 1, 0}; }

/// Bins over tags that the test writes itself.
struct Fixture {
  explicit Fixture(std::size_t chunks) : tags(chunks) {}
  void add(std::uint32_t run, std::uint32_t chunks) {
    tags[run].state = RunState::Clean;
    tags[run].chunks = chunks;
    bins.insert(tags.data(), run);
  }
  Placement find(const RunRequest& request, SearchEffort effort = SearchEffort::Bounded) {
    return bins.find(tags.data(), request, effort);
  }
  bool holds(std::uint32_t runs) {
    std::uint32_t counted = 0;
    return bins.validate(tags.data(), RunState::Clean, 0, counted) && counted == runs;
  }
  std::vector<RunTag> tags;
  RunBins bins;
};

TEST(RunBins, longer_runs_are_never_in_an_earlier_bin) {
  for (std::uint32_t chunks = 1; chunks < 1u << 20; ++chunks) {
    const std::uint32_t step = RunBins::bin_of(chunks + 1) - RunBins::bin_of(chunks);
    ASSERT_LE(step, 1u) << chunks;
  }
  EXPECT_GT(RunBins::bin_of(1u << 24), RunBins::bin_of((1u << 24) - 1));
}

TEST(RunBins, short_runs_have_a_bin_for_each_length) {
  for (std::uint32_t chunks = 1; chunks < 16; ++chunks) {
    EXPECT_EQ(RunBins::bin_of(chunks), chunks - 1);
    EXPECT_LT(RunBins::bin_of(chunks), RunBins::bin_of(chunks + 1));
  }
}

TEST(RunBins, lengths_in_one_bin_differ_by_an_eighth_at_most) {
  std::uint32_t shortest = 1;
  for (std::uint32_t chunks = 1; chunks < 1u << 20; ++chunks) {
    if (RunBins::bin_of(chunks) != RunBins::bin_of(shortest)) {
      shortest = chunks;
    }
    ASSERT_LE((chunks - shortest) * 8, shortest) << chunks;
  }
}

TEST(RunBins, visit_longest_shows_a_bounded_number_of_runs) {
  Fixture fixture(10000);
  const auto visited = [&] {
    std::vector<std::uint32_t> runs;
    fixture.bins.visit_longest(fixture.tags.data(),
                               [&](std::uint32_t run) { runs.push_back(run); });
    return runs;
  };
  EXPECT_TRUE(visited().empty());
  fixture.add(0, 1);
  fixture.add(1, 3);
  fixture.add(4, 200);
  EXPECT_EQ(visited(), (std::vector<std::uint32_t>{4, 1, 0}));
  for (std::uint32_t run = 0; run < 20; ++run) {
    fixture.add(1000 + 10 * run, 2);
  }
  const std::vector<std::uint32_t> runs = visited();
  ASSERT_EQ(runs.size(), 8u);
  EXPECT_EQ(runs[0], 4u);
  EXPECT_EQ(runs[1], 1u);
  EXPECT_GE(runs[2], 1000u);
}

TEST(RunBins, finds_the_shortest_kind_of_run_that_fits) {
  Fixture fixture(1000);
  fixture.add(0, 100);
  fixture.add(200, 5);
  fixture.add(300, 9);
  EXPECT_EQ(fixture.find(for_chunks(6)).run, 300u);
  EXPECT_EQ(fixture.find(for_chunks(5)).run, 200u);
  EXPECT_EQ(fixture.find(for_chunks(50)).run, 0u);
  EXPECT_FALSE(fixture.find(for_chunks(101)));
}

TEST(RunBins, prefers_the_lowest_address_among_equals) {
  Fixture fixture(1000);
  for (const std::uint32_t run : {500u, 100u, 300u, 700u}) {
    fixture.add(run, 4);
  }
  EXPECT_EQ(fixture.find(for_chunks(4)).run, 100u);
}

TEST(RunBins, skips_emptied_bins) {
  Fixture fixture(1000);
  fixture.add(0, 4);
  fixture.add(100, 4);
  fixture.add(200, 40);
  EXPECT_TRUE(fixture.holds(3));
  fixture.bins.remove(fixture.tags.data(), 0);
  EXPECT_EQ(fixture.find(for_chunks(4)).run, 100u);
  fixture.bins.remove(fixture.tags.data(), 100);
  EXPECT_EQ(fixture.find(for_chunks(4)).run, 200u);
  fixture.bins.remove(fixture.tags.data(), 200);
  EXPECT_FALSE(fixture.find(for_chunks(1)));
  EXPECT_TRUE(fixture.holds(0));
}

TEST(RunBins, aligned_requests_are_placed_by_absolute_address) {
  Fixture fixture(1000);
  fixture.add(1, 8);
  // Chunk 0 is the third of a group of four, so groups start at chunks 2, 6, 10.
  const Placement placement = fixture.find({4, 4, 2});
  EXPECT_EQ(placement.run, 1u);
  EXPECT_EQ(placement.first, 2u);
  EXPECT_FALSE(fixture.find({8, 4, 2}));
}

TEST(RunBins, exhaustive_search_finds_what_a_bounded_one_gives_up_on) {
  Fixture fixture(4000);
  // All runs lie in the bin of 32 to 35 chunks. The one that fits came first, so the search reads
  // it last.
  fixture.add(0, 35);
  for (std::uint32_t run = 1; run < 30; ++run) {
    fixture.add(run * 100, 32);
  }
  EXPECT_FALSE(fixture.find(for_chunks(35)));
  EXPECT_EQ(fixture.find(for_chunks(35), SearchEffort::Exhaustive).run, 0u);
}

TEST(RunBins, validation_notices_a_wrong_length_and_a_torn_link) {
  Fixture fixture(1000);
  fixture.add(0, 4);
  fixture.add(100, 4);
  fixture.tags[0].chunks = 5;
  EXPECT_FALSE(fixture.holds(2));
  fixture.tags[0].chunks = 4;
  EXPECT_TRUE(fixture.holds(2));
  fixture.tags[0].bin_previous = no_chunk;
  EXPECT_FALSE(fixture.holds(2));
}

}  // namespace
}  // namespace slabmalloc
