// SPDX-License-Identifier: MIT
// Tests of a zone's counters in every state of its pages, and of visit_live().
#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <set>
#include <thread>
#include <vector>

#include "slabmalloc/zone/statistics.hpp"
#include "support/frames.hpp"
#include "support/misuse_recorder.hpp"
#include "support/random.hpp"
#include "zone/zone_configs.hpp"

namespace slabmalloc::test {
namespace {

constexpr std::size_t base_page_bytes = 4 * kibibyte;
constexpr std::size_t slots_of_64 = 63;

class ZoneStatisticsTest : public testing::Test {
 protected:
  using Zone = PagedZone<FrameSource>;

  void TearDown() override { EXPECT_EQ(zone_.validate(), nullptr); }

  std::vector<void*> allocate(std::size_t count) {
    std::vector<void*> objects;
    for (std::size_t number = 0; number < count; ++number) {
      objects.push_back(zone_.allocate(layout_).value_or(nullptr));
    }
    return objects;
  }
  ClassStatistics found() const { return zone_.class_statistics(index_); }
  std::set<void*> visited() const {
    std::set<void*> objects;
    zone_.visit_live([&](void* object, std::size_t bytes) {
      EXPECT_EQ(bytes, 64u);
      EXPECT_TRUE(objects.insert(object).second) << "visited twice";
    });
    return objects;
  }

