// SPDX-License-Identifier: MIT
//
// Workload is one allocation pattern: its name and how it runs. `workloads()` is the only list of
// them.
//
// Every pattern does a fixed amount of work from fixed seeds, however the kernel schedules its
// threads. So the checksum is the same under every correct allocator.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace slabmalloc::benchmark {

/// The job: how many threads, and how much of the usual work.
struct Job {
  unsigned threads = 1;
  unsigned percent = 100;

  /// Each thread's part of `total` steps, at least one.
  [[nodiscard]] std::size_t share(std::size_t total) const {
    const std::size_t part = total / 100 * percent / threads;
    return part == 0 ? 1 : part;
  }
};

/// The result: a sum over blocks, independent of the order of counting.
struct Result {
  std::uint64_t operations = 0;
  std::uint64_t checksum = 0;

  Result& operator+=(const Result& other) {
    operations += other.operations;
    checksum += other.checksum;
    return *this;
  }
};

/// The few live blocks that a pattern left, and resident memory beside them.
struct Held {
  std::uint64_t live_bytes = 0;     ///< Of these blocks.
  std::uint64_t least_bytes = 0;    ///< Of the OS pages that hold one of these.
  std::uint64_t later_bytes = 0;    ///< After 2.2 s of ordinary calls.
  std::uint64_t trimmed_bytes = 0;  ///< Then, after a call that asks for memory back.
  std::uint64_t checksum = 0;       ///< Of these blocks, which were freed after that.
};

/// A pattern and the numbers of threads that make a difference to it.
struct Workload {
  const char* name;
  const char* description;
  Result (*run)(const Job&);
  std::span<const unsigned> threads;
  Held (*measure_held)() = nullptr;  ///< Where the pattern leaves live blocks.
};

/// Every pattern, in the order of the report.
std::span<const Workload> workloads();

Result run_short_lived(const Job& job);
Result run_bleeding(const Job& job);
Result run_producer_consumer(const Job& job);
Result run_power_law(const Job& job);
Result run_bulk_lifo(const Job& job);
Result run_bulk_reversed(const Job& job);
Result run_thread_churn(const Job& job);
Result run_migrating(const Job& job);
Result run_growing(const Job& job);
Result run_large(const Job& job);
Result run_zeroed(const Job& job);
Result run_fragmentation(const Job& job);
Result run_sparse(const Job& job);
Result run_sparse_phases(const Job& job);
Held measure_held();
Result run_refilled(const Job& job);
Result run_buffer(const Job& job);
Result run_aligned(const Job& job);
Result run_sized_delete(const Job& job);
Result run_pair_16(const Job& job);
Result run_pair_64(const Job& job);
Result run_pair_512(const Job& job);
Result run_pair_4096(const Job& job);
Result run_pair_mixed(const Job& job);

}  // namespace slabmalloc::benchmark
