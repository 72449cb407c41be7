// SPDX-License-Identifier: MIT
//
// A std::list<std::size_t>:
//   list_queue/<allocator>/<size>    appends one and removes the first
//   list_fill/<allocator>/<size>     appends so many, and clears
//   list_shuffle/<allocator>/<size>  removes a random half, appends as many, and walks it all
#include <algorithm>
#include <cstddef>
#include <list>
#include <vector>

#include "best.hpp"
#include "peers.hpp"
#include "scenarios/random.hpp"

namespace slabmalloc::benchmark_containers {
namespace {

using benchmark_support::Best;

template <class Peer>
using List = std::list<std::size_t, typename Peer::template Allocator<std::size_t>>;

template <class Peer>
void append(List<Peer>& list, std::size_t count) {
  for (std::size_t value = 0; value < count; ++value) {
    list.push_back(value);
  }
}

template <class Peer>
struct ListQueue {
  static void measure(benchmark::State& state, std::size_t size) {
    Peer peer;
    List<Peer> list(peer.template allocator<std::size_t>());
    append<Peer>(list, size);
    Best best(state);
    for (auto _ : state) {
      best.measure([&] {
        constexpr std::size_t operations = 200'000;
        for (std::size_t value = 0; value < operations; ++value) {
          list.push_back(value);
          list.pop_front();
        }
        return operations;
      });
    }
  }
};

template <class Peer>
struct ListFill {
  static void measure(benchmark::State& state, std::size_t size) {
    Peer peer;
    List<Peer> list(peer.template allocator<std::size_t>());
    Best best(state);
    for (auto _ : state) {
      best.measure([&] {
        std::size_t operations = 0;
        for (; operations < 200'000; operations += size) {
          append<Peer>(list, size);
          list.clear();
        }
        return operations;
      });
    }
  }
};

template <class Peer>
struct ListShuffle {
  static void measure(benchmark::State& state, std::size_t size) {
    Peer peer;
    List<Peer> list(peer.template allocator<std::size_t>());
    append<Peer>(list, size);
    scenario::Random random(1);
    std::vector<typename List<Peer>::iterator> places(size);
    Best best(state);
    for (auto _ : state) {
      std::size_t index = 0;
      for (auto place = list.begin(); place != list.end(); ++place) {
        places[index++] = place;
      }
      for (std::size_t count = size; count > 1; --count) {
        std::swap(places[count - 1], places[random.below(count)]);
      }
      best.measure([&] {
        for (std::size_t count = 0; count < size / 2; ++count) {
          list.erase(places[count]);
        }
        append<Peer>(list, size / 2);
        std::size_t sum = 0;
        for (const std::size_t value : list) {
          sum += value;
        }
        benchmark::DoNotOptimize(sum);
        return size / 2;
      });
    }
  }
};

[[maybe_unused]] const bool registered =
    register_row<ListQueue>("list_queue", {100, 10'000, 1'000'000}) &&
    register_row<ListFill>("list_fill", {100, 10'000, 200'000}) &&
    register_row<ListShuffle>("list_shuffle", {1000, 100'000, 1'000'000});

}  // namespace
}  // namespace slabmalloc::benchmark_containers
