// SPDX-License-Identifier: MIT
//
// The interrupt descriptor table, one for all CPUs, and its handlers. The compiler saves and
// restores registers for functions with the attribute `interrupt`. None of them changes stacks,
// because there is no user mode.
#include "interrupt_table.hpp"

#include <cstdint>

#include "kernel/machine.hpp"
#include "local_apic.hpp"

namespace boot {
namespace {

/// The processor pushes this.
struct Frame {
  std::uintptr_t instruction;
  std::uint64_t code_segment;
  std::uint64_t flags;
  std::uintptr_t stack;
  std::uint64_t stack_segment;
};

struct Gate {
  std::uint16_t offset_low;
  std::uint16_t selector;
  std::uint16_t attributes;
  std::uint16_t offset_middle;
  std::uint32_t offset_high;
  std::uint32_t reserved;
};
static_assert(sizeof(Gate) == 16);

constexpr std::size_t vectors = 256;
constexpr std::size_t exceptions = 32;
constexpr std::uint8_t non_maskable_vector = 2;
constexpr std::uint8_t spurious_vector = 0xff;

alignas(16) constinit Gate table[vectors] = {};

constexpr Text exception_names[] = {"division",
                                    "debug",
                                    "non-maskable interrupt",
                                    "breakpoint",
                                    "overflow",
                                    "bound range",
                                    "invalid opcode",
                                    "device not available",
                                    "double fault",
                                    "coprocessor overrun",
                                    "invalid task state",
                                    "segment not present",
                                    "stack fault",
                                    "general protection",
                                    "page fault"};

/// True if the processor pushes an error code.
constexpr bool has_error_code(std::size_t vector) {
  return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 ||
         vector == 29 || vector == 30;
}

[[noreturn]] void report(std::size_t vector, const Frame& frame) noexcept {
  constexpr std::size_t names = sizeof(exception_names) / sizeof(exception_names[0]);
  std::uintptr_t address;
  asm volatile("movq %%cr2, %0" : "=r"(address));
  unexpected_trap({vector < names ? exception_names[vector] : Text("exception"), vector,
                   frame.instruction, vector == 14 ? address : 0});
}

template <std::size_t vector>
[[gnu::interrupt]] void exception(Frame* frame) {
  report(vector, *frame);
}
template <std::size_t vector>
[[gnu::interrupt]] void exception_with_error(Frame* frame, std::uint64_t) {
  report(vector, *frame);
}

[[gnu::interrupt]] void timer(Frame*) {
  on_timer();
  local_apic::at(local_apic::end_of_interrupt) = 0;
}

[[gnu::interrupt]] void non_maskable(Frame*) { on_signal(); }

[[gnu::interrupt]] void spurious(Frame*) {}

template <class Handler>
void set_gate(std::size_t vector, Handler* handler) noexcept {
  constexpr std::uint16_t present_interrupt_gate = 0x8e00;
  constexpr std::uint16_t code_selector = 8;
  const auto address = reinterpret_cast<std::uintptr_t>(handler);
  table[vector] = {static_cast<std::uint16_t>(address),
                   code_selector,
                   present_interrupt_gate,
                   static_cast<std::uint16_t>(address >> 16),
                   static_cast<std::uint32_t>(address >> 32),
                   0};
}

template <std::size_t vector = 0>
void set_exception_gates() noexcept {
  if constexpr (has_error_code(vector)) {
    set_gate(vector, &exception_with_error<vector>);
  } else {
    set_gate(vector, &exception<vector>);
  }
  if constexpr (vector + 1 < exceptions) {
    set_exception_gates<vector + 1>();
  }
}

}  // namespace

void fill_interrupt_table() noexcept {
  set_exception_gates();
  set_gate(non_maskable_vector, &non_maskable);
  set_gate(timer_vector, &timer);
  set_gate(spurious_vector, &spurious);
}

void accept_interrupts() noexcept {
  struct [[gnu::packed]] {
    std::uint16_t last_byte;
    const Gate* table;
  } const pointer{sizeof(table) - 1, table};
  asm volatile("lidt %0" : : "m"(pointer));
  local_apic::enable(spurious_vector);
}

}  // namespace boot