  const Layout layout_ = layout_of(64);
  const std::uint32_t index_ = Zone::class_for(layout_);
  FrameSource frames_;
  Zone zone_{frames_};
  MisuseRecorder misuse_;
};

TEST_F(ZoneStatisticsTest, of_a_new_zone_are_zero) {
  const ZoneStatistics sums = zone_.statistics();
  EXPECT_EQ(sums.used_bytes + sums.page_bytes + sums.depot_bytes + sums.allocations, 0u);
  EXPECT_EQ(found().object_size, 64u);
  EXPECT_EQ(found().page_bytes, base_page_bytes);
  EXPECT_EQ(found().pages + found().slots, 0u);
}

TEST_F(ZoneStatisticsTest, count_every_single_allocation_and_free) {
  std::vector<void*> objects;
  for (std::size_t count = 1; count <= 3 * slots_of_64 + 1; ++count) {
    objects.push_back(allocate(1)[0]);
    ASSERT_EQ(found().allocations, count);
    ASSERT_EQ(found().used, count);
    ASSERT_EQ(found().frees, 0u);
  }
  EXPECT_EQ(found().pages, 4u);
  EXPECT_EQ(found().slots, 4 * slots_of_64);
  const std::size_t total = objects.size();
  for (std::size_t count = 1; count <= total; ++count) {
    zone_.deallocate(objects[total - count], layout_);
    ASSERT_EQ(found().frees, count);
    ASSERT_EQ(found().used, total - count);
    ASSERT_EQ(found().allocations, total);
  }
}

TEST_F(ZoneStatisticsTest, count_pairs_on_one_slot) {
  for (std::size_t count = 1; count <= 1000; ++count) {
    zone_.deallocate(allocate(1)[0], layout_);
    ASSERT_EQ(found().allocations, count);
    ASSERT_EQ(found().frees, count);
  }
}

TEST_F(ZoneStatisticsTest, count_no_slot_twice_that_was_claimed_between_two_steps) {
  const std::uint32_t index = Zone::class_for(layout_of(16));
  std::vector<void*> objects;
  while (objects.size() + 5 < Zone::slots_per_page(index)) {
    objects.push_back(zone_.allocate_class(index).value_or(nullptr));
  }
  // The rest of the last word is claimed, and half of the page is free again.
  for (std::size_t number = 0; number < objects.size(); number += number % 64 == 61 ? 3 : 1) {
    zone_.deallocate_class(objects[number], index);
  }
  // As a caller whose search found nothing, after which another one claimed slots.
  ASSERT_NE(zone_.allocate_again(index), nullptr);
  EXPECT_EQ(zone_.allocations(index), objects.size() + 1);
  EXPECT_EQ(zone_.class_statistics(index).frees,
            objects.size() + 1 - zone_.class_statistics(index).used);
}

TEST_F(ZoneStatisticsTest, count_remote_frees_when_they_are_drained) {
  const std::vector<void*> objects = allocate(100);
  for (std::size_t number = 0; number < 40; ++number) {
    Zone::deallocate_remote(objects[number], layout_);
  }
  EXPECT_EQ(found().used, 100u);
  EXPECT_EQ(found().remote_frees, 0u);
  zone_.drain();
  EXPECT_EQ(found().used, 60u);
  EXPECT_EQ(found().frees, 40u);
  EXPECT_EQ(found().remote_frees, 40u);
  EXPECT_EQ(zone_.remote_frees(index_), 40u);
  EXPECT_EQ(found().allocations, 100u);
}

TEST_F(ZoneStatisticsTest, do_not_count_rejected_calls) {
  const std::vector<void*> objects = allocate(10);
  zone_.deallocate(objects[3], layout_);
  for (int count = 0; count < 5; ++count) {
    zone_.deallocate(objects[3], layout_);
    zone_.deallocate(static_cast<std::byte*>(objects[4]) + 1, layout_);
  }
  EXPECT_EQ(misuse_.take().size(), 10u);
  EXPECT_EQ(found().allocations, 10u);
  EXPECT_EQ(found().frees, 1u);
  EXPECT_EQ(found().used, 9u);
}

TEST_F(ZoneStatisticsTest, remember_the_most_pages_and_the_most_bytes) {
  const std::vector<void*> objects = allocate(20 * slots_of_64);
  void* large = zone_.allocate(layout_of(1000)).value_or(nullptr);
  zone_.deallocate(large, layout_of(1000));
  for (void* object : objects) {
    zone_.deallocate(object, layout_);
  }
  zone_.trim();
  EXPECT_EQ(found().pages, 0u);
  EXPECT_EQ(found().pages_high_water, 20u);
  EXPECT_EQ(found().refills, 20u);
  EXPECT_EQ(found().reclaims, 20u);
  const ZoneStatistics sums = zone_.statistics();
  EXPECT_EQ(sums.frame_bytes_high_water, 20 * base_page_bytes + 2 * mebibyte);
  EXPECT_EQ(sums.frame_bytes_high_water, frames_.live_bytes_high_water());
  EXPECT_EQ(sums.page_bytes + sums.depot_bytes, 0u);
  EXPECT_EQ(sums.refills, 21u);
  EXPECT_EQ(sums.reclaims, 21u);
}

TEST_F(ZoneStatisticsTest, count_a_page_that_changes_its_class_in_both) {
  zone_.deallocate(allocate(1)[0], layout_);
  zone_.drain_and_leave_current();
  ASSERT_TRUE(zone_.allocate(layout_of(128)));
  EXPECT_EQ(found().reclaims, 1u);
  EXPECT_EQ(found().pages, 0u);
  const ClassStatistics other = zone_.class_statistics(Zone::class_for(layout_of(128)));
  EXPECT_EQ(other.refills, 1u);
  EXPECT_EQ(other.pages, 1u);
  EXPECT_EQ(zone_.statistics().frame_bytes_high_water, base_page_bytes);
}

TEST_F(ZoneStatisticsTest, depot_and_classes_hold_all_pages_of_the_zone) {
  for (void* object : allocate(50 * slots_of_64)) {
    zone_.deallocate(object, layout_);
  }
  zone_.drain_and_leave_current();
  const ZoneStatistics sums = zone_.statistics();
  EXPECT_EQ(sums.page_bytes, base_page_bytes);
  EXPECT_EQ(sums.depot_bytes, 4 * base_page_bytes);
  EXPECT_EQ(sums.page_bytes + sums.depot_bytes, frames_.live_bytes());
}

TEST_F(ZoneStatisticsTest, sum_over_the_classes) {
  Random random;
  for (int count = 0; count < 2000; ++count) {
    const Layout layout = layout_of(random.between(1, 3000));
    void* object = zone_.allocate(layout).value_or(nullptr);
    if (!random.one_in(3)) {
      zone_.deallocate(object, layout);
    }
  }
  ZoneStatistics expected;
  for (std::uint32_t index = 0; index < Zone::class_count; ++index) {
    const ClassStatistics one = zone_.class_statistics(index);
    expected.used_bytes += one.used * one.object_size;
    expected.page_bytes += one.pages * one.page_bytes;
    expected.allocations += one.allocations;
    expected.frees += one.frees;
    expected.refills += one.refills;
  }
  const ZoneStatistics sums = zone_.statistics();
  EXPECT_EQ(sums.used_bytes, expected.used_bytes);
  EXPECT_EQ(sums.page_bytes, expected.page_bytes);
  EXPECT_EQ(sums.allocations, 2000u);
  EXPECT_EQ(sums.allocations, expected.allocations);
  EXPECT_EQ(sums.frees, expected.frees);
  EXPECT_EQ(sums.refills, expected.refills);
}

TEST(Statistics, of_the_same_class_of_two_owners_add_up) {
  ClassStatistics sum;
  for (const std::size_t unit : {std::size_t{1}, std::size_t{1000}}) {
    ClassStatistics one;
    one.object_size = 64;
    one.page_bytes = 4096;
    std::size_t value = 0;
    for (std::size_t* field :
         {&one.pages, &one.pages_high_water, &one.slots, &one.used, &one.allocations, &one.frees,
          &one.remote_frees, &one.refills, &one.reclaims}) {
      *field = ++value * unit;
    }
    sum += one;
  }
  EXPECT_EQ(sum.object_size, 64u);
  EXPECT_EQ(sum.page_bytes, 4096u);
  EXPECT_EQ(sum.pages, 1001u);
  EXPECT_EQ(sum.pages_high_water, 2002u);
  EXPECT_EQ(sum.slots, 3003u);
  EXPECT_EQ(sum.used, 4004u);
  EXPECT_EQ(sum.allocations, 5005u);
  EXPECT_EQ(sum.frees, 6006u);
  EXPECT_EQ(sum.remote_frees, 7007u);
  EXPECT_EQ(sum.refills, 8008u);
  EXPECT_EQ(sum.reclaims, 9009u);

  ZoneStatistics zone;
  zone += sum;
  ZoneStatistics zones = zone;
  zones += zone;
  EXPECT_EQ(zones.used_bytes, 2 * 4004u * 64);
  EXPECT_EQ(zones.page_bytes, 2 * 1001u * 4096);
  EXPECT_EQ(zones.allocations, 2 * 5005u);
  EXPECT_EQ(zones.frees, 2 * 6006u);
  EXPECT_EQ(zones.remote_frees, 2 * 7007u);
  EXPECT_EQ(zones.refills, 2 * 8008u);
  EXPECT_EQ(zones.reclaims, 2 * 9009u);
}

TEST_F(ZoneStatisticsTest, read_by_another_thread_lag_by_the_current_page) {
  std::atomic<std::size_t> issued = 0;
  std::atomic<bool> done = false;
  std::thread reader([&] {
    while (!done) {
      const std::size_t counted = zone_.allocations(index_);
      EXPECT_LE(counted, issued + word_bits);
    }
  });
  for (int count = 0; count < 20000; ++count) {
    ++issued;
    void* object = allocate(1)[0];
    if (count % 3 != 0) {
      zone_.deallocate(object, layout_);
    }
    EXPECT_LE(issued, zone_.allocations(index_) + 3 * slots_of_64);
  }
  done = true;
  reader.join();
  zone_.drain_and_leave_current();
  EXPECT_EQ(zone_.allocations(index_), 20000u) << "exact once settled";
}

TEST_F(ZoneStatisticsTest, visit_live_shows_live_objects_and_nothing_else) {
  const std::vector<void*> objects = allocate(5 * slots_of_64 + 20);
  std::set<void*> live(objects.begin(), objects.end());
  EXPECT_TRUE(visited() == live) << "neither slots never issued nor claimed ones";
  for (std::size_t position = 0; position < objects.size(); position += 4) {
    zone_.deallocate(objects[position], layout_);
    live.erase(objects[position]);
  }
  EXPECT_TRUE(visited() == live);
  for (std::size_t position = 1; position < objects.size(); position += 4) {
    Zone::deallocate_remote(objects[position], layout_);
    live.erase(objects[position]);
  }
  EXPECT_TRUE(visited() == live) << "freed by others, whether taken in or not";
  zone_.drain();
  EXPECT_TRUE(visited() == live);
  for (int count = 0; count < 30; ++count) {
    live.insert(allocate(1)[0]);
  }
  EXPECT_TRUE(visited() == live);
  for (void* object : std::set<void*>(live)) {
    zone_.deallocate(object, layout_);
  }
  EXPECT_TRUE(visited().empty());
}

}  // namespace
}  // namespace slabmalloc::test
