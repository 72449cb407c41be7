// SPDX-License-Identifier: MIT
//
// Tests of LargeCache alone, and in the arena.
#include "arena/large_cache.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "arena/arena.hpp"
#include "os/faulty_os.hpp"
#include "support/pattern.hpp"

namespace slabmalloc {
namespace {

constexpr std::uint32_t chunk = chunk_bytes;

constexpr CachedRun run_at(std::uintptr_t number, std::uint32_t bytes = chunk) {
  return {number * chunk_bytes, bytes};
}

TEST(LargeCache, gives_a_run_of_the_requested_length_once) {
  LargeCache cache;
  EXPECT_EQ(cache.put(run_at(1, chunk)).bytes, 0u);
  EXPECT_EQ(cache.put(run_at(2, 2 * chunk - large_step_bytes)).bytes, 0u);
  EXPECT_EQ(cache.chunks(), 3u);
  EXPECT_EQ(cache.runs(), 2u);
  const CachedRun two = cache.take(chunk + large_step_bytes);
  EXPECT_EQ(two.address, 2 * chunk_bytes);
  EXPECT_EQ(two.bytes, chunk + large_step_bytes) << "those of the new object";
  EXPECT_EQ(cache.take(2 * chunk).bytes, 0u);
  EXPECT_EQ(cache.take(chunk).address, 1 * chunk_bytes);
  EXPECT_EQ(cache.take(chunk).bytes, 0u);
  EXPECT_EQ(cache.runs(), 0u);
  EXPECT_EQ(cache.takes(), 2u);
}

TEST(LargeCache, evicts_each_place_in_turn_to_make_room_for_a_run) {
  LargeCache cache;
  std::uintptr_t number = 1;
  for (std::uint32_t place = 0; place < Tunables::large_cache_places; ++place) {
    EXPECT_EQ(cache.put(run_at(number++)).bytes, 0u);
  }
  for (std::uintptr_t evicted = 1; evicted <= 3 * Tunables::large_cache_places; ++evicted) {
    const CachedRun gone = cache.put(run_at(number++));
    EXPECT_EQ(gone.address, evicted * chunk_bytes);
    EXPECT_EQ(gone.bytes, chunk_bytes);
  }
  EXPECT_EQ(cache.runs(), Tunables::large_cache_places);
}

TEST(LargeCache, clear_returns_runs_that_an_earlier_clear_has_seen) {
  LargeCache cache;
  (void)cache.put(run_at(1));
  EXPECT_EQ(cache.clear(0, true).bytes, 0u) << "seen for the first time";
  const CachedRun old = cache.clear(0, true);
  EXPECT_EQ(old.address, 1 * chunk_bytes);
  EXPECT_EQ(old.bytes, chunk_bytes);

  (void)cache.put(run_at(2));
  (void)cache.clear(0, true);
  EXPECT_EQ(cache.take(chunk).address, 2 * chunk_bytes) << "also if it is old";
  (void)cache.put(run_at(2));
  EXPECT_EQ(cache.clear(0, true).bytes, 0u) << "put back, it is new again";
  EXPECT_EQ(cache.clear(0, false).address, 2 * chunk_bytes) << "whatever its age";
  EXPECT_EQ(cache.clear(0, false).bytes, 0u) << "empty";
}

class LargeCacheTest : public testing::Test {
 protected:
  static constexpr std::size_t most_bytes = Tunables::large_cache_chunks * chunk_bytes;

  void* allocate(std::size_t bytes, std::size_t alignment = 16) {
    return arena_->allocate_large(bytes, alignment, cache_).address;
  }
  LargeFree deallocate(void* object) { return arena_->deallocate_large(object, cache_); }

