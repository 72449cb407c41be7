// SPDX-License-Identifier: MIT
//
// A std::unordered_map of 64-bit keys: unordered_map_churn/<allocator>/<size> and unordered_map_fill/<allocator>/<size>, as keyed.hpp
// says.
#include <cstddef>
#include <cstdint>
#include <functional>
#include <unordered_map>
#include <utility>

#include "keyed.hpp"

namespace slabmalloc::benchmark_containers {
namespace {

using Entry = std::pair<const std::uint64_t, std::size_t>;
template <class Peer>
using Table = std::unordered_map<std::uint64_t, std::size_t, std::hash<std::uint64_t>,
                                 std::equal_to<>, typename Peer::template Allocator<Entry>>;

template <class Peer>
struct TableChurn {
  static void measure(benchmark::State& state, std::size_t size) {
    Peer peer;
    Table<Peer> map(peer.template allocator<Entry>());
    measure_churn(state, map, size);
  }
};

template <class Peer>
struct TableFill {
  static void measure(benchmark::State& state, std::size_t size) {
    Peer peer;
    measure_fill(state, [&] { return Table<Peer>(peer.template allocator<Entry>()); }, size);
  }
};

[[maybe_unused]] const bool registered =
    register_row<TableChurn>("unordered_map_churn", {1000, 100'000}) &&
    register_row<TableFill>("unordered_map_fill", {1000, 100'000});

}  // namespace
}  // namespace slabmalloc::benchmark_containers
