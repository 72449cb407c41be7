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

TEST(ClockChecks, a_thread_reads_after_as_many_calls_as_it_may) {
  ClockChecks checks;
  std::uint32_t now = 0xFFFFFFFF;  // It wraps around.
  checks.note(now);
  for (std::uint32_t read = 0; read < 100; ++read) {
    now += read % Tunables::clock_milliseconds;
    checks.note(now);
    EXPECT_EQ(claims_before_read(checks), most_claims);
  }
}

TEST(ClockChecks, a_thread_with_rare_calls_reads_at_each_claim) {
  ClockChecks checks;
  std::uint32_t now = 0;
  for (int read = 0; read < 100; ++read) {
    now += Tunables::clock_milliseconds;
    checks.note(now);
    EXPECT_EQ(claims_before_read(checks), 1u);
  }
}

TEST(ClockChecks, work_is_due_where_the_clock_has_gone_on) {
  ClockChecks checks;
  for (const std::uint32_t now : {1u, 2u, 100u, 0xFFFFFFFFu, 0u}) {
    EXPECT_TRUE(checks.note(now));
    EXPECT_FALSE(checks.note(now));
  }
}

TEST(ClockChecks, work_is_due_after_many_reads_at_the_same_time) {
  ClockChecks checks;
  checks.note(1);
  for (int work = 0; work < 3; ++work) {
    for (std::uint32_t read = 1; read < Tunables::checks_per_scavenge; ++read) {
      EXPECT_FALSE(checks.note(1));
    }
    EXPECT_TRUE(checks.note(1));
  }
}

TEST(ClockChecks, the_next_claim_reads_where_calls_may_have_become_rare) {
  ClockChecks checks;
  checks.expect_rare_calls();
  EXPECT_EQ(claims_before_read(checks), 1u);
}

}  // namespace
}  // namespace slabmalloc
