// SPDX-License-Identifier: MIT
//
// GuardedCounter: a count that all CPUs and their handlers change. Where there are no atomic
// operations, it keeps handlers out of each change, so none is lost.
#pragma once

#include <cstddef>

#include "slabmalloc/kernel/hooks.hpp"
#include "slabmalloc/zone/statistics.hpp"

namespace slabmalloc {

/// Thread: any, in any context.
template <KernelHooks Hooks, class Atomics>
class GuardedCounter {
 public:
  constexpr GuardedCounter() noexcept = default;

  std::size_t get() const noexcept { return count_.get(); }
  void add(std::size_t amount) noexcept {
    const UpdateGuard<Hooks, Atomics> guard;
    count_.add(amount);
  }
  void subtract(std::size_t amount) noexcept {
    const UpdateGuard<Hooks, Atomics> guard;
    count_.subtract(amount);
  }

 private:
  SharedCounter<Atomics> count_;
};

}  // namespace slabmalloc
