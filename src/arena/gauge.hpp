// SPDX-License-Identifier: MIT
//
// Gauge: an amount that rises and falls, and its peak.
#pragma once

#include <cstddef>

#include "slabmalloc/base/atomics.hpp"

namespace slabmalloc {

/// An amount and its peak.
/// Thread: any.
/// Order: relaxed throughout; a gauge guards no data.
class Gauge {
 public:
  constexpr Gauge() noexcept = default;

  void add(std::size_t amount) noexcept {
    const std::size_t value = value_.fetch_add(amount, Order::relaxed) + amount;
    std::size_t peak = peak_.load(Order::relaxed);
    while (value > peak && !peak_.compare_exchange(peak, value, Order::relaxed)) {
    }
  }
  /// Adds an amount that change() confirms or takes back. Until then it makes no peak.
  void promise(std::size_t amount) noexcept { value_.fetch_add(amount, Order::relaxed); }
  void change(std::size_t before, std::size_t after) noexcept {
    if (after >= before) {
      add(after - before);
    } else {
      subtract(before - after);
    }
  }
  void subtract(std::size_t amount) noexcept { value_.fetch_sub(amount, Order::relaxed); }

  std::size_t value() const noexcept { return value_.load(Order::relaxed); }
  std::size_t peak() const noexcept { return peak_.load(Order::relaxed); }

 private:
  HardwareAtomics::Cell<std::size_t> value_;
  HardwareAtomics::Cell<std::size_t> peak_;
};

}  // namespace slabmalloc
