// SPDX-License-Identifier: MIT
#include "slabmalloc/adaptors/stl_allocator.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <functional>
#include <limits>
#include <list>
#include <map>
#include <memory>
#include <new>
#include <set>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

#include "containers.hpp"

namespace slabmalloc::test {
namespace {

template <class T>
using InZone = StlAllocator<T, TestZone>;
template <class T>
using ZoneVector = std::vector<T, InZone<T>>;
using ZoneString = std::basic_string<char, std::char_traits<char>, InZone<char>>;

constexpr std::size_t entries = 2000;

/// Fills and checks one container of each kind with allocators made from `allocator`.
template <template <class> class Allocator, class WhileLive>
void use_containers(const Allocator<char>& allocator, WhileLive&& while_live) {
  using String = std::basic_string<char, std::char_traits<char>, Allocator<char>>;
  using Entry = std::pair<const std::size_t, String>;
  std::vector<String, Allocator<String>> texts(allocator);
  std::list<std::size_t, Allocator<std::size_t>> list(allocator);
  std::map<std::size_t, String, std::less<>, Allocator<Entry>> map(allocator);
  std::unordered_map<std::size_t, String, std::hash<std::size_t>, std::equal_to<>, Allocator<Entry>>
      table(8, allocator);
  for (std::size_t number = 0; number < entries; ++number) {
    const String text(long_text(number), allocator);
    texts.push_back(text);
    list.push_back(number);
    map.emplace(number, text);
    table.emplace(number, text);
  }
  while_live();
  for (std::size_t number = 0; number < entries; ++number) {
    ASSERT_EQ(std::string(texts[number]), long_text(number));
    ASSERT_EQ(std::string(map.at(number)), long_text(number));
    ASSERT_EQ(std::string(table.at(number)), long_text(number));
  }
  ASSERT_EQ(list.size(), entries);
}

TEST(StlAllocator, containers_live_in_the_zone_and_leave_nothing_there) {
  FrameSource frames;
  TestZone zone(frames);
  use_containers<InZone>(InZone<char>(zone), [&] {
    EXPECT_GE(zone.statistics().used_bytes, 3 * entries * long_text(0).size());
    EXPECT_EQ(zone.validate(), nullptr);
  });
  EXPECT_EQ(zone.statistics().used_bytes, 0u);
  EXPECT_EQ(zone.validate(), nullptr);
}

TEST(StlAllocator, an_object_and_its_count_share_one_block_of_the_zone) {
  FrameSource frames;
  TestZone zone(frames);
  auto shared = std::allocate_shared<std::size_t>(InZone<std::size_t>(zone), std::size_t{41});
  std::weak_ptr<std::size_t> weak = shared;
  EXPECT_EQ(zone.statistics().allocations, 1u);
  shared.reset();
  EXPECT_TRUE(weak.expired());
  weak.reset();
  EXPECT_EQ(zone.statistics().used_bytes, 0u);
}

TEST(StlAllocator, over_aligned_types_are_aligned) {
  FrameSource frames;
  TestZone zone(frames);
  ZoneVector<Wide> wide(zone);
  std::list<Wide, InZone<Wide>> list{InZone<Wide>(zone)};
  for (std::size_t count = 1; count < 200; ++count) {
    wide.push_back({count});
    ASSERT_TRUE(is_aligned(wide.data(), alignof(Wide))) << count;
    ASSERT_TRUE(is_aligned(&list.emplace_back(), alignof(Wide))) << count;
  }
}

TEST(StlAllocator, exhaustion_is_bad_alloc_and_harms_nothing) {
  FrameSource frames;
  TestZone zone(frames);
  frames.set_limit(512 * kibibyte);
  {
    ZoneVector<ZoneString> texts(zone);
    const auto fill = [&] {
      for (;;) {
        texts.emplace_back(long_text(1), zone);
      }
    };
    EXPECT_THROW(fill(), std::bad_alloc);
    EXPECT_EQ(texts.size(), 128u) << "the next array would need a page of 2 MiB";
    EXPECT_EQ(std::string(texts.back()), long_text(1));
    EXPECT_EQ(zone.validate(), nullptr);
  }
  EXPECT_EQ(zone.statistics().used_bytes, 0u);
}

TEST(StlAllocator, counts_whose_bytes_overflow_are_refused) {
  FrameSource frames;
  TestZone zone(frames);
  InZone<std::uint64_t> allocator(zone);
  constexpr std::size_t most = std::numeric_limits<std::size_t>::max();
  // Modulo 2^64, 2^61 + 1 objects of 8 bytes take 8 bytes.
  for (const std::size_t count : {most, most / 2, most / 8 + 2}) {
    EXPECT_THROW((void)allocator.allocate(count), std::bad_array_new_length) << count;
    EXPECT_THROW((void)ProcessAllocator<std::uint64_t>().allocate(count), std::bad_array_new_length)
        << count;
  }
  EXPECT_EQ(frames.calls(), 0u);
  EXPECT_THROW((void)allocator.allocate(std::size_t{PTRDIFF_MAX} / 8), std::bad_alloc);
}

TEST(StlAllocator, allocators_are_equal_where_they_share_the_zone) {
  FrameSource frames;
  TestZone zone(frames);
  TestZone other_zone(frames);
  const InZone<int> allocator(zone);
  EXPECT_TRUE(allocator == InZone<int>(zone));
  EXPECT_TRUE(allocator == InZone<double>(zone));
  EXPECT_TRUE(allocator != InZone<int>(other_zone));
  EXPECT_TRUE(InZone<int>(InZone<double>(zone)) == allocator);
}

TEST(StlAllocator, a_move_takes_the_elements_and_their_zone_along) {
  FrameSource frames;
  TestZone zone(frames);
  TestZone other_zone(frames);
  ZoneVector<int> source({1, 2, 3}, zone);
  ZoneVector<int> target({4}, other_zone);
  const int* elements = source.data();
  target = std::move(source);
  EXPECT_EQ(target.data(), elements);
  EXPECT_EQ(&target.get_allocator().zone(), &zone);
  EXPECT_EQ(other_zone.statistics().used_bytes, 0u) << "what it had went back to its own zone";
}

TEST(StlAllocator, a_swap_exchanges_elements_and_zones) {
  FrameSource frames;
  TestZone zone(frames);
  TestZone other_zone(frames);
  ZoneVector<int> left({1, 2, 3}, zone);
  ZoneVector<int> right({4}, other_zone);
  const int* elements = left.data();
  std::swap(left, right);
  EXPECT_EQ(right.data(), elements);
  EXPECT_EQ(&right.get_allocator().zone(), &zone);
  EXPECT_EQ(&left.get_allocator().zone(), &other_zone);
}

TEST(StlAllocator, a_container_that_is_copied_into_stays_in_its_zone) {
  FrameSource frames;
  TestZone zone(frames);
  TestZone other_zone(frames);
  const ZoneVector<int> source({1, 2, 3}, zone);
  ZoneVector<int> target(other_zone);
  target = source;
  EXPECT_EQ(target, source);
  EXPECT_EQ(&target.get_allocator().zone(), &other_zone);
  EXPECT_GT(other_zone.statistics().used_bytes, 0u);
}

TEST(StlAllocatorOverOneSize, nodes_come_from_the_slots) {
  using Slots = SCAllocator<ObjectPage>;
  FrameSource frames;
  Slots slots(64);
  ASSERT_TRUE(slots.refill(frames.page<ObjectPage>()));
  {
    std::set<std::size_t, std::less<>, StlAllocator<std::size_t, Slots>> set{
        StlAllocator<std::size_t, Slots>(slots)};
    for (std::size_t number = 0; number < 63; ++number) {
      set.insert(number);
    }
    EXPECT_EQ(slots.statistics().used, 63u);
    EXPECT_THROW(set.insert(63), std::bad_alloc);
    set.erase(10);
    set.insert(63);
    EXPECT_EQ(*set.rbegin(), 63u);
  }
  EXPECT_EQ(slots.statistics().used, 0u);
  StlAllocator<char, Slots> bytes(slots);
  EXPECT_THROW((void)bytes.allocate(65), std::bad_alloc) << "larger than a slot";
  bytes.deallocate(bytes.allocate(64), 64);
}

TEST(ProcessAllocator, containers_work) {
  use_containers<ProcessAllocator>(ProcessAllocator<char>(), [] {});
  std::vector<Wide, ProcessAllocator<Wide>> wide(100);
  EXPECT_TRUE(is_aligned(wide.data(), alignof(Wide)));
}

TEST(ProcessAllocator, it_takes_no_room_and_all_are_equal) {
  static_assert(std::is_empty_v<ProcessAllocator<int>>);
  static_assert(std::allocator_traits<ProcessAllocator<int>>::is_always_equal::value);
  static_assert(sizeof(std::vector<int, ProcessAllocator<int>>) == sizeof(std::vector<int>));
  EXPECT_TRUE(ProcessAllocator<int>() == ProcessAllocator<double>());
  int* from_one = ProcessAllocator<int>().allocate(3);
  ProcessAllocator<int>().deallocate(from_one, 3);
}

}  // namespace
}  // namespace slabmalloc::test
