// SPDX-License-Identifier: MIT
//
// Frees of an SCAllocator's objects by others than its owner.
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

using test::layout_of;
using test::run_threads;

constexpr std::size_t object_bytes = 64;

template <class Page>
class SCAllocatorRemoteTest : public testing::Test {
 protected:
  SCAllocatorRemoteTest() : allocator_(object_bytes) {}

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
TYPED_TEST_SUITE(SCAllocatorRemoteTest, test::PageTypes);

TYPED_TEST(SCAllocatorRemoteTest, an_object_freed_by_another_is_reused_without_a_call_to_collect) {
  test::refill(this->allocator_, this->source_, 2);
  for (void* object : this->allocate_all()) {
    this->allocator_.deallocate_remote(object, this->layout);
    ASSERT_EQ(this->allocate(), object);
    ASSERT_EQ(this->allocate(), nullptr);
    ASSERT_EQ(this->allocator_.validate(), nullptr);
  }
}

TYPED_TEST(SCAllocatorRemoteTest, many_queued_pages_are_all_reused) {
  test::refill(this->allocator_, this->source_, 30);
  const std::vector<void*> objects = this->allocate_all();
  for (void* object : objects) {
    this->allocator_.deallocate_remote(object, this->layout);
  }
  EXPECT_EQ(this->allocate_all().size(), objects.size());
  EXPECT_EQ(this->allocator_.validate(), nullptr);
}

TYPED_TEST(SCAllocatorRemoteTest, collecting_makes_pages_reclaimable) {
  test::refill(this->allocator_, this->source_, 3);
  for (void* object : this->allocate_all()) {
    this->allocator_.deallocate_remote(object, this->layout);
  }
  this->allocator_.collect();
  EXPECT_EQ(this->allocator_.validate(), nullptr);
  EXPECT_EQ(this->allocator_.statistics().used, 0u);
  EXPECT_EQ(test::reclaim_all(this->allocator_, this->source_), 3u);
}

TYPED_TEST(SCAllocatorRemoteTest, a_page_with_frees_that_are_not_collected_is_not_reclaimed) {
  test::refill(this->allocator_, this->source_, 1);
  void* object = this->allocate();
  this->allocator_.deallocate_remote(object, this->layout);
  test::reclaim_all(this->allocator_, this->source_);
  this->allocator_.collect();
  test::reclaim_all(this->allocator_, this->source_);
  EXPECT_EQ(this->source_.live_pages(), 0u);
  EXPECT_EQ(this->allocator_.validate(), nullptr);
}

TYPED_TEST(SCAllocatorRemoteTest, frees_by_others_are_counted) {
  test::refill(this->allocator_, this->source_, 2);
  const std::vector<void*> objects = this->allocate_all();
  for (std::size_t index = 0; index < objects.size(); ++index) {
    if (index % 3 == 0) {
      this->allocator_.deallocate_remote(objects[index], this->layout);
    } else if (index % 3 == 1) {
      this->allocator_.deallocate(objects[index], this->layout);
    }
  }
  this->allocator_.collect();
  const ClassStatistics statistics = this->allocator_.statistics();
  EXPECT_EQ(statistics.remote_frees, (objects.size() + 2) / 3);
  EXPECT_EQ(statistics.used, objects.size() / 3);
  EXPECT_EQ(statistics.allocations, objects.size());
  EXPECT_EQ(statistics.frees, objects.size() - objects.size() / 3);
}

TYPED_TEST(SCAllocatorRemoteTest, an_object_of_another_allocator_goes_home) {
  SCAllocator<TypeParam> other(object_bytes);
  test::refill(this->allocator_, this->source_, 1);
  const std::vector<void*> objects = this->allocate_all();
  for (void* object : objects) {
    other.deallocate(object, this->layout);
  }
  EXPECT_EQ(other.allocate(this->layout).error(), AllocationError::OutOfMemory);
  EXPECT_EQ(this->allocate_all().size(), objects.size());
  EXPECT_EQ(other.validate(), nullptr);
}

TYPED_TEST(SCAllocatorRemoteTest, a_free_by_another_after_the_owners_is_reported_at_the_merge) {
  test::refill(this->allocator_, this->source_, 2);
  const std::vector<void*> objects = this->allocate_all();
  for (const std::size_t index : {std::size_t{0}, objects.size() / 2, objects.size() - 1}) {
    this->allocator_.deallocate(objects[index], this->layout);
    this->allocator_.deallocate_remote(objects[index], this->layout);
    this->allocator_.collect();
    const std::vector<Misuse> reports = this->misuse_.take();
    ASSERT_EQ(reports.size(), 1u);
    EXPECT_EQ(reports[0].kind, MisuseKind::DoubleFree);
    EXPECT_EQ(reports[0].address, objects[index]);
    EXPECT_EQ(this->allocator_.validate(), nullptr);
    EXPECT_EQ(this->allocator_.statistics().used, objects.size() - 1);
    EXPECT_EQ(this->allocate(), objects[index]);
    EXPECT_EQ(this->allocate(), nullptr) << "the slot is given out once";
  }
}

TYPED_TEST(SCAllocatorRemoteTest, a_free_by_another_of_a_slot_next_to_be_given_out_is_reported) {
  test::refill(this->allocator_, this->source_, 1);
  const std::vector<void*> objects = this->allocate_all();
  this->allocator_.deallocate(objects[3], this->layout);
  this->allocator_.deallocate(objects[7], this->layout);
  ASSERT_EQ(this->allocate(), objects[3]);
  this->allocator_.deallocate_remote(objects[7], this->layout);
  this->allocator_.collect();
  EXPECT_EQ(this->misuse_.take_count(MisuseKind::DoubleFree), 1u);
  EXPECT_EQ(this->allocator_.validate(), nullptr);
  EXPECT_EQ(this->allocate(), objects[7]);
  EXPECT_EQ(this->allocate(), nullptr);
  EXPECT_EQ(this->allocator_.statistics().used, objects.size());
}

TYPED_TEST(SCAllocatorRemoteTest, a_free_by_the_owner_after_anothers_is_reported_at_the_merge) {
  test::refill(this->allocator_, this->source_, 2);
  const std::vector<void*> objects = this->allocate_all();
  for (const std::size_t index : {std::size_t{0}, objects.size() - 1}) {
    this->allocator_.deallocate_remote(objects[index], this->layout);
    this->allocator_.deallocate(objects[index], this->layout);
    this->allocator_.collect();
    EXPECT_EQ(this->misuse_.take_count(MisuseKind::DoubleFree), 1u);
    EXPECT_EQ(this->allocator_.validate(), nullptr);
    EXPECT_EQ(this->allocate(), objects[index]);
    EXPECT_EQ(this->allocate(), nullptr);
  }
}

TYPED_TEST(SCAllocatorRemoteTest,
           the_last_object_freed_by_owner_and_another_empties_its_page_once) {
  for (const bool owner_first : {true, false}) {
    test::refill(this->allocator_, this->source_, 1);
    const std::vector<void*> objects = this->allocate_all();
    for (std::size_t index = 1; index < objects.size(); ++index) {
      this->allocator_.deallocate(objects[index], this->layout);
    }
    if (owner_first) {
      this->allocator_.deallocate(objects[0], this->layout);
      this->allocator_.deallocate_remote(objects[0], this->layout);
    } else {
      this->allocator_.deallocate_remote(objects[0], this->layout);
      this->allocator_.deallocate(objects[0], this->layout);
    }
    test::reclaim_all(this->allocator_, this->source_);
    this->allocator_.collect();
    test::reclaim_all(this->allocator_, this->source_);
    EXPECT_EQ(this->misuse_.take_count(MisuseKind::DoubleFree), 1u);
    EXPECT_EQ(this->source_.live_pages(), 0u);
    EXPECT_EQ(this->allocator_.validate(), nullptr);
  }
}

TYPED_TEST(SCAllocatorRemoteTest, two_frees_by_others_of_one_object_are_reported_once) {
  test::refill(this->allocator_, this->source_, 1);
  const std::vector<void*> objects = this->allocate_all();
  for (const bool collect_between : {false, true}) {
    this->allocator_.deallocate_remote(objects[5], this->layout);
    if (collect_between) {
      this->allocator_.collect();
    }
    this->allocator_.deallocate_remote(objects[5], this->layout);
    this->allocator_.collect();
    EXPECT_EQ(this->misuse_.take_count(MisuseKind::DoubleFree), 1u);
    EXPECT_EQ(this->allocator_.validate(), nullptr);
    EXPECT_EQ(this->allocate(), objects[5]);
    EXPECT_EQ(this->allocate(), nullptr);
  }
}

/// The two halves of a free by another thread, so that the owner can act in between.
template <class Page>
struct SplitFree {
  void mark() const {
    page->remote(slot / word_bits, words).fetch_or(Word{1} << (slot % word_bits), Order::release);
  }
  void announce() const {
    if (page->announced.fetch_add(1, Order::acq_rel) == 0) {
      Owner<typename Page::Atomics>::of(page->tag.load(Order::relaxed))->push(page);
    }
  }

