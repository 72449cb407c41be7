// SPDX-License-Identifier: MIT
//
// CountingAtomics is an atomics policy whose cells count their operations. Every bitmap word,
// announcement count and tag is such a cell. So the count measures the work of a call on every
// machine.
#pragma once

#include <cstddef>

#include "slabmalloc/base/atomics.hpp"

namespace slabmalloc::test {

/// Single-threaded cells; `operations()` is the sum over all of them.
struct CountingAtomics {
  static std::size_t& operations() noexcept {
    static std::size_t count = 0;
    return count;
  }

  template <class T>
  class Cell {
   public:
    constexpr Cell() noexcept = default;
    constexpr explicit Cell(T value) noexcept : cell_(value) {}

    T load(Order order) const noexcept { return ++operations(), cell_.load(order); }
    void store(T value, Order order) noexcept { ++operations(), cell_.store(value, order); }
    void toggle(T mask) noexcept { ++operations(), cell_.toggle(mask); }
    T exchange(T value, Order order) noexcept {
      return ++operations(), cell_.exchange(value, order);
    }
    bool compare_exchange(T& expected, T desired, Order order) noexcept {
      return ++operations(), cell_.compare_exchange(expected, desired, order);
    }
    T fetch_add(T value, Order order) noexcept {
      return ++operations(), cell_.fetch_add(value, order);
    }
    T fetch_sub(T value, Order order) noexcept {
      return ++operations(), cell_.fetch_sub(value, order);
    }
    T fetch_or(T value, Order order) noexcept {
      return ++operations(), cell_.fetch_or(value, order);
    }

   private:
    SingleCpuAtomics::Cell<T> cell_;
  };
};

}  // namespace slabmalloc::test
