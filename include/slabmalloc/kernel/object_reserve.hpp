// SPDX-License-Identifier: MIT
//
// ObjectReserve: objects that a CPU keeps for callers that can neither enter its zone nor call the
// pager.
//
//   slow path of the CPU ──put──► cells of the size class ──take──► handlers, NMIs; any CPU
//   (in a section)
//
// To the CPU's zone, an object in a cell is in use like any other. Its free is an ordinary one.
#pragma once

#include <cstdint>

#include "slabmalloc/base/atomics.hpp"
#include "slabmalloc/base/bits.hpp"

namespace slabmalloc {

/// At most `Most` objects of each of `Classes` size classes.
template <class Atomics, std::uint32_t Classes, std::uint32_t Most>
class ObjectReserve {
  static_assert(Most >= 1 && Most <= 255, "reserve_objects is from 1 to 255");

 public:
  /// An object of class `index`, or null. Thread: any, in any context; without a wait.
  /// Order: acquire, with the release in adjust().
  void* take(std::uint32_t index) noexcept {
    for (auto& cell : cells_[index]) {
      if (cell.load(Order::relaxed) != nullptr) {
        if (void* const object = cell.exchange(nullptr, Order::acquire)) {
          note(index);
          return object;
        }
      }
    }
    return nullptr;
  }

  /// Sets how many objects of class `index` are kept, at most `Most`. Thread: any.
  void want(std::uint32_t index, std::uint32_t objects) noexcept {
    const std::uint32_t most = objects < Most ? objects : Most;
    wanted_[index].store(static_cast<std::uint8_t>(most), Order::relaxed);
    note(index);
  }
  std::uint32_t wanted(std::uint32_t index) const noexcept {
    return wanted_[index].load(Order::relaxed);
  }

  /// True if a cell may lack an object, or hold one too many. Thread: any; a hint.
  bool has_work() const noexcept {
    for (const auto& word : noted_) {
      if (word.load(Order::relaxed) != 0) {
        return true;
      }
    }
    return false;
  }

  /// Brings class `index` to the wanted number, with objects of `get(index)`, null if there is
  /// none, and `give(index, object)`. False if it could not get an object. Thread: one at a time,
  /// and no handler that calls this interrupts it.
  template <class Get, class Give>
  bool adjust(std::uint32_t index, Get&& get, Give&& give) noexcept {
    const std::uint32_t wanted_now = wanted(index);
    for (std::uint32_t number = 0; number < Most; ++number) {
      Cell& cell = cells_[index][number];
      const bool is_full = cell.load(Order::relaxed) != nullptr;
      if (number < wanted_now && !is_full) {
        void* const object = get(index);
        if (object == nullptr) {
          note(index);
          return false;
        }
        cell.store(object, Order::release);
      } else if (number >= wanted_now && is_full) {
        if (void* const object = cell.exchange(nullptr, Order::acquire)) {
          give(index, object);
        }
      }
    }
    return true;
  }

  /// Does adjust() for one class of those that may need it, in turn: a class that gets no object
  /// does not block the others. True if there was one, and it succeeded. Thread: as adjust().
  /// Order: acquire, with the release in note(): the cells show all takes that were noted.
  template <class Get, class Give>
  bool adjust_one(Get&& get, Give&& give) noexcept {
    for (std::uint32_t looks = 0; looks <= words; ++looks) {
      auto& noted = noted_[next_ / word_bits];
      const Word later = noted.load(Order::relaxed) & ~Word{0} << next_ % word_bits;
      if (later != 0) {
        const std::uint32_t bit = lowest_bit(later);
        const std::uint32_t index = next_ / word_bits * word_bits + bit;
        next_ = (index + 1) % (words * word_bits);
        // Before it looks at the cells: takers note again from here on.
        const Word all = noted.exchange(0, Order::acquire);
        noted.fetch_or(all & ~(Word{1} << bit), Order::relaxed);
        return adjust(index, get, give);
      }
      next_ = (next_ / word_bits + 1) % words * word_bits;
    }
    return false;
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
  static constexpr std::uint32_t words = (Classes + word_bits - 1) / word_bits;

  /// Order: release, with the acquire in adjust_one().
  void note(std::uint32_t index) noexcept {
    noted_[index / word_bits].fetch_or(Word{1} << (index % word_bits), Order::release);
  }

  typename Atomics::template Cell<std::uint8_t> wanted_[Classes];
  typename Atomics::template Cell<Word> noted_[words];  ///< A bit for each class to adjust.
  std::uint32_t next_ = 0;  ///< The class that adjust_one() looks at first.
};

}  // namespace slabmalloc