  typename Page::Header* page;
  std::uint32_t slot;
  std::uint32_t words;
};

TYPED_TEST(SCAllocatorRemoteTest, a_free_that_is_not_announced_yet_pins_its_page) {
  for (const bool owner_fills_up_before : {false, true}) {
    test::refill(this->allocator_, this->source_, 1);
    const std::vector<void*> objects = this->allocate_all();
    ASSERT_EQ(this->allocate(), nullptr);
    const SplitFree<TypeParam> late{TypeParam::header_of(objects[0]), 0,
                                    TypeParam::geometry(object_bytes).words};
    late.mark();
    for (std::size_t index = 1; index < objects.size(); ++index) {
      this->allocator_.deallocate_remote(objects[index], this->layout);
    }
    this->allocator_.collect();
    ASSERT_EQ(this->allocator_.validate(), nullptr);
    ASSERT_EQ(test::reclaim_all(this->allocator_, this->source_), 0u)
        << "its announcement would land in memory of someone else";
    if (owner_fills_up_before) {
      ASSERT_EQ(this->allocate_all().size(), objects.size()) << "marked slots are reusable";
      ASSERT_EQ(this->allocator_.validate(), nullptr);
      late.announce();
      this->allocator_.collect();
      ASSERT_EQ(this->allocator_.validate(), nullptr);
      ASSERT_EQ(this->allocator_.statistics().used, objects.size());
      for (void* object : objects) {
        this->allocator_.deallocate(object, this->layout);
      }
    } else {
      late.announce();
      this->allocator_.collect();
    }
    EXPECT_EQ(this->allocator_.validate(), nullptr);
    EXPECT_EQ(test::reclaim_all(this->allocator_, this->source_), 1u);
  }
}

/// With atomics: what may happen at the same time.
template <class Page>
class SCAllocatorThreadsTest : public SCAllocatorRemoteTest<Page> {};
using SharedPageTypes =
    testing::Types<ObjectPage, ObjectPage64K, BesidePage<test::SmallChunkTable<HardwareAtomics>>>;
TYPED_TEST_SUITE(SCAllocatorThreadsTest, SharedPageTypes);

TYPED_TEST(SCAllocatorThreadsTest, of_several_frees_of_an_object_at_once_all_but_one_are_reported) {
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
    this->allocator_.collect();
    EXPECT_EQ(this->allocator_.validate(), nullptr);
    EXPECT_EQ(this->allocator_.statistics().used, 0u);
    EXPECT_EQ(test::reclaim_all(this->allocator_, this->source_), 3u);
  }
}

