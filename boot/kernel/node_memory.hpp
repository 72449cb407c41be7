// SPDX-License-Identifier: MIT
//
// The memory of the machine's NUMA nodes, as frame allocators take it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernel/end.hpp"
#include "kernel/hooks.hpp"
#include "kernel/jobs.hpp"
#include "kernel/machine.hpp"
#include "slabmalloc/kernel.hpp"

namespace boot {

struct HooksWithNodes : Hooks {
  static std::uint32_t node(std::uint32_t cpu) noexcept { return machine.nodes.of_cpu(cpu); }
};
struct MachineNodes : slabmalloc::NodeOptions {
  static constexpr std::uint32_t nodes = decltype(machine.nodes)::maximum_nodes;
  static constexpr std::uint32_t limits = 2;
};

/// Memory below it is for devices.
constexpr std::uintptr_t low_end = std::uintptr_t{16} << 20;

/// Calls visit(region, node) for each free stretch of memory. A machine that tells of no nodes has
/// node 0 alone.
template <class Visit>
void for_each_free_of_nodes(Visit visit) noexcept {
  for_each_free([&](Region free) {
    for (const auto& [region, node] : machine.nodes) {
      if (region.overlaps(free)) {
        visit(Region::between(free.start > region.start ? free.start : region.start,
                              free.end() < region.end() ? free.end() : region.end()),
              node);
      }
    }
    if (machine.nodes.begin() == machine.nodes.end()) {
      visit(free, 0);
    }
  });
}

/// Tells `frames` of all nodes, and gives it all memory, or at most `most_bytes` of each node.
template <class NodeFrames>
void take_nodes(NodeFrames& frames, std::size_t most_bytes = ~std::size_t{0}) noexcept {
  frames.set_limit(0, low_end, slabmalloc::LowMemory::Last);
  frames.set_limit(1, std::uintptr_t{4} << 30, slabmalloc::LowMemory::Shared);
  for (const auto& [region, node] : machine.nodes) {
    expect(static_cast<bool>(frames.set_node({region.start, region.bytes}, node)),
           "there is room for each stretch of memory");
  }
  for (std::uint32_t from = 0; from < machine.nodes.nodes(); ++from) {
    for (std::uint32_t to = 0; to < machine.nodes.nodes(); ++to) {
      frames.set_distance(from, to, machine.nodes.distance(from, to));
    }
  }
  slabmalloc::EarlyMemory<page_bytes> early;
  std::size_t left[MachineNodes::nodes];
  for (std::size_t& bytes : left) {
    bytes = most_bytes;
  }
  for_each_free_of_nodes([&](Region region, std::uint32_t node) {
    const std::size_t bytes = region.bytes < left[node] ? region.bytes : left[node];
    left[node] -= bytes;
    expect(bytes == 0 || static_cast<bool>(early.add({region.start, bytes})),
           "there is room for it");
  });
  expect(static_cast<bool>(early.hand_over(frames)), "the nodes take the memory");
}

}  // namespace boot
