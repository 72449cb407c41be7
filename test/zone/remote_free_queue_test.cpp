// SPDX-License-Identifier: MIT
#include "slabmalloc/zone/remote_free_queue.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <set>
#include <thread>
#include <vector>

#include "support/happens_before.hpp"

namespace slabmalloc {
namespace {

template <class Atomics>
class RemoteFreeQueueTest : public testing::Test {};
using Policies = testing::Types<HardwareAtomics, SingleCpuAtomics>;
TYPED_TEST_SUITE(RemoteFreeQueueTest, Policies);

TYPED_TEST(RemoteFreeQueueTest, is_empty_at_first) {
  static constinit RemoteFreeQueue<TypeParam> queue;
  EXPECT_TRUE(queue.is_empty());
  EXPECT_EQ(queue.take(), nullptr);
}

TYPED_TEST(RemoteFreeQueueTest, takes_each_pushed_page_once) {
  PageHeader<TypeParam> pages[3]{};
  RemoteFreeQueue<TypeParam> queue;
  for (auto& page : pages) {
    queue.push(&page);
  }
  EXPECT_FALSE(queue.is_empty());
  EXPECT_EQ(queue.take(), &pages[2]);
  EXPECT_EQ(queue.take(), &pages[1]);
  EXPECT_EQ(queue.take(), &pages[0]);
  EXPECT_EQ(queue.take(), nullptr);
}

TYPED_TEST(RemoteFreeQueueTest, pages_pushed_between_takes_come_after_older_ones) {
  PageHeader<TypeParam> pages[4]{};
  RemoteFreeQueue<TypeParam> queue;
  queue.push(&pages[0]);
  queue.push(&pages[1]);
  EXPECT_EQ(queue.take(), &pages[1]);
  queue.push(&pages[2]);
  queue.push(&pages[3]);
  EXPECT_EQ(queue.take(), &pages[0]);
  EXPECT_EQ(queue.take(), &pages[3]);
  EXPECT_EQ(queue.take(), &pages[2]);
  EXPECT_EQ(queue.take(), nullptr);
}

TYPED_TEST(RemoteFreeQueueTest, a_page_can_be_pushed_again_as_soon_as_it_was_taken) {
  PageHeader<TypeParam> pages[2]{};
  RemoteFreeQueue<TypeParam> queue;
  queue.push(&pages[0]);
  queue.push(&pages[1]);
  ASSERT_EQ(queue.take(), &pages[1]);
  queue.push(&pages[1]);
  EXPECT_EQ(queue.take(), &pages[0]);
  EXPECT_EQ(queue.take(), &pages[1]);
  EXPECT_EQ(queue.take(), nullptr);
}

TEST(RemoteFreeQueue, pushes_by_several_threads_arrive_once_each) {
  constexpr std::size_t thread_count = 3;
  constexpr std::size_t page_count = 500;
  constexpr std::size_t rounds = 20;
  struct Sender {
    std::vector<PageHeader<HardwareAtomics>> pages = decltype(pages)(page_count);
    std::vector<std::atomic<bool>> queued = decltype(queued)(page_count);
  };
  RemoteFreeQueue<HardwareAtomics> queue;
  std::vector<Sender> senders(thread_count);
  std::vector<std::thread> threads;
  for (Sender& sender : senders) {
    threads.emplace_back([&] {
      for (std::size_t round = 0; round < rounds; ++round) {
        for (std::size_t index = 0; index < page_count; ++index) {
          while (sender.queued[index].load(std::memory_order_acquire)) {
            std::this_thread::yield();
          }
          sender.queued[index].store(true, std::memory_order_relaxed);
          sender.pages[index].seal.store(static_cast<std::uint32_t>(round), Order::relaxed);
          queue.push(&sender.pages[index]);
        }
      }
    });
  }
  std::vector<std::vector<std::size_t>> arrivals(thread_count,
                                                 std::vector<std::size_t>(page_count));
  for (std::size_t taken = 0; taken < thread_count * page_count * rounds;) {
    PageHeader<HardwareAtomics>* page = queue.take();
    if (page == nullptr) {
      std::this_thread::yield();
      continue;
    }
    ++taken;
    for (std::size_t thread = 0; thread < thread_count; ++thread) {
      const auto* first = senders[thread].pages.data();
      if (page >= first && page < first + page_count) {
        const auto index = static_cast<std::size_t>(page - first);
        ASSERT_EQ(page->seal.load(Order::relaxed), arrivals[thread][index]++);
        senders[thread].queued[index].store(false, std::memory_order_release);
      }
    }
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  EXPECT_EQ(queue.take(), nullptr);
}

TEST(RemoteFreeQueue, a_take_sees_all_writes_before_the_push) {
  using test::HappensBefore;
  HappensBefore::reset();
  RemoteFreeQueue<test::HappensBeforeAtomics> queue;
  PageHeader<test::HappensBeforeAtomics> pages[2]{};
  HappensBefore::become(1);
  const std::uint64_t first = HappensBefore::now();
  queue.push(&pages[0]);
  HappensBefore::become(2);
  const std::uint64_t second = HappensBefore::now();
  queue.push(&pages[1]);
  HappensBefore::become(0);
  EXPECT_FALSE(HappensBefore::has_seen(1, first) || HappensBefore::has_seen(2, second));
  ASSERT_EQ(queue.take(), &pages[1]);
  EXPECT_TRUE(HappensBefore::has_seen(1, first) && HappensBefore::has_seen(2, second));
}

}  // namespace
}  // namespace slabmalloc
