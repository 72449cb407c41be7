// SPDX-License-Identifier: MIT
//
// Jobs that break a rule of the kernel on purpose, so that tests can check that the kernel notices.
#include <cstdint>

#include "kernel/jobs.hpp"
#include "kernel/machine.hpp"
#include "kernel/stacks.hpp"

namespace boot {
namespace {

/// Calls itself until it has used the stack up to its canary. The canary is longer than a frame of
/// this function.
[[gnu::noinline]] void descend(const Stack& stack) noexcept {
  volatile std::uint64_t place = 0;
  if (&place >= stack.word + Stack::canary_words) {
    descend(stack);
  }
  asm volatile("" : : : "memory");  // so that it is a call
}

}  // namespace

void fail_job() {
  expect(false, "false is true");
  expect(false, "false is still true");
}

void hang_job() {
  save_interrupts();
  while (true) {
    relax();
  }
}

void overflow_job() {
  const InterruptsDisabled disabled;  // a handler would go on below the stack
  descend(stacks[cpu()]);
}

void trap_job() {
  std::uintptr_t nowhere = 0;
  asm volatile("" : "+r"(nowhere));  // hidden from the compiler, which would optimise the access
  expect(*reinterpret_cast<volatile std::uint64_t*>(nowhere) != 0 && false,
         "address 0 is not mapped");
}

}  // namespace boot
