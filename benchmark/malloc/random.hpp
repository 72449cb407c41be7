// SPDX-License-Identifier: MIT
//
// Random: the fast generator of the workloads (xorshift64*, S. Vigna, "An experimental exploration
// of Marsaglia's xorshift generators, scrambled", 2016), so that the allocator is what costs.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

namespace slabmalloc::benchmark {

class Random {
 public:
  explicit constexpr Random(std::uint64_t seed) : state_((seed + 1) * 0x9e3779b97f4a7c15U) {}

  constexpr std::uint64_t next() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return state_ * 0x2545f4914f6cdd1dU;
  }

  /// A number below `bound`. Pre: 0 < bound < 2^32.
  constexpr std::size_t below(std::size_t bound) { return ((next() >> 32) * bound) >> 32; }

  /// A number in [first, last].
  constexpr std::size_t between(std::size_t first, std::size_t last) {
    return first + below(last - first + 1);
  }

  /// A size from `least` to below `least << doublings`: each doubling half as likely as the one
  /// before, which makes the density fall with the square of the size.
  constexpr std::size_t power_law(std::size_t least, unsigned doublings) {
    const auto doubling =
        static_cast<unsigned>(std::countr_zero(next() | (std::uint64_t{1} << (doublings - 1))));
    return (least << doubling) + below(least << doubling);
  }

 private:
  std::uint64_t state_;
};

}  // namespace slabmalloc::benchmark
