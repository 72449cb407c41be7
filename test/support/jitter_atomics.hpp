// SPDX-License-Identifier: MIT
//
// JitterAtomics is an atomics policy that sometimes yields before and after a read-modify-write.
// Threads then interleave between steps that nearly always run together. So a race of few
// instructions happens within seconds.
#pragma once

#include <cstdint>
#include <thread>

#include "slabmalloc/base/atomics.hpp"

namespace slabmalloc::test {

struct JitterAtomics {
  template <class T>
  class Cell {
   public:
    constexpr Cell() noexcept = default;
    constexpr explicit Cell(T value) noexcept : cell_(value) {}

    T load(Order order) const noexcept { return cell_.load(order); }
    void store(T value, Order order) noexcept { cell_.store(value, order); }
    void toggle(T mask) noexcept { cell_.toggle(mask); }
    T exchange(T value, Order order) noexcept {
      return jittered([&] { return cell_.exchange(value, order); });
    }
    bool compare_exchange(T& expected, T desired, Order order) noexcept {
      return jittered([&] { return cell_.compare_exchange(expected, desired, order); });
    }
    T fetch_add(T value, Order order) noexcept {
      return jittered([&] { return cell_.fetch_add(value, order); });
    }
    T fetch_sub(T value, Order order) noexcept {
      return jittered([&] { return cell_.fetch_sub(value, order); });
    }
    T fetch_or(T value, Order order) noexcept {
      return jittered([&] { return cell_.fetch_or(value, order); });
    }

   private:
    HardwareAtomics::Cell<T> cell_;
  };

 private:
  template <class Operation>
  static auto jittered(Operation&& operation) noexcept {
    yield_at_times();
    const auto result = operation();
    yield_at_times();
    return result;
  }

  /// One call in eight, by a linear congruential generator of each thread's own.
  static void yield_at_times() noexcept {
    thread_local std::uint32_t state = 1;
    state = state * 1664525u + 1013904223u;
    if (state >> 29 == 0) {
      std::this_thread::yield();
    }
  }
};

}  // namespace slabmalloc::test
