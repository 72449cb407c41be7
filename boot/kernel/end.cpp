// SPDX-License-Identifier: MIT
//
// Only one CPU ends the machine: the first that calls.
#include "kernel/end.hpp"

#include "kernel/machine.hpp"

namespace boot {
namespace {

constinit Cell<std::uint32_t> ending{0};

}  // namespace

void end_kernel(std::uint64_t status) noexcept {
  save_interrupts();
  if (ending.exchange(1, Order::relaxed) == 0) {
    const auto reported = static_cast<std::uint32_t>(status < 125 ? status : 125);
    ConsoleAtAnyPrice console;  // not given back, so that this is the last line
    console.print_line("exit status ", reported);
    end_machine(reported);
  }
  // Another CPU is about to end the machine, or this CPU failed to. In that case it hangs here, and
  // scripts/boot reports a hang.
  while (true) {
    wait_for_interrupt();
  }
}

void unexpected_trap(const Trap& trap) noexcept {
  panic("unexpected trap: ", trap.cause, " (", hex(trap.number), "), instruction ",
        hex(trap.instruction), ", address ", hex(trap.address));
}

}  // namespace boot
