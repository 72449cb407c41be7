// SPDX-License-Identifier: MIT
#include "slabmalloc/kernel/turn.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "kernel/hosted_kernel.hpp"
#include "support/random.hpp"
#include "support/run_threads.hpp"

namespace slabmalloc::test {
namespace {

/// A kernel whose waits the test performs: other threads act within them.
struct StagedKernel : OpenKernel {
  static inline std::function<bool(WaitCondition)> on_wait;
  static inline int wakes = 0;

  static bool wait(WaitCondition condition) noexcept {
    const std::uint32_t here = HostedCpu::number;
    const bool holds = std::exchange(on_wait, nullptr)(condition);
    HostedCpu::number = here;
    return holds;
  }
  static void wake() noexcept { ++wakes; }
  static std::uintptr_t thread() noexcept { return HostedCpu::number + 1; }
};

class TurnTest : public testing::Test {
 protected:
  void SetUp() override { StagedKernel::wakes = 0; }
  void TearDown() override { EXPECT_EQ(turn.validate(), nullptr); }
  bool begin(std::uint32_t thread, bool may_wait = false) {
    HostedCpu::number = thread;
    EXPECT_EQ(turn.validate(), nullptr);
    return turn.begin(may_wait, has_waited);
  }
  /// `thread` begins, and `others` act while it waits.
  bool begin_while(std::uint32_t thread, std::function<bool(WaitCondition)> others) {
    StagedKernel::on_wait = std::move(others);
    return begin(thread, true);
  }

  Turn<StagedKernel> turn;
  bool has_waited = false;
};

TEST_F(TurnTest, is_of_one_thread_which_does_not_wait_for_itself) {
  EXPECT_TRUE(begin(1));
  EXPECT_FALSE(begin(1, true));
  EXPECT_FALSE(has_waited);
  EXPECT_FALSE(begin(2));
  turn.end();
  EXPECT_EQ(StagedKernel::wakes, 0) << "nobody waits";
  EXPECT_TRUE(begin(2));
  turn.end();
}

TEST_F(TurnTest, goes_to_the_first_waiter_before_it_wakes) {
  EXPECT_TRUE(begin(1));
  EXPECT_TRUE(begin_while(2, [&](WaitCondition second_has_it) {
    EXPECT_TRUE(begin_while(3, [&](WaitCondition third_has_it) {
      EXPECT_FALSE(second_has_it());
      turn.end();
      EXPECT_EQ(StagedKernel::wakes, 1);
      EXPECT_TRUE(second_has_it());
      EXPECT_FALSE(third_has_it());
      EXPECT_FALSE(begin(1)) << "who had it comes behind the waiters";
      turn.end();
      EXPECT_TRUE(third_has_it());
      return true;
    }));
    EXPECT_FALSE(begin(1)) << "the third has it";
    EXPECT_FALSE(begin(3, true)) << "and does not wait for itself";
    return true;
  }));
  turn.end();
  EXPECT_TRUE(begin(4));
  turn.end();
}

TEST_F(TurnTest, a_waiter_leaves_at_its_deadline) {
  EXPECT_TRUE(begin(1));
  EXPECT_TRUE(begin_while(2, [&](WaitCondition condition) {
    EXPECT_FALSE(begin_while(3, [](WaitCondition) { return false; }));
    turn.end();
    EXPECT_TRUE(condition());
    turn.end();
    EXPECT_TRUE(begin(2)) << "nobody is left";
    return true;
  }));
  turn.end();
}

TEST_F(TurnTest, that_comes_after_the_deadline_is_kept) {
  EXPECT_TRUE(begin(1));
  EXPECT_TRUE(begin_while(2, [&](WaitCondition) {
    turn.end();
    return false;
  }));
  EXPECT_TRUE(has_waited);
  EXPECT_FALSE(begin(3));
  turn.end();
}

TEST_F(TurnTest, is_never_of_thread_0) {
  EXPECT_DEATH(begin(~std::uint32_t{0}), "thread\\(\\) is not 0");
}

/// A kernel in which each wait has a deadline of its own.
struct HurriedKernel : PatientKernel {
  static inline thread_local std::size_t looks = 0;

  static bool wait(WaitCondition condition) noexcept {
    for (std::size_t look = 0; look < looks && !condition(); ++look) {
      relax();
    }
    return condition();
  }
  static void wake() noexcept {}
  static std::uintptr_t thread() noexcept { return HostedCpu::number + 1; }
};

TEST(TurnThreads, have_it_one_at_a_time_and_leave_from_any_place) {
  constexpr std::size_t threads = 5;
  Turn<HurriedKernel> turn;
  Random random;
  std::size_t turns = 0;
  std::vector<Random> seeds;
  for (std::size_t thread = 0; thread < threads; ++thread) {
    seeds.push_back(random.fork());
  }
  run_threads(threads, [&](std::size_t thread) {
    HostedCpu::number = static_cast<std::uint32_t>(thread);
    for (int round = 0; round < 3000; ++round) {
      HurriedKernel::looks = seeds[thread].below(20);
      if (bool waited = false; turn.begin(!seeds[thread].one_in(8), waited)) {
        ++turns;
        EXPECT_FALSE(turn.begin(true, waited));
        HurriedKernel::relax();
        turn.end();
      }
      EXPECT_EQ(turn.validate(), nullptr);
    }
  });
  EXPECT_GE(turns, 100u) << "on a busy machine most waits end without a turn";
  bool has_waited = false;
  EXPECT_TRUE(turn.begin(false, has_waited)) << "it is never lost";
  turn.end();
}

TEST(TurnOfOneCpu, needs_no_atomics) {
  Turn<SingleKernel, SingleCpuAtomics> turn;
  bool has_waited = false;
  EXPECT_TRUE(turn.begin(true, has_waited));
  EXPECT_FALSE(turn.begin(true, has_waited));
  turn.end();
  EXPECT_TRUE(turn.begin(false, has_waited));
  turn.end();
}

}  // namespace
}  // namespace slabmalloc::test
