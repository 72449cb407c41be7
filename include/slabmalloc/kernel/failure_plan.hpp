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
// A plan ends the one before. It holds for allocations of all contexts, CPUs and sizes. Its kind
// and its number lie in one word, so a call that comes while another plan begins sees either plan.
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/kernel/hooks.hpp"
#include "slabmalloc/zone/statistics.hpp"

namespace slabmalloc {

/// Thread: any. A plan that begins while others allocate may see or miss their calls.
template <KernelHooks Hooks, class Atomics>
class FailurePlan {
 public:
  /// The largest number that a plan may have.
  static constexpr std::uint32_t most = ~std::uint32_t{0} >> 2;

  /// The `call`-th allocation from now fails, 1 being the next. Pre: `call` is 1 to `most`.
  void fail_after(std::uint32_t call) noexcept { begin(After, call, 0); }
  /// Each `period`-th allocation fails. Pre: `period` is 1 to `most`.
  void fail_every(std::uint32_t period) noexcept { begin(Every, period, 0); }
  /// Of a million allocations about `per_million` fail. The numbers of these follow from `seed`.
  void fail_randomly(std::uint32_t per_million, std::uint32_t seed) noexcept {
    begin(Random, per_million, seed);
  }
  void stop() noexcept { plan_.store(None, Order::relaxed); }

  /// True if this allocation fails on purpose.
  bool is_due() noexcept {
    const std::uint32_t plan = plan_.load(Order::relaxed);
    if (plan == None) {
      return false;
    }
    const UpdateGuard<Hooks, Atomics> guard;
    const std::uint32_t kind = plan & kind_mask;
    const std::uint32_t number = plan >> kind_bits;
    const std::uint32_t call = calls_.fetch_add(1, Order::relaxed) + 1;
    const bool fails = kind == After   ? call >= number && end(plan)
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
  static constexpr std::uint32_t kind_bits = 2;
  static constexpr std::uint32_t kind_mask = 3;
  template <class T>
  using Cell = typename Atomics::template Cell<T>;

  void begin(Kind kind, std::uint32_t number, std::uint32_t seed) noexcept {
    stop();
    seed_.store(seed, Order::relaxed);
    calls_.store(0, Order::relaxed);
    plan_.store(number << kind_bits | kind, Order::relaxed);
  }
  /// Ends `plan`. False if it has ended: of two calls at the same time one succeeds.
  bool end(std::uint32_t plan) noexcept {
    std::uint32_t found = plan;
    while (!plan_.compare_exchange(found, None, Order::relaxed)) {
      if (found != plan) {
        return false;
      }
    }
    return true;
  }
  /// A number below a million. (The mixing function of MurmurHash3, by Appleby.)
  std::uint32_t draw(std::uint32_t call) const noexcept {
    std::uint32_t mixed = call * 0x9E3779B9u + seed_.load(Order::relaxed);
    mixed = (mixed ^ mixed >> 16) * 0x85EBCA6Bu;
    mixed = (mixed ^ mixed >> 13) * 0xC2B2AE35u;
    mixed ^= mixed >> 16;
    return static_cast<std::uint32_t>(std::uint64_t{mixed} * 1'000'000 >> 32);
  }

  Cell<std::uint32_t> plan_;  ///< The number and, in the low bits, the kind.
  Cell<std::uint32_t> seed_;
  Cell<std::uint32_t> calls_;
  SharedCounter<Atomics> failures_;
};

}  // namespace slabmalloc
