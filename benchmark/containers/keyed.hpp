// SPDX-License-Identifier: MIT
//
// The measurements of a map from random keys. `Map<Peer>` is the container under an allocator:
//   churn   removes the oldest key and inserts a new one
//   fill    inserts so many, and clears
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "best.hpp"
#include "peers.hpp"
#include "scenarios/random.hpp"

namespace slabmalloc::benchmark_containers {

using benchmark_support::Best;

inline std::vector<std::uint64_t> random_keys(std::size_t count) {
  scenario::Random random(1);
  std::vector<std::uint64_t> keys(count);
  for (std::uint64_t& key : keys) {
    key = random.next();
  }
  return keys;
}

template <class Map>
void insert(Map& map, const std::vector<std::uint64_t>& keys, std::size_t count) {
  for (std::size_t index = 0; index < count; ++index) {
    map.emplace(keys[index], index);
  }
}

/// Measures churn of `map`. It holds `size` keys, and each call goes on from the last one's.
template <class Map>
void measure_churn(benchmark::State& state, Map& map, std::size_t size) {
  constexpr std::size_t operations = 100'000;
  std::vector<std::uint64_t> keys = random_keys(size);
  insert(map, keys, size);
  scenario::Random random(2);
  std::size_t oldest = 0;
  Best best(state);
  for (auto _ : state) {
    best.measure([&] {
      for (std::size_t count = 0; count < operations; ++count) {
        map.erase(keys[oldest]);
        keys[oldest] = random.next();
        map.emplace(keys[oldest], count);
        oldest = oldest + 1 < size ? oldest + 1 : 0;
      }
      return operations;
    });
  }
}

template <class MakeMap>
void measure_fill(benchmark::State& state, MakeMap&& make_map, std::size_t size) {
  const std::vector<std::uint64_t> keys = random_keys(size);
  Best best(state);
  for (auto _ : state) {
    best.measure([&] {
      std::size_t operations = 0;
      for (; operations < 100'000; operations += size) {
        auto map = make_map();
        insert(map, keys, size);
      }
      return operations;
    });
  }
}

using Entry = std::pair<const std::uint64_t, std::size_t>;

template <template <class> class Map>
struct Keyed {
  template <class Peer>
  struct Churn {
    static void measure(benchmark::State& state, std::size_t size) {
      Peer peer;
      Map<Peer> map(peer.template allocator<Entry>());
      measure_churn(state, map, size);
    }
  };
  template <class Peer>
  struct Fill {
    static void measure(benchmark::State& state, std::size_t size) {
      Peer peer;
      measure_fill(state, [&] { return Map<Peer>(peer.template allocator<Entry>()); }, size);
    }
  };
};

}  // namespace slabmalloc::benchmark_containers
