// SPDX-License-Identifier: MIT
//
// Tests of ObjectCache: the life of its objects, and its statistics.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <set>
#include <utility>
#include <vector>

#include "kernel/object_cache_fixture.hpp"
#include "support/misuse_recorder.hpp"

namespace slabmalloc {
namespace {

using test::Inode;
using test::ObjectCacheTest;

TEST_F(ObjectCacheTest, every_slot_of_a_frame_is_constructed_once_and_destroyed_when_it_goes) {
  Inode* const first = cache.allocate();
  ASSERT_NE(first, nullptr);
  EXPECT_EQ(Inode::constructed, frames.live_frames() * slots);
  const std::size_t constructed = Inode::constructed;
  for (int round = 0; round < 3; ++round) {
    free_all(allocate(slots - 1));
  }
  EXPECT_EQ(Inode::constructed, constructed);
  EXPECT_EQ(Inode::destroyed, 0u);
  cache.deallocate(first);
  cache.zones().trim();
  EXPECT_EQ(frames.live_frames(), 0u);
  EXPECT_EQ(Inode::destroyed, constructed);
}

TEST_F(ObjectCacheTest, objects_keep_their_state_while_they_are_free) {
  const std::size_t count = 20 * slots;
  std::vector<Inode*> objects = allocate(count);
  ASSERT_EQ(objects.size(), count);
  for (Inode* object : objects) {
    EXPECT_EQ(object->lock, 0x10C4u);
    object->uses = 1;
    object->names[24] = reinterpret_cast<std::uintptr_t>(object);
  }
  // Through idle pages, the frame cache and another CPU.
  free_all(objects);
  ASSERT_TRUE(cache.zones().drain_this_cpu());
  on_cpu(1);
  objects = allocate(count);
  std::size_t used_before = 0;
  for (Inode* object : objects) {
    EXPECT_EQ(object->lock, 0x10C4u);
    if (object->uses != 0) {
      ++used_before;
      EXPECT_EQ(object->names[24], reinterpret_cast<std::uintptr_t>(object));
    }
  }
  EXPECT_EQ(Inode::constructed, frames.live_frames() * slots + Inode::destroyed);
  EXPECT_GT(used_before, count / 4);
  free_all(objects);
}

TEST_F(ObjectCacheTest, objects_of_reserved_frames_are_constructed_too) {
  ASSERT_TRUE(cache.reserve(1));
  EXPECT_EQ(Inode::constructed, slots);
  frames.set_exhausted(true);
  Inode* const object = cache.allocate();
  ASSERT_NE(object, nullptr);
  EXPECT_EQ(object->lock, 0x10C4u);
  cache.deallocate(object);
}

TEST_F(ObjectCacheTest, objects_of_different_frames_have_different_colours) {
  static_assert(Cache::shape.colours() > 1);
  std::set<std::uintptr_t> offsets;
  const std::vector<Inode*> objects = allocate(32 * slots);
  std::set<std::uintptr_t> seen;
  for (Inode* object : objects) {
    const auto address = reinterpret_cast<std::uintptr_t>(object);
    if (seen.insert(address / Cache::page_bytes).second) {
      offsets.insert(address % Cache::page_bytes);
    }
  }
  EXPECT_EQ(offsets.size(), Cache::shape.colours());
  free_all(objects);
}

TEST_F(ObjectCacheTest, many_objects_come_and_go_by_one_call) {
  const std::vector<Inode*> objects = allocate(1000);
  ASSERT_EQ(objects.size(), 1000u);
  EXPECT_EQ(std::set(objects.begin(), objects.end()).size(), 1000u);
  EXPECT_EQ(cache.statistics().objects_in_use, 1000u);
  free_all(objects);
  EXPECT_EQ(cache.statistics().objects_in_use, 0u);
  frames.set_exhausted(true);
  const std::vector<Inode*> some = allocate(5000);
  EXPECT_LT(some.size(), 5000u);
  EXPECT_EQ(some.size(), frames.live_frames() * slots);
  free_all(some);
}

TEST_F(ObjectCacheTest, statistics_count_objects_pages_and_limits) {
  cache.set_limit(100 * slots);
  const std::vector<Inode*> objects = allocate(10 * slots);
  on_cpu(1);
  cache.deallocate_many(objects.data(), slots);
  cache.deallocate(nullptr);
  ASSERT_TRUE(cache.zones().drain_this_cpu());
  on_cpu(0);
  ASSERT_TRUE(cache.reserve_for_interrupts(2));
  const CacheStatistics now = cache.statistics();
  EXPECT_STREQ(now.name, "inode");
  EXPECT_EQ(now.objects_in_use, 9 * slots);
  EXPECT_EQ(now.pages, frames.live_frames());
  EXPECT_EQ(now.objects, now.pages * slots);
  EXPECT_EQ(now.object_bytes, sizeof(Inode));
  EXPECT_EQ(now.objects_per_page, slots);
  EXPECT_EQ(now.page_bytes, 4096u);
  EXPECT_EQ(now.pages_high_water, now.pages);
  EXPECT_EQ(now.limit_pages, 100u);
  EXPECT_GE(now.refills, 10u);
  EXPECT_EQ(now.remote_frees, slots);
  EXPECT_EQ(now.nested_calls, 0u);
  EXPECT_EQ(now.failures, 0u);
  cache.deallocate_many(objects.data() + slots, 9 * slots);
}

TEST_F(ObjectCacheTest, destroy_waits_for_the_last_object) {
  const std::vector<Inode*> objects = allocate(3 * slots);
  cache.deallocate_many(objects.data() + 2, objects.size() - 2);
  on_cpu(3);
  EXPECT_EQ(cache.destroy(), 2u);
  EXPECT_EQ(objects[0]->lock, 0x10C4u);
  EXPECT_EQ(cache.statistics().objects_in_use, 2u);
  cache.deallocate(objects[0]);
  EXPECT_EQ(cache.destroy(), 1u);
  cache.deallocate(objects[1]);
  EXPECT_EQ(cache.destroy(), 0u);
  EXPECT_EQ(frames.live_frames(), 0u);
  Inode* const again = cache.allocate();
  ASSERT_NE(again, nullptr);
  cache.deallocate(again);
}

TEST_F(ObjectCacheTest, destroy_finds_objects_in_transit_between_cpus) {
  ASSERT_TRUE(cache.reserve_for_interrupts(3));
  const std::vector<Inode*> objects = allocate(5 * slots);
  on_cpu(2);
  free_all(objects);
  EXPECT_EQ(cache.destroy(), 0u);
  EXPECT_EQ(frames.live_frames(), 0u);
}

TEST_F(ObjectCacheTest, misuse_is_reported_and_does_nothing) {
  test::MisuseRecorder misuse;
  Inode* const object = cache.allocate();
  cache.deallocate(object);
  cache.deallocate(object);
  EXPECT_EQ(misuse.take_kinds(), std::vector{MisuseKind::DoubleFree});
  Inode* const other = cache.allocate();
  cache.deallocate(reinterpret_cast<Inode*>(reinterpret_cast<std::byte*>(other) + 8));
  EXPECT_EQ(misuse.take_kinds(), std::vector{MisuseKind::MisalignedFree});
  EXPECT_EQ(cache.destroy(), 1u) << "whatever the counts say";
  cache.deallocate(other);
  cache.deallocate(nullptr);
}

}  // namespace
}  // namespace slabmalloc
