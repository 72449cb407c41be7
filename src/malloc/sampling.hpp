// SPDX-License-Identifier: MIT
//
// Sampling: which allocations of the process are samples.
//
// Each allocation is a sample with a probability of its own, whatever came before:
//
//     p(bytes) = 1 - exp(-rate(bytes))        rate(bytes) = bytes / mean bytes, or
//                                             -log(1 - 1 / one_in), or the sum of both
//
// The allocations between two samples are then geometrically distributed, and so need no draw each:
//
//     gap = floor(E / rate)                   E: exponentially distributed with mean 1
//
// A thread draws a gap for each of its size classes. The class ends its claims there
// (zone/current_page.hpp), so allocations that are no samples cost nothing. Allocations from shared
// pages draw one by one: such an allocation is a sample if the gap is 0.
//
// A change of the rates starts another period. Each thread draws its gaps anew when it notices, at
// the next look at the clock.
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/base/atomics.hpp"

namespace slabmalloc {

/// A random number of the exponential distribution with mean 1. `bits()` returns 64 random bits.
///
/// The algorithm is von Neumann's, "Various Techniques Used in Connection With Random Digits",
/// Applied Mathematics Series 12, 1951, which only compares uniform numbers: the first of a
/// descending run of odd length is the fraction, and each run of even length adds 1.
template <class Bits>
double exponential(Bits&& bits) noexcept {
  for (double whole = 0;; whole += 1) {
    const std::uint64_t first = bits();
    std::uint64_t last = first;
    bool is_odd = true;
    for (std::uint64_t next = bits(); next < last; next = bits()) {
      last = next;
      is_odd = !is_odd;
    }
    if (is_odd) {
      return whole + static_cast<double>(first) * 0x1p-64;
    }
  }
}

/// The mean number of allocations between two samples of one in `one_in`: -1 / log(1 - 1 / one_in),
/// by the first terms of its series. At 2, where it is worst, the probability is 0.4988.
constexpr double mean_gap_of_one_in(std::size_t one_in) noexcept {
  const auto n = static_cast<double>(one_in);
  return one_in <= 1 ? 0 : n - 1.0 / 2 - 1 / (12 * n) - 1 / (24 * n * n);
}

/// Rates, and what follows from them. Thread: any.
template <class Atomics>
class BasicSampling {
 public:
  /// A gap without end.
  static constexpr std::size_t never = ~std::size_t{0};

  constexpr BasicSampling() noexcept = default;

  /// Makes one allocation in `one_in` a sample, and one for each `mean_bytes` of blocks; 0 for none
  /// of either kind.
  /// Order: release, with the acquire in period(). If another call comes between, this one stores
  /// its rates again. So in the end both rates are those of one call.
  void set(std::size_t one_in, std::size_t mean_bytes) noexcept {
    for (bool is_set = false; !is_set;) {
      std::uint32_t found = period();
      one_in_.store(one_in, Order::relaxed);
      mean_bytes_.store(mean_bytes, Order::relaxed);
      is_set = period_.compare_exchange(found, found + 1, Order::release);
    }
  }

  std::size_t one_in() const noexcept { return one_in_.load(Order::relaxed); }
  std::size_t mean_bytes() const noexcept { return mean_bytes_.load(Order::relaxed); }
  bool is_on() const noexcept { return one_in() != 0 || mean_bytes() != 0; }

  /// Changes with the rates.
  /// Order: acquire, with the release in set(): who finds a new period finds its rates.
  std::uint32_t period() const noexcept { return period_.load(Order::acquire); }

  /// The allocations of blocks of `bytes` before the next sample among them; `never` if there is
  /// none. `bits` is as in exponential().
  template <class Bits>
  std::size_t draw_gap(std::size_t bytes, Bits&& bits) const noexcept {
    const std::size_t one_in = this->one_in();
    const std::size_t mean_bytes = this->mean_bytes();
    if (one_in == 0 && mean_bytes == 0) {
      return never;
    }
    if (one_in == 1) {
      return 0;
    }
    double rate = one_in != 0 ? 1 / mean_gap_of_one_in(one_in) : 0;
    if (mean_bytes != 0) {
      rate += static_cast<double>(bytes) / static_cast<double>(mean_bytes);
    }
    const double gap = exponential(bits) / rate;
    return gap < 0x1p62 ? static_cast<std::size_t>(gap) : never;
  }

 private:
  // A thread may find the rates of two settings mixed. Then it finds another period, at the latest
  // with its next look.
  typename Atomics::template Cell<std::size_t> one_in_{};
  typename Atomics::template Cell<std::size_t> mean_bytes_{};
  typename Atomics::template Cell<std::uint32_t> period_{};
};

using Sampling = BasicSampling<HardwareAtomics>;

/// The samples of the process.
[[gnu::visibility("hidden")]] inline constinit Sampling sampling;

}  // namespace slabmalloc
