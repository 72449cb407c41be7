// SPDX-License-Identifier: MIT
//
// Job `scenarios` runs the scenarios of test/scenarios on this machine's frames. CPU 0 runs them
// while the timers of all CPUs tick. The job prints scenarios as skipped if they need more memory
// than there is, or larger frames.
//
//   seed=N      other random numbers; default 1
//   rounds=N    N times as many steps at random; default 1
#include <cstddef>
#include <cstdint>

#include "kernel/heap.hpp"
#include "kernel/jobs.hpp"
#include "kernel/machine.hpp"
#include "kernel/print.hpp"
#include "scenarios/table.hpp"

namespace boot {
namespace {

using slabmalloc::scenario::Failure;
using slabmalloc::scenario::Host;
using slabmalloc::scenario::Outcome;
using slabmalloc::scenario::Scenario;
using slabmalloc::scenario::ScenarioSet;

constinit Room<Frames> room{};

std::size_t largest_frame_bytes() noexcept {
  const slabmalloc::FrameStatistics statistics = room.content().statistics();
  std::size_t bytes = 0;
  for (std::uint32_t order = 0; order < slabmalloc::FrameStatistics::orders; ++order) {
    bytes = statistics.free_blocks[order] != 0 ? std::size_t{page_bytes} << order : bytes;
  }
  return bytes;
}

void report(void*, const Scenario& scenario, const Failure& failure) noexcept {
  expect(false, Text::zero_terminated(failure.text), failure.where.file, failure.where.line);
  print_line("  in ", Text::zero_terminated(scenario.name), ", ",
             Text::zero_terminated(failure.step));
  if (failure.has_values) {
    print_line("  found ", failure.found, ", expected ", failure.expected);
  }
  print_line("  seed=", failure.seed);
}

Host this_machine() noexcept {
  return {.allocate_frame =
              [](void*, std::size_t bytes) noexcept {
                return room.content().allocate_frame(bytes).address;
              },
          .deallocate_frame =
              [](void*, void* frame, std::size_t bytes) noexcept {
                room.content().deallocate_frame(frame, bytes);
              },
          .report = report,
          .context = nullptr,
          .memory_bytes = room.content().statistics().free_bytes,
          .largest_frame_bytes = largest_frame_bytes(),
          .seed = machine.command_line.number("seed", 1),
          .rounds = machine.command_line.number("rounds", 1)};
}

void print_outcome(const ScenarioSet& set, const Scenario& scenario, Outcome outcome) noexcept {
  if (outcome == Outcome::skipped) {
    print_line("  skipped, needs ", size(set.needs.memory_bytes), " in frames of up to ",
               size(set.needs.largest_frame_bytes), ": ", Text::zero_terminated(set.subject), " ",
               Text::zero_terminated(set.configuration), " ", Text::zero_terminated(scenario.name));
  }
}

}  // namespace

void scenarios_job() {
  take_memory(room.make());
  const Host host = this_machine();
  const auto summary =
      slabmalloc::scenario::run_scenarios(host, slabmalloc::scenario::all_scenarios, print_outcome);
  print_line("scenarios: ", summary.passed, " passed, ", summary.failed, " failed, ",
             summary.skipped, " skipped");
  expect(summary.passed != 0, "some scenarios fit this machine");
  expect(room.content().statistics().used_bytes == 0, "every frame came back");
}

}  // namespace boot
