// SPDX-License-Identifier: MIT
//
// A std::map of 64-bit keys: map_churn/<allocator>/<size> and
// map_fill/<allocator>/<size>, as keyed.hpp says.
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>

#include "keyed.hpp"

namespace slabmalloc::benchmark_containers {
namespace {

template <class Peer>
using Map =
    std::map<std::uint64_t, std::size_t, std::less<>, typename Peer::template Allocator<Entry>>;

[[maybe_unused]] const bool registered =
    register_row<Keyed<Map>::Churn>("map_churn", {1000, 100'000}) &&
    register_row<Keyed<Map>::Fill>("map_fill", {1000, 100'000});

}  // namespace
}  // namespace slabmalloc::benchmark_containers
