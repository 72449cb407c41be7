// SPDX-License-Identifier: MIT
#include "slabmalloc/kernel/spin_lock.hpp"

#include <gtest/gtest.h>

#include <cstdint>

#include "kernel/hosted_kernel.hpp"
#include "support/run_threads.hpp"

namespace slabmalloc {
namespace {

TEST(SpinLock, keeps_cpus_apart) {
  static SpinLock<test::PatientKernel> lock;
  std::uint64_t count = 0;
  test::run_threads(4, [&](std::size_t) {
    for (int round = 0; round < 20000; ++round) {
      const decltype(lock)::Guard guard(lock);
      ++count;
    }
  });
  EXPECT_EQ(count, 80000u);
}

TEST(SpinLock, saves_interrupts_for_as_long_as_it_is_held) {
  SpinLock<test::OpenKernel> lock;
  EXPECT_EQ(test::HostedCpu::saved, 0u);
  {
    const decltype(lock)::Guard guard(lock);
    EXPECT_EQ(test::HostedCpu::saved, 1u);
  }
  EXPECT_EQ(test::HostedCpu::saved, 0u);
}

TEST(SpinLock, of_one_cpu_can_be_taken_again_and_again) {
  SpinLock<test::SingleKernel, SingleCpuAtomics> lock;
  std::uint32_t held = 0;
  for (int round = 0; round < 3; ++round) {
    const decltype(lock)::Guard guard(lock);
    held += test::HostedCpu::saved;
  }
  EXPECT_EQ(held, 3u);
}

TEST(InterruptGuard, blocks_interrupts_and_restores_what_was_before) {
  static volatile std::sig_atomic_t interrupts = 0;
  struct sigaction action{};
  action.sa_handler = [](int) { interrupts = interrupts + 1; };
  struct sigaction before{};
  sigaction(SIGUSR1, &action, &before);
  {
    const InterruptGuard<test::SignalKernel> outer;
    {
      const InterruptGuard<test::SignalKernel> inner;
      raise(SIGUSR1);
    }
    EXPECT_EQ(interrupts, 0);
  }
  EXPECT_EQ(interrupts, 1);
  sigaction(SIGUSR1, &before, nullptr);
}

}  // namespace
}  // namespace slabmalloc
