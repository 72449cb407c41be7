// SPDX-License-Identifier: MIT
//
// Random numbers and random sizes for the workloads. The generator is fast, so that most of the
// time goes to the allocator.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "scenarios/random.hpp"

namespace slabmalloc::benchmark {

class Random : public scenario::Random {
 public:
  /// The seed is any number of a thread, 0 too.
  explicit constexpr Random(std::uint64_t seed) : scenario::Random(seed + 1) {}

  /// A size from `least` to below `least << doublings`. Each doubling is half as likely as the one
  /// before, so the density falls with the square of the size.
  constexpr std::size_t power_law(std::size_t least, unsigned doublings) {
    const auto doubling =
        static_cast<unsigned>(std::countr_zero(next() | (std::uint64_t{1} << (doublings - 1))));
    return (least << doubling) + below(least << doubling);
  }
};

}  // namespace slabmalloc::benchmark
