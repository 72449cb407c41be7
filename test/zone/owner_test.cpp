// SPDX-License-Identifier: MIT
#include "slabmalloc/zone/owner.hpp"

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
class OwnerTest : public testing::Test {};
using Policies = testing::Types<HardwareAtomics, SingleCpuAtomics>;
TYPED_TEST_SUITE(OwnerTest, Policies);

TYPED_TEST(OwnerTest, has_no_remote_frees_at_first) {
  static constinit Owner<TypeParam> owner;
  EXPECT_FALSE(owner.has_remote_frees());
  EXPECT_EQ(owner.take(), nullptr);
}

TYPED_TEST(OwnerTest, takes_each_page_that_was_pushed_once) {
  PageHeader<TypeParam> pages[3]{};
  Owner<TypeParam> owner;
  for (auto& page : pages) {
    owner.push(&page);
  }
  EXPECT_TRUE(owner.has_remote_frees());
  EXPECT_EQ(owner.take(), &pages[2]);
  EXPECT_EQ(owner.take(), &pages[1]);
  EXPECT_EQ(owner.take(), &pages[0]);
  EXPECT_EQ(owner.take(), nullptr);
}

TYPED_TEST(OwnerTest, pages_that_come_while_others_are_taken_come_after_them) {
  PageHeader<TypeParam> pages[4]{};
  Owner<TypeParam> owner;
  owner.push(&pages[0]);
  owner.push(&pages[1]);
  EXPECT_EQ(owner.take(), &pages[1]);
  owner.push(&pages[2]);
  owner.push(&pages[3]);
  EXPECT_EQ(owner.take(), &pages[0]);
  EXPECT_EQ(owner.take(), &pages[3]);
  EXPECT_EQ(owner.take(), &pages[2]);
  EXPECT_EQ(owner.take(), nullptr);
}

TYPED_TEST(OwnerTest, a_page_can_be_pushed_again_as_soon_as_it_was_taken) {
  PageHeader<TypeParam> pages[2]{};
  Owner<TypeParam> owner;
  owner.push(&pages[0]);
  owner.push(&pages[1]);
  ASSERT_EQ(owner.take(), &pages[1]);
  owner.push(&pages[1]);
  EXPECT_EQ(owner.take(), &pages[0]);
  EXPECT_EQ(owner.take(), &pages[1]);
  EXPECT_EQ(owner.take(), nullptr);
}

constexpr auto fence = [] { return true; };

TYPED_TEST(OwnerTest, a_scavenger_sees_each_queued_page_and_says_which_pages_it_purged) {
  PageHeader<TypeParam> pages[4]{};
  Owner<TypeParam> owner;
  for (auto& page : pages) {
    owner.push(&page);
  }
  ASSERT_EQ(owner.take(), &pages[3]);
  owner.push(&pages[3]);
  EXPECT_TRUE(owner.has_queued_pages());
  std::vector<PageHeader<TypeParam>*> seen;
  const auto see = [&](auto* page) { return seen.push_back(page), page != &pages[1]; };
  EXPECT_FALSE(owner.scavenge_queue(fence, 2, see)) << "no more than two";
  EXPECT_EQ(seen, (std::vector{&pages[2], &pages[1]}));
  EXPECT_FALSE(owner.scavenge_queue(fence, 2, see)) << "others wait on the inbox";
  EXPECT_TRUE(owner.scavenge_queue(fence, 2, see));
  EXPECT_EQ(seen, (std::vector{&pages[2], &pages[1], &pages[0], &pages[3]}));
  seen.clear();
  EXPECT_TRUE(owner.scavenge_queue(fence, 2, see));
  EXPECT_EQ(seen, std::vector{&pages[1]}) << "what was put with the purged ones is not seen again";
  EXPECT_EQ(owner.take(), &pages[1]) << "what was put with the purged ones comes last";
  EXPECT_FALSE(owner.has_queued_pages());
  EXPECT_TRUE(owner.has_remote_frees());
  std::set<PageHeader<TypeParam>*> rest;
  while (auto* page = owner.take()) {
    EXPECT_TRUE(rest.insert(page).second);
  }
  EXPECT_EQ(rest, (std::set{&pages[0], &pages[2], &pages[3]}));
  EXPECT_FALSE(owner.has_remote_frees());
}

