// SPDX-License-Identifier: MIT
//
// Atomics policies. Every shared word of the library is an `Atomics::Cell<T>`. So one template
// argument selects the implementation of shared memory:
//   HardwareAtomics   the processor's own, over the compiler's __atomic builtins (<atomic> is not
//                     usable freestanding with every supported standard library);
//   SingleCpuAtomics  plain loads and stores, for one processor whose interrupt handlers do not
//                     touch the allocator, or not while it is in use.
// A test may supply a third policy, with the same members, to explore interleavings.
//
// Cells are no wider than a pointer, so 32-bit targets need no 64-bit atomics.
#pragma once

#include "slabmalloc/base/language.hpp"

namespace slabmalloc {

/// A memory order, explicit at every call. CONCURRENCY in docs/ names the partner of each.
enum class Order : int {
  relaxed = __ATOMIC_RELAXED,
  acquire = __ATOMIC_ACQUIRE,
  release = __ATOMIC_RELEASE,
  acq_rel = __ATOMIC_ACQ_REL,
};

/// Keeps the compiler from moving memory accesses across it. The processor still may.
[[gnu::always_inline]] inline void compiler_fence() noexcept {
  __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

/// True where compilers turn an atomic store into an atomic exchange, although a plain store is
/// atomic there: GCC 12 for RISC-V does.
#if defined(__riscv)
inline constexpr bool has_costly_stores = true;
#else
inline constexpr bool has_costly_stores = false;
#endif

/// False on processors without atomic read-modify-writes of a pointer, such as small
/// microcontrollers.
inline constexpr bool has_atomic_exchange = __GCC_ATOMIC_POINTER_LOCK_FREE == 2;

/// Shared memory by the processor's atomic instructions.
struct HardwareAtomics {
  template <class T>
  class Cell {
    static_assert(sizeof(T) <= sizeof(void*), "a cell is at most as wide as a pointer");

   public:
    constexpr Cell() noexcept = default;
    constexpr explicit Cell(T value) noexcept : value_(value) {}
    Cell(const Cell&) = delete;
    Cell& operator=(const Cell&) = delete;

    [[gnu::always_inline]] T load(Order order) const noexcept {
      return __atomic_load_n(&value_, static_cast<int>(order));
    }
    [[gnu::always_inline]] void store(T value, Order order) noexcept {
      if constexpr (has_costly_stores) {
        // A volatile access of an aligned word is one instruction.
        if (order != Order::relaxed) {
          __atomic_thread_fence(static_cast<int>(order));
        }
        *const_cast<volatile T*>(&value_) = value;
      } else {
        __atomic_store_n(&value_, value, static_cast<int>(order));
      }
    }
    /// Inverts the bits of `mask`.
    /// Pre: no other thread writes the cell meanwhile.
    /// Order: relaxed.
    [[gnu::always_inline]] void toggle(T mask) noexcept {
#if defined(__x86_64__)
      if constexpr (sizeof(T) == 8) {
        // One instruction; compilers do not combine an atomic load and store into it.
        __asm__("xorq %1, %0" : "+m"(value_) : "r"(mask) : "cc");
        return;
      }
#endif
      store(load(Order::relaxed) ^ mask, Order::relaxed);
    }
    [[gnu::always_inline]] T exchange(T value, Order order) noexcept {
      return __atomic_exchange_n(&value_, value, static_cast<int>(order));
    }
    /// Exchanges `desired` for `expected`. Weak: it may fail although the values are equal.
    /// Fails: false; `expected` then holds the value found (relaxed).
    [[gnu::always_inline]] bool compare_exchange(T& expected, T desired, Order order) noexcept {
      return __atomic_compare_exchange_n(&value_, &expected, desired, true, static_cast<int>(order),
                                         __ATOMIC_RELAXED);
    }
    [[gnu::always_inline]] T fetch_add(T value, Order order) noexcept {
      return __atomic_fetch_add(&value_, value, static_cast<int>(order));
    }
    [[gnu::always_inline]] T fetch_sub(T value, Order order) noexcept {
      return __atomic_fetch_sub(&value_, value, static_cast<int>(order));
    }
    [[gnu::always_inline]] T fetch_or(T value, Order order) noexcept {
      return __atomic_fetch_or(&value_, value, static_cast<int>(order));
    }

   private:
    T value_{};
  };
};

/// Shared memory of a single processor: the same operations without atomic instructions.
struct SingleCpuAtomics {
  template <class T>
  class Cell {
   public:
    constexpr Cell() noexcept = default;
    constexpr explicit Cell(T value) noexcept : value_(value) {}
    Cell(const Cell&) = delete;
    Cell& operator=(const Cell&) = delete;

    T load(Order) const noexcept { return value_; }
    void store(T value, Order) noexcept { value_ = value; }
    void toggle(T mask) noexcept { value_ ^= mask; }
    T exchange(T value, Order) noexcept {
      const T old = value_;
      value_ = value;
      return old;
    }
    bool compare_exchange(T& expected, T desired, Order) noexcept {
      if (value_ != expected) {
        expected = value_;
        return false;
      }
      value_ = desired;
      return true;
    }
    T fetch_add(T value, Order) noexcept { return exchange(static_cast<T>(value_ + value), {}); }
    T fetch_sub(T value, Order) noexcept { return exchange(static_cast<T>(value_ - value), {}); }
    T fetch_or(T value, Order) noexcept { return exchange(static_cast<T>(value_ | value), {}); }

   private:
    T value_{};
  };
};

}  // namespace slabmalloc
