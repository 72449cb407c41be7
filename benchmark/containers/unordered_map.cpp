// SPDX-License-Identifier: MIT
//
// A std::unordered_map of 64-bit keys: unordered_map_churn/<allocator>/<size> and
// unordered_map_fill/<allocator>/<size>, as keyed.hpp says.
#include <cstddef>
#include <cstdint>
#include <functional>
#include <unordered_map>

#include "keyed.hpp"

namespace slabmalloc::benchmark_containers {
namespace {

template <class Peer>
using Table = std::unordered_map<std::uint64_t, std::size_t, std::hash<std::uint64_t>,
                                 std::equal_to<>, typename Peer::template Allocator<Entry>>;

[[maybe_unused]] const bool registered =
    register_row<Keyed<Table>::Churn>("unordered_map_churn", {1000, 100'000}) &&
    register_row<Keyed<Table>::Fill>("unordered_map_fill", {1000, 100'000});

}  // namespace
}  // namespace slabmalloc::benchmark_containers
