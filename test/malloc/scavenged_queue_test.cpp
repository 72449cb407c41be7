// SPDX-License-Identifier: MIT
#include "malloc/scavenged_queue.hpp"

#include <gtest/gtest.h>

#include <set>
#include <vector>

namespace slabmalloc {
namespace {

using Header = ScavengedQueue::Header;

constexpr auto fence = [] { return true; };

TEST(ScavengedQueue, a_scavenger_sees_each_queued_page_and_says_which_pages_it_purged) {
  Header pages[4]{};
  ScavengedQueue queue;
  for (auto& page : pages) {
    queue.push(&page);
  }
  ASSERT_EQ(queue.take(), &pages[3]);
  queue.push(&pages[3]);
  EXPECT_TRUE(queue.has_unscavenged());
  std::vector<Header*> seen;
  const auto see = [&](auto* page) { return seen.push_back(page), page != &pages[1]; };
  EXPECT_FALSE(queue.scavenge(fence, 2, see)) << "no more than two";
  EXPECT_EQ(seen, (std::vector{&pages[2], &pages[1]}));
  EXPECT_FALSE(queue.scavenge(fence, 2, see)) << "others wait on the queue";
  EXPECT_TRUE(queue.scavenge(fence, 2, see));
  EXPECT_EQ(seen, (std::vector{&pages[2], &pages[1], &pages[0], &pages[3]}));
  seen.clear();
  EXPECT_TRUE(queue.scavenge(fence, 2, see));
  EXPECT_EQ(seen, std::vector{&pages[1]}) << "what was put with the purged ones is not seen again";
  EXPECT_EQ(queue.take(), &pages[1]) << "what was put with the purged ones comes last";
  EXPECT_FALSE(queue.has_unscavenged());
  EXPECT_FALSE(queue.is_empty());
  std::set<Header*> rest;
  while (auto* page = queue.take()) {
    EXPECT_TRUE(rest.insert(page).second);
  }
  EXPECT_EQ(rest, (std::set{&pages[0], &pages[2], &pages[3]}));
  EXPECT_TRUE(queue.is_empty());
}

TEST(ScavengedQueue, a_scavenger_sees_nothing_while_the_owner_is_inside) {
  Header page{};
  ScavengedQueue queue;
  queue.push(&page);
  int seen = 0;
  const auto count = [&](auto*) { return ++seen, false; };
  ASSERT_TRUE(queue.try_lock());
  ASSERT_TRUE(queue.try_lock()) << "once more, from within";
  queue.unlock();
  EXPECT_TRUE(queue.scavenge(fence, 9, count))
      << "there is nothing that another scavenge would see";
  EXPECT_EQ(seen, 0);
  queue.unlock();
  EXPECT_TRUE(queue.scavenge([] { return false; }, 9, count));
  EXPECT_EQ(seen, 0) << "without a fence";
  EXPECT_TRUE(queue.scavenge(fence, 9, count));
  EXPECT_EQ(seen, 1);
}

TEST(ScavengedQueue, the_owner_does_not_enter_while_a_scavenger_is_inside) {
  Header page{};
  ScavengedQueue queue;
  queue.push(&page);
  queue.scavenge(fence, 9, [&](auto*) { return queue.try_lock(); });
  EXPECT_TRUE(queue.has_unscavenged())
      << "the page was not put with the purged ones, since the owner did not enter";
  EXPECT_TRUE(queue.try_lock());
}

TEST(ScavengedQueue, tells_whether_the_owner_has_emptied_it_since) {
  Header pages[2]{};
  ScavengedQueue queue;
  EXPECT_EQ(queue.take(), nullptr);
  queue.push(&pages[0]);
  queue.push(&pages[1]);
  EXPECT_FALSE(queue.was_emptied_since());
  EXPECT_EQ(queue.take(), &pages[1]);
  EXPECT_FALSE(queue.was_emptied_since()) << "another page is left";
  EXPECT_EQ(queue.take(), &pages[0]);
  EXPECT_EQ(queue.queued(), 0u);
  EXPECT_TRUE(queue.was_emptied_since());
  EXPECT_FALSE(queue.was_emptied_since());
}

}  // namespace
}  // namespace slabmalloc
