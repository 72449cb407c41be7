// SPDX-License-Identifier: MIT
//
// Tests of the memory limits: their arithmetic, and the arena below, at and above them.
#include "arena/memory_limit.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "arena/arena.hpp"
#include "os/faulty_os.hpp"
#include "support/pattern.hpp"

namespace slabmalloc {
namespace {

constexpr std::size_t mebibyte = std::size_t{1} << 20;
constexpr std::size_t threshold = Tunables{}.direct_threshold_bytes;
constexpr std::size_t counted = MemoryLimit::counted_chunk_bytes;

TEST(MemoryLimit, nothing_is_limited_by_default) {
  const MemoryLimit none = MemoryLimit::in_force();
  EXPECT_FALSE(none.is_set());
  EXPECT_EQ(none.dirty_bytes(~std::size_t{0}, 7), 7u);
  EXPECT_TRUE(none.admits(~std::size_t{0}, ~std::size_t{0}));
  EXPECT_FALSE(none.keeps_nothing(~std::size_t{0}));
}

TEST(MemoryLimit, dirty_memory_is_what_fits_below_the_lower_limit) {
  for (const MemoryLimit limit :
       {MemoryLimit{10 * counted, Tunables::no_limit},
        MemoryLimit{Tunables::no_limit, 10 * counted}, MemoryLimit{10 * counted, 11 * counted}}) {
    EXPECT_TRUE(limit.is_set());
    EXPECT_EQ(limit.dirty_bytes(0, 100 * chunk_bytes), 10 * chunk_bytes);
    EXPECT_EQ(limit.dirty_bytes(0, 3 * chunk_bytes), 3 * chunk_bytes);
    EXPECT_EQ(limit.dirty_bytes(9 * counted, 100 * chunk_bytes), chunk_bytes);
    EXPECT_FALSE(limit.keeps_nothing(9 * counted));
    EXPECT_EQ(limit.dirty_bytes(9 * counted + 1, 100 * chunk_bytes), 0u);
    EXPECT_TRUE(limit.keeps_nothing(9 * counted + 1));
    EXPECT_EQ(limit.dirty_bytes(20 * counted, 100 * chunk_bytes), 0u);
  }
}

TEST(MemoryLimit, the_hard_limit_admits_what_fits_exactly) {
  const MemoryLimit limit{1, 100};
  EXPECT_TRUE(limit.admits(60, 40));
  EXPECT_FALSE(limit.admits(60, 41));
  EXPECT_FALSE(limit.admits(60, ~std::size_t{0}));
  EXPECT_TRUE(limit.admits(100, 0));
  EXPECT_FALSE(limit.admits(101, 0));
}

class ArenaLimitTest : public testing::Test {
 protected:
  ~ArenaLimitTest() override {
    EXPECT_TRUE(arena_->validate());
    tunables = Tunables{};
  }

  /// A limit of as many chunks in use.
  static constexpr std::size_t of_chunks(std::size_t chunks) { return chunks * counted; }

  void* allocate_written(std::size_t chunks) {
    const Extent run = arena_->allocate(chunks);
    if (run) {
      test::fill_pattern(run.address, chunks * chunk_bytes, chunks);
    }
    return run.address;
  }
  void* allocate_large(std::size_t bytes) {
    return arena_->allocate_large(bytes, 16, cache_).address;
  }
  ArenaStatistics now() { return arena_->statistics(); }

