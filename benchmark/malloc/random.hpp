// SPDX-License-Identifier: MIT
//
// Random numbers and random sizes for the workloads. They are made fast, so that the allocator is
// what costs.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "scenarios/random.hpp"

namespace slabmalloc::benchmark {

class Random : public scenario::Random {
 public:
  /// Of any seed: a number of a thread, 0 too.
  explicit constexpr Random(std::uint64_t seed) : scenario::Random(seed + 1) {}

  /// A size from `least` to below `least << doublings`: each doubling half as likely as the one
  /// before, which makes the density fall with the square of the size.
  constexpr std::size_t power_law(std::size_t least, unsigned doublings) {
    const auto doubling =
        static_cast<unsigned>(std::countr_zero(next() | (std::uint64_t{1} << (doublings - 1))));
    return (least << doubling) + below(least << doubling);
  }
};

}  // namespace slabmalloc::benchmark
