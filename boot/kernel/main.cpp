// SPDX-License-Identifier: MIT
//
// The kernel's steps: describe the machine, start its CPUs, run the jobs, check the stacks, end.
#include <cstddef>
#include <cstdint>

#include "kernel/cpus.hpp"
#include "kernel/end.hpp"
#include "kernel/jobs.hpp"
#include "kernel/machine.hpp"
#include "kernel/print.hpp"
#include "kernel/stacks.hpp"

namespace boot {

alignas(page_bytes) constinit Stack stacks[maximum_cpus] = {};

namespace {

void print_region(Text what, Region region) noexcept {
  print_line("  ", hex(region.start), " to ", hex(region.end()), "  ",
             column(10, size(region.bytes)), "  ", what);
}

void print_machine() noexcept {
  print_line("slabmalloc on ", architecture, ": ", cpu_count(),
             cpu_count() == 1 ? Text(" CPU") : Text(" CPUs"), ", pages of ", size(page_bytes), ", ",
             size(free_bytes()), " free");
  print_line("command line: ", machine.command_line.text());
  print_region("kernel", image());
  for_each_free([](Region region) { print_region("free", region); });
}

void check_stacks() noexcept {
  std::size_t deepest = 0;
  for (std::uint32_t cpu = 0; cpu < cpu_count(); ++cpu) {
    expect(stacks[cpu].intact(), "S1: no stack has overflown");
    deepest = deepest > stacks[cpu].deepest() ? deepest : stacks[cpu].deepest();
  }
  print_line("stacks: ", deepest, " of ", stack_bytes, " bytes used at most");
}

}  // namespace

void kernel_main() noexcept {
  // This function uses the stack, and below it so does the function that writes the pattern.
  constexpr std::size_t margin_bytes = 1024;
  stacks[0].prepare(static_cast<std::byte*>(__builtin_frame_address(0)) - margin_bytes);
  print_machine();
  start_cpus();
  run_jobs();
  check_stacks();
  end_kernel(failure_count());
}

}  // namespace boot
