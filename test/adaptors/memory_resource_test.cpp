// SPDX-License-Identifier: MIT
#include "slabmalloc/adaptors/memory_resource.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstring>
#include <list>
#include <map>
#include <memory_resource>
#include <new>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "containers.hpp"

namespace slabmalloc::test {
namespace {

/// A resource over new and delete that counts its blocks.
class CountingResource : public std::pmr::memory_resource {
 public:
  std::size_t allocations = 0;
  std::size_t live = 0;

 private:
  void* do_allocate(std::size_t bytes, std::size_t alignment) override {
    ++allocations;
    ++live;
    return std::pmr::new_delete_resource()->allocate(bytes, alignment);
  }
  void do_deallocate(void* block, std::size_t bytes, std::size_t alignment) override {
    --live;
    std::pmr::new_delete_resource()->deallocate(block, bytes, alignment);
  }
  bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override {
    return this == &other;
  }
};

constexpr std::size_t entries = 2000;

/// Fills and checks one container of each kind on `resource`. Calls `while_live` while they live.
template <class WhileLive>
void use_containers(std::pmr::memory_resource* resource, WhileLive&& while_live) {
  std::pmr::vector<std::pmr::string> texts(resource);
  std::pmr::list<std::size_t> list(resource);
  std::pmr::map<std::size_t, std::pmr::string> map(resource);
  std::pmr::unordered_map<std::pmr::string, std::size_t> table(resource);
  for (std::size_t number = 0; number < entries; ++number) {
    const std::string text = long_text(number);
    texts.emplace_back(text);
    list.push_front(number);
    map.emplace(number, text);
    table.emplace(text, number);
  }
  for (std::size_t number = 0; number < entries; number += 2) {
    map.erase(number);
  }
  while_live();
  for (std::size_t number = 0; number < entries; ++number) {
    const std::string text = long_text(number);
    ASSERT_EQ(std::string(texts[number]), text);
    ASSERT_EQ(table.at(std::pmr::string(text)), number);
    ASSERT_EQ(map.count(number), number % 2);
  }
  ASSERT_EQ(list.size(), entries);
  ASSERT_EQ(list.front(), entries - 1);
}

TEST(ZoneResource, containers_live_in_the_zone_and_leave_nothing_there) {
  FrameSource frames;
  TestZone zone(frames);
  ZoneResource resource(zone);
  use_containers(&resource, [&] {
    EXPECT_GE(zone.statistics().used_bytes, 3 * entries * long_text(0).size());
    EXPECT_EQ(zone.validate(), nullptr);
  });
  EXPECT_EQ(zone.statistics().used_bytes, 0u);
  EXPECT_EQ(zone.validate(), nullptr);
}

TEST(ZoneResource, blocks_above_the_largest_class_come_from_the_pager) {
  FrameSource frames;
  TestZone zone(frames);
  ZoneResource resource(zone);
  const std::size_t bytes = TestZone::MAX_ALLOC_SIZE + 1;
  void* block = resource.allocate(bytes, 8);
  std::memset(block, 1, bytes);
  EXPECT_EQ(frames.live_frames(), 1u);
  resource.deallocate(block, bytes, 8);
  EXPECT_EQ(frames.live_frames(), 0u);
}

TEST(ZoneResource, without_runs_arrays_above_the_largest_class_come_from_upstream) {
  FrameSource frames;
  ZoneAllocator zone;
  CountingResource upstream;
  ZoneResource resource(zone, &upstream);
  const Layout largest = Layout::from_size_align(ZoneAllocator::MAX_ALLOC_SIZE, 8).value();
  ASSERT_TRUE(zone.refill_large(largest, frames.page<LargeObjectPage>()));
  void* block = resource.allocate(largest.size(), 8);
  EXPECT_EQ(upstream.live, 0u);
  {
    std::pmr::vector<int> numbers(100'000, 7, &resource);
    EXPECT_EQ(upstream.live, 1u);
    void* aligned = resource.allocate(8, 2 * largest.size());
    EXPECT_EQ(upstream.live, 2u) << "the alignment exceeds the zone";
    resource.deallocate(aligned, 8, 2 * largest.size());
    EXPECT_EQ(numbers.back(), 7);
  }
  EXPECT_EQ(upstream.live, 0u);
  resource.deallocate(block, largest.size(), 8);
  EXPECT_EQ(zone.statistics().used_bytes, 0u);
}

TEST(ZoneResource, without_an_upstream_it_takes_the_default_of_its_construction) {
  CountingResource upstream;
  std::pmr::memory_resource* const before = std::pmr::set_default_resource(&upstream);
  ZoneAllocator zone;
  ZoneResource resource(zone);
  std::pmr::set_default_resource(&resource);
  {
    std::pmr::vector<int> numbers(100'000);
    EXPECT_EQ(upstream.live, 1u);
  }
  std::pmr::set_default_resource(before);
  EXPECT_EQ(upstream.live, 0u);
  EXPECT_EQ(resource.upstream_resource(), &upstream);
}

TEST(ZoneResource, every_alignment_that_the_zone_serves_is_kept) {
  FrameSource frames;
  TestZone zone(frames);
  ZoneResource resource(zone);
  for (std::size_t alignment = 1; alignment <= 64 * kibibyte; alignment *= 2) {
    void* first = resource.allocate(24, alignment);
    void* second = resource.allocate(24, alignment);
    EXPECT_TRUE(is_aligned(first, alignment) && is_aligned(second, alignment)) << alignment;
    resource.deallocate(first, 24, alignment);
    resource.deallocate(second, 24, alignment);
  }
  std::pmr::vector<Wide> wide(100, Wide{7}, &resource);
  EXPECT_TRUE(is_aligned(wide.data(), alignof(Wide)));
}

TEST(ZoneResource, exhaustion_is_bad_alloc_and_harms_nothing) {
  FrameSource frames;
  TestZone zone(frames);
  ZoneResource resource(zone);
  frames.set_limit(256 * kibibyte);
  {
    std::pmr::list<std::string> list(&resource);
    const auto fill = [&] {
      for (;;) {
        list.emplace_back();
      }
    };
    EXPECT_THROW(fill(), std::bad_alloc);
    const std::size_t most = list.size();
    EXPECT_GT(most, 3000u);
    EXPECT_EQ(zone.validate(), nullptr);
    list.pop_front();
    list.emplace_back();
    EXPECT_THROW(list.emplace_back(), std::bad_alloc);
    EXPECT_EQ(list.size(), most);
  }
  EXPECT_EQ(zone.statistics().used_bytes, 0u);
}

TEST(ZoneResource, a_zone_without_pager_is_served_from_its_refills) {
  FrameSource frames;
  ZoneAllocator zone;
  ZoneResource resource(zone);
  EXPECT_THROW((void)resource.allocate(64, 8), std::bad_alloc);
  const Layout layout = Layout::from_size_align(64, 8).value();
  ASSERT_TRUE(zone.refill(layout, frames.page<ObjectPage>()));
  void* block = resource.allocate(64, 8);
  EXPECT_EQ(zone.statistics().used_bytes, 64u);
  resource.deallocate(block, 64, 8);
  EXPECT_EQ(zone.statistics().used_bytes, 0u);
}

TEST(ZoneResource, sizes_that_no_address_space_holds_are_bad_alloc) {
  FrameSource frames;
  TestZone zone(frames);
  ZoneResource resource(zone);
  for (const std::size_t bytes : {~std::size_t{0}, std::size_t{PTRDIFF_MAX} + 1}) {
    EXPECT_THROW((void)resource.allocate(bytes, 64), std::bad_alloc);
  }
  EXPECT_EQ(frames.calls(), 0u);
}

TEST(ZoneResource, resources_are_equal_where_they_share_the_zone) {
  FrameSource frames;
  TestZone zone(frames);
  TestZone other_zone(frames);
  ZoneResource resource(zone);
  ZoneResource same(zone);
  ZoneResource other(other_zone);
  EXPECT_TRUE(resource == same);
  EXPECT_FALSE(resource == other);
  EXPECT_FALSE(resource == *process_resource());

  std::pmr::vector<int> source({1, 2, 3}, &resource);
  const int* elements = source.data();
  std::pmr::vector<int> taken(std::move(source), &same);
  EXPECT_EQ(taken.data(), elements) << "equal resources hand over without a copy";
  std::pmr::vector<int> copied(std::move(taken), &other);
  EXPECT_NE(copied.data(), elements);
}

TEST(ZoneResource, of_one_size_nodes_come_from_the_slots_and_arrays_from_upstream) {
  FrameSource frames;
  SCAllocator<EmbeddedPage<64 * kibibyte>> allocator(64);
  ASSERT_TRUE(allocator.refill(frames.page<EmbeddedPage<64 * kibibyte>>()));
  CountingResource upstream;
  ZoneResource resource(allocator, &upstream);
  {
    std::pmr::unordered_map<std::size_t, std::size_t> table(&resource);
    for (std::size_t number = 0; number < 500; ++number) {
      table.emplace(number, number);
    }
    EXPECT_EQ(allocator.statistics().used, 500u);
    EXPECT_EQ(upstream.live, 1u) << "the bucket array";
  }
  EXPECT_EQ(allocator.statistics().used, 0u);
  EXPECT_EQ(upstream.live, 0u);
  EXPECT_EQ(allocator.validate(), nullptr);
}

TEST(ZoneResource, of_one_size_a_block_that_fits_never_goes_upstream) {
  FrameSource frames;
  SCAllocator<ObjectPage> allocator(64, 64);
  ASSERT_TRUE(allocator.refill(frames.page<ObjectPage>()));
  CountingResource upstream;
  ZoneResource resource(allocator, &upstream);
  for (const std::size_t bytes : {0u, 1u, 63u, 64u}) {
    void* block = resource.allocate(bytes, 64);
    EXPECT_TRUE(is_aligned(block, 64));
    EXPECT_EQ(allocator.statistics().used, 1u) << bytes;
    resource.deallocate(block, bytes, 64);
  }
  EXPECT_EQ(upstream.allocations, 0u);
  void* wider = resource.allocate(64, 128);
  EXPECT_EQ(upstream.live, 1u) << "the slots are aligned to 64 only";
  resource.deallocate(wider, 64, 128);
  EXPECT_EQ(upstream.live, 0u);
}

TEST(ZoneResource, of_one_size_without_upstream_or_slots_it_is_bad_alloc) {
  FrameSource frames;
  SCAllocator<ObjectPage> allocator(1024);
  ZoneResource resource(allocator, std::pmr::null_memory_resource());
  EXPECT_THROW((void)resource.allocate(1025, 8), std::bad_alloc);
  EXPECT_THROW((void)resource.allocate(1024, 8), std::bad_alloc);
  ASSERT_TRUE(allocator.refill(frames.page<ObjectPage>()));
  for (int count = 0; count < 3; ++count) {
    EXPECT_NE(resource.allocate(1024, 8), nullptr);
  }
  EXPECT_THROW((void)resource.allocate(1024, 8), std::bad_alloc);
}

TEST(ZoneResource, of_one_size_resources_are_equal_where_they_share_slots_and_upstream) {
  SCAllocator<ObjectPage> allocator(64);
  SCAllocator<ObjectPage> other_allocator(64);
  CountingResource upstream;
  ZoneResource resource(allocator, &upstream);
  EXPECT_TRUE(resource == ZoneResource(allocator, &upstream));
  EXPECT_FALSE(resource == ZoneResource(allocator));
  EXPECT_FALSE(resource == ZoneResource(other_allocator, &upstream));
}

TEST(ProcessResource, containers_work_and_pass_between_threads) {
  std::pmr::vector<std::pmr::string> texts(process_resource());
  std::thread([&] {
    for (std::size_t number = 0; number < entries; ++number) {
      texts.emplace_back(long_text(number));
    }
  }).join();
  EXPECT_EQ(texts.size(), entries);
  EXPECT_EQ(std::string(texts.back()), long_text(entries - 1));
  use_containers(process_resource(), [] {});
}

TEST(ProcessResource, every_size_and_alignment_gives_usable_memory) {
  for (std::size_t alignment = 1; alignment <= 64 * kibibyte; alignment *= 2) {
    for (const std::size_t bytes : {std::size_t{0}, std::size_t{1}, alignment + 1}) {
      void* block = process_resource()->allocate(bytes, alignment);
      ASSERT_NE(block, nullptr);
      EXPECT_TRUE(is_aligned(block, alignment)) << alignment;
      std::memset(block, 1, bytes);
      process_resource()->deallocate(block, bytes, alignment);
    }
  }
}

TEST(ProcessResource, sizes_that_no_address_space_holds_are_bad_alloc) {
  for (const std::size_t alignment : {8u, 64u, 4096u}) {
    for (const std::size_t bytes :
         {~std::size_t{0}, ~std::size_t{0} - alignment + 2, std::size_t{PTRDIFF_MAX}}) {
      EXPECT_THROW((void)process_resource()->allocate(bytes, alignment), std::bad_alloc)
          << bytes << " aligned to " << alignment;
    }
  }
}

TEST(ProcessResource, all_are_equal) {
  ProcessResource one;
  EXPECT_TRUE(one == *process_resource());
  EXPECT_FALSE(one == *std::pmr::new_delete_resource());
}

}  // namespace
}  // namespace slabmalloc::test
