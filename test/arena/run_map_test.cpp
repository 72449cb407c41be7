// SPDX-License-Identifier: MIT
#include "arena/run_map.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <vector>

#include "arena/run_map_fixture.hpp"
#include "support/random.hpp"

namespace slabmalloc {
namespace {

constexpr RunRequest for_chunks(std::uint32_t chunks) { return {chunks, 1, 0}; }

class RunMapTest : public test::RunMapFixture {
 protected:
  RunMapTest() : RunMapFixture(1 << 16) {}

  std::uint32_t take(std::uint32_t chunks) {
    const Placement placement = map_.find(for_chunks(chunks), SearchEffort::Bounded);
    if (!placement) {
      return no_chunk;
    }
    map_.take(placement, chunks);
    return placement.first;
  }
  /// Nine neighbours of one chunk each, in use.
  std::vector<std::uint32_t> take_nine() {
    map_.append(9, RunState::Clean);
    std::vector<std::uint32_t> runs(9);
    for (std::uint32_t& run : runs) {
      run = take(1);
    }
    return runs;
  }
};

TEST_F(RunMapTest, an_empty_map_has_no_run_and_is_valid) {
  EXPECT_EQ(map_.end(), 0u);
  EXPECT_FALSE(map_.find(for_chunks(1), SearchEffort::Exhaustive));
  EXPECT_TRUE(map_.validate());
}

TEST_F(RunMapTest, appended_chunks_are_one_clean_run) {
  map_.append(10, RunState::Clean);
  map_.append(20, RunState::Clean);
  EXPECT_EQ(map_.trailing_free_run(), 0u);
  EXPECT_EQ(map_.run_chunks(0), 30u);
  EXPECT_TRUE(map_.validate());
}

TEST_F(RunMapTest, unusable_chunks_are_never_found) {
  map_.append(4, RunState::Clean);
  map_.append(8, RunState::Unusable);
  map_.append(4, RunState::Clean);
  EXPECT_FALSE(map_.find(for_chunks(5), SearchEffort::Exhaustive));
  EXPECT_EQ(map_.trailing_free_run(), 12u);
  EXPECT_EQ(map_.chunks_in(RunState::Unusable), 8u);
  EXPECT_TRUE(map_.validate());
}

TEST_F(RunMapTest, released_neighbours_become_one_run) {
  map_.append(12, RunState::Clean);
  const std::uint32_t a = take(4);
  const std::uint32_t b = take(4);
  const std::uint32_t c = take(4);
  map_.release(a, 1);
  map_.release(c, 2);
  EXPECT_TRUE(map_.validate());
  map_.release(b, 3);
  EXPECT_TRUE(map_.validate());
  EXPECT_EQ(map_.run_chunks(0), 12u);
  EXPECT_EQ(map_.oldest_dirty_run(), 0u);
}

TEST_F(RunMapTest, dirty_runs_are_used_before_clean_ones) {
  map_.append(100, RunState::Clean);
  const std::uint32_t run = take(4);
  map_.release(run, 1);
  const Placement placement = map_.find(for_chunks(4), SearchEffort::Bounded);
  EXPECT_EQ(map_.take(placement, 4), RunState::Dirty);
  EXPECT_EQ(map_.take(map_.find(for_chunks(4), SearchEffort::Bounded), 4), RunState::Clean);
  EXPECT_TRUE(map_.validate());
}

TEST_F(RunMapTest, the_free_runs_at_the_end_may_be_of_both_kinds) {
  map_.append(20, RunState::Clean);
  take(5);
  const std::uint32_t last = take(7);
  EXPECT_EQ(map_.trailing_free_run(), 12u);
  map_.release(last, 1);
  EXPECT_EQ(map_.trailing_free_run(), last);
  take(7);
  take(8);
  EXPECT_EQ(map_.trailing_free_run(), no_chunk);
}

TEST_F(RunMapTest, a_dirty_run_that_is_too_short_is_used_with_its_clean_neighbours) {
  map_.append(30, RunState::Clean);
  const std::uint32_t left = take(4);
  const std::uint32_t run = take(6);
  const std::uint32_t right = take(2);
  take(1);
  map_.release(left, 1);
  map_.release(right, 1);
  purge(left, 4);
  purge(right, 2);
  map_.release(run, 2);
  // Clean 4, dirty 6, clean 2, one in use, clean 17.
  EXPECT_EQ(map_.find(for_chunks(7), SearchEffort::Bounded).first, run - 1);
  EXPECT_EQ(map_.find(for_chunks(11), SearchEffort::Bounded).first, left);
  const Placement placement = map_.find(for_chunks(12), SearchEffort::Bounded);
  EXPECT_EQ(placement.run, left);
  EXPECT_EQ(map_.take(placement, 12), RunState::Dirty) << "some of it is";
  EXPECT_EQ(map_.run_chunks(left), 12u);
  EXPECT_EQ(map_.chunks_in(RunState::Dirty), 0u);
  EXPECT_TRUE(map_.validate());
}

TEST_F(RunMapTest, uses_the_dirty_run_that_covers_more_of_the_request) {
  map_.append(40, RunState::Clean);
  const std::uint32_t runs[] = {take(2), take(6), take(1), take(8), take(6)};
  for (const std::uint32_t run : {runs[0], runs[4]}) {
    map_.release(run, 1);
    purge(run, map_.run_chunks(run));
  }
  map_.release(runs[1], 2);
  map_.release(runs[3], 3);
  // Clean 2, dirty 6, one in use, dirty 8, clean 23.
  EXPECT_EQ(map_.find(for_chunks(9), SearchEffort::Bounded).first, runs[3]);
  EXPECT_EQ(map_.find({9, 4, 0}, SearchEffort::Bounded).first, 12u);
  EXPECT_EQ(map_.find(for_chunks(30), SearchEffort::Bounded).first, runs[3]);
  EXPECT_FALSE(map_.find(for_chunks(32), SearchEffort::Exhaustive));
}

TEST_F(RunMapTest, dirty_runs_are_purged_oldest_first) {
  const std::vector<std::uint32_t> runs = take_nine();
  map_.release(runs[4], 10);
  map_.release(runs[0], 20);
  map_.release(runs[8], 30);
  EXPECT_EQ(map_.oldest_dirty_run(), runs[4]);
  purge(runs[4], 1);
  EXPECT_EQ(map_.oldest_dirty_run(), runs[0]);
  map_.begin_purge(runs[0], 1);
  EXPECT_EQ(map_.oldest_dirty_run(), runs[8]);
  map_.end_purge(runs[0], false, 40);
  EXPECT_EQ(map_.oldest_dirty_run(), runs[8]) << "what could not be purged is the youngest";
  EXPECT_EQ(map_.stamp_of(runs[0]), 40u);
  EXPECT_TRUE(map_.validate());
}

TEST_F(RunMapTest, a_run_that_was_unused_before_its_release_takes_its_place_by_age) {
  const std::vector<std::uint32_t> runs = take_nine();
  map_.release(runs[0], 10);
  map_.release(runs[2], 30);
  map_.release(runs[4], 20);
  EXPECT_TRUE(map_.validate());
  map_.release(runs[6], 5);
  EXPECT_TRUE(map_.validate());
  for (const std::uint32_t oldest : {runs[6], runs[0], runs[4], runs[2]}) {
    EXPECT_EQ(map_.oldest_dirty_run(), oldest);
    purge(oldest, 1);
  }
}

TEST_F(RunMapTest, the_rest_of_a_run_keeps_the_age_of_the_run) {
  map_.append(20, RunState::Clean);
  const std::uint32_t old_run = take(8);
  take(1);
  const std::uint32_t young_run = take(4);
  take(1);
  map_.release(old_run, 10);
  map_.release(young_run, 20);
  // Takes 5 of the 8 dirty chunks: the rest is still the oldest.
  const std::uint32_t taken = take(5);
  EXPECT_EQ(taken, old_run);
  EXPECT_EQ(map_.oldest_dirty_run(), old_run + 5);
  EXPECT_EQ(map_.stamp_of(old_run + 5), 10u);
  EXPECT_TRUE(map_.validate());
}

TEST_F(RunMapTest, a_merged_run_is_as_old_as_its_oldest_part) {
  for (const bool left_is_older : {false, true}) {
    SCOPED_TRACE(left_is_older);
    const std::uint32_t start = map_.end();
    map_.append(5, RunState::Clean);
    std::uint32_t runs[5];
    for (std::uint32_t& run : runs) {
      run = take(1);
    }
    ASSERT_EQ(runs[0], start);
    const std::uint32_t stamp = 100 * start;
    map_.release(left_is_older ? runs[1] : runs[3], stamp + 10);
    map_.release(left_is_older ? runs[3] : runs[1], stamp + 20);
    map_.release(runs[2], stamp + 30);
    EXPECT_EQ(map_.stamp_of(runs[1]), stamp + 10);
    EXPECT_EQ(map_.run_chunks(runs[1]), 3u);
    EXPECT_TRUE(map_.validate());
    purge(runs[1], 3);
    map_.take({runs[1], runs[1]}, 3);
  }
}

TEST_F(RunMapTest, a_run_can_be_purged_piece_by_piece) {
  map_.append(10, RunState::Clean);
  map_.release(take(10), 5);
  purge(0, 4);
  EXPECT_TRUE(map_.validate());
  EXPECT_EQ(map_.oldest_dirty_run(), 4u);
  purge(4, 6);
  EXPECT_TRUE(map_.validate());
  EXPECT_EQ(map_.run_chunks(0), 10u);
  EXPECT_EQ(map_.oldest_dirty_run(), no_chunk);
}

TEST_F(RunMapTest, runs_under_purge_are_neither_used_nor_merged) {
  map_.append(12, RunState::Clean);
  const std::uint32_t runs[] = {take(4), take(4), take(4)};
  map_.release(runs[1], 5);
  map_.begin_purge(runs[1], 4);
  EXPECT_EQ(map_.chunks_in(RunState::Purging), 4u);
  EXPECT_TRUE(map_.validate());
  map_.release(runs[0], 6);
  map_.release(runs[2], 7);
  EXPECT_TRUE(map_.validate());
  EXPECT_FALSE(map_.find(for_chunks(5), SearchEffort::Exhaustive));
  const std::uint32_t left = take(4);
  EXPECT_EQ(left, runs[0]);
  EXPECT_FALSE(map_.extend(left, 5));
  map_.end_purge(runs[1], true, 8);
  EXPECT_TRUE(map_.validate());
  EXPECT_TRUE(map_.extend(left, 12));
}

TEST_F(RunMapTest, a_refused_purge_makes_the_whole_run_the_youngest) {
  map_.append(20, RunState::Clean);
  const std::uint32_t run = take(8);
  take(1);
  const std::uint32_t other = take(1);
  take(1);
  map_.release(run, 10);
  map_.release(other, 20);
  map_.begin_purge(run, 4);
  map_.end_purge(run, false, 30);
  EXPECT_EQ(map_.run_chunks(run), 8u);
  EXPECT_EQ(map_.oldest_dirty_run(), other);
  EXPECT_EQ(map_.stamp_of(run), 30u);
  EXPECT_TRUE(map_.validate());
}

TEST_F(RunMapTest, extends_over_free_neighbours_of_either_kind) {
  map_.append(20, RunState::Clean);
  const std::uint32_t run = take(4);
  const std::uint32_t next = take(4);
  map_.release(next, 1);
  // Dirty 4..8, clean 8..20.
  EXPECT_FALSE(map_.extend(run, 21));
  EXPECT_TRUE(map_.extend(run, 10));
  EXPECT_TRUE(map_.validate());
  EXPECT_EQ(map_.run_chunks(run), 10u);
  EXPECT_EQ(map_.chunks_in(RunState::Dirty), 0u);
  EXPECT_EQ(map_.chunks_in(RunState::Clean), 10u);
}

TEST_F(RunMapTest, does_not_extend_over_chunks_in_use) {
  map_.append(20, RunState::Clean);
  const std::uint32_t run = take(4);
  const std::uint32_t gap = take(2);
  take(4);
  map_.release(gap, 1);
  EXPECT_FALSE(map_.extend(run, 7));
  EXPECT_EQ(map_.run_chunks(run), 4u);
  EXPECT_TRUE(map_.extend(run, 6));
  EXPECT_TRUE(map_.validate());
}

TEST_F(RunMapTest, shrinking_frees_the_rest) {
  map_.append(20, RunState::Clean);
  const std::uint32_t run = take(10);
  map_.shrink(run, 3, 1);
  EXPECT_EQ(map_.run_chunks(run), 3u);
  EXPECT_EQ(map_.chunks_in(RunState::Dirty), 7u);
  EXPECT_TRUE(map_.validate());
}

TEST_F(RunMapTest, tells_which_run_holds_a_chunk) {
  map_.append(20, RunState::Clean);
  const std::uint32_t first = take(5);
  const std::uint32_t second = take(7);
  EXPECT_EQ(map_.run_holding(4), first);
  EXPECT_EQ(map_.run_holding(5), second);
  EXPECT_EQ(map_.run_holding(11), second);
  EXPECT_EQ(map_.state_of_run(map_.run_holding(19)), RunState::Clean);
}

/// Applies the same operations to a plain array of chunk states and classes.
class Model {
 public:
  void append(std::uint32_t chunks, RunState state) {
    chunks_.insert(chunks_.end(), chunks, {state, RunClass{}});
  }
  void set(std::uint32_t first, std::uint32_t chunks, RunState state) {
    for (std::uint32_t chunk = first; chunk < first + chunks; ++chunk) {
      chunks_[chunk].state = state;
    }
  }
  void take(std::uint32_t first, std::uint32_t chunks, RunClass run_class) {
    std::fill_n(chunks_.begin() + first, chunks, OneChunk{RunState::InUse, run_class});
  }
  bool all(std::uint32_t first, std::uint32_t chunks, RunState state) const {
    return for_all(first, chunks, [&](const OneChunk& chunk) { return chunk.state == state; });
  }
  bool all_usable(std::uint32_t first, std::uint32_t chunks, RunClass run_class) const {
    return for_all(first, chunks, [&](const OneChunk& chunk) { return usable(chunk, run_class); });
  }
  RunClass class_of(std::uint32_t chunk) const { return chunks_[chunk].run_class; }
  std::uint32_t count(RunState state) const {
    return static_cast<std::uint32_t>(
        std::count_if(chunks_.begin(), chunks_.end(),
                      [&](const OneChunk& chunk) { return chunk.state == state; }));
  }
  /// True if some row of chunks that the request may use fits it.
  bool could_serve(const RunRequest& request) const {
    std::uint64_t run_start = 0;
    for (std::size_t chunk = 0; chunk < chunks_.size(); ++chunk) {
      const bool is_usable = usable(chunks_[chunk], request.run_class);
      if (chunk > 0 && is_usable != usable(chunks_[chunk - 1], request.run_class)) {
        run_start = chunk;
      }
      const std::uint64_t first = request.first_from(static_cast<std::uint32_t>(run_start));
      if (is_usable && chunk + 1 >= first + request.chunks) {
        return true;
      }
    }
    return false;
  }
  /// The start of the row at the end that the class may use, or no_chunk.
  std::uint32_t trailing(RunClass run_class) const {
    auto start = static_cast<std::uint32_t>(chunks_.size());
    while (start > 0 && usable(chunks_[start - 1], run_class)) {
      --start;
    }
    return start != chunks_.size() ? start : no_chunk;
  }
  /// True if each run of `map` has the state and the class of all its chunks.
  bool agrees_with(const RunMap& map) const {
    for (std::uint32_t run = 0; run < map.end(); run += map.run_chunks(run)) {
      const OneChunk chunk{map.state_of_run(run), map.class_of_run(run)};
      if (!for_all(run, map.run_chunks(run), [&](const OneChunk& one) { return one == chunk; })) {
        return false;
      }
    }
    return map.end() == chunks_.size();
  }

