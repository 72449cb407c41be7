// SPDX-License-Identifier: MIT
//
// The order of steps at a gate. What the fence itself is for is in the model (test/model/gate.pml).
#include "slabmalloc/zone/gate.hpp"

#include <gtest/gtest.h>

namespace slabmalloc {
namespace {

using TestGate = Gate<HardwareAtomics>;

bool visit(TestGate& gate) {
  return gate.visit([] { return true; });
}

TEST(Gate, admits_the_owner_and_a_visitor_one_after_the_other) {
  TestGate gate;
  ASSERT_TRUE(gate.enter());
  gate.leave();
  ASSERT_TRUE(visit(gate));
  gate.end_visit();
  EXPECT_TRUE(gate.enter());
}

TEST(Gate, a_visitor_goes_away_while_the_owner_is_inside) {
  TestGate gate;
  ASSERT_TRUE(gate.enter());
  EXPECT_FALSE(visit(gate));
  gate.leave();
  EXPECT_TRUE(gate.enter()) << "the visitor has left nothing behind";
  gate.leave();
  EXPECT_TRUE(visit(gate));
}

TEST(Gate, the_owner_does_without_while_a_visitor_is_inside) {
  TestGate gate;
  ASSERT_TRUE(visit(gate));
  EXPECT_FALSE(gate.enter());
  gate.end_visit();
  EXPECT_TRUE(gate.enter());
}

TEST(Gate, an_owner_that_was_not_admitted_does_not_keep_visitors_out) {
  TestGate gate;
  ASSERT_TRUE(visit(gate));
  ASSERT_FALSE(gate.enter());
  gate.end_visit();
  EXPECT_TRUE(visit(gate));
}

TEST(Gate, of_two_visitors_one_is_admitted) {
  TestGate gate;
  ASSERT_TRUE(visit(gate));
  EXPECT_FALSE(visit(gate));
  EXPECT_FALSE(gate.enter()) << "the second has not ended the first one's visit";
}

TEST(Gate, a_visitor_that_gets_no_fence_is_not_admitted) {
  TestGate gate;
  EXPECT_FALSE(gate.visit([] { return false; }));
  EXPECT_TRUE(gate.enter());
}

TEST(Gate, an_owner_that_comes_during_the_fence_is_turned_away) {
  TestGate gate;
  bool entered = true;
  EXPECT_TRUE(gate.visit([&] {
    entered = gate.enter();
    return true;
  }));
  EXPECT_FALSE(entered) << "the visit was told before the fence";
}

}  // namespace
}  // namespace slabmalloc
