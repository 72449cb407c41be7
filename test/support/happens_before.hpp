// SPDX-License-Identifier: MIT
//
// HappensBeforeAtomics is an atomics policy that records which writes each simulated thread has
// seen.
//
// One real thread plays all of them in turn: become(thread) names the thread of the next step. Each
// thread has a vector clock. As in the C++ memory model, a release leaves it with the cell, and an
// acquire takes the cell's clock over. A read-modify-write continues a release sequence; a relaxed
// store ends it. So a missing acquire or release shows at once on every processor, without a real
// race.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <unordered_map>
#include <utility>

#include "slabmalloc/base/atomics.hpp"

namespace slabmalloc::test {

/// The clocks of the simulated threads.
class HappensBefore {
 public:
  static constexpr std::size_t thread_count = 4;
  using Clock = std::array<std::uint64_t, thread_count>;

  /// Forgets everything.
  static void reset() noexcept {
    self() = {};
    for (std::size_t thread = 0; thread < thread_count; ++thread) {
      self().clocks_[thread][thread] = 1;
    }
  }
  /// Makes the next steps those of `thread`.
  static void become(std::size_t thread) noexcept { self().current_ = thread; }
  /// Lets other threads run `others` once, right after the next fetch_or of the current one.
  static void interrupt_after_next_mark(std::function<void()> others) {
    self().others_ = std::move(others);
  }
  /// A moment in the current thread's life.
  static std::uint64_t now() noexcept { return clock()[self().current_]; }
  /// True if `thread`'s actions up to its moment `time` happened before the current thread's next
  /// step.
  static bool has_seen(std::size_t thread, std::uint64_t time) noexcept {
    return clock()[thread] >= time;
  }

  static void on_load(const void* cell, Order order) noexcept {
    if (acquires(order)) {
      join(clock(), self().cells_[cell]);
    }
  }
  static void on_store(const void* cell, Order order) noexcept {
    self().cells_[cell] = releases(order) ? clock() : Clock{};
    tick();
  }
  static void on_mark() {
    if (const std::function<void()> others = std::exchange(self().others_, nullptr)) {
      const std::size_t interrupted = self().current_;
      others();
      become(interrupted);
    }
  }
  static void on_update(const void* cell, Order order) noexcept {
    const Clock found = self().cells_[cell];
    if (releases(order)) {
      join(self().cells_[cell], clock());
    }
    if (acquires(order)) {
      join(clock(), found);
    }
    tick();
  }

 private:
  static bool acquires(Order order) noexcept {
    return order == Order::acquire || order == Order::acq_rel;
  }
  static bool releases(Order order) noexcept {
    return order == Order::release || order == Order::acq_rel;
  }
  static void join(Clock& clock, const Clock& other) noexcept {
    for (std::size_t thread = 0; thread < thread_count; ++thread) {
      clock[thread] = std::max(clock[thread], other[thread]);
    }
  }
  static void tick() noexcept { ++clock()[self().current_]; }
  static Clock& clock() noexcept { return self().clocks_[self().current_]; }

  static HappensBefore& self() noexcept {
    static HappensBefore state;
    return state;
  }

  std::array<Clock, thread_count> clocks_{};
  std::unordered_map<const void*, Clock> cells_;
  std::function<void()> others_;
  std::size_t current_ = 0;
};

/// Cells that report every step to HappensBefore.
struct HappensBeforeAtomics {
  template <class T>
  class Cell {
   public:
    constexpr Cell() noexcept = default;
    constexpr explicit Cell(T value) noexcept : cell_(value) {}

    T load(Order order) const noexcept {
      HappensBefore::on_load(this, order);
      return cell_.load(order);
    }
    void store(T value, Order order) noexcept {
      HappensBefore::on_store(this, order);
      cell_.store(value, order);
    }
    void toggle(T mask) noexcept { store(load(Order::relaxed) ^ mask, Order::relaxed); }
    T exchange(T value, Order order) noexcept {
      HappensBefore::on_update(this, order);
      return cell_.exchange(value, order);
    }
    bool compare_exchange(T& expected, T desired, Order order) noexcept {
      const bool exchanged = cell_.compare_exchange(expected, desired, order);
      if (exchanged) {
        HappensBefore::on_update(this, order);
      }
      return exchanged;
    }
    T fetch_add(T value, Order order) noexcept {
      HappensBefore::on_update(this, order);
      return cell_.fetch_add(value, order);
    }
    T fetch_sub(T value, Order order) noexcept {
      HappensBefore::on_update(this, order);
      return cell_.fetch_sub(value, order);
    }
    T fetch_or(T value, Order order) {
      HappensBefore::on_update(this, order);
      const T before = cell_.fetch_or(value, order);
      HappensBefore::on_mark();
      return before;
    }

   private:
    SingleCpuAtomics::Cell<T> cell_;
  };
};

}  // namespace slabmalloc::test
