// SPDX-License-Identifier: MIT
//
// The interface between the shared kernel and the machine. Each architecture's folder supplies two
// parts:
//
//   processor.hpp   the fast paths, inline, found by the include path:
//     architecture              its name, a constexpr Text
//     cpu()                     number of the running CPU, below machine.cpu_count; 0 has booted
//     local<slot>(), set_local<slot>(value)  pointers that each CPU has for itself, null at first
//     InterruptState            what save_interrupts() returns
//     save_interrupts()         disables interrupts on this CPU, returns the old state; calls nest
//     restore_interrupts(s)     restores that state
//     enable_interrupts(), interrupts_enabled()
//     relax()                   for loops that wait for another CPU
//     wait_for_interrupt()      sleeps until an interrupt is pending; may return early
//     instructions()            instructions this CPU has carried out; exact under
//                               `-icount shift=0` with one CPU, without meaning otherwise
//     count_down(n)             a loop of exactly 2 n instructions, n > 0
//     signals_are_non_maskable  true if a signal arrives while interrupts are disabled
//
//   the functions of the second section below, in its .cpp and .S files
//
// It calls the functions of the third section. It also has the first instructions. On the CPU that
// booted they set up a stack, cpu() and traps, fill in `machine` and call kernel_main().
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernel/command_line.hpp"
#include "kernel/node_map.hpp"
#include "kernel/processor_record.hpp"
#include "kernel/region.hpp"
#include "kernel/text.hpp"
#include "processor.hpp"
#include "slabmalloc/base/atomics.hpp"
#include "slabmalloc/kernel/early_memory.hpp"

namespace boot {

using slabmalloc::Order;
template <class T>
using Cell = slabmalloc::HardwareAtomics::Cell<T>;

/// Disables this CPU's interrupts while it lives. These objects nest.
class InterruptsDisabled {
 public:
  InterruptsDisabled() noexcept : before_(save_interrupts()) {}
  ~InterruptsDisabled() { restore_interrupts(before_); }
  InterruptsDisabled(const InterruptsDisabled&) = delete;
  InterruptsDisabled& operator=(const InterruptsDisabled&) = delete;

 private:
  InterruptState before_;
};

// ---- The data ------------------------------------------------------------------------

/// The size of the smallest page that the MMU maps. It is also the allocator's base page.
inline constexpr std::size_t page_bytes = SLABMALLOC_BOOT_PAGE_BYTES;
/// The stack of each CPU, interrupt handlers included.
inline constexpr std::size_t stack_bytes = SLABMALLOC_BOOT_STACK_BYTES;
inline constexpr std::uint32_t maximum_cpus = 32;

/// The loader's information. It does not change once kernel_main() is called.
struct Machine {
  /// All of it: free for any use, or reserved, as the kernel itself is.
  slabmalloc::EarlyMemory<page_bytes> memory;
  std::uint64_t hardware_ids[maximum_cpus]{};  ///< By cpu(): the architecture's name for it.
  std::uint32_t cpu_count = 1;
  NodeMap<maximum_cpus> nodes;  ///< By cpu(), too.
  CommandLine command_line;
};
inline constinit Machine machine;

/// Calls visit(Region) for the whole pages of each free stretch of memory, in address order.
template <class Visit>
void for_each_free(Visit visit) noexcept {
  machine.memory.for_each([&](void* address, std::size_t bytes, slabmalloc::EarlyUse use) {
    const auto start = reinterpret_cast<std::uintptr_t>(address);
    const std::uintptr_t first = (start + page_bytes - 1) / page_bytes * page_bytes;
    const std::uintptr_t end = (start + bytes) / page_bytes * page_bytes;
    if (use == slabmalloc::EarlyUse::Free && first < end) {
      visit(Region::between(first, end));
    }
  });
}
/// Adds memory to that of the machine, or keeps a part of it from use.
/// Fails: ends the kernel if there are more regions than fit.
void add_memory(Region region) noexcept;
void reserve_memory(Region region) noexcept;
inline std::size_t free_bytes() noexcept {
  std::size_t bytes = 0;
  for_each_free([&](Region region) { bytes += region.bytes; });
  return bytes;
}

/// By CPU number. The numbers in the records are there from the beginning.
extern "C" ProcessorRecord processor_records[maximum_cpus];

extern "C" const std::byte image_start[], constants_start[], data_start[],
    image_end[];  // see image.ld

/// The kernel itself, its stacks and tables included.
inline Region image() noexcept {
  return Region::between(reinterpret_cast<std::uintptr_t>(image_start),
                         reinterpret_cast<std::uintptr_t>(image_end));
}

// ---- Functions of the architecture ---------------------------------------------------

/// Puts one character on the serial console.
/// Thread: one at a time; print() ensures that.
void put_on_console(char character) noexcept;

/// Ends the emulator with `status`, 0 to 125.
[[noreturn]] void end_machine(std::uint32_t status) noexcept;

/// Starts the CPU that is to be `cpu`. Pre: those below it are up. Post: it calls secondary_main()
/// on its own stack, with interrupts disabled.
void start_cpu(std::uint32_t cpu) noexcept;

/// Starts this CPU's timer: on_timer() is called every `microseconds`.
/// Pre: microseconds <= 1,000,000.
void start_timer(std::uint32_t microseconds) noexcept;

/// Checks that this CPU translates addresses as intended. Returns the defect, or an empty text.
Text check_translation() noexcept;

/// Sends a signal: on_signal() is called on `cpu`, which may be the caller's.
void send_signal(std::uint32_t cpu) noexcept;

// ---- Calls by the architecture -------------------------------------------------------

/// The kernel, on the CPU that booted, with interrupts disabled.
[[noreturn]] void kernel_main() noexcept;

/// The kernel on every other CPU, with interrupts disabled.
[[noreturn]] void secondary_main() noexcept;

/// A tick of this CPU's timer. The caller acknowledges the interrupt, before or after this.
void on_timer() noexcept;

/// A signal has arrived. Where signals are not maskable, the interrupted code may hold any lock.
void on_signal() noexcept;

/// The processor's description of an unexpected trap.
struct Trap {
  Text cause;
  std::uint64_t number;        ///< The architecture's own.
  std::uintptr_t instruction;  ///< Address of the instruction.
  std::uintptr_t address;      ///< The address that caused it, where there is one.
};
[[noreturn]] void unexpected_trap(const Trap& trap) noexcept;

}  // namespace boot
