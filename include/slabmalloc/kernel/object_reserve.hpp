// SPDX-License-Identifier: MIT
//
// ObjectReserve: objects that a CPU keeps for those who can neither enter its zone nor call the pager.
//
//   a slow path of the CPU, in a section ──put──► cells of the size class ──take──► handlers, NMIs; any CPU
//
// What lies in a cell is an object of the CPU's zone like any other that is in use; its free is an ordinary one.
#pragma once

#include <cstdint>

#include "slabmalloc/base/atomics.hpp"

namespace slabmalloc {

/// At most `Most` objects of each of `Classes` size classes.
template <class Atomics, std::uint32_t Classes, std::uint32_t Most>
class ObjectReserve {
 public:
  /// An object of class `index`, or null. Thread: any, in any context; without a wait.
  /// Order: acquire, with the release in put().
  void* take(std::uint32_t index) noexcept {
    for (auto& cell : cells_[index]) {
      if (cell.load(Order::relaxed) != nullptr) {
        if (void* const object = cell.exchange(nullptr, Order::acquire)) {
          is_short_.store(true, Order::relaxed);
          return object;
        }
      }
    }
    return nullptr;
  }

  /// Sets how many objects of class `index` are kept, at most `Most`. Thread: any.
  void want(std::uint32_t index, std::uint32_t objects) noexcept {
    wanted_[index].store(static_cast<std::uint8_t>(objects < Most ? objects : Most),
                         Order::relaxed);
    is_short_.store(true, Order::relaxed);
  }
  std::uint32_t wanted(std::uint32_t index) const noexcept {
    return wanted_[index].load(Order::relaxed);
  }

  /// True if something may be missing, or too much; asks once. Thread: any.
  bool take_is_short() noexcept {
    if (!is_short_.load(Order::relaxed)) [[likely]] {
      return false;
    }
    is_short_.store(false, Order::relaxed);
    return true;
  }

  /// Brings class `index` to what is wanted, with objects of `get()`, null if there is none, and
  /// `give(object)`. False if an object was not to be had. Thread: one at a time, which no handler
  /// that calls this interrupts.
  template <class Get, class Give>
  bool adjust(std::uint32_t index, Get&& get, Give&& give) noexcept {
    const std::uint32_t wanted_now = wanted(index);
    for (std::uint32_t number = 0; number < Most; ++number) {
      Cell& cell = cells_[index][number];
      const bool is_full = cell.load(Order::relaxed) != nullptr;
      if (number < wanted_now && !is_full) {
        void* const object = get();
        if (object == nullptr) {
          is_short_.store(true, Order::relaxed);
          return false;
        }
        cell.store(object, Order::release);
      } else if (number >= wanted_now && is_full) {
        if (void* const object = cell.exchange(nullptr, Order::acquire)) {
          give(object);
        }
      }
    }
    return true;
  }

  /// Objects of class `index` that it holds. Thread: any; a hint.
  std::uint32_t size(std::uint32_t index) const noexcept {
    std::uint32_t count = 0;
    for (const Cell& cell : cells_[index]) {
      count += cell.load(Order::relaxed) != nullptr ? 1u : 0u;
    }
    return count;
  }

 private:
  using Cell = typename Atomics::template Cell<void*>;

  Cell cells_[Classes][Most];
  typename Atomics::template Cell<std::uint8_t> wanted_[Classes];
  typename Atomics::template Cell<bool> is_short_;
};

}  // namespace slabmalloc
