// SPDX-License-Identifier: MIT
#include "malloc/clock_checks.hpp"

#include <gtest/gtest.h>

#include <cstdint>

namespace slabmalloc {
namespace {

/// The claims that `checks` counts until a read is due.
std::uint32_t claims_before_read(ClockChecks& checks) {
  std::uint32_t claims = 1;
  while (!checks.count(Tunables::calls_per_claim)) {
    ++claims;
  }
  return claims;
}

constexpr std::uint32_t most_claims = Tunables::calls_per_clock_check / Tunables::calls_per_claim;

TEST(ClockChecks, a_thread_with_many_calls_reads_after_as_many_as_it_may) {
  ClockChecks checks;
  std::uint32_t now = 0xFFFFFFFF;  // It wraps around.
  for (std::uint32_t read = 0; read < 100; ++read) {
    EXPECT_EQ(claims_before_read(checks), most_claims);
    checks.note(now);
    checks.note(now);  // At the same time: many calls.
    now += read % 2;
  }
}

TEST(ClockChecks, a_thread_with_rare_calls_reads_at_each_claim) {
  ClockChecks checks;
  std::uint32_t now = 0;
  checks.note(now);
  std::uint32_t reads = 0;
  for (int claim = 0; claim < 100; ++claim) {
    now += Tunables::clock_milliseconds;
    if (checks.count(Tunables::calls_per_claim)) {
      checks.note(now);
      ++reads;
    }
  }
  EXPECT_GE(reads, 100 - most_claims + 1) << "all but the first";
}

TEST(ClockChecks, a_read_comes_about_once_in_the_interval) {
  ClockChecks checks;
  constexpr std::uint32_t claims_per_millisecond = 1;
  std::uint32_t now = 0;
  checks.note(now);
  for (int read = 0; read < 10; ++read) {
    now += claims_before_read(checks) / claims_per_millisecond;
    checks.note(now);
  }
  EXPECT_EQ(claims_before_read(checks), Tunables::clock_milliseconds * claims_per_millisecond);
}

TEST(ClockChecks, the_next_claim_reads_where_calls_may_have_become_rare) {
  ClockChecks checks;
  checks.expect_rare_calls();
  EXPECT_EQ(claims_before_read(checks), 1u);
}

}  // namespace
}  // namespace slabmalloc