  test::FaultyOs os_;
  std::unique_ptr<Arena> arena_ = std::make_unique<Arena>();
  LargeCache* cache_ = &arena_->large_cache_of(3);
};

TEST_F(LargeCacheTest, objects_are_reused_by_those_of_as_many_chunks) {
  for (const std::size_t bytes : {std::size_t{1}, chunk_bytes, most_bytes}) {
    void* const object = allocate(bytes);
    test::fill_pattern(object, bytes, 1);
    EXPECT_EQ(deallocate(object), LargeFree::Freed);
    EXPECT_TRUE(arena_->validate());
    const Extent again = arena_->allocate_large(bytes, chunk_bytes, cache_);
    EXPECT_EQ(again.address, object);
    EXPECT_FALSE(again.zeroed);
    EXPECT_GE(arena_->large_usable_bytes(object), bytes);
    EXPECT_TRUE(arena_->validate());
    EXPECT_EQ(deallocate(object), LargeFree::Freed);
    arena_->clear(*cache_);
  }
}

TEST_F(LargeCacheTest, larger_and_more_aligned_objects_do_not_come_from_caches) {
  void* const small = allocate(1);
  EXPECT_EQ(deallocate(small), LargeFree::Freed);
  EXPECT_NE(allocate(1, 2 * chunk_bytes), small);
  EXPECT_EQ(cache_->runs(), 1u);
  void* const large = allocate(most_bytes + 1);
  EXPECT_EQ(deallocate(large), LargeFree::Freed);
  EXPECT_EQ(cache_->runs(), 1u);
  EXPECT_TRUE(arena_->validate());
}

TEST_F(LargeCacheTest, cached_objects_count_as_freed) {
  void* const object = allocate(most_bytes);
  void* const other = allocate(1);
  EXPECT_EQ(deallocate(object), LargeFree::Freed);
  ArenaStatistics now = arena_->statistics();
  EXPECT_EQ(now.in_use_bytes, chunk_bytes);
  EXPECT_EQ(now.dirty_bytes, most_bytes);
  EXPECT_EQ(now.large.count, 1u);
  EXPECT_EQ(now.large.bytes, large_step_bytes);
  EXPECT_EQ(now.large.allocations, 2u);
  EXPECT_EQ(now.large.frees, 1u);
  EXPECT_EQ(allocate(most_bytes), object);
  now = arena_->statistics();
  EXPECT_EQ(now.in_use_bytes, chunk_bytes + most_bytes);
  EXPECT_EQ(now.large.count, 2u);
  EXPECT_EQ(now.large.allocations, 3u);
  EXPECT_EQ(now.large.frees, 1u);
  EXPECT_EQ(deallocate(object), LargeFree::Freed);
  EXPECT_EQ(deallocate(other), LargeFree::Freed);
  arena_->clear(*cache_);
  now = arena_->statistics();
  EXPECT_EQ(now.in_use_bytes, 0u);
  EXPECT_EQ(now.dirty_bytes, most_bytes + chunk_bytes);
  EXPECT_EQ(now.large.count, 0u);
  EXPECT_EQ(now.large.bytes, 0u);
  EXPECT_EQ(now.large.allocations, now.large.frees);
}

TEST_F(LargeCacheTest, a_reused_run_has_the_bytes_of_its_new_object) {
  void* const object = allocate(most_bytes);
  std::size_t last = most_bytes;
  for (const std::size_t bytes :
       {most_bytes - 1, chunk_bytes + 1, most_bytes, std::size_t{70'000}}) {
    ASSERT_EQ(deallocate(object), LargeFree::Freed);
    EXPECT_EQ(arena_->statistics().large.bytes, 0u) << last;
    ASSERT_EQ(allocate(bytes), object);
    last = align_up(bytes, large_step_bytes);
    EXPECT_EQ(arena_->large_usable_bytes(object), last);
    EXPECT_EQ(arena_->statistics().large.bytes, last);
    EXPECT_TRUE(arena_->validate());
  }
  ASSERT_EQ(deallocate(object), LargeFree::Freed);
  arena_->trim();
  EXPECT_EQ(arena_->statistics().large.bytes, 0u);
  EXPECT_TRUE(arena_->validate());
}

TEST_F(LargeCacheTest, reports_every_address_in_a_cached_object_as_free) {
  auto* const object = static_cast<std::byte*>(allocate(most_bytes));
  EXPECT_EQ(deallocate(object + 16), LargeFree::Inside);
  EXPECT_EQ(deallocate(object), LargeFree::Freed);
  for (std::byte* address : {object, object + 16, object + most_bytes - 1}) {
    EXPECT_EQ(arena_->deallocate_large(address), LargeFree::AlreadyFree);
    EXPECT_EQ(deallocate(address), LargeFree::AlreadyFree);
    EXPECT_EQ(arena_->classify(address), LargeFree::AlreadyFree);
    EXPECT_EQ(arena_->large_usable_bytes(address), 0u);
  }
  EXPECT_EQ(cache_->runs(), 1u);
}

TEST_F(LargeCacheTest, trim_takes_objects_from_all_caches) {
  for (std::size_t number = 0; number < Tunables::large_caches; ++number) {
    LargeCache* const cache = &arena_->large_cache_of(number);
    ASSERT_EQ(arena_->deallocate_large(arena_->allocate_large(1, 16, cache).address, cache),
              LargeFree::Freed);
  }
  EXPECT_EQ(arena_->trim(), Tunables::large_caches * chunk_bytes);
  EXPECT_EQ(arena_->statistics().dirty_bytes, 0u);
  EXPECT_TRUE(arena_->validate());
}

TEST_F(LargeCacheTest, unused_objects_go_back_after_the_decay_time) {
  ASSERT_EQ(deallocate(allocate(1)), LargeFree::Freed);
  for (int look = 0; look < 4; ++look) {
    os_.advance_clock(tunables.decay_milliseconds);
    arena_->decay();
  }
  EXPECT_EQ(cache_->runs(), 0u);
  EXPECT_EQ(arena_->statistics().dirty_bytes, 0u);
}

TEST_F(LargeCacheTest, caches_nothing_if_memory_decays_at_once) {
  tunables.decay_milliseconds = 0;
  ASSERT_EQ(deallocate(allocate(1)), LargeFree::Freed);
  tunables = Tunables{};
  EXPECT_EQ(cache_->runs(), 0u);
  EXPECT_EQ(arena_->statistics().dirty_bytes, 0u);
}

TEST_F(LargeCacheTest, cached_objects_serve_other_requests_before_memory_is_exhausted) {
  void* const object = allocate(most_bytes);
  std::vector<void*> others;
  os_.fail_every(test::OsCall::MapAt);
  os_.fail_every(test::OsCall::Map);
  while (void* other = arena_->allocate_large(most_bytes, 16).address) {
    others.push_back(other);
  }
  ASSERT_EQ(deallocate(object), LargeFree::Freed);
  EXPECT_EQ(arena_->allocate(Tunables::large_cache_chunks).address, object);
  EXPECT_FALSE(arena_->allocate(1));
}

TEST_F(LargeCacheTest,
       cached_objects_serve_other_requests_before_bounded_address_space_is_used_up) {
  os_.limit_address_space(std::size_t{1} << 30);
  void* const object = allocate(most_bytes);
  ASSERT_EQ(deallocate(object), LargeFree::Freed);
  const std::size_t committed = arena_->statistics().committed_bytes;
  bool is_reused = false;
  while (arena_->statistics().committed_bytes == committed && !is_reused) {
    is_reused = arena_->allocate(Tunables::large_cache_chunks).address == object;
  }
  EXPECT_TRUE(is_reused);
  EXPECT_EQ(arena_->statistics().committed_bytes, committed);
}

TEST_F(LargeCacheTest, a_live_object_changes_its_size_and_a_cached_one_does_not) {
  void* const object = allocate(1);
  ASSERT_EQ(arena_->resize_large(object, most_bytes), object);
  EXPECT_EQ(arena_->large_usable_bytes(object), most_bytes);
  EXPECT_TRUE(arena_->validate());
  ASSERT_EQ(deallocate(object), LargeFree::Freed);
  EXPECT_EQ(arena_->resize_large(object, 1), nullptr);
  EXPECT_EQ(allocate(most_bytes), object);
}

}  // namespace
}  // namespace slabmalloc
