// SPDX-License-Identifier: MIT
#include "slabmalloc/kernel/failure_plan.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <utility>

#include "kernel/hosted_kernel.hpp"
#include "slabmalloc/base/atomics.hpp"
#include "support/interrupting_atomics.hpp"
#include "support/run_threads.hpp"

template <>
inline constexpr bool slabmalloc::has_split_updates<
    slabmalloc::test::InterruptingAtomics<slabmalloc::SingleCpuAtomics>> = true;

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
  FailurePlan<OpenKernel, SteppedAtomics> plan;
  SteppedAtomics::step = std::uint32_t{1} << 24;
  plan.fail_after(1);
  EXPECT_TRUE(plan.is_due());
  for (int call = 0; call < 1024; ++call) {
    EXPECT_FALSE(plan.is_due()) << "after 2^32 calls, or " << call;
  }
  SteppedAtomics::step = 1;
}

TEST(FailurePlan, a_call_sees_one_plan_while_another_begins) {
  FailurePlan<OpenKernel, SteppedAtomics> plan;
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
  FailurePlan<OpenKernel, SteppedAtomics> plan;
  plan.fail_after(1);
  bool fails_elsewhere = false;
  SteppedAtomics::before_exchange = [&] { fails_elsewhere = plan.is_due(); };
  EXPECT_FALSE(plan.is_due());
  EXPECT_TRUE(fails_elsewhere);
}

TEST(FailurePlan, one_of_many_calls_at_the_same_time_fails) {
  FailurePlan<OpenKernel, HardwareAtomics> plan;
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

// Without atomics, a handler at any access makes one call more.
TEST(FailurePlan, a_handler_at_any_access_loses_no_count) {
  using Atomics = InterruptingAtomics<SingleCpuAtomics>;
  std::size_t interrupts = 0;
  for (std::uint32_t number = 1; number <= 3; ++number) {
    bool came = true;
    for (std::size_t access = 1; came; ++access, ++interrupts) {
      FailurePlan<SingleKernel, Atomics> plan;
      std::uint32_t failures = 0;
      const auto call = [&] { failures += plan.is_due() ? 1u : 0u; };
      plan.fail_after(number);
      Interruption::arm(access, call, [] { return HostedCpu::saved != 0; });
      call();
      call();
      came = Interruption::disarm();
      ASSERT_EQ(failures, number <= (came ? 3u : 2u) ? 1u : 0u) << number << ", access " << access;
      ASSERT_EQ(plan.failures(), failures);
    }
  }
  EXPECT_GT(interrupts, 9u);
}

TEST(FailurePlan, the_largest_numbers_are_kept) {
  FailurePlan<OpenKernel, SteppedAtomics> plan;
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