TYPED_TEST(SCAllocatorThreadsTest, of_two_frees_one_is_reported_even_while_the_owner_collects) {
  for (int round = 0; round < 40; ++round) {
    test::refill(this->allocator_, this->source_, 2);
    const std::vector<void*> objects = this->allocate_all();
    std::atomic<int> running = 2;
    run_threads(3, [&](std::size_t thread) {
      if (thread == 0) {
        while (running.load() != 0) {
          this->allocator_.collect();
        }
      } else {
        for (void* object : objects) {
          this->allocator_.deallocate_remote(object, this->layout);
        }
        running.fetch_sub(1);
      }
    });
    this->allocator_.collect();
    ASSERT_EQ(this->misuse_.take_count(MisuseKind::DoubleFree), objects.size());
    ASSERT_EQ(this->allocator_.validate(), nullptr);
    ASSERT_EQ(this->allocator_.statistics().used, 0u);
    ASSERT_EQ(test::reclaim_all(this->allocator_, this->source_), 2u);
  }
}

/// Objects on their way from the owner to those who free them.
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
      this->allocator_.collect();
      test::reclaim_all(this->allocator_, this->source_);
      test::refill(this->allocator_, this->source_, 3 - this->source_.live_pages());
    }
  }
  belt.close();
  for (std::thread& thread : threads) {
    thread.join();
  }
  EXPECT_EQ(damaged.load(), 0u);
  this->allocator_.collect();
  EXPECT_EQ(this->allocator_.validate(), nullptr);
  const ClassStatistics statistics = this->allocator_.statistics();
  EXPECT_EQ(statistics.used, 0u);
  EXPECT_EQ(statistics.allocations, total);
  EXPECT_EQ(statistics.frees, total);
  EXPECT_EQ(test::reclaim_all(this->allocator_, this->source_), 3u);
}

using OrderPage = EmbeddedPage<4 * kibibyte, test::HappensBeforeAtomics>;
class SCAllocatorOrder : public SCAllocatorRemoteTest<OrderPage> {
 protected:
  using HappensBefore = test::HappensBefore;

  SCAllocatorOrder() {
    HappensBefore::reset();
    test::refill(allocator_, source_, 1);
  }
};

TEST_F(SCAllocatorOrder, what_the_freeing_thread_did_happened_before_the_next_use) {
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

TEST_F(SCAllocatorOrder,
       a_slot_that_is_collected_before_its_announcement_was_released_by_its_mark) {
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
  allocator_.collect();
  EXPECT_EQ(allocator_.validate(), nullptr);
  EXPECT_EQ(allocator_.statistics().used, objects.size() - 1);
}

TEST_F(SCAllocatorOrder, who_announces_next_has_seen_the_owner_take_the_page) {
  void* first = allocate();
  void* second = allocate();
  HappensBefore::become(1);
  allocator_.deallocate_remote(first, layout);
  HappensBefore::become(0);
  const std::uint64_t before_taking = HappensBefore::now();
  allocator_.collect();
  HappensBefore::become(1);
  EXPECT_FALSE(HappensBefore::has_seen(0, before_taking));
  allocator_.deallocate_remote(second, layout);
  EXPECT_TRUE(HappensBefore::has_seen(0, before_taking)) << "so it may write the link again";
}

}  // namespace
}  // namespace slabmalloc
