// SPDX-License-Identifier: MIT
//
// Jobs: named functions that the kernel runs once the machine is up. To add one, write a function,
// declare it below and add a line to the table in jobs.cpp.
//
//   void my_job() {                                  // on CPU 0, all CPUs up and ticking
//     run_on_all_cpus([](std::uint32_t cpu) { expect(work(cpu), "the work is done"); });
//   }
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernel/machine.hpp"
#include "kernel/text.hpp"

namespace boot {

struct Job {
  Text name;
  void (*run)();
  bool by_default;  ///< The kernel runs it if the command line names no jobs.
  Text purpose;
  std::size_t bytes = 0;  ///< Free memory that it needs; the kernel skips it if there is less.
};

/// Runs the jobs that the command line names, `run=NAME,NAME`, or else the default jobs. An unknown
/// name counts as a failure, and so does any other unknown word.
void run_jobs() noexcept;

/// Failures so far.
std::uint64_t failure_count() noexcept;

/// Unless `condition` holds, counts a failure and prints the expectation and its place. Returns
/// `condition`. Thread: any CPU; not from a signal's handler.
bool expect(bool condition, Text what, const char* file = __builtin_FILE(),
            int line = __builtin_LINE()) noexcept;

void machine_job();
void frames_job();
void nodes_job();
void scenarios_job();
void storm_job();
void idle_job();
void retire_job();
void percpu_job();
void mapped_job();
void exhaustion_job();
inline constexpr std::size_t report_bytes = std::size_t{page_bytes < 65536 ? 24 : 64} << 20;
void report_job();
void cost_job();
void debug_job();
void fail_job();
void hang_job();
void overflow_job();
void trap_job();

}  // namespace boot
