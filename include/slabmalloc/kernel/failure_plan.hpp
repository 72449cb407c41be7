// SPDX-License-Identifier: MIT
//
// FailurePlan: which allocations of a heap fail on purpose, to test the callers. As Linux'
// failslab.
//
//   heap.debug().failure_plan().fail_after(3);             // the third from now, once
//   heap.debug().failure_plan().fail_every(100);           // each hundredth
//   heap.debug().failure_plan().fail_randomly(1000, 42);   // 1,000 in a million, by seed 42
//   heap.debug().failure_plan().stop();
//
// A plan ends the one before. It holds for allocations of all contexts, CPUs and sizes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/zone/statistics.hpp"

namespace slabmalloc {

/// Thread: any. A plan that begins while others allocate may see or miss their calls.
template <class Atomics>
class FailurePlan {
 public:
  /// The `call`-th allocation from now fails, 1 being the next. Pre: `call` is not 0.
  void fail_after(std::uint32_t call) noexcept { begin(After, call, 0); }
  /// Each `period`-th allocation fails. Pre: `period` is not 0.
  void fail_every(std::uint32_t period) noexcept { begin(Every, period, 0); }
  /// Of a million allocations about `per_million` fail. The numbers of these follow from `seed`.
  void fail_randomly(std::uint32_t per_million, std::uint32_t seed) noexcept {
    begin(Random, per_million, seed);
  }
  void stop() noexcept { kind_.store(None, Order::relaxed); }

  /// True if this allocation fails on purpose.
  bool is_due() noexcept {
    const std::uint32_t kind = kind_.load(Order::relaxed);
    if (kind == None) {
      return false;
    }
    const std::uint32_t call = calls_.fetch_add(1, Order::relaxed) + 1;
    const std::uint32_t number = number_.load(Order::relaxed);
    const bool fails = kind == After   ? call == number
                       : kind == Every ? call % number == 0
                                       : draw(call) < number;
    failures_.add(fails ? 1u : 0u);
    return fails;
  }

  /// The allocations that failed on purpose so far.
  std::size_t failures() const noexcept { return failures_.get(); }

 private:
  /// Compilers have no atomic enumerations.
  enum Kind : std::uint32_t { None, After, Every, Random };
  template <class T>
  using Cell = typename Atomics::template Cell<T>;

  void begin(Kind kind, std::uint32_t number, std::uint32_t seed) noexcept {
    stop();
    number_.store(number, Order::relaxed);
    seed_.store(seed, Order::relaxed);
    calls_.store(0, Order::relaxed);
    kind_.store(kind, Order::relaxed);
  }
  /// A number below a million. (The mixing function of MurmurHash3, by Appleby.)
  std::uint32_t draw(std::uint32_t call) const noexcept {
    std::uint32_t mixed = call * 0x9E3779B9u + seed_.load(Order::relaxed);
    mixed = (mixed ^ mixed >> 16) * 0x85EBCA6Bu;
    mixed = (mixed ^ mixed >> 13) * 0xC2B2AE35u;
    mixed ^= mixed >> 16;
    return static_cast<std::uint32_t>(std::uint64_t{mixed} * 1'000'000 >> 32);
  }

  Cell<std::uint32_t> kind_;
  Cell<std::uint32_t> number_;
  Cell<std::uint32_t> seed_;
  Cell<std::uint32_t> calls_;
  SharedCounter<Atomics> failures_;
};

}  // namespace slabmalloc
