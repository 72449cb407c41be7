// SPDX-License-Identifier: MIT
//
// InterruptingAtomics is an atomics policy that runs an interrupt handler at a chosen access to
// shared memory. A test can interrupt at each access in turn, without threads or signals.
//
//   test::Interruption::arm(17, handler);    // before the 17th access from now
//   …
//   const bool came = test::Interruption::disarm();
#pragma once

#include <cstddef>
#include <functional>
#include <type_traits>
#include <utility>

#include "slabmalloc/base/atomics.hpp"

namespace slabmalloc::test {

/// The handler and its time. Thread: any; each has its own.
class Interruption {
 public:
  /// Runs `handler` before the `access`-th access from now on, 1 being the next. If
  /// `is_kept_away()` then holds, the handler comes at the first later access where it does not
  /// hold.
  static void arm(std::size_t access, std::function<void()> handler,
                  std::function<bool()> is_kept_away = nullptr) {
    left_ = access;
    handler_ = std::move(handler);
    is_kept_away_ = std::move(is_kept_away);
  }
  /// Removes the handler. True if it ran.
  static bool disarm() {
    left_ = 0;
    return !std::exchange(handler_, nullptr);
  }

  /// Every access calls this first.
  static void may_come() {
    if (left_ == 0 || (left_ == 1 && is_kept_away_ && is_kept_away_())) {
      return;
    }
    if (--left_ == 0) {
      std::exchange(handler_, nullptr)();
    }
  }

 private:
  static inline thread_local std::size_t left_ = 0;
  static inline thread_local std::function<void()> handler_;
  static inline thread_local std::function<bool()> is_kept_away_;
};

/// Over the cells of `Atomics`. If those are plain memory (SingleCpuAtomics), a read-modify-write
/// is two accesses.
template <class Atomics>
struct InterruptingAtomics {
  template <class T>
  class Cell {
   public:
    constexpr Cell() noexcept = default;
    constexpr explicit Cell(T value) noexcept : cell_(value) {}

    T load(Order order) const noexcept { return Interruption::may_come(), cell_.load(order); }
    void store(T value, Order order) noexcept {
      Interruption::may_come(), cell_.store(value, order);
    }
    void toggle(T mask) noexcept {
      change([mask](T old) { return static_cast<T>(old ^ mask); },
             [&] { return cell_.toggle(mask), T{}; });
    }
    T exchange(T value, Order order) noexcept {
      return change([value](T) { return value; }, [&] { return cell_.exchange(value, order); });
    }
    bool compare_exchange(T& expected, T desired, Order order) noexcept {
      const T wanted = expected;
      bool is_done = false;
      expected = change(
          [&](T old) {
            is_done = old == wanted;
            return is_done ? desired : old;
          },
          [&] {
            T found = wanted;
            is_done = cell_.compare_exchange(found, desired, order);
            return found;
          });
      return is_done;
    }
    T fetch_add(T value, Order order) noexcept {
      return change([value](T old) { return static_cast<T>(old + value); },
                    [&] { return cell_.fetch_add(value, order); });
    }
    T fetch_sub(T value, Order order) noexcept {
      return change([value](T old) { return static_cast<T>(old - value); },
                    [&] { return cell_.fetch_sub(value, order); });
    }
    T fetch_or(T value, Order order) noexcept {
      return change([value](T old) { return static_cast<T>(old | value); },
                    [&] { return cell_.fetch_or(value, order); });
    }

   private:
    template <class Next, class Whole>
    T change(Next&& next, Whole&& whole) noexcept {
      if constexpr (std::is_same_v<Atomics, SingleCpuAtomics>) {
        const T old = load(Order::relaxed);
        store(next(old), Order::relaxed);
        return old;
      } else {
        Interruption::may_come();
        return whole();
      }
    }

    typename Atomics::template Cell<T> cell_{};
  };
};

}  // namespace slabmalloc::test
