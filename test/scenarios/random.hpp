// SPDX-License-Identifier: MIT
//
// Reproducible random numbers without a library, for scenarios, tests, benchmarks and the kernel of
// boot/.
#pragma once

#include <cstddef>
#include <cstdint>

namespace slabmalloc::scenario {

/// Marsaglia, "Xorshift RNGs", 2003: the shifts of its section 4. The kernel's figures in
/// docs/BENCHMARKS.md name seeds of this generator: another one gives others.
class Random {
 public:
  constexpr explicit Random(std::uint64_t seed) noexcept
      : state_(seed * 0x9E37'79B9'7F4A'7C15 | 1) {}

  constexpr std::uint64_t next() noexcept {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return state_;
  }
  /// A number below `bound`, without a division of 64 bits. Pre: not 0, and below 2^32.
  constexpr std::uint32_t below(std::size_t bound) noexcept {
    return static_cast<std::uint32_t>((next() >> 32) * bound >> 32);
  }
  /// A number in [first, last].
  constexpr std::size_t between(std::size_t first, std::size_t last) noexcept {
    return first + below(last - first + 1);
  }
  /// True once in `times`.
  constexpr bool one_in(std::size_t times) noexcept { return below(times) == 0; }

 private:
  std::uint64_t state_;
};

}  // namespace slabmalloc::scenario
