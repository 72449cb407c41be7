// SPDX-License-Identifier: MIT
//
// Kernels for hosted tests, in which threads act as CPUs and signals as interrupts.
#pragma once

#include <sched.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <functional>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "slabmalloc/kernel/hooks.hpp"

namespace slabmalloc::test {

/// A thread's CPU number and interrupt state, and the log.
struct HostedCpu {
  static inline thread_local std::uint32_t number = 0;
  static inline thread_local std::uint32_t saved = 0;  ///< The depth of saved interrupts.
  static inline std::vector<std::string>* lines = nullptr;
};

/// A kernel whose save_interrupts() blocks nothing: signals come at any point, as NMIs do.
struct OpenKernel {
  static constexpr std::uint32_t maximum_cpus = 8;
  using InterruptState = std::uint32_t;
  static std::uint32_t cpu() noexcept { return HostedCpu::number; }
  static InterruptState save_interrupts() noexcept { return HostedCpu::saved++; }
  static void restore_interrupts(InterruptState state) noexcept { HostedCpu::saved = state; }
  [[noreturn]] static void panic(const char* line) noexcept {
    std::fprintf(stderr, "%s\n", line);
    std::terminate();
  }
  static void log(const char* line) noexcept {
    if (HostedCpu::lines != nullptr) {
      HostedCpu::lines->push_back(line);
    }
  }
};
static_assert(KernelHooks<OpenKernel>);

/// The same kernel with one CPU.
struct SingleKernel : OpenKernel {
  static constexpr std::uint32_t maximum_cpus = 1;
};

/// Yields while it waits, since there are more threads than processors.
struct PatientKernel : OpenKernel {
  static void relax() noexcept { sched_yield(); }
};

/// A kernel whose threads sleep while they wait, until a deadline for all waits of a caller.
struct SleepingKernel : PatientKernel {
  static inline std::mutex mutex;
  static inline std::condition_variable woken;
  static inline std::chrono::milliseconds deadline{60'000};
  static inline std::atomic<std::size_t> waits = 0;  ///< Waits that began to sleep.

  static bool wait(WaitCondition condition) noexcept {
    std::unique_lock lock(mutex);
    if (condition()) {
      return true;
    }
    ++waits;
    using Clock = std::chrono::steady_clock;
    if (*condition.deadline == 0) {
      *condition.deadline =
          static_cast<std::uint64_t>((Clock::now() + deadline).time_since_epoch().count());
    }
    const Clock::duration end(static_cast<Clock::rep>(*condition.deadline));
    return woken.wait_until(lock, Clock::time_point(end), condition);
  }
  static void wake() noexcept {
    const std::lock_guard lock(mutex);
    woken.notify_all();
  }
  static std::uintptr_t thread() noexcept {
    static thread_local const char self = 0;
    return reinterpret_cast<std::uintptr_t>(&self);
  }
};
static_assert(WaitingHooks<SleepingKernel>);

/// A kernel in which CPU 1 acts before each section of the tested CPU.
struct BusyKernel : OpenKernel {
  static inline std::function<void()> elsewhere;

  static InterruptState save_interrupts() noexcept {
    if (HostedCpu::saved == 0 && elsewhere) {
      const std::function<void()> work = std::exchange(elsewhere, nullptr);
      const std::uint32_t here = HostedCpu::number;
      HostedCpu::number = 1;
      work();
      HostedCpu::number = here;
      elsewhere = work;
    }
    return OpenKernel::save_interrupts();
  }
};

/// A kernel whose interrupts are SIGUSR1, which save_interrupts() blocks.
struct SignalKernel : OpenKernel {
  using InterruptState = sigset_t;
  static InterruptState save_interrupts() noexcept {
    sigset_t interrupts, before;
    sigemptyset(&interrupts);
    sigaddset(&interrupts, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &interrupts, &before);
    return before;
  }
  static void restore_interrupts(InterruptState state) noexcept {
    pthread_sigmask(SIG_SETMASK, &state, nullptr);
  }
};
static_assert(KernelHooks<SignalKernel>);

}  // namespace slabmalloc::test
