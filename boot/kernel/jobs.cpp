// SPDX-License-Identifier: MIT
//
// The table of jobs.
#include "kernel/jobs.hpp"

#include "kernel/command_line.hpp"
#include "kernel/machine.hpp"
#include "kernel/print.hpp"

namespace boot {
namespace {

constexpr Job jobs[] = {
    {"machine", machine_job, true, "the kernel's own ground: CPUs, interrupts, memory"},
    {"frames", frames_job, true, "early memory, frames at an address, memory that goes offline"},
    {"nodes", nodes_job, true, "each CPU gets memory of its NUMA node, then of the others"},
    {"scenarios", scenarios_job, true, "how the core behaves, as in the hosted tests"},
    {"storm", storm_job, true,
     "all CPUs and their interrupts on one heap, until memory is used up"},
    {"pressure", pressure_job, true,
     "waits, sleeping callbacks, idle CPUs, tags and nodes, until memory is used up"},
    {"idle", idle_job, true, "memory of CPUs that sleep reaches one that does not"},
    {"retire", retire_job, true, "readers without locks, and objects that wait for them"},
    {"tags", tags_job, true, "a limit for each client of a heap, on all CPUs and in interrupts"},
    {"percpu", percpu_job, true, "objects of which each CPU has a copy, in handlers too"},
    {"mapped", mapped_job, true,
     "runs of virtual addresses over single frames, in the page tables"},
    {"exhaustion", exhaustion_job, true, "how much of a small arena can be used"},
    {"report", report_job, true, "what is in use, by size class and cache, and where",
     report_bytes},
    {"cost", cost_job, true, "instructions of allocations and frees, the longest included"},
    {"debug", debug_job, true, "faults on a heap in debug mode, and what that costs"},
    {"fail", fail_job, false, "fails, to show that it is seen"},
    {"hang", hang_job, false, "never ends, to show that it is seen"},
    {"overflow", overflow_job, false, "uses up its stack, to show that it is seen"},
    {"trap", trap_job, false, "reads address 0, to show that it is seen"},
};

/// Words of the command line whose values are numbers, for all jobs.
constexpr Text numbers[] = {"icount", "nodes", "operations", "rounds", "seed"};

constinit Cell<std::uint64_t> failures{0};

/// Checks the words. Otherwise an unknown word would change nothing, and a wrong number would count
/// as absent, both without a message.
void check_word(Text word) noexcept {
  const std::size_t length = word.find('=');
  const Text name = word.part(0, length);
  bool is_known = name == "run";
  for (const Text known : numbers) {
    std::uint64_t number = 0;
    is_known = is_known || (name == known && parse(word.from(length + 1), number));
  }
  if (!is_known) {
    failures.fetch_add(1, Order::relaxed);
    print_line("no job understands ", word, "; there are run=JOB,JOB and, with a number:");
    for (const Text known : numbers) {
      print_line("  ", known);
    }
  }
}

void run_job(const Job& job) noexcept {
  if (free_bytes() < job.bytes) {
    print_line("== ", job.name, ": skipped, since it needs ", job.bytes >> 20,
               " MiB of free memory");
    return;
  }
  const std::uint64_t before = failure_count();
  print_line("== ", job.name, ": ", job.purpose);
  job.run();
  const std::uint64_t failed = failure_count() - before;
  if (failed == 0) {
    print_line("== ", job.name, ": ok");
  } else {
    print_line("== ", job.name, ": ", failed, failed == 1 ? Text(" failure") : Text(" failures"));
  }
}

void run_named(Text name) noexcept {
  for (const Job& job : jobs) {
    if (job.name == name) {
      run_job(job);
      return;
    }
  }
  failures.fetch_add(1, Order::relaxed);
  print_line("no job has the name ", name, "; there are:");
  for (const Job& job : jobs) {
    print_line("  ", column(12, job.name), job.purpose);
  }
}

}  // namespace

bool expect(bool condition, Text what, const char* file, int line) noexcept {
  if (!condition) {
    failures.fetch_add(1, Order::relaxed);
    print_line(Text::zero_terminated(file), ":", line, ": CPU ", cpu(), ": FAILED: ", what);
  }
  return condition;
}

void run_jobs() noexcept {
  for_each_piece(machine.command_line.text(), ' ', check_word);
  const Text names = machine.command_line.value("run", "");
  for_each_piece(names, ',', run_named);
  for (const Job& job : jobs) {
    if (names.empty() && job.by_default) {
      run_job(job);
    }
  }
}

std::uint64_t failure_count() noexcept { return failures.load(Order::relaxed); }

}  // namespace boot