TYPED_TEST(OwnerTest, a_scavenger_sees_nothing_while_the_owner_is_inside) {
  PageHeader<TypeParam> page{};
  Owner<TypeParam> owner;
  owner.push(&page);
  int seen = 0;
  const auto count = [&](auto*) { return ++seen, false; };
  ASSERT_TRUE(owner.try_lock());
  ASSERT_TRUE(owner.try_lock()) << "once more, from within";
  owner.unlock();
  EXPECT_TRUE(owner.scavenge_queue(fence, 9, count)) << "there is nothing that another scavenge would see";
  EXPECT_EQ(seen, 0);
  owner.unlock();
  EXPECT_TRUE(owner.scavenge_queue([] { return false; }, 9, count));
  EXPECT_EQ(seen, 0) << "without a fence";
  EXPECT_TRUE(owner.scavenge_queue(fence, 9, count));
  EXPECT_EQ(seen, 1);
}

TYPED_TEST(OwnerTest, does_not_enter_while_a_scavenger_is_there) {
  PageHeader<TypeParam> page{};
  Owner<TypeParam> owner;
  owner.push(&page);
  owner.scavenge_queue(fence, 9, [&](auto*) { return owner.try_lock(); });
  EXPECT_TRUE(owner.has_queued_pages()) << "the page was not put with the purged ones, since the owner did not enter";
  EXPECT_TRUE(owner.try_lock());
}

TYPED_TEST(OwnerTest, tells_whether_it_has_drained_since) {
  PageHeader<TypeParam> page{};
  Owner<TypeParam> owner;
  EXPECT_EQ(owner.take(), nullptr);
  owner.push(&page);
  EXPECT_FALSE(owner.has_drained_since());
  EXPECT_EQ(owner.take(), &page);
  EXPECT_TRUE(owner.has_drained_since());
  EXPECT_FALSE(owner.has_drained_since());
}

TEST(Owner, pushes_by_several_threads_arrive_once_each) {
  constexpr std::size_t thread_count = 3;
  constexpr std::size_t page_count = 500;
  constexpr std::size_t rounds = 20;
  struct Sender {
    std::vector<PageHeader<HardwareAtomics>> pages = decltype(pages)(page_count);
    std::vector<std::atomic<bool>> queued = decltype(queued)(page_count);
  };
  Owner<HardwareAtomics> owner;
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
          owner.push(&sender.pages[index]);
        }
      }
    });
  }
  std::vector<std::vector<std::size_t>> arrivals(thread_count,
                                                 std::vector<std::size_t>(page_count));
  for (std::size_t taken = 0; taken < thread_count * page_count * rounds;) {
    PageHeader<HardwareAtomics>* page = owner.take();
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
  EXPECT_EQ(owner.take(), nullptr);
}

TEST(Owner, what_was_done_before_a_push_is_seen_after_the_take) {
  using test::HappensBefore;
  HappensBefore::reset();
  Owner<test::HappensBeforeAtomics> owner;
  PageHeader<test::HappensBeforeAtomics> pages[2]{};
  HappensBefore::become(1);
  const std::uint64_t first = HappensBefore::now();
  owner.push(&pages[0]);
  HappensBefore::become(2);
  const std::uint64_t second = HappensBefore::now();
  owner.push(&pages[1]);
  HappensBefore::become(0);
  EXPECT_FALSE(HappensBefore::has_seen(1, first) || HappensBefore::has_seen(2, second));
  ASSERT_EQ(owner.take(), &pages[1]);
  EXPECT_TRUE(HappensBefore::has_seen(1, first) && HappensBefore::has_seen(2, second));
}

}  // namespace
}  // namespace slabmalloc
