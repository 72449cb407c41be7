// SPDX-License-Identifier: MIT
//
// A std::map of 64-bit keys: map_churn/<allocator>/<size> and map_fill/<allocator>/<size>, as keyed.hpp
// says.
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <utility>

#include "keyed.hpp"

namespace slabmalloc::benchmark_containers {
namespace {

using Entry = std::pair<const std::uint64_t, std::size_t>;
template <class Peer>
using Map =
    std::map<std::uint64_t, std::size_t, std::less<>, typename Peer::template Allocator<Entry>>;

template <class Peer>
struct MapChurn {
  static void measure(benchmark::State& state, std::size_t size) {
    Peer peer;
    Map<Peer> map(peer.template allocator<Entry>());
    measure_churn(state, map, size);
  }
};

template <class Peer>
struct MapFill {
  static void measure(benchmark::State& state, std::size_t size) {
    Peer peer;
    measure_fill(state, [&] { return Map<Peer>(peer.template allocator<Entry>()); }, size);
  }
};

[[maybe_unused]] const bool registered = register_row<MapChurn>("map_churn", {1000, 100'000}) &&
                                         register_row<MapFill>("map_fill", {1000, 100'000});

}  // namespace
}  // namespace slabmalloc::benchmark_containers
