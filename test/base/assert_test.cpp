// SPDX-License-Identifier: MIT
#include "slabmalloc/base/assert.hpp"

#include <gtest/gtest.h>

namespace slabmalloc {
namespace {

static_assert((invariant(true, "usable where programs are compiled"), true));

TEST(Invariant, a_true_one_has_no_effect) { invariant(true, "1 = 1"); }

TEST(InvariantDeathTest, a_broken_one_stops_the_program) {
  EXPECT_DEATH(invariant(false, "1 = 2"), "");
}

}  // namespace
}  // namespace slabmalloc
