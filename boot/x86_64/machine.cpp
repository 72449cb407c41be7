// SPDX-License-Identifier: MIT
//
// QEMU's `-M pc` for x86-64, loaded by its PVH loader.
#include "kernel/machine.hpp"

#include <cstdint>

#include "interrupt_table.hpp"
#include "kernel/acpi.hpp"
#include "kernel/end.hpp"
#include "local_apic.hpp"
#include "ports.hpp"

extern "C" {
extern const std::byte trampoline_start[], trampoline_end[];
extern std::uint64_t level1[];  // the page table of the first 2 MiB
}

namespace boot {
namespace {

/// The PVH loader passes this (Xen, public/arch-x86/hvm/start_info.h).
struct StartInfo {
  std::uint32_t magic;
  std::uint32_t version;
  std::uint32_t flags;
  std::uint32_t module_count;
  std::uint64_t modules;
  std::uint64_t command_line;
  std::uint64_t acpi_root;
  std::uint64_t memory_map;
  std::uint32_t memory_map_entries;
  std::uint32_t reserved;
};
constexpr std::uint32_t start_info_magic = 0x336e'c578;

struct MemoryMapEntry {
  std::uint64_t address;
  std::uint64_t bytes;
  std::uint32_t type;
  std::uint32_t reserved;
};
constexpr std::uint32_t usable_memory = 1;

/// A file that the loader was given beside the kernel, such as an initial file system.
struct Module {
  std::uint64_t address;
  std::uint64_t bytes;
  std::uint64_t command_line;
  std::uint64_t reserved;
};

/// A started CPU begins in this page, which must lie below 1 MiB.
constexpr Region trampoline{0x8000, 4096};
constexpr std::size_t trampoline_cpu_offset = 4096 - sizeof(std::uint32_t);
constexpr Region null_page{0, 4096};

void prepare_processor(std::uint32_t number) noexcept {
  constexpr std::uint32_t gs_base = 0xc000'0101;
  write_register(gs_base, reinterpret_cast<std::uint64_t>(&processor_records[number]));
  accept_interrupts();
}

/// Silences the two old interrupt controllers, which the firmware left on.
void mask_old_controllers() noexcept {
  write_port(0x21, 0xff);
  write_port(0xa1, 0xff);
}

/// The number of CPUs, from QEMU's firmware configuration device.
std::uint32_t count_cpus() noexcept {
  constexpr std::uint16_t selector_port = 0x510;
  constexpr std::uint16_t data_port = 0x511;
  constexpr std::uint16_t number_of_cpus = 0x05;
  write_port_word(selector_port, number_of_cpus);
  const std::uint32_t low = read_port(data_port);
  return read_port(data_port) * 256u + low;
}

/// Pre: CPU n has the local APIC n.
void find_nodes(const AcpiTables& tables) noexcept {
  bool complete = true;
  tables.for_each_affinity(
      [&](std::uint64_t id, std::uint64_t node) {
        complete &=
            id >= machine.cpu_count || machine.nodes.set_cpu(static_cast<std::uint32_t>(id), node);
      },
      [&](Region region, std::uint64_t node) {
        complete &= machine.nodes.add_memory(region, node);
      });
  tables.for_each_distance([&](std::uint64_t from, std::uint64_t to, std::uint64_t distance) {
    complete &= machine.nodes.set_distance(from, to, distance);
  });
  if (!complete) {
    print_line("there are more NUMA nodes than fit; some count as node 0");
  }
}

void describe_machine(const StartInfo& info) noexcept {
  if (info.magic != start_info_magic || info.version < 1) {
    panic("the loader passed no memory map");
  }
  const auto* entries = reinterpret_cast<const MemoryMapEntry*>(info.memory_map);
  for (std::uint32_t index = 0; index < info.memory_map_entries; ++index) {
    if (entries[index].type == usable_memory) {
      add_memory({entries[index].address, entries[index].bytes});
    }
  }
  const auto* modules = reinterpret_cast<const Module*>(info.modules);
  for (std::uint32_t index = 0; index < info.module_count; ++index) {
    reserve_memory({modules[index].address, modules[index].bytes});
  }
  reserve_memory(null_page);
  reserve_memory(trampoline);
  reserve_memory(image());
  // QEMU numbers the local APICs of one socket from 0 on.
  const std::uint32_t count = count_cpus();
  machine.cpu_count = count < maximum_cpus ? count : maximum_cpus;
  if (count > maximum_cpus) {
    print_line(count - maximum_cpus, " CPUs are left out; there is room for ", maximum_cpus);
  }
  for (std::uint32_t cpu = 0; cpu < machine.cpu_count; ++cpu) {
    machine.hardware_ids[cpu] = cpu;
  }
  find_nodes(AcpiTables(info.acpi_root));
  const auto* command_line = reinterpret_cast<const char*>(info.command_line);
  if (!machine.command_line.set(Text::zero_terminated(command_line))) {
    print_line("the command line is too long; its end is ignored");
  }
}

constexpr std::uint64_t entry_present = 1 << 0;
constexpr std::uint64_t entry_writable = 1 << 1;

/// The entry of the page at `address`, in the first 2 MiB.
std::uint64_t& entry_of(const void* address) noexcept {
  return level1[reinterpret_cast<std::uintptr_t>(address) / page_bytes];
}

/// Unmaps address 0, and protects code and constants from writes. The loader's data is in the first
/// page, so this must not happen earlier.
void protect_pages() noexcept {
  level1[0] = 0;
  for (const std::byte* page = image_start; page < data_start; page += page_bytes) {
    entry_of(page) &= ~entry_writable;
  }
  std::uint64_t tables;
  asm volatile("movq %%cr3, %0\n movq %0, %%cr3" : "=r"(tables) : : "memory");
}

}  // namespace

extern "C" [[noreturn]] void start_first(const StartInfo* info) noexcept {
  fill_interrupt_table();
  mask_old_controllers();
  prepare_processor(0);
  describe_machine(*info);
  protect_pages();
  kernel_main();
}

extern "C" [[noreturn]] void start_other(std::uint32_t number) noexcept {
  prepare_processor(number);
  secondary_main();
}

void put_on_console(char character) noexcept {
  constexpr std::uint16_t uart = 0x3f8;
  constexpr std::uint8_t transmitter_empty = 1 << 5;
  while ((read_port(uart + 5) & transmitter_empty) == 0) {
  }
  write_port(uart, static_cast<std::uint8_t>(character));
}

void end_machine(std::uint32_t status) noexcept {
  // QEMU's own failures end with 1, and status 0 would become 1 here.
  constexpr std::uint32_t success = 1;
  constexpr std::uint16_t exit_port = 0xf4;
  asm volatile("outl %0, %1" : : "a"(success + status), "Nd"(exit_port));
  while (true) {
    wait_for_interrupt();
  }
}

void start_cpu(std::uint32_t cpu) noexcept {
  auto* page = reinterpret_cast<std::byte*>(trampoline.start);
  const auto code_bytes = static_cast<std::size_t>(trampoline_end - trampoline_start);
  __builtin_memcpy(page, trampoline_start, code_bytes);
  __builtin_memcpy(page + trampoline_cpu_offset, &cpu, sizeof(cpu));
  const auto id = static_cast<std::uint32_t>(machine.hardware_ids[cpu]);
  local_apic::send(id, local_apic::init);
  local_apic::send(id, local_apic::startup | trampoline.start / 4096);
}

void start_timer(std::uint32_t microseconds) noexcept {
  local_apic::start_timer(timer_vector, microseconds);
}

Text check_translation() noexcept {
  constexpr std::uint64_t paging_and_write_protection = std::uint64_t{1} << 31 | 1 << 16;
  std::uint64_t control;
  asm volatile("movq %%cr0, %0" : "=r"(control));
  if ((control & paging_and_write_protection) != paging_and_write_protection) {
    return "paging is off, or the kernel may write what is protected";
  }
  if ((entry_of(nullptr) & entry_present) != 0) {
    return "address 0 is mapped";
  }
  if (((entry_of(image_start) | entry_of(constants_start)) & entry_writable) != 0) {
    return "code or constants are writable";
  }
  return {};
}

void send_signal(std::uint32_t cpu) noexcept {
  // A command is written in two parts, and a handler on this CPU may send one too.
  const InterruptState before = save_interrupts();
  local_apic::send(static_cast<std::uint32_t>(machine.hardware_ids[cpu]), local_apic::non_maskable);
  restore_interrupts(before);
}

}  // namespace boot
