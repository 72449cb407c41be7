// SPDX-License-Identifier: MIT
//
// The fixture of node tests: a kernel with four CPUs on each node, and the order of banks as the
// documents state it.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <tuple>
#include <vector>

#include "kernel/frame_fixture.hpp"
#include "slabmalloc/kernel/node_frames.hpp"

namespace slabmalloc::test {

struct NodeKernel : PatientKernel {
  static constexpr std::uint32_t cpus_of_node = 2;
  static std::uint32_t node(std::uint32_t cpu) noexcept { return cpu / cpus_of_node; }
};
static_assert(NodeHooks<NodeKernel>);

/// The banks in the order of a node: each is a pair of node and band.
template <std::uint32_t nodes, std::uint32_t bands>
struct OrderModel {
  using BankName = std::pair<std::uint32_t, std::uint32_t>;

  std::array<std::array<std::uint32_t, nodes>, nodes> distances{};
  std::array<bool, bands> is_last{};

  OrderModel() {
    for (std::uint32_t from = 0; from < nodes; ++from) {
      for (std::uint32_t to = 0; to < nodes; ++to) {
        distances[from][to] = from == to ? 10 : 20;
      }
    }
  }
  std::vector<BankName> order(std::uint32_t from) const {
    const auto key = [&](BankName bank) {
      const auto [node, band] = bank;
      const std::uint32_t kept = is_last[band] ? 1 + bands - band : 0;
      return std::tuple{kept, distances[from][node], (node + nodes - from) % nodes, bands - band};
    };
    std::vector<BankName> result;
    for (std::uint32_t node = 0; node < nodes; ++node) {
      for (std::uint32_t band = 0; band < bands; ++band) {
        result.emplace_back(node, band);
      }
    }
    std::sort(result.begin(), result.end(),
              [&](BankName one, BankName other) { return key(one) < key(other); });
    return result;
  }
};

}  // namespace slabmalloc::test
