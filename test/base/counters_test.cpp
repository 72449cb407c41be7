// SPDX-License-Identifier: MIT
#include "slabmalloc/base/counters.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <string>

namespace slabmalloc {
namespace {

template <class Number = std::size_t>
struct Calls {
  Number total{};

  static constexpr CounterEntry<Calls, Number> counters[] = {
      {&Calls::total, "total", "calls", CounterKind::Total, ""},
  };
};

struct Things : Calls<> {
  std::size_t current = 0;
  std::size_t peak = 0;
  std::size_t constant = 0;

  using Base = Calls<>;
  static constexpr CounterEntry<Things> counters[] = {
      {&Things::current, "current", "objects", CounterKind::Current, ""},
      {&Things::peak, "peak", "objects", CounterKind::Peak, ""},
      {&Things::constant, "constant", "objects", CounterKind::Constant, ""},
  };
};
static_assert(has_entry_for_each_counter<Things>());

struct WithAPart : Things {
  Things part;
};
static_assert(has_entry_for_each_counter<WithAPart, Things>());
static_assert(!has_entry_for_each_counter<WithAPart>());

struct OneIsMissing {
  std::size_t one = 0;
  std::size_t other = 0;

  static constexpr CounterEntry<OneIsMissing> counters[] = {
      {&OneIsMissing::one, "one", "objects", CounterKind::Total, ""},
  };
};
static_assert(!has_entry_for_each_counter<OneIsMissing>());

struct OneIsListedTwice {
  std::size_t one = 0;
  std::size_t other = 0;

  static constexpr CounterEntry<OneIsListedTwice> counters[] = {
      {&OneIsListedTwice::one, "one", "objects", CounterKind::Total, ""},
      {&OneIsListedTwice::one, "other", "objects", CounterKind::Total, ""},
  };
};
static_assert(!has_entry_for_each_counter<OneIsListedTwice>());

Things things(std::size_t total, std::size_t current, std::size_t peak, std::size_t constant) {
  Things result;
  result.total = total;
  result.current = current;
  result.peak = peak;
  result.constant = constant;
  return result;
}

std::string text(const Things& things) {
  std::string result;
  for_each_counter<Things>([&](const auto& entry) {
    result += std::string(entry.name) + " " + std::to_string(things.*entry.member) + ", ";
  });
  return result;
}

TEST(Counters, of_several_owners_add_up_but_for_constants) {
  Things sum;
  add_counters(sum, things(1, 2, 3, 64));
  add_counters(sum, things(10, 20, 30, 64));
  EXPECT_EQ(text(sum), "current 22, peak 33, constant 64, total 11, ");
}

TEST(Counters, count_only_totals_from_a_later_start) {
  Things now = things(10, 20, 30, 64);
  subtract_start(now, things(4, 5, 6, 64));
  EXPECT_EQ(text(now), "current 20, peak 30, constant 64, total 6, ");
  subtract_start(now, things(7, 0, 0, 64));
  EXPECT_EQ(now.total, 0u) << "one that ran behind";
}

TEST(Counters, are_read_from_where_they_are_counted) {
  struct Live {
    std::size_t get() const { return 7; }
  };
  Things read = things(1, 2, 3, 64);
  read_counters(Calls<Live>(), read);
  EXPECT_EQ(text(read), "current 2, peak 3, constant 64, total 7, ");
}

}  // namespace
}  // namespace slabmalloc
