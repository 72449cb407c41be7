// SPDX-License-Identifier: MIT
//
// Best times batches and keeps the fastest one. The fastest batch shows the cost of the work
// itself, since nothing disturbed it.
#pragma once

#include <benchmark/benchmark.h>
#include <sys/resource.h>
#include <time.h>

#include <algorithm>
#include <cstddef>

namespace slabmalloc::benchmark_support {

/// Reports the least time per object of all batches as the counter best_ns.
class Best {
 public:
  explicit Best(benchmark::State& state) : state_(state) {}
  Best(const Best&) = delete;
  Best& operator=(const Best&) = delete;
  ~Best() {
    state_.counters["best_ns"] = (undisturbed_ != unknown ? undisturbed_ : disturbed_) * 1e9;
  }

  /// Runs and times `work`, which returns the number of objects that it processed. If the kernel
  /// switches the thread away during a batch, the batch counts by its processor time. Such a batch
  /// is used only until an undisturbed one exists.
  template <class Work>
  void measure(Work&& work) {
    const long switches = involuntary_switches();
    const double thread_start = now(CLOCK_THREAD_CPUTIME_ID);
    const double start = now(CLOCK_MONOTONIC);
    const auto objects = static_cast<double>(work());
    const double elapsed = now(CLOCK_MONOTONIC) - start;
    const double thread_time = now(CLOCK_THREAD_CPUTIME_ID) - thread_start;
    if (involuntary_switches() == switches) {
      undisturbed_ = std::min(undisturbed_, elapsed / objects);
    } else {
      disturbed_ = std::min(disturbed_, thread_time / objects);
    }
    state_.SetIterationTime(elapsed);
  }

 private:
  static constexpr double unknown = 1e9;

  static double now(clockid_t clock) {
    timespec time;
    ::clock_gettime(clock, &time);
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
  }

  static long involuntary_switches() {
    rusage usage;
    ::getrusage(RUSAGE_THREAD, &usage);
    return usage.ru_nivcsw;
  }

  benchmark::State& state_;
  double undisturbed_ = unknown;
  double disturbed_ = unknown;
};

}  // namespace slabmalloc::benchmark_support