  test::FaultyOs os_;
  std::unique_ptr<Arena> arena_ = std::make_unique<Arena>();
  LargeCache* cache_ = &arena_->large_cache_of(1);
};

TEST_F(ArenaLimitTest, below_the_soft_limit_free_memory_stays_as_without_one) {
  tunables.soft_limit_bytes = of_chunks(32);
  void* const runs[] = {allocate_written(8), allocate_written(8)};
  arena_->deallocate(runs[0], 8);
  EXPECT_EQ(now().dirty_bytes, 8 * chunk_bytes);
  EXPECT_EQ(now().limit_purges, 0u);
  EXPECT_EQ(now().soft_limit_bytes, of_chunks(32));
  EXPECT_EQ(now().hard_limit_bytes, 0u);
  arena_->deallocate(runs[1], 8);
}

TEST_F(ArenaLimitTest,
       above_the_soft_limit_allocations_succeed_and_freed_memory_goes_back_at_once) {
  tunables.soft_limit_bytes = of_chunks(32);
  std::vector<void*> runs;
  for (int count = 0; count < 8; ++count) {
    runs.push_back(allocate_written(8));
    ASSERT_NE(runs.back(), nullptr);
  }
  void* const large = allocate_large(100'000);
  arena_->deallocate(runs.back(), 8);
  EXPECT_EQ(now().dirty_bytes, 0u);
  EXPECT_EQ(now().limit_purges, 1u);
  EXPECT_EQ(arena_->deallocate_large(large, cache_), LargeFree::Freed);
  EXPECT_EQ(cache_->runs(), 0u);
  EXPECT_EQ(now().dirty_bytes, 0u);
  EXPECT_EQ(now().limit_purges, 2u);
  EXPECT_EQ(now().limit_refusals, 0u);
}

TEST_F(ArenaLimitTest, a_new_block_that_raises_the_heap_above_the_soft_limit_purges_free_memory) {
  for (const std::size_t bytes : {24 * chunk_bytes, threshold}) {
    tunables.soft_limit_bytes = bytes + of_chunks(8);
    void* const run = allocate_written(8);
    void* const cached = allocate_large(1);
    arena_->deallocate(run, 8);
    ASSERT_EQ(arena_->deallocate_large(cached, cache_), LargeFree::Freed);
    ASSERT_EQ(now().dirty_bytes, 9 * chunk_bytes);
    // The dirty run would serve a part of it.
    void* const block = allocate_large(bytes + 8 * chunk_bytes);
    ASSERT_NE(block, nullptr);
    EXPECT_EQ(now().dirty_bytes, 0u);
    EXPECT_EQ(cache_->runs(), 0u);
    EXPECT_TRUE(arena_->validate());
    EXPECT_EQ(arena_->deallocate_large(block, cache_), LargeFree::Freed);
    arena_->trim();
  }
}

TEST_F(ArenaLimitTest, the_hard_limit_refuses_runs_that_do_not_fit_and_admits_them_once_they_do) {
  tunables.hard_limit_bytes = of_chunks(16);
  void* const first = allocate_written(10);
  EXPECT_FALSE(arena_->allocate(7));
  EXPECT_EQ(now().limit_refusals, 1u);
  EXPECT_EQ(now().in_use_bytes, 10 * chunk_bytes);
  void* const second = allocate_written(6);
  ASSERT_NE(second, nullptr) << "it fits exactly";
  EXPECT_FALSE(arena_->allocate(1));
  arena_->deallocate(first, 10);
  EXPECT_EQ(allocate_written(10), first) << "free memory does not count against it";
  EXPECT_EQ(now().limit_refusals, 2u);
  EXPECT_EQ(now().in_use_peak_bytes, 16 * chunk_bytes);
}

TEST_F(ArenaLimitTest, the_hard_limit_refuses_mappings_that_do_not_fit) {
  tunables.hard_limit_bytes = 2 * threshold;
  void* object = allocate_large(threshold + mebibyte);
  EXPECT_EQ(allocate_large(threshold), nullptr);
  EXPECT_EQ(now().limit_refusals, 1u);
  EXPECT_EQ(now().in_use_bytes, threshold + mebibyte);
  object = arena_->resize_large(object, 2 * threshold);
  ASSERT_NE(object, nullptr) << "only the growth counts";
  EXPECT_EQ(arena_->resize_large(object, 2 * threshold + 1), nullptr);
  EXPECT_EQ(arena_->large_usable_bytes(object), 2 * threshold);
  EXPECT_EQ(now().in_use_bytes, 2 * threshold);
  EXPECT_EQ(allocate_large(1), nullptr);
  EXPECT_EQ(arena_->resize_large(object, threshold), object);
  EXPECT_NE(allocate_large(mebibyte), nullptr);
  EXPECT_EQ(allocate_large(~std::size_t{0} / 4), nullptr);
  EXPECT_EQ(now().limit_refusals, 3u);
  os_.fail_every(test::OsCall::Map);
  os_.fail_every(test::OsCall::MapAt);
  const std::size_t before = now().in_use_bytes;
  EXPECT_EQ(allocate_large(threshold / 2), nullptr) << "refused by the system";
  EXPECT_EQ(now().in_use_bytes, before);
  EXPECT_EQ(now().limit_refusals, 3u);
}

TEST_F(ArenaLimitTest, counts_a_refusal_of_what_fits_only_before_its_size_is_rounded) {
  tunables.hard_limit_bytes = threshold + 100;
  EXPECT_EQ(allocate_large(threshold + 1), nullptr);
  EXPECT_EQ(now().limit_refusals, 1u);
}

TEST_F(ArenaLimitTest, a_mapping_counts_against_the_hard_limit_before_it_is_made) {
  tunables.hard_limit_bytes = 3 * threshold;
  void* const object = allocate_large(threshold);
  arena_->deallocate(allocate_written(8), 8);
  // The new mapping leaves no room for the dirty run. During the purge the other one would grow.
  bool was_purged = false;
  os_.before_each_purge([&] {
    was_purged = true;
    EXPECT_EQ(arena_->resize_large(object, threshold + mebibyte), nullptr);
  });
  EXPECT_NE(allocate_large(2 * threshold), nullptr);
  EXPECT_TRUE(was_purged);
  EXPECT_EQ(now().in_use_bytes, 3 * threshold);
}

TEST_F(ArenaLimitTest, runs_do_not_grow_in_place_above_the_hard_limit) {
  tunables.hard_limit_bytes = of_chunks(8);
  void* const object = allocate_large(3 * chunk_bytes);
  EXPECT_EQ(arena_->resize_large(object, 9 * chunk_bytes), nullptr);
  EXPECT_EQ(arena_->large_usable_bytes(object), 3 * chunk_bytes);
  EXPECT_EQ(arena_->resize_large(object, 8 * chunk_bytes), object);
}

TEST_F(ArenaLimitTest, cached_objects_make_room_below_the_hard_limit) {
  for (const std::size_t bytes : {3 * chunk_bytes, threshold}) {
    tunables.hard_limit_bytes = bytes + of_chunks(3);
    void* const cached = allocate_large(2 * chunk_bytes);
    void* const other = allocate_large(1);
    ASSERT_EQ(arena_->deallocate_large(cached, cache_), LargeFree::Freed);
    ASSERT_EQ(cache_->runs(), 1u);
    void* const object = allocate_large(bytes + chunk_bytes);
    EXPECT_NE(object, nullptr) << bytes;
    EXPECT_EQ(cache_->runs(), 0u);
    EXPECT_EQ(now().limit_refusals, 0u);
    arena_->deallocate_large(object);
    arena_->deallocate_large(other);
    arena_->trim();
  }
}

}  // namespace
}  // namespace slabmalloc
