// SPDX-License-Identifier: MIT
#include "slabmalloc/kernel/reclaimer.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "kernel/hosted_kernel.hpp"
#include "slabmalloc/kernel/object_cache.hpp"
#include "support/frames.hpp"
#include "support/run_threads.hpp"

namespace slabmalloc {
namespace {

using test::FrameSource;
using test::HostedCpu;
using test::PatientKernel;

struct Node {
  std::uint64_t words[12];
};
constexpr std::size_t page = 4 * kibibyte;
constexpr Layout small = Layout::of<std::uint64_t[8]>();

/// A cache in the list, with a shrink callback that the test chooses.
struct Entry {
  using Cache = ObjectCache<Node, PatientKernel, FrameSource>;

  Entry(const char* name, FrameSource& frames) : cache(name, frames), entry(cache) {
    entry.set_shrink(
        [](void* self, std::size_t bytes) noexcept {
          auto& callback = static_cast<Entry*>(self)->on_shrink;
          return callback ? callback(bytes) : std::size_t{0};
        },
        this);
  }
  /// Allocates `count` objects, then frees them. Empty pages stay, all but one in the frame cache.
  void leave_empty(std::size_t count) {
    hold(count);
    release();
    EXPECT_TRUE(cache.zones().drain_this_cpu());
  }
  void hold(std::size_t count) {
    held.resize(count);
    held.resize(cache.allocate_many(held.data(), count));
  }
  std::size_t release() {
    const std::size_t bytes = held.size() * sizeof(Node);
    cache.deallocate_many(held.data(), held.size());
    held.clear();
    return bytes;
  }

  Cache cache;
  Reclaimable entry;
  std::vector<Node*> held;
  std::function<std::size_t(std::size_t)> on_shrink;
};

class ReclaimerTest : public testing::Test {
 protected:
  using Heap = CpuZones<PatientKernel, FrameSource>;
  static constexpr std::size_t slots = Entry::Cache::objects_per_page;

  void SetUp() override { HostedCpu::number = 0; }
  void TearDown() override {
    EXPECT_EQ(reclaimer.validate(), nullptr);
    for (Entry* one : {&first, &second, &third}) {
      EXPECT_TRUE(reclaimer.remove(one->entry));
      one->release();
      EXPECT_EQ(one->cache.destroy(), 0u);
    }
    heap.release_all();
    EXPECT_EQ(frames.live_bytes(), 0u);
  }
  void add_all() {
    for (Entry* one : {&first, &second, &third}) {
      reclaimer.add(one->entry);
    }
  }
  std::vector<std::string> names() {
    std::vector<std::string> result;
    reclaimer.for_each([&](Reclaimable& entry) { result.emplace_back(entry.name()); });
    return result;
  }

