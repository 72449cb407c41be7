// SPDX-License-Identifier: MIT
//
// The machine, as the shared kernel sees it. Each architecture's folder supplies it twice over:
//
//   processor.hpp   what is hot, inline, found by the include path:
//     architecture              its name, a constexpr Text
//     cpu()                     number of the running CPU, below machine.cpu_count; 0 has booted
//     local<slot>(), set_local<slot>(value)  pointers that each CPU has for itself, null at first
//     InterruptState            what save_interrupts() returns
//     save_interrupts()         keeps interrupts out of this CPU, tells how it was; calls nest
//     restore_interrupts(s)     makes it so again
//     enable_interrupts(), interrupts_enabled()
//     relax()                   to be called in loops that wait for another CPU
//     wait_for_interrupt()      sleeps until an interrupt is pending; may return early
//     instructions()            instructions this CPU has carried out; counted, and exactly, under
//                               `-icount shift=0` with one CPU; without it a number, no more
//     count_down(n)             a loop of exactly 2 n instructions, n > 0
//     signals_are_non_maskable  whether a signal arrives while interrupts are kept out
//
//   the functions of the second section below, in its .cpp and .S files
//
// and calls those of the third. The first instructions are the architecture's: on the CPU that
// booted they set up a stack, cpu() and traps, fill in `machine` and call kernel_main().
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernel/command_line.hpp"
#include "kernel/processor_record.hpp"
#include "kernel/region.hpp"
#include "kernel/text.hpp"
#include "processor.hpp"
#include "slabmalloc/base/atomics.hpp"

namespace boot {

using slabmalloc::Order;
template <class T>
using Cell = slabmalloc::HardwareAtomics::Cell<T>;

/// Keeps interrupts out of this CPU while it lives. They nest.
class InterruptsDisabled {
 public:
  InterruptsDisabled() noexcept : before_(save_interrupts()) {}
  ~InterruptsDisabled() { restore_interrupts(before_); }
  InterruptsDisabled(const InterruptsDisabled&) = delete;
  InterruptsDisabled& operator=(const InterruptsDisabled&) = delete;

 private:
  InterruptState before_;
};

// ---- What there is -------------------------------------------------------------------

/// The size of the smallest page that the MMU maps, which is the allocator's base page.
inline constexpr std::size_t page_bytes = SLABMALLOC_BOOT_PAGE_BYTES;
/// The stack of each CPU, interrupt handlers included.
inline constexpr std::size_t stack_bytes = SLABMALLOC_BOOT_STACK_BYTES;
inline constexpr std::uint32_t maximum_cpus = 32;

/// What the loader said. Written before kernel_main() is called, and never again.
struct Machine {
  RegionList<32> memory;                       ///< Free for any use; the kernel is outside of it.
  std::uint64_t hardware_ids[maximum_cpus]{};  ///< By cpu(): what the architecture calls it.
  std::uint32_t cpu_count = 1;
  CommandLine command_line;
};
inline constinit Machine machine;

/// By CPU number; the numbers are there from the beginning.
extern "C" ProcessorRecord processor_records[maximum_cpus];

extern "C" const std::byte image_start[], constants_start[], data_start[],
    image_end[];  // see image.ld

/// The kernel itself, its stacks and tables included.
inline Region image() noexcept {
  return Region::between(reinterpret_cast<std::uintptr_t>(image_start),
                         reinterpret_cast<std::uintptr_t>(image_end));
}

// ---- What the architecture supplies --------------------------------------------------

/// Puts one character on the serial console.
/// Thread: the caller sees to it that there is one at a time; print() does.
void put_on_console(char character) noexcept;

/// Ends the emulator with `status`, 0 to 125.
[[noreturn]] void end_machine(std::uint32_t status) noexcept;

/// Starts the CPU that is to be `cpu`. Pre: those below are up. Post: it calls secondary_main() on
/// its own stack, with interrupts disabled.
void start_cpu(std::uint32_t cpu) noexcept;

/// Starts this CPU's timer: on_timer() is called every `microseconds`.
/// Pre: microseconds <= 1,000,000.
void start_timer(std::uint32_t microseconds) noexcept;

/// Returns what is wrong with this CPU's translation of addresses, as it was meant to be set up; an
/// empty text if nothing is.
Text check_translation() noexcept;

/// Sends a signal: on_signal() is called on `cpu`, which may be the caller's.
void send_signal(std::uint32_t cpu) noexcept;

// ---- What the architecture calls -----------------------------------------------------

/// The kernel, on the CPU that booted, with interrupts disabled.
[[noreturn]] void kernel_main() noexcept;

/// The kernel on every other CPU, with interrupts disabled.
[[noreturn]] void secondary_main() noexcept;

/// A tick of this CPU's timer. The interrupt has been acknowledged, or will be by whoever calls
/// this.
void on_timer() noexcept;

/// A signal has arrived. Where signals are not maskable, the interrupted code may hold any lock.
void on_signal() noexcept;

/// What the processor told about a trap that nobody expects.
struct Trap {
  Text cause;
  std::uint64_t number;        ///< The architecture's own.
  std::uintptr_t instruction;  ///< Address of the instruction.
  std::uintptr_t address;      ///< The address it was about, where there is one.
};
[[noreturn]] void unexpected_trap(const Trap& trap) noexcept;

}  // namespace boot
