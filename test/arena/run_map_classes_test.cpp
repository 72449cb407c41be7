// SPDX-License-Identifier: MIT
//
// The run map of the hardened library, whose runs keep their size class.
#include <gtest/gtest.h>

#include "arena/run_map.hpp"
#include "arena/run_map_fixture.hpp"

namespace slabmalloc {
namespace {

static_assert(Tunables::hardened);

constexpr RunClass none{};
constexpr RunClass one = RunClass::of(0);
constexpr RunClass two = RunClass::of(1);
constexpr RunClass last = RunClass::of(Tunables::run_classes - 2);

class RunMapClassesTest : public test::RunMapFixture {
 protected:
  RunMapClassesTest() : RunMapFixture(1 << 12) {}
  ~RunMapClassesTest() override { EXPECT_TRUE(map_.validate()); }

  static RunRequest request(std::uint32_t chunks, RunClass run_class) {
    return {chunks, 1, 0, run_class};
  }
  Placement find(std::uint32_t chunks, RunClass run_class) const {
    return map_.find(request(chunks, run_class), SearchEffort::Exhaustive);
  }
  std::uint32_t take(std::uint32_t chunks, RunClass run_class) {
    const Placement placement = find(chunks, run_class);
    if (placement) {
      map_.take(placement, chunks, run_class);
    }
    return placement.first;
  }
  void purge(std::uint32_t run) { RunMapFixture::purge(run, map_.run_chunks(run)); }
};

TEST_F(RunMapClassesTest, a_class_may_use_runs_of_its_own_and_of_none) {
  for (const RunClass own : {one, two, last}) {
    for (const RunClass other : {none, one, two, last}) {
      EXPECT_EQ(own.may_use(other), other == own || other == none);
      EXPECT_TRUE(RunClass::any().may_use(other));
      EXPECT_EQ(none.may_use(other), other == none);
    }
  }
}

TEST_F(RunMapClassesTest, a_run_serves_no_other_class_in_any_state) {
  map_.append(4, RunState::Clean);
  const std::uint32_t run = take(4, one);
  map_.release(run, 1);
  for (const RunState state : {RunState::Dirty, RunState::Clean}) {
    EXPECT_EQ(map_.state_of_run(run), state);
    EXPECT_FALSE(find(1, two));
    EXPECT_FALSE(find(1, none));
    EXPECT_EQ(find(4, one).first, run);
    if (state == RunState::Dirty) {
      purge(run);
    }
  }
}

TEST_F(RunMapClassesTest, a_freed_run_of_no_class_serves_any_class) {
  map_.append(4, RunState::Clean);
  EXPECT_TRUE(map_.find(request(4, one), SearchEffort::Bounded));
  map_.release(take(4, none), 1);
  EXPECT_TRUE(map_.find(request(4, one), SearchEffort::Bounded));
  EXPECT_EQ(take(2, one), 0u);
  EXPECT_EQ(take(2, two), 2u);
}

TEST_F(RunMapClassesTest, a_class_uses_its_own_runs_before_those_of_none) {
  map_.append(20, RunState::Clean);
  take(2, none);
  const std::uint32_t own = take(2, one);
  take(2, two);
  map_.release(own, 1);
  EXPECT_EQ(find(2, one).first, own) << "a dirty one";
  purge(own);
  EXPECT_EQ(find(2, one).first, own) << "a clean one";
  map_.release(0, 2);
  EXPECT_EQ(find(2, one).first, own) << "also before a dirty one of none";
  EXPECT_EQ(find(3, one).first, 0u) << "with its neighbour of none";
}

TEST_F(RunMapClassesTest, neighbours_merge_if_they_are_of_one_class) {
  map_.append(8, RunState::Clean);
  const RunClass classes[] = {one, one, two, two};
  std::uint32_t runs[4];
  for (int number = 0; number < 4; ++number) {
    runs[number] = take(2, classes[number]);
  }
  for (const std::uint32_t run : runs) {
    map_.release(run, run);
    EXPECT_TRUE(map_.validate());
  }
  for (int round = 0; round < 2; ++round) {
    EXPECT_EQ(map_.run_chunks(0), 4u);
    EXPECT_EQ(map_.run_chunks(4), 4u);
    if (round == 0) {
      purge(0);
      purge(4);
    }
  }
  EXPECT_FALSE(find(5, one));
  EXPECT_EQ(map_.trailing_free_run(one), no_chunk);
  EXPECT_EQ(map_.trailing_free_run(two), 4u);
  EXPECT_EQ(map_.trailing_free_run(RunClass::any()), 0u);
}

TEST_F(RunMapClassesTest, the_rest_of_a_run_of_none_stays_of_none) {
  map_.append(10, RunState::Clean);
  const std::uint32_t run = take(4, one);
  EXPECT_EQ(map_.class_of_run(run), one);
  EXPECT_EQ(map_.class_of_run(run + 4), none);
  map_.shrink(run, 1, 1);
  EXPECT_EQ(map_.class_of_run(run), one);
  EXPECT_EQ(map_.class_of_run(run + 1), one);
  EXPECT_FALSE(map_.extend(run, 11));
  EXPECT_TRUE(map_.extend(run, 10));
  EXPECT_EQ(map_.class_of_run(run), one);
}

TEST_F(RunMapClassesTest, does_not_extend_over_runs_of_another_class) {
  map_.append(8, RunState::Clean);
  const std::uint32_t run = take(4, one);
  map_.release(take(4, two), 1);
  EXPECT_FALSE(map_.extend(run, 5));
}

TEST_F(RunMapClassesTest, a_purge_that_reaches_over_several_classes_keeps_them) {
  for (const bool is_purged : {true, false}) {
    const std::uint32_t start = map_.end();
    map_.append(14, RunState::Clean);
    const RunClass classes[] = {one, two, last, one, last, two, one};
    for (const RunClass run_class : classes) {
      take(2, run_class);
    }
    for (std::uint32_t number = 0; number < 7; ++number) {
      map_.release(start + number * 2, number);
      if (number != 3) {
        purge(start + number * 2);
      }
    }
    const std::uint32_t middle = start + 6;
    map_.begin_purge(middle, 2);
    const RunMap::Row wide = map_.widen_purge(middle, 5);
    EXPECT_EQ(wide.first, middle - 5);
    EXPECT_EQ(wide.chunks, 12u);
    EXPECT_EQ(map_.chunks_in(RunState::Purging), 12u);
    EXPECT_FALSE(find(2, two)) << "they are not used meanwhile";
    EXPECT_TRUE(map_.validate());
    map_.narrow_purge(wide, middle);
    map_.end_purge(middle, is_purged, 9);
    EXPECT_TRUE(map_.validate());
    for (std::uint32_t number = 0; number < 7; ++number) {
      EXPECT_EQ(map_.class_of_run(start + number * 2), classes[number]);
      EXPECT_EQ(map_.run_chunks(start + number * 2), 2u);
      const RunState state = number != 3 || is_purged ? RunState::Clean : RunState::Dirty;
      EXPECT_EQ(map_.state_of_run(start + number * 2), state);
    }
    for (const RunClass run_class : classes) {
      take(2, run_class);
    }
  }
}

TEST_F(RunMapClassesTest, a_search_over_any_class_finds_the_lowest_place) {
  map_.append(8, RunState::Clean);
  map_.release(take(4, one), 1);
  map_.release(take(4, two), 2);
  EXPECT_FALSE(find(2, last));
  const Placement placement = map_.find_of_any_class(request(6, last));
  EXPECT_EQ(placement.first, 0u);
  map_.take(placement, 6, last);
  EXPECT_EQ(map_.class_of_run(0), last);
  EXPECT_EQ(map_.class_of_run(6), two) << "the rest is as before";
  EXPECT_FALSE(map_.find_of_any_class(request(3, last)));
}

TEST_F(RunMapClassesTest, validation_notices_neighbours_that_did_not_merge) {
  map_.append(8, RunState::Clean);
  const std::uint32_t first = take(4, one);
  const std::uint32_t second = take(4, one);
  map_.release(first, 1);
  tags_[3].set_run_class(two);
  map_.release(second, 2);
  tags_[3].set_run_class(one);
  EXPECT_FALSE(map_.validate()) << "R4";
  tags_[0].set_run_class(two);
  tags_[3].set_run_class(two);
  EXPECT_FALSE(map_.validate()) << "R3";
  tags_[0].set_run_class(one);
  tags_[3].set_run_class(one);
  map_.begin_purge(second, 4);
}

TEST_F(RunMapClassesTest, validation_notices_broken_classes) {
  map_.append(12, RunState::Clean);
  map_.release(take(4, one), 1);
  map_.release(take(4, two), 2);
  ASSERT_TRUE(map_.validate());
  EXPECT_TRUE(notices([&] { tags_[3].set_run_class(two); })) << "R2";
  EXPECT_TRUE(notices([&] {
    tags_[0].set_run_class(last);
    tags_[3].set_run_class(last);
  })) << "R3";
  EXPECT_TRUE(notices([&] {
    tags_[4].set_run_class(one);
    tags_[7].set_run_class(one);
  })) << "R4";
  EXPECT_TRUE(notices([&] {
    tags_[8].set_run_class(two);
    tags_[11].set_run_class(two);
  })) << "R3";
}

}  // namespace
}  // namespace slabmalloc