  FrameSource frames;
  Heap heap{frames};
  Entry first{"first", frames};
  Entry second{"second", frames};
  Entry third{"third", frames};
  Reclaimer<PatientKernel> reclaimer;
};

using Names = std::vector<std::string>;

TEST_F(ReclaimerTest, entries_come_and_go_in_any_order) {
  EXPECT_EQ(names(), Names{});
  add_all();
  EXPECT_EQ(names(), (Names{"first", "second", "third"}));
  EXPECT_TRUE(reclaimer.remove(second.entry));
  EXPECT_TRUE(reclaimer.remove(second.entry)) << "it is out already";
  EXPECT_EQ(names(), (Names{"first", "third"}));
  reclaimer.add(second.entry);
  EXPECT_EQ(names(), (Names{"first", "third", "second"}));
  EXPECT_TRUE(reclaimer.remove(first.entry));
  EXPECT_EQ(names(), (Names{"third", "second"}));
  EXPECT_EQ(reclaimer.validate(), nullptr);
  EXPECT_TRUE(reclaimer.remove(second.entry));
  EXPECT_TRUE(reclaimer.remove(third.entry));
  EXPECT_EQ(names(), Names{});
  EXPECT_EQ(reclaimer.reclaim(1), 0u);
}

TEST_F(ReclaimerTest, reports_a_broken_invariant_to_the_kernel) {
  add_all();
  EXPECT_DEATH(reclaimer.add(second.entry), "an entry is in one list");
}

TEST_F(ReclaimerTest, takes_empty_frames_first_and_from_each_entry_in_turn) {
  add_all();
  for (Entry* one : {&first, &second, &third}) {
    one->leave_empty(4 * slots);
    one->on_shrink = [](std::size_t) -> std::size_t {
      ADD_FAILURE() << "there was enough";
      return 0;
    };
  }
  EXPECT_EQ(frames.live_bytes(), 3 * 4 * page);
  EXPECT_EQ(reclaimer.reclaim(page), 4 * page);
  EXPECT_EQ(first.cache.statistics().pages, 0u);
  EXPECT_EQ(reclaimer.reclaim(page), 4 * page);
  EXPECT_EQ(second.cache.statistics().pages, 0u);
  first.leave_empty(4 * slots);
  EXPECT_EQ(reclaimer.reclaim(5 * page), 8 * page);
  EXPECT_EQ(frames.live_bytes(), 0u);
}

TEST_F(ReclaimerTest, drains_frees_by_other_cpus) {
  add_all();
  second.hold(3 * slots);
  HostedCpu::number = 1;
  second.release();
  ASSERT_TRUE(second.cache.zones().drain_this_cpu());
  HostedCpu::number = 0;
  EXPECT_EQ(reclaimer.reclaim(4 * page), 4 * page);
}

TEST_F(ReclaimerTest, asks_clients_to_shrink_by_the_missing_bytes) {
  add_all();
  first.leave_empty(4 * slots);
  second.hold(8 * slots);
  third.hold(4 * slots);
  std::size_t wanted = 0;
  second.on_shrink = [&](std::size_t bytes) {
    wanted = bytes;
    EXPECT_EQ(HostedCpu::saved, 0u) << "callbacks are called with nothing held";
    return second.release();
  };
  third.on_shrink = [](std::size_t) -> std::size_t {
    ADD_FAILURE() << "there was enough";
    return 0;
  };
  EXPECT_EQ(reclaimer.reclaim(10 * page), 12 * page);
  EXPECT_EQ(wanted, 6 * page);
  EXPECT_EQ(third.held.size(), 4 * slots);
}

/// The callback of one entry frees objects of another, at which the walk was before.
TEST_F(ReclaimerTest, gets_what_a_callback_frees_in_an_earlier_entry) {
  add_all();
  first.hold(4 * slots);
  third.on_shrink = [&](std::size_t) { return first.release(); };
  EXPECT_EQ(reclaimer.reclaim(page), 4 * page);
}

TEST_F(ReclaimerTest, a_callback_takes_the_place_of_the_one_before) {
  int number = 1;
  const auto by_request = [](void* argument, const ReclaimRequest& request) noexcept {
    *static_cast<int*>(argument) *= 3;
    return request.bytes;
  };
  const auto by_bytes = [](void* argument, std::size_t bytes) noexcept {
    *static_cast<int*>(argument) *= 5;
    return bytes;
  };
  first.entry.set_shrink(by_request, &number);
  EXPECT_EQ(first.entry.shrink({8, 1}), 8u);
  EXPECT_EQ(number, 3);
  first.entry.set_shrink(by_bytes, &number);
  EXPECT_EQ(first.entry.shrink({9, 1}), 9u);
  EXPECT_EQ(number, 15);
  first.entry.set_shrink(by_request, &number);
  EXPECT_EQ(first.entry.shrink({7, 1}), 7u);
  EXPECT_EQ(number, 45);
  first.entry.set_shrink(nullptr);
  EXPECT_FALSE(first.entry.has_shrink());
}

TEST_F(ReclaimerTest, reserved_frames_stay) {
  add_all();
  ASSERT_TRUE(first.cache.reserve(2 * slots));
  const std::size_t reserved = frames.live_bytes();
  first.leave_empty(10 * slots);
  reclaimer.reclaim(~std::size_t{0});
  EXPECT_EQ(frames.live_bytes(), reserved);
  ASSERT_TRUE(first.cache.reserve(0));
}

TEST_F(ReclaimerTest, an_allocation_that_may_wait_takes_memory_back_from_caches) {
  add_all();
  heap.set_reclaim(&reclaimer.reclaim_for, &reclaimer);
  frames.set_limit(8 * page);
  first.hold(8 * slots);
  first.on_shrink = [&](std::size_t) { return first.release(); };
  EXPECT_FALSE(heap.allocate(small, Context::MayNotWait));
  EXPECT_TRUE(heap.allocate(small, Context::MayWait));
}

TEST_F(ReclaimerTest, a_callback_may_itself_allocate_and_wait) {
  add_all();
  heap.set_reclaim(&reclaimer.reclaim_for, &reclaimer);
  frames.set_limit(8 * page);
  first.hold(8 * slots);
  int calls = 0;
  second.on_shrink = [&](std::size_t) -> std::size_t {
    ++calls;
    EXPECT_FALSE(heap.allocate(small, Context::MayWait)) << "nothing was freed yet";
    const std::size_t freed = first.release();
    EXPECT_TRUE(heap.allocate(small, Context::MayWait)) << "from what was";
    return freed;
  };
  EXPECT_TRUE(heap.allocate(small, Context::MayWait));
  EXPECT_EQ(calls, 1);
}

TEST_F(ReclaimerTest, an_entry_that_is_shrinking_is_removed_later) {
  // The entry where a walk begins, and one where it continues.
  for (Entry* leaving : {&first, &second}) {
    add_all();
    int calls = 0;
    leaving->on_shrink = [&](std::size_t) -> std::size_t {
      ++calls;
      EXPECT_FALSE(reclaimer.remove(leaving->entry)) << "this very call visits it";
      reclaimer.reclaim(1);
      return 0;
    };
    reclaimer.reclaim(1);
    reclaimer.reclaim(1);
    EXPECT_EQ(calls, 1) << "nobody comes any more";
    EXPECT_EQ(names(), (Names{leaving == &first ? "second" : "first", "third"}));
    for (Entry* one : {&first, &second, &third}) {
      EXPECT_TRUE(reclaimer.remove(one->entry));
    }
    reclaimer.add(leaving->entry);
    EXPECT_EQ(names(), Names{leaving->entry.name()});
    leaving->on_shrink = nullptr;
    EXPECT_TRUE(reclaimer.remove(leaving->entry));
  }
}

TEST_F(ReclaimerTest, other_entries_may_come_and_go_while_one_shrinks) {
  add_all();
  Names visited;
  second.on_shrink = [&](std::size_t) -> std::size_t {
    visited.emplace_back("second");
    EXPECT_TRUE(reclaimer.remove(first.entry)) << "where the walk began";
    EXPECT_TRUE(reclaimer.remove(third.entry)) << "where it would go on";
    return 0;
  };
  first.on_shrink = [&](std::size_t) -> std::size_t {
    visited.emplace_back("first");
    return 0;
  };
  third.on_shrink = first.on_shrink;
  reclaimer.reclaim(1);
  EXPECT_EQ(visited, (Names{"first", "second"}));
  EXPECT_EQ(names(), Names{"second"});
  second.on_shrink = [&](std::size_t) -> std::size_t {
    reclaimer.add(third.entry);
    return 0;
  };
  reclaimer.reclaim(1);
  EXPECT_EQ(names(), (Names{"second", "third"}));
}

TEST_F(ReclaimerTest, the_entry_where_a_walk_began_may_be_removed) {
  // The next walk begins at the third entry. It continues with the others, and the third is
  // removed.
  add_all();
  third.leave_empty(4 * slots);
  second.leave_empty(4 * slots);
  EXPECT_EQ(reclaimer.reclaim(4 * page), 4 * page) << "the second's, and the hand is at the third";
  int visits = 0;
  first.on_shrink = [&](std::size_t) -> std::size_t {
    ++visits;
    EXPECT_TRUE(reclaimer.remove(third.entry));
    EXPECT_TRUE(reclaimer.remove(second.entry));
    return 0;
  };
  reclaimer.reclaim(~std::size_t{0});
  EXPECT_EQ(visits, 1);
  EXPECT_EQ(names(), Names{"first"});
}

TEST_F(ReclaimerTest, all_are_drained_and_trimmed_by_one_call) {
  add_all();
  Reclaimable heap_entry("heap", heap);
  reclaimer.add(heap_entry);
  first.hold(2 * slots);
  void* const object = heap.allocate(small).value();
  HostedCpu::number = 1;
  first.release();
  heap.deallocate(object, small);
  EXPECT_TRUE(reclaimer.drain_this_cpu()) << "delivers what this one gathered";
  HostedCpu::number = 0;
  EXPECT_EQ(first.cache.zones().statistics().zones.used_bytes, 2 * slots * sizeof(Node));
  EXPECT_TRUE(reclaimer.drain_this_cpu());
  EXPECT_EQ(first.cache.zones().statistics().zones.used_bytes, 0u);
  EXPECT_EQ(heap.statistics().zones.used_bytes, 0u);
  EXPECT_EQ(reclaimer.trim(), 8 * page);
  EXPECT_EQ(frames.live_bytes(), 0u);
  EXPECT_TRUE(reclaimer.remove(heap_entry));
}

TEST_F(ReclaimerTest, drain_later_is_done_by_the_next_slow_path) {
  add_all();
  first.hold(4 * slots);
  HostedCpu::number = 1;
  first.release();
  ASSERT_TRUE(first.cache.zones().drain_this_cpu());
  reclaimer.drain_later();
  HostedCpu::number = 0;
  first.cache.zones().run_deferred();
  EXPECT_EQ(first.cache.zones().statistics().zones.used_bytes, 0u);
}

/// Every CPU adds and removes an entry of its own, while all reclaim.
TEST(ReclaimerThreads, entries_come_and_go_while_others_reclaim) {
  constexpr std::size_t cpus = 4;
  FrameSource frames;
  Reclaimer<PatientKernel> reclaimer;
  Entry common("common", frames);
  reclaimer.add(common.entry);
  std::atomic<std::size_t> visits = 0;
  common.on_shrink = [&](std::size_t) -> std::size_t {
    ++visits;
    return 0;
  };
  test::run_threads(cpus, [&](std::size_t cpu) {
    HostedCpu::number = static_cast<std::uint32_t>(cpu);
    for (int round = 0; round < 200; ++round) {
      Entry own("own", frames);
      own.on_shrink = [&](std::size_t) { return std::size_t{1}; };
      reclaimer.add(own.entry);
      std::vector<Node*> objects(100);
      objects.resize(own.cache.allocate_many(objects.data(), objects.size()));
      if (Node* const object = common.cache.allocate()) {
        common.cache.deallocate(object);
      }
      reclaimer.reclaim(round % 3 == 0 ? ~std::size_t{0} : page);
      reclaimer.for_each([](Reclaimable& entry) {
        CacheStatistics now;
        EXPECT_TRUE(entry.statistics(0, now));
      });
      while (!reclaimer.remove(own.entry)) {
        std::this_thread::yield();
      }
      own.cache.deallocate_many(objects.data(), objects.size());
      EXPECT_EQ(own.cache.destroy(), 0u);
    }
  });
  EXPECT_EQ(reclaimer.validate(), nullptr);
  EXPECT_GT(visits, 0u);
  EXPECT_TRUE(reclaimer.remove(common.entry));
  EXPECT_EQ(common.cache.destroy(), 0u);
  EXPECT_EQ(frames.live_bytes(), 0u);
}

TEST(ReclaimerOfOneCpu, needs_no_atomics) {
  HostedCpu::number = 0;
  FrameSource frames;
  ObjectCache<Node, test::SingleKernel, FrameSource,
              GranuleCacheOptions<4 * kibibyte, SingleCpuAtomics>>
      cache("node", frames);
  Reclaimable entry(cache);
  Reclaimer<test::SingleKernel, SingleCpuAtomics> reclaimer;
  reclaimer.add(entry);
  cache.deallocate(cache.allocate());
  EXPECT_EQ(reclaimer.trim(), 4 * page);
  EXPECT_TRUE(reclaimer.remove(entry));
}

}  // namespace
}  // namespace slabmalloc
