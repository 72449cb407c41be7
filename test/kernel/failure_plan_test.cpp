// SPDX-License-Identifier: MIT
#include "slabmalloc/kernel/failure_plan.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <utility>

#include "slabmalloc/base/atomics.hpp"
#include "support/run_threads.hpp"

namespace slabmalloc::test {
namespace {

/// Cells before whose loads and exchanges another thread acts, and whose counts are large at once.
struct SteppedAtomics {
  static inline std::function<void()> before_load;
  static inline std::function<void()> before_exchange;
  static inline std::uint32_t step = 1;

  template <class T>
  struct Cell : HardwareAtomics::Cell<T> {
    using HardwareAtomics::Cell<T>::Cell;
    T load(Order order) const noexcept {
      if (before_load) {
        std::exchange(before_load, nullptr)();
      }
      return HardwareAtomics::Cell<T>::load(order);
    }
    bool compare_exchange(T& expected, T desired, Order order) noexcept {
      if (before_exchange) {
        std::exchange(before_exchange, nullptr)();
      }
      return HardwareAtomics::Cell<T>::compare_exchange(expected, desired, order);
    }
    T fetch_add(T number, Order order) noexcept {
      return HardwareAtomics::Cell<T>::fetch_add(static_cast<T>(number * step), order);
    }
  };
};

TEST(FailurePlan, a_plan_that_fails_once_does_so_for_ever) {
  FailurePlan<SteppedAtomics> plan;
  SteppedAtomics::step = std::uint32_t{1} << 24;
  plan.fail_after(1);
  EXPECT_TRUE(plan.is_due());
  for (int call = 0; call < 1024; ++call) {
    EXPECT_FALSE(plan.is_due()) << "after 2^32 calls, or " << call;
  }
  SteppedAtomics::step = 1;
}

TEST(FailurePlan, a_call_sees_one_plan_while_another_begins) {
  FailurePlan<SteppedAtomics> plan;
  // Before each load of a call another thread begins a plan in which no allocation fails.
  for (int turn = 1; turn <= 4; ++turn) {
    plan.fail_every(1000);
    int left = turn;
    std::function<void()> act = [&] {
      --left == 0 ? plan.fail_randomly(0, 1) : void(SteppedAtomics::before_load = act);
    };
    SteppedAtomics::before_load = act;
    EXPECT_FALSE(plan.is_due());
    SteppedAtomics::before_load = nullptr;
  }
}

TEST(FailurePlan, of_two_calls_at_the_same_time_one_fails) {
  FailurePlan<SteppedAtomics> plan;
  plan.fail_after(1);
  bool fails_elsewhere = false;
  SteppedAtomics::before_exchange = [&] { fails_elsewhere = plan.is_due(); };
  EXPECT_FALSE(plan.is_due());
  EXPECT_TRUE(fails_elsewhere);
}

TEST(FailurePlan, one_of_many_calls_at_the_same_time_fails) {
  FailurePlan<HardwareAtomics> plan;
  for (std::uint32_t call = 1; call <= 200; call += 33) {
    plan.fail_after(call);
    std::atomic<int> failures = 0;
    run_threads(4, [&](std::size_t) {
      for (int turn = 0; turn < 100; ++turn) {
        failures += plan.is_due() ? 1 : 0;
      }
    });
    EXPECT_EQ(failures, 1) << call;
  }
  EXPECT_EQ(plan.failures(), 7u);
}

TEST(FailurePlan, the_largest_numbers_are_kept) {
  FailurePlan<SteppedAtomics> plan;
  constexpr std::uint32_t most = decltype(plan)::most;
  SteppedAtomics::step = most;
  plan.fail_every(most);
  EXPECT_FALSE(plan.is_due()) << "call 1";
  plan.fail_after(most);
  EXPECT_FALSE(plan.is_due());
  EXPECT_TRUE(plan.is_due());
  SteppedAtomics::step = 1;
}

}  // namespace
}  // namespace slabmalloc::test
