// SPDX-License-Identifier: MIT
//
// Free memory is the memory that the tree lists, less its reservations, the tree itself and the
// kernel.
#include "kernel/describe_machine.hpp"

#include "kernel/end.hpp"
#include "kernel/machine.hpp"

namespace boot {
namespace {

void find_memory(const DeviceTree& tree, const void* blob) noexcept {
  bool complete = true;
  tree.for_each_memory([&](Region region, std::uint32_t node) {
    add_memory(region);
    complete &= machine.nodes.add_memory(region, node);
  });
  tree.for_each_distance([&](std::uint32_t from, std::uint32_t to, std::uint32_t distance) {
    complete &= machine.nodes.set_distance(from, to, distance);
  });
  if (!complete) {
    print_line("there are more NUMA nodes than fit; some count as node 0");
  }
  tree.for_each_reservation(reserve_memory);
  reserve_memory(tree.initial_file_system());
  reserve_memory({reinterpret_cast<std::uintptr_t>(blob), tree.bytes()});
  reserve_memory(image());
}

void find_cpus(const DeviceTree& tree, std::uint64_t boot_id) noexcept {
  bool found = false;
  std::uint32_t left_out = 0;
  machine.hardware_ids[0] = boot_id;
  machine.cpu_count = 1;
  tree.for_each_cpu([&](std::uint64_t id, std::uint32_t node) {
    if (id == boot_id) {
      found = true;
      machine.nodes.set_cpu(0, node);
    } else if (machine.cpu_count < maximum_cpus) {
      machine.nodes.set_cpu(machine.cpu_count, node);
      machine.hardware_ids[machine.cpu_count++] = id;
    } else {
      ++left_out;
    }
  });
  if (left_out > 0) {
    print_line(left_out, " CPUs are left out; there is room for ", maximum_cpus);
  }
  if (!found) {
    panic("the device tree does not have the CPU that booted, ", boot_id);
  }
}

}  // namespace

DeviceTree describe_machine(const void* blob, std::size_t available,
                            std::uint64_t boot_id) noexcept {
  DeviceTree tree;
  const Text wrong = tree.open(blob, available);
  if (!wrong.empty()) {
    panic("device tree at ", hex(blob), ": ", wrong);
  }
  find_memory(tree, blob);
  find_cpus(tree, boot_id);
  if (!machine.command_line.set(tree.bootargs())) {
    print_line("the command line is too long; its end is ignored");
  }
  return tree;
}

}  // namespace boot
