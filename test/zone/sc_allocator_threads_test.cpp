// SPDX-License-Identifier: MIT
//
// Tests of simultaneous frees of an SCAllocator's objects by other threads, and of their memory
// order.
#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "slabmalloc/zone/sc_allocator.hpp"
#include "support/happens_before.hpp"
#include "support/misuse_recorder.hpp"
#include "support/pattern.hpp"
#include "support/random.hpp"
#include "support/run_threads.hpp"
#include "zone/page_source.hpp"
#include "zone/zone_configs.hpp"

namespace slabmalloc {
namespace {

using test::run_threads;

constexpr std::size_t object_bytes = 64;

template <class Page>
class SCAllocatorThreadsTest : public testing::Test {
 protected:
  SCAllocatorThreadsTest() : allocator_(object_bytes) {}

  void* allocate() { return allocator_.allocate(layout).value_or(nullptr); }
  std::vector<void*> allocate_all() {
    std::vector<void*> objects;
    while (void* object = allocate()) {
      objects.push_back(object);
    }
    return objects;
  }

  static inline const Layout layout = *Layout::from_size_align(object_bytes, 8);

  test::MisuseRecorder misuse_;
  test::PageSource<Page> source_;
  SCAllocator<Page> allocator_;
};
using SharedPageTypes =
    testing::Types<ObjectPage, ObjectPage64K, BesidePage<test::SmallChunkTable<HardwareAtomics>>>;
TYPED_TEST_SUITE(SCAllocatorThreadsTest, SharedPageTypes);

TYPED_TEST(SCAllocatorThreadsTest,
           all_but_one_of_several_simultaneous_frees_of_an_object_are_reported) {
  for (const std::size_t thread_count : {2u, 3u, 4u}) {
    test::refill(this->allocator_, this->source_, 3);
    const std::vector<void*> objects = this->allocate_all();
    run_threads(thread_count, [&](std::size_t) {
      for (void* object : objects) {
        this->allocator_.deallocate_remote(object, this->layout);
      }
    });
    EXPECT_EQ(this->misuse_.take_count(MisuseKind::DoubleFree),
              (thread_count - 1) * objects.size());
    this->allocator_.drain();
    EXPECT_EQ(this->allocator_.validate(), nullptr);
    EXPECT_EQ(this->allocator_.statistics().used, 0u);
    EXPECT_EQ(test::reclaim_all(this->allocator_, this->source_), 3u);
  }
}

TYPED_TEST(SCAllocatorThreadsTest, one_of_two_frees_is_reported_even_while_the_owner_drains) {
  for (int round = 0; round < 40; ++round) {
    test::refill(this->allocator_, this->source_, 2);
    const std::vector<void*> objects = this->allocate_all();
    std::atomic<int> running = 2;
    run_threads(3, [&](std::size_t thread) {
      if (thread == 0) {
        while (running.load() != 0) {
          this->allocator_.drain();
        }
      } else {
        for (void* object : objects) {
          this->allocator_.deallocate_remote(object, this->layout);
        }
        running.fetch_sub(1);
      }
    });
    this->allocator_.drain();
    ASSERT_EQ(this->misuse_.take_count(MisuseKind::DoubleFree), objects.size());
    ASSERT_EQ(this->allocator_.validate(), nullptr);
    ASSERT_EQ(this->allocator_.statistics().used, 0u);
    ASSERT_EQ(test::reclaim_all(this->allocator_, this->source_), 2u);
  }
}

/// Objects in transit from the owner to the threads that free them.
class Belt {
 public:
  void put(void* object) {
    const std::lock_guard lock(mutex_);
    objects_.push_back(object);
    changed_.notify_one();
  }
  void close() {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    changed_.notify_all();
  }
  /// The next object; none once the belt is closed and empty.
  std::optional<void*> take() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return closed_ || !objects_.empty(); });
    if (objects_.empty()) {
      return std::nullopt;
    }
    void* object = objects_.front();
    objects_.pop_front();
    return object;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<void*> objects_;
  bool closed_ = false;
};

