// SPDX-License-Identifier: MIT
//
// QEMU's `-M virt,gic-version=3` for aarch64.
#include "kernel/machine.hpp"

#include <cstdint>

#include "interrupt_controller.hpp"
#include "kernel/describe_machine.hpp"
#include "kernel/end.hpp"
#include "page_tables.hpp"

extern "C" {
void start_secondary();
extern const std::byte vectors[];
}

namespace boot {
namespace {

constexpr std::uintptr_t uart_address = 0x0900'0000;
constexpr std::uintptr_t memory_address = 0x4000'0000;  // where QEMU puts the device tree
constexpr std::size_t device_tree_room = std::size_t{2} << 20;
constexpr std::uint64_t affinity_mask = 0xff'00ff'ffff;

std::uint64_t tick_length[maximum_cpus];  // by CPU, in units of the timer

/// Makes event counter 0 count instructions. QEMU does so under -icount only.
void count_instructions() noexcept {
  constexpr std::uint64_t instructions_retired = 0x08;
  constexpr std::uint64_t enable_and_reset = 1 << 0 | 1 << 1;
  asm volatile(
      "msr pmevtyper0_el0, %0\n"
      "msr pmcntenset_el0, %1\n"
      "msr pmcr_el0, %2\n"
      "isb\n"
      :
      : "r"(instructions_retired), "r"(std::uint64_t{1}), "r"(enable_and_reset));
}

/// Prepares the registers that each CPU has for itself.
void prepare_processor() noexcept {
  asm volatile("msr vbar_el1, %0\n isb" : : "r"(&vectors));
  use_page_tables();
  gic::enable(cpu());
  count_instructions();
}

Text cause_name(std::uint64_t vector, std::uint64_t syndrome) noexcept {
  constexpr Text kinds[] = {"synchronous exception", "interrupt", "fast interrupt", "system error"};
  switch (syndrome >> 26) {
    case 0x00:
      return "illegal instruction";
    case 0x07:
      return "floating point";
    case 0x21:
      return "instruction abort";
    case 0x25:
      return "data abort";
    case 0x26:
      return "stack misaligned";
    case 0x3c:
      return "breakpoint";
    default:
      return kinds[vector % 4];
  }
}

/// Calls the firmware (Arm DEN 0022, Power State Coordination Interface). Returns 0 or an error.
std::int64_t call_firmware(std::uint64_t function, std::uint64_t first, std::uint64_t second,
                           std::uint64_t third) noexcept {
  register std::uint64_t x0 asm("x0") = function;
  register std::uint64_t x1 asm("x1") = first;
  register std::uint64_t x2 asm("x2") = second;
  register std::uint64_t x3 asm("x3") = third;
  asm volatile("hvc #0" : "+r"(x0), "+r"(x1), "+r"(x2), "+r"(x3) : : "memory");
  return static_cast<std::int64_t>(x0);
}

void set_timer() noexcept {
  asm volatile("msr cntv_tval_el0, %0\n isb" : : "r"(tick_length[cpu()]));
}

}  // namespace

extern "C" [[noreturn]] void start_first() noexcept {
  asm volatile("msr vbar_el1, %0\n isb" : : "r"(&vectors));
  std::uint64_t affinity;
  asm volatile("mrs %0, mpidr_el1" : "=r"(affinity));
  describe_machine(reinterpret_cast<const void*>(memory_address), device_tree_room,
                   affinity & affinity_mask);
  make_page_tables();
  gic::enable_distributor();
  prepare_processor();
  kernel_main();
}

extern "C" [[noreturn]] void start_other() noexcept {
  prepare_processor();
  secondary_main();
}

extern "C" void handle_interrupt() noexcept {
  const std::uint32_t number = gic::acknowledge();
  switch (number) {
    case gic::timer_interrupt:
      set_timer();
      on_timer();
      break;
    case gic::signal_interrupt:
      on_signal();
      break;
    case gic::none_pending:
      return;
    default:
      panic("unexpected interrupt ", number);
  }
  gic::end(number);
}

extern "C" [[noreturn]] void handle_exception(std::uint64_t vector) noexcept {
  std::uint64_t syndrome;
  std::uintptr_t instruction;
  std::uintptr_t address;
  asm volatile("mrs %0, esr_el1\n mrs %1, elr_el1\n mrs %2, far_el1"
               : "=r"(syndrome), "=r"(instruction), "=r"(address));
  unexpected_trap({cause_name(vector, syndrome), syndrome, instruction, address});
}

void put_on_console(char character) noexcept {
  auto* uart = reinterpret_cast<volatile std::uint32_t*>(uart_address);
  constexpr std::uint32_t transmitter_full = 1 << 5;
  while ((uart[6] & transmitter_full) != 0) {
  }
  uart[0] = static_cast<std::uint32_t>(character);
}

void end_machine(std::uint32_t status) noexcept {
  // Semihosting (Arm, Semihosting for AArch32 and AArch64), SYS_EXIT_EXTENDED.
  constexpr std::uint64_t application_exit = 0x2'0026;
  const std::uint64_t block[] = {application_exit, status};
  register std::uint64_t operation asm("x0") = 0x20;
  register const std::uint64_t* argument asm("x1") = block;
  asm volatile("hlt #0xf000" : "+r"(operation) : "r"(argument) : "memory");
  while (true) {
    wait_for_interrupt();
  }
}

void start_cpu(std::uint32_t cpu) noexcept {
  constexpr std::uint64_t cpu_on = 0xc400'0003;
  const std::int64_t error = call_firmware(cpu_on, machine.hardware_ids[cpu],
                                           reinterpret_cast<std::uint64_t>(&start_secondary), cpu);
  if (error != 0) {
    panic("CPU ", machine.hardware_ids[cpu], " does not start, PSCI error ", error);
  }
}

void start_timer(std::uint32_t microseconds) noexcept {
  std::uint64_t frequency;
  asm volatile("mrs %0, cntfrq_el0" : "=r"(frequency));
  tick_length[cpu()] = frequency * microseconds / 1'000'000;
  set_timer();
  asm volatile("msr cntv_ctl_el0, %0\n isb" : : "r"(std::uint64_t{1}));
}

void send_signal(std::uint32_t cpu) noexcept { gic::send_signal(machine.hardware_ids[cpu]); }

}  // namespace boot
