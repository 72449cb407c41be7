// SPDX-License-Identifier: MIT
//
// NodeMap: which memory and which CPUs of the machine belong together, as its firmware tells. A
// machine without such information is one node.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernel/region.hpp"

namespace boot {

/// The NUMA nodes of a machine with at most `cpus` CPUs.
template <std::uint32_t cpus>
class NodeMap {
 public:
  static constexpr std::uint32_t maximum_nodes = 4;
  static constexpr std::uint8_t local_distance = 10;
  static constexpr std::uint8_t remote_distance = 20;

  struct Memory {
    Region region;
    std::uint32_t node;
  };

  constexpr NodeMap() noexcept {
    for (std::uint32_t from = 0; from < maximum_nodes; ++from) {
      for (std::uint32_t to = 0; to < maximum_nodes; ++to) {
        distances_[from][to] = from == to ? local_distance : remote_distance;
      }
    }
  }

  /// Each returns false if there is no room for what it tells.
  constexpr bool add_memory(Region region, std::uint64_t node) noexcept {
    if (node >= maximum_nodes || count_ == maximum_memories) {
      return false;
    }
    memories_[count_++] = {region, static_cast<std::uint32_t>(node)};
    nodes_ = nodes_ > node ? nodes_ : static_cast<std::uint32_t>(node) + 1;
    return true;
  }
  constexpr bool set_cpu(std::uint32_t cpu, std::uint64_t node) noexcept {
    if (node >= maximum_nodes || cpu >= cpus) {
      return false;
    }
    of_cpus_[cpu] = static_cast<std::uint32_t>(node);
    nodes_ = nodes_ > node ? nodes_ : static_cast<std::uint32_t>(node) + 1;
    return true;
  }
  constexpr bool set_distance(std::uint64_t from, std::uint64_t to,
                              std::uint64_t distance) noexcept {
    if (from >= maximum_nodes || to >= maximum_nodes || distance > 255) {
      return false;
    }
    distances_[from][to] = static_cast<std::uint8_t>(distance);
    return true;
  }

  constexpr std::uint32_t nodes() const noexcept { return nodes_; }
  constexpr std::uint32_t of_cpu(std::uint32_t cpu) const noexcept { return of_cpus_[cpu]; }
  constexpr std::uint8_t distance(std::uint32_t from, std::uint32_t to) const noexcept {
    return distances_[from][to];
  }
  constexpr const Memory* begin() const noexcept { return memories_; }
  constexpr const Memory* end() const noexcept { return memories_ + count_; }

 private:
  static constexpr std::size_t maximum_memories = 16;

  Memory memories_[maximum_memories] = {};
  std::size_t count_ = 0;
  std::uint32_t nodes_ = 1;
  std::uint32_t of_cpus_[cpus] = {};
  std::uint8_t distances_[maximum_nodes][maximum_nodes] = {};
};

}  // namespace boot
