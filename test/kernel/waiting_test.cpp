// SPDX-License-Identifier: MIT
#include "slabmalloc/kernel/waiting.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>

#include "kernel/hosted_kernel.hpp"

namespace slabmalloc::test {
namespace {

/// A condition that holds from the look number `holds_at` on, and counts its looks.
struct Looks {
  std::uint32_t holds_at;
  mutable std::uint32_t count = 0;

  WaitCondition condition() const noexcept {
    return {[](const void* self) noexcept {
              const auto& looks = *static_cast<const Looks*>(self);
              return ++looks.count >= looks.holds_at;
            },
            this};
  }
};

/// Counts what a spin does between two looks.
struct CountingKernel : OpenKernel {
  static inline std::uint32_t relaxed = 0;
  static void relax() noexcept { ++relaxed; }
};

TEST(Waiting, spins_until_the_condition_holds) {
  CountingKernel::relaxed = 0;
  const Looks looks{100};
  EXPECT_TRUE(wait_until<CountingKernel>(looks.condition()));
  EXPECT_EQ(looks.count, 100u);
  EXPECT_EQ(CountingKernel::relaxed, 99u);
}

TEST(Waiting, a_spin_ends_after_so_many_looks) {
  const Looks looks{101};
  EXPECT_FALSE(wait_until<OpenKernel>(looks.condition(), 100));
  EXPECT_EQ(looks.count, 100u);
}

TEST(Waiting, one_cpu_does_not_spin) {
  const Looks never{2};
  EXPECT_FALSE(wait_until<SingleKernel>(never.condition()));
  EXPECT_EQ(never.count, 1u);
  const Looks at_once{1};
  EXPECT_TRUE(wait_until<SingleKernel>(at_once.condition()));
}

TEST(Waiting, is_left_to_the_hook_of_the_kernel) {
  SleepingKernel::deadline = std::chrono::milliseconds(1);
  SleepingKernel::waits = 0;
  const Looks looks{~std::uint32_t{0}};
  EXPECT_FALSE(wait_until<SleepingKernel>(looks.condition()));
  EXPECT_EQ(SleepingKernel::waits, 1u);
  EXPECT_LT(looks.count, 100u);
}

TEST(Waiting, a_thread_without_a_number_is_its_cpu) {
  HostedCpu::number = 0;
  EXPECT_EQ(running_thread<OpenKernel>(), 1u);
  HostedCpu::number = 7;
  EXPECT_EQ(running_thread<OpenKernel>(), 8u);
  EXPECT_EQ(running_thread<SleepingKernel>(), SleepingKernel::thread());
}

}  // namespace
}  // namespace slabmalloc::test