TYPED_TEST(SCAllocatorThreadsTest, objects_freed_by_other_threads_are_reused_and_never_shared) {
  constexpr std::size_t consumers = 2;
  constexpr std::size_t total = 30'000;
  test::Random random;
  test::refill(this->allocator_, this->source_, 3);
  Belt belt;
  std::atomic<std::size_t> damaged = 0;
  std::vector<std::thread> threads;
  for (std::size_t thread = 0; thread < consumers; ++thread) {
    threads.emplace_back([&] {
      while (const std::optional<void*> object = belt.take()) {
        const auto key = reinterpret_cast<std::uintptr_t>(*object);
        damaged += test::holds_pattern(*object, object_bytes, key) ? 0 : 1;
        test::fill_pattern(*object, object_bytes, ~key);
        this->allocator_.deallocate_remote(*object, this->layout);
      }
    });
  }
  for (std::size_t given = 0; given < total;) {
    if (void* object = this->allocate()) {
      ++given;
      test::fill_pattern(object, object_bytes, reinterpret_cast<std::uintptr_t>(object));
      if (random.one_in(8)) {
        this->allocator_.deallocate(object, this->layout);
      } else {
        belt.put(object);
      }
    } else {
      std::this_thread::yield();
    }
    if (random.one_in(1000)) {
      this->allocator_.drain();
      test::reclaim_all(this->allocator_, this->source_);
      test::refill(this->allocator_, this->source_, 3 - this->source_.live_pages());
    }
  }
  belt.close();
  for (std::thread& thread : threads) {
    thread.join();
  }
  EXPECT_EQ(damaged.load(), 0u);
  this->allocator_.drain();
  EXPECT_EQ(this->allocator_.validate(), nullptr);
  const ClassStatistics statistics = this->allocator_.statistics();
  EXPECT_EQ(statistics.used, 0u);
  EXPECT_EQ(statistics.allocations, total);
  EXPECT_EQ(statistics.frees, total);
  EXPECT_EQ(test::reclaim_all(this->allocator_, this->source_), 3u);
}

using OrderPage = EmbeddedPage<4 * kibibyte, test::HappensBeforeAtomics>;
class SCAllocatorOrder : public SCAllocatorThreadsTest<OrderPage> {
 protected:
  using HappensBefore = test::HappensBefore;

  SCAllocatorOrder() {
    HappensBefore::reset();
    test::refill(allocator_, source_, 1);
  }
};

TEST_F(SCAllocatorOrder, writes_by_the_freeing_thread_happen_before_the_next_use) {
  const std::vector<void*> objects = allocate_all();
  ASSERT_GE(objects.size(), 3u);
  std::uint64_t last_use[HappensBefore::thread_count] = {};
  for (const std::size_t thread : {1u, 2u, 3u}) {
    HappensBefore::become(thread);
    last_use[thread] = HappensBefore::now();
    allocator_.deallocate_remote(objects[thread - 1], layout);
  }
  HappensBefore::become(0);
  for (const std::size_t thread : {1u, 2u, 3u}) {
    EXPECT_FALSE(HappensBefore::has_seen(thread, last_use[thread])) << "nothing was acquired yet";
  }
  for (int count = 0; count < 3; ++count) {
    ASSERT_NE(allocate(), nullptr);
  }
  for (const std::size_t thread : {1u, 2u, 3u}) {
    EXPECT_TRUE(HappensBefore::has_seen(thread, last_use[thread])) << thread;
  }
}

TEST_F(SCAllocatorOrder, a_slot_that_is_drained_before_its_announcement_was_released_by_its_mark) {
  const std::vector<void*> objects = allocate_all();
  HappensBefore::become(1);
  const std::uint64_t last_use = HappensBefore::now();
  HappensBefore::interrupt_after_next_mark([&] {
    HappensBefore::become(2);
    allocator_.deallocate_remote(objects[1], layout);
    HappensBefore::become(0);
    EXPECT_EQ(allocate(), objects[0]);
    EXPECT_TRUE(HappensBefore::has_seen(1, last_use));
    EXPECT_EQ(allocator_.validate(), nullptr);
  });
  allocator_.deallocate_remote(objects[0], layout);
  HappensBefore::become(0);
  allocator_.drain();
  EXPECT_EQ(allocator_.validate(), nullptr);
  EXPECT_EQ(allocator_.statistics().used, objects.size() - 1);
}

TEST_F(SCAllocatorOrder, the_next_announcer_has_seen_the_owner_take_the_page) {
  void* first = allocate();
  void* second = allocate();
  HappensBefore::become(1);
  allocator_.deallocate_remote(first, layout);
  HappensBefore::become(0);
  const std::uint64_t before_taking = HappensBefore::now();
  allocator_.drain();
  HappensBefore::become(1);
  EXPECT_FALSE(HappensBefore::has_seen(0, before_taking));
  allocator_.deallocate_remote(second, layout);
  EXPECT_TRUE(HappensBefore::has_seen(0, before_taking)) << "so it may write the link again";
}

}  // namespace
}  // namespace slabmalloc
