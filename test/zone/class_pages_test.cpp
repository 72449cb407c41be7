// SPDX-License-Identifier: MIT
#include "slabmalloc/zone/class_pages.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <deque>
#include <vector>

#include "slabmalloc/page/page_header.hpp"
#include "support/random.hpp"

namespace slabmalloc {
namespace {

using Header = PageHeader<HardwareAtomics>;
using List = PageList<Header>;

/// The pages of `list` in order. The links of both directions must agree.
std::vector<Header*> pages_of(const List& list) {
  std::vector<Header*> forward;
  Header* last = nullptr;
  for (Header* page = list.front(); page != nullptr; page = page->next) {
    EXPECT_EQ(page->previous, last);
    forward.push_back(last = page);
  }
  return forward;
}

bool contains(const List& list, const Header& page) {
  const std::vector<Header*> pages = pages_of(list);
  return std::find(pages.begin(), pages.end(), &page) != pages.end();
}

TEST(PageList, is_empty_at_first) {
  constexpr List compile_time;
  EXPECT_EQ(compile_time.front(), nullptr);
  List list;
  EXPECT_EQ(list.front(), nullptr);
  EXPECT_EQ(list.pop_front(), nullptr);
}

TEST(PageList, pages_leave_in_the_order_in_which_they_came) {
  Header pages[3]{};
  List list;
  for (Header& page : pages) {
    list.push_back(&page);
  }
  EXPECT_EQ(pages_of(list), (std::vector{&pages[0], &pages[1], &pages[2]}));
  EXPECT_EQ(list.pop_front(), &pages[0]);
  EXPECT_EQ(list.pop_front(), &pages[1]);
  EXPECT_EQ(list.pop_front(), &pages[2]);
  EXPECT_EQ(list.pop_front(), nullptr);
}

TEST(PageList, any_page_can_be_removed) {
  for (std::size_t removed = 0; removed < 3; ++removed) {
    Header pages[3]{};
    List list;
    for (Header& page : pages) {
      list.push_back(&page);
    }
    list.remove(&pages[removed]);
    EXPECT_EQ(pages_of(list).size(), 2u);
    for (std::size_t index = 0; index < 3; ++index) {
      EXPECT_EQ(contains(list, pages[index]), index != removed);
    }
  }
}

TEST(PageList, a_removed_page_has_no_links_left_and_can_return) {
  Header pages[2]{};
  List list;
  list.push_back(&pages[0]);
  list.push_back(&pages[1]);
  list.remove(&pages[0]);
  EXPECT_EQ(pages[0].next, nullptr);
  EXPECT_EQ(pages[0].previous, nullptr);
  list.push_back(&pages[0]);
  EXPECT_EQ(pages_of(list), (std::vector{&pages[1], &pages[0]}));
}

TEST(PageList, ignores_the_links_of_pages_that_it_adds) {
  Header stranger{};
  Header page{};
  page.next = page.previous = &stranger;
  List list;
  list.push_back(&page);
  EXPECT_EQ(pages_of(list), std::vector{&page});
}

TEST(PageList, behaves_like_a_queue_under_random_operations) {
  test::Random random;
  std::vector<Header> pages(20);
  std::deque<Header*> expected;
  List list;
  for (int step = 0; step < 20'000; ++step) {
    Header* page = &pages[random.below(pages.size())];
    const auto found = std::find(expected.begin(), expected.end(), page);
    if (random.one_in(4)) {
      Header* first = expected.empty() ? nullptr : expected.front();
      ASSERT_EQ(list.pop_front(), first);
      if (first != nullptr) {
        expected.pop_front();
      }
    } else if (found == expected.end()) {
      list.push_back(page);
      expected.push_back(page);
    } else {
      list.remove(page);
      expected.erase(found);
    }
    const std::vector<Header*> actual = pages_of(list);
    ASSERT_TRUE(std::equal(actual.begin(), actual.end(), expected.begin(), expected.end()));
  }
}

}  // namespace
}  // namespace slabmalloc
