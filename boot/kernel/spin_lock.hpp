// SPDX-License-Identifier: MIT
//
// The console's lock, held with interrupts kept out of the CPU that holds it.
//
// All else takes slabmalloc::SpinLock. The console cannot: whoever panics waits for it only so long, and goes on without
// it; and what tells that a lock of the kernel services is broken must not wait for one.
#pragma once

#include <cstdint>

#include "kernel/machine.hpp"
#include "slabmalloc/base/atomics.hpp"

namespace boot {

using slabmalloc::Order;
template <class T>
using Cell = slabmalloc::HardwareAtomics::Cell<T>;

/// Keeps interrupts out of this CPU while it lives. They nest.
class InterruptsDisabled {
 public:
  InterruptsDisabled() noexcept : before_(save_interrupts()) {}
  ~InterruptsDisabled() { restore_interrupts(before_); }
  InterruptsDisabled(const InterruptsDisabled&) = delete;
  InterruptsDisabled& operator=(const InterruptsDisabled&) = delete;

 private:
  InterruptState before_;
};

class SpinLock {
 public:
  /// Order: acquire, with the release in unlock(): what the last holder wrote is seen.
  bool try_lock() noexcept {
    return locked_.load(Order::relaxed) == 0 && locked_.exchange(1, Order::acquire) == 0;
  }
  void lock() noexcept {
    while (!try_lock()) {
      relax();
    }
  }
  void unlock() noexcept { locked_.store(0, Order::release); }

 private:
  Cell<std::uint32_t> locked_{0};
};

/// Holds `lock` while it lives, with interrupts disabled.
class Locked {
 public:
  explicit Locked(SpinLock& lock) noexcept : lock_(lock) { lock_.lock(); }
  ~Locked() { lock_.unlock(); }
  Locked(const Locked&) = delete;
  Locked& operator=(const Locked&) = delete;

 private:
  InterruptsDisabled disabled_;
  SpinLock& lock_;
};

}  // namespace boot
