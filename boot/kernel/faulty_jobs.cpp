// SPDX-License-Identifier: MIT
//
// Jobs that do what a kernel must not do, so that tests can tell that it would be seen.
#include <cstdint>

#include "kernel/jobs.hpp"
#include "kernel/machine.hpp"

namespace boot {

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

void trap_job() {
  std::uintptr_t nowhere = 0;
  asm volatile(""
               : "+r"(nowhere));  // not known to the compiler, which would know what to make of it
  expect(*reinterpret_cast<volatile std::uint64_t*>(nowhere) != 0 && false,
         "address 0 is not mapped");
}

}  // namespace boot
