// SPDX-License-Identifier: MIT
//
// SpinLock: mutual exclusion of CPUs, held with interrupts saved.
//
//   next_ ──── takes a number ────► waits until serving_ shows it ────► holds ────► serving_ + 1
//
// A ticket lock (Mellor-Crummey and Scott, Algorithms for Scalable Synchronization, 1991, section
// 2.2): CPUs get it in the order in which they asked. Invariant: 0 <= next_ - serving_ <= number of
// CPUs.
#pragma once

#include <cstdint>

#include "slabmalloc/kernel/hooks.hpp"

namespace slabmalloc {

/// A lock for short sections. Not for NMIs: the interrupted code may hold it.
/// With SingleCpuAtomics it only saves interrupts.
template <KernelHooks Hooks, class Atomics = HardwareAtomics>
class SpinLock {
  static_assert(atomics_suffice<Hooks, Atomics>,
                "SingleCpuAtomics are for one CPU: say maximum_cpus = 1, or take HardwareAtomics");

 public:
  constexpr SpinLock() noexcept = default;
  SpinLock(const SpinLock&) = delete;
  SpinLock& operator=(const SpinLock&) = delete;

  /// Holds a lock, and saves interrupts, for as long as it lives.
  class Guard {
   public:
    explicit Guard(SpinLock& lock) noexcept : lock_(lock) { lock_.acquire(); }
    ~Guard() { lock_.release(); }
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;

   private:
    InterruptGuard<Hooks> interrupts_;
    SpinLock& lock_;
  };

 private:
  /// Order: acquire, with the release in release(): the caller sees the last holder's writes.
  void acquire() noexcept {
    const std::uint32_t ticket = next_.fetch_add(1, Order::relaxed);
    while (serving_.load(Order::acquire) != ticket) {
      relax<Hooks>();
    }
  }
  void release() noexcept { serving_.store(serving_.load(Order::relaxed) + 1, Order::release); }

  typename Atomics::template Cell<std::uint32_t> next_;
  typename Atomics::template Cell<std::uint32_t> serving_;
};

}  // namespace slabmalloc