 private:
  struct OneChunk {
    RunState state;
    RunClass run_class;
    bool operator==(const OneChunk&) const = default;
  };

  static bool usable(const OneChunk& chunk, RunClass run_class) {
    return is_free(chunk.state) && run_class.may_use(chunk.run_class);
  }
  template <class Is>
  bool for_all(std::uint32_t first, std::uint32_t chunks, const Is& is) const {
    return first + chunks <= chunks_.size() &&
           std::all_of(chunks_.begin() + first, chunks_.begin() + first + chunks, is);
  }

  std::vector<OneChunk> chunks_;
};

TEST_F(RunMapTest, random_operations_agree_with_a_plain_array) {
  test::Random random;
  Model model;
  std::map<std::uint32_t, std::uint32_t> live;
  std::uint32_t stamp = ~std::uint32_t{0} - 2000;  // The stamp wraps during the test.
  const std::uint64_t phase = random.below(16);
  for (int step = 0; step < 20000; ++step) {
    stamp += random.below(3);
    const std::size_t action = random.below(16);
    const auto any_live = [&] {
      auto run = live.lower_bound(random.below(map_.end() + 1));
      return run == live.end() ? live.begin() : run;
    };
    const RunClass run_class = random.one_in(4) ? RunClass{} : RunClass::of(random.below(3));
    if (action < 1 && map_.end() < 4000) {
      const auto chunks = static_cast<std::uint32_t>(random.between(1, 64));
      const RunState state = random.one_in(8) ? RunState::Unusable : RunState::Clean;
      map_.append(chunks, state);
      model.append(chunks, state);
    } else if (action < 7) {
      RunRequest request{static_cast<std::uint32_t>(random.one_in(4) ? random.between(1, 200)
                                                                     : random.between(1, 12)),
                         std::uint32_t{1} << (random.one_in(4) ? random.below(5) : 0), phase,
                         run_class};
      const bool is_of_any = random.one_in(8);
      const Placement placement = is_of_any ? map_.find_of_any_class(request)
                                            : map_.find(request, SearchEffort::Exhaustive);
      request.run_class = is_of_any ? RunClass::any() : run_class;
      ASSERT_EQ(static_cast<bool>(placement), model.could_serve(request)) << "step " << step;
      ASSERT_EQ(map_.trailing_free_run(run_class), model.trailing(run_class)) << "step " << step;
      if (placement) {
        ASSERT_EQ((placement.first + phase) % request.alignment, 0u);
        const RunState state = map_.take(placement, request.chunks, run_class);
        ASSERT_TRUE(model.all_usable(placement.first, request.chunks, request.run_class));
        ASSERT_EQ(state == RunState::Clean,
                  model.all(placement.first, request.chunks, RunState::Clean));
        model.take(placement.first, request.chunks, run_class);
        live[placement.first] = request.chunks;
      }
    } else if (action < 11 && !live.empty()) {
      const auto run = any_live();
      map_.release(run->first, stamp);
      model.set(run->first, run->second, RunState::Dirty);
      live.erase(run);
    } else if (action == 11 && !live.empty()) {
      const auto run = any_live();
      const auto chunks = static_cast<std::uint32_t>(random.between(1, run->second));
      map_.shrink(run->first, chunks, stamp);
      model.set(run->first + chunks, run->second - chunks, RunState::Dirty);
      run->second = chunks;
    } else if (action == 12 && !live.empty()) {
      const auto run = any_live();
      const auto chunks = static_cast<std::uint32_t>(run->second + random.between(1, 10));
      const RunClass class_of_run = model.class_of(run->first);
      const bool possible =
          model.all_usable(run->first + run->second, chunks - run->second, class_of_run);
      ASSERT_EQ(map_.extend(run->first, chunks), possible);
      if (possible) {
        model.take(run->first, chunks, class_of_run);
        run->second = chunks;
      }
    } else if (map_.oldest_dirty_run() != no_chunk) {
      const std::uint32_t run = map_.oldest_dirty_run();
      const auto chunks = static_cast<std::uint32_t>(random.between(1, map_.run_chunks(run)));
      ASSERT_TRUE(model.all(run, chunks, RunState::Dirty));
      const bool refused = random.one_in(4);
      map_.begin_purge(run, chunks);
      ASSERT_TRUE(map_.validate()) << "step " << step;
      const auto reach = static_cast<std::uint32_t>(random.between(1, 8));
      const RunMap::Row wide = map_.widen_purge(run, reach);
      ASSERT_TRUE(map_.validate()) << "step " << step;
      const std::uint32_t left = run - wide.first;
      const std::uint32_t right = wide.chunks - left - chunks;
      ASSERT_EQ(map_.chunks_in(RunState::Purging), wide.chunks);
      ASSERT_TRUE(left <= reach && model.all(wide.first, left, RunState::Clean));
      ASSERT_TRUE(right <= reach && model.all(run + chunks, right, RunState::Clean));
      ASSERT_TRUE(left == reach || wide.first == 0 ||
                  !model.all(wide.first - 1, 1, RunState::Clean));
      ASSERT_TRUE(right == reach || !model.all(run + chunks + right, 1, RunState::Clean));
      map_.narrow_purge(wide, run);
      map_.end_purge(run, !refused, stamp);
      if (!refused) {
        model.set(run, chunks, RunState::Clean);
      }
    }
    ASSERT_TRUE(map_.validate()) << "step " << step;
    ASSERT_TRUE(model.agrees_with(map_)) << "step " << step;
    for (const RunState state :
         {RunState::InUse, RunState::Unusable, RunState::Dirty, RunState::Clean}) {
      ASSERT_EQ(map_.chunks_in(state), model.count(state)) << "step " << step;
    }
  }
}

TEST_F(RunMapTest, validation_notices_broken_tags) {
  map_.append(12, RunState::Clean);
  const std::uint32_t run = take(4);
  take(2);
  map_.release(run, 1);
  ASSERT_TRUE(map_.validate());
  EXPECT_TRUE(notices([&] { tags_[0].chunks = 5; }));
  EXPECT_TRUE(notices([&] { tags_[3].chunks = 3; }));
  EXPECT_TRUE(notices([&] { tags_[0].state = RunState::InUse; }));
  EXPECT_TRUE(notices([&] { tags_[4].state = tags_[5].state = RunState::Dirty; }));
  EXPECT_TRUE(notices([&] { tags_[0].age_previous = 7; }));
  EXPECT_TRUE(notices([&] { tags_[6].state = RunState::None; }));
  EXPECT_TRUE(map_.validate());
}

}  // namespace
}  // namespace slabmalloc
