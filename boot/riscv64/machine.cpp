// SPDX-License-Identifier: MIT
//
// QEMU's `-M virt` for riscv64, under OpenSBI.
#include "kernel/machine.hpp"

#include <cstdint>

#include "kernel/describe_machine.hpp"
#include "kernel/end.hpp"
#include "sbi.hpp"

extern "C" {
void start();
void trap_entry();
}

namespace boot {
namespace {

constexpr std::uintptr_t uart_address = 0x1000'0000;
constexpr std::uintptr_t finisher_address = 0x10'0000;
constexpr std::size_t device_tree_room = std::size_t{4} << 20;

std::uint64_t clock_frequency = 0;
std::uint64_t tick_length[maximum_cpus];  // by CPU, in units of the clock
std::uint64_t next_tick[maximum_cpus];

std::uint64_t clock() noexcept {
  std::uint64_t time;
  asm volatile("rdtime %0" : "=r"(time));
  return time;
}

constexpr std::uint64_t interrupt_bit = std::uint64_t{1} << 63;
constexpr std::uint64_t software_interrupt = 1;
constexpr std::uint64_t timer_interrupt = 5;

Text cause_name(std::uint64_t cause) noexcept {
  constexpr Text exceptions[] = {"instruction misaligned", "instruction access fault",
                                 "illegal instruction",    "breakpoint",
                                 "load misaligned",        "load access fault",
                                 "store misaligned",       "store access fault"};
  return cause < 8                      ? exceptions[cause]
         : (cause & interrupt_bit) != 0 ? Text("interrupt")
                                        : Text("exception");
}

/// Prepares the registers that each CPU has for itself. Floating point stays off, because nothing
/// here saves its registers.
void prepare_processor() noexcept {
  asm volatile("csrw stvec, %0" : : "r"(&trap_entry));
  asm volatile("csrw sie, %0" : : "r"(1 << software_interrupt | 1 << timer_interrupt));
}

}  // namespace

extern "C" [[noreturn]] void start_first(std::uint64_t hart, const void* blob) noexcept {
  prepare_processor();
  const DeviceTree tree = describe_machine(blob, device_tree_room, hart);
  clock_frequency = tree.timebase_frequency();
  kernel_main();
}

extern "C" [[noreturn]] void start_other(std::uint64_t hart) noexcept {
  prepare_processor();
  if (cpu() >= machine.cpu_count || machine.hardware_ids[cpu()] != hart) {
    panic("hart ", hart, " came as CPU ", cpu());
  }
  secondary_main();
}

extern "C" void handle_trap(std::uint64_t cause, std::uintptr_t instruction,
                            std::uintptr_t address) noexcept {
  if (cause == (interrupt_bit | timer_interrupt)) {
    std::uint64_t& next = next_tick[cpu()];
    next += tick_length[cpu()];
    // If several ticks are overdue, they count as one.
    const std::uint64_t now = clock();
    next = next > now ? next : now + tick_length[cpu()];
    sbi::set_timer(next);
    on_timer();
  } else if (cause == (interrupt_bit | software_interrupt)) {
    asm volatile("csrc sip, %0" : : "r"(1 << software_interrupt));
    on_signal();
  } else {
    unexpected_trap({cause_name(cause), cause, instruction, address});
  }
}

void put_on_console(char character) noexcept {
  auto* uart = reinterpret_cast<volatile std::uint8_t*>(uart_address);
  constexpr std::uint8_t transmitter_empty = 1 << 5;
  while ((uart[5] & transmitter_empty) == 0) {
  }
  uart[0] = static_cast<std::uint8_t>(character);
}

void end_machine(std::uint32_t status) noexcept {
  constexpr std::uint32_t pass = 0x5555;
  constexpr std::uint32_t fail = 0x3333;
  *reinterpret_cast<volatile std::uint32_t*>(finisher_address) =
      status == 0 ? pass : status << 16 | fail;
  while (true) {
    wait_for_interrupt();
  }
}

void start_cpu(std::uint32_t cpu) noexcept {
  const std::int64_t error =
      sbi::hart_start(machine.hardware_ids[cpu], reinterpret_cast<std::uint64_t>(&start));
  if (error != 0) {
    panic("hart ", machine.hardware_ids[cpu], " does not start, SBI error ", error);
  }
}

void start_timer(std::uint32_t microseconds) noexcept {
  tick_length[cpu()] = clock_frequency * microseconds / 1'000'000;
  next_tick[cpu()] = clock() + tick_length[cpu()];
  sbi::set_timer(next_tick[cpu()]);
}

Text check_translation() noexcept {
  std::uint64_t mode;
  asm volatile("csrr %0, satp" : "=r"(mode));
  return mode == 0 ? Text() : Text("translation is on");
}

void send_signal(std::uint32_t cpu) noexcept { sbi::send_ipi(machine.hardware_ids[cpu]); }

}  // namespace boot
