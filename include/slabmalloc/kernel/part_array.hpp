// SPDX-License-Identifier: MIT
//
// PartArray: the parts of all CPUs of a CpuZones. All are there from the start, or with
// CommonKernelConfig::makes_parts_late each from its CPU's first slow path on. So the memory of a
// part that nobody uses is never written.
//
//   absent ──begin()──► being made ──end()──► there          part 0: there from the start
//
// Its own CPU makes a part, with interrupts saved. A handler that interrupts it finds the part
// being made, and acts as if the part were in use.
//
// Invariant: the loops over an array visit the parts that are there.
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/base/atomics.hpp"

namespace slabmalloc {

/// Tells which of `Count` parts are there: all of them.
template <class Atomics, std::uint32_t Count, bool Late>
class PartsThere {
 public:
  using View = PartsThere;
  constexpr View view() const noexcept { return {}; }
  static constexpr bool has(std::uint32_t) noexcept { return true; }
};

template <class Atomics, std::uint32_t Count>
class PartsThere<Atomics, Count, true> {
 public:
  /// For those who look at the parts from elsewhere.
  class View {
   public:
    constexpr View() noexcept = default;
    constexpr explicit View(const PartsThere& there) noexcept : there_(&there) {}
    bool has(std::uint32_t number) const noexcept { return there_->has(number); }

   private:
    const PartsThere* there_ = nullptr;
  };
  constexpr View view() const noexcept { return View(*this); }

  /// Order: acquire, with the release in end(): the caller sees the part as it was made.
  bool has(std::uint32_t number) const noexcept {
    return states_[number].load(Order::acquire) == is_there;
  }
  /// False if it is not absent: the caller interrupted its making, or was interrupted by it.
  /// Thread: the part's CPU.
  bool begin(std::uint32_t number) noexcept {
    State found = absent;
    while (found == absent) {
      if (states_[number].compare_exchange(found, being_made, Order::relaxed)) {
        return true;
      }
    }
    return false;
  }
  /// Order: release, with the acquire in has().
  void end(std::uint32_t number) noexcept { states_[number].store(is_there, Order::release); }

 private:
  /// RISC-V compares and exchanges no bytes.
  using State = std::uint32_t;
  static constexpr State absent = 0;
  static constexpr State being_made = 1;
  static constexpr State is_there = 2;

  typename Atomics::template Cell<State> states_[Count];
};

/// `Count` parts. Its address must not change.
template <class Part, std::uint32_t Count, bool Late>
class PartArray {
 public:
  using There = PartsThere<typename Part::Atomics, Count, Late>;

  constexpr Part* all() noexcept { return parts_; }
  constexpr There there() const noexcept { return {}; }

  constexpr Part* begin() noexcept { return parts_; }
  constexpr Part* end() noexcept { return parts_ + Count; }
  constexpr const Part* begin() const noexcept { return parts_; }
  constexpr const Part* end() const noexcept { return parts_ + Count; }
  constexpr Part& operator[](std::uint32_t number) noexcept { return parts_[number]; }
  constexpr const Part& operator[](std::uint32_t number) const noexcept { return parts_[number]; }

 private:
  Part parts_[Count];
};

template <class Part, std::uint32_t Count>
class PartArray<Part, Count, true> {
 public:
  using There = PartsThere<typename Part::Atomics, Count, true>;

  /// Visits the parts that are there.
  template <class P>
  class Iterator {
   public:
    constexpr Iterator(P* parts, const There& there, std::uint32_t number) noexcept
        : parts_(parts), there_(&there), number_(number) {}
    P& operator*() const noexcept { return parts_[number_]; }
    P* operator->() const noexcept { return parts_ + number_; }
    Iterator& operator++() noexcept {
      do {
        ++number_;
      } while (number_ < Count && !there_->has(number_));
      return *this;
    }
    constexpr bool operator==(const Iterator& other) const noexcept {
      return number_ == other.number_;
    }

   private:
    P* parts_;
    const There* there_;
    std::uint32_t number_;
  };

  Part* all() noexcept { return reinterpret_cast<Part*>(room_); }
  const Part* all() const noexcept { return reinterpret_cast<const Part*>(room_); }
  There& there() noexcept { return there_; }
  const There& there() const noexcept { return there_; }

  Iterator<Part> begin() noexcept { return {all(), there_, 0}; }
  Iterator<Part> end() noexcept { return {all(), there_, Count}; }
  Iterator<const Part> begin() const noexcept { return {all(), there_, 0}; }
  Iterator<const Part> end() const noexcept { return {all(), there_, Count}; }
  /// Pre: it is there.
  Part& operator[](std::uint32_t number) noexcept { return all()[number]; }
  const Part& operator[](std::uint32_t number) const noexcept { return all()[number]; }

 private:
  There there_;
  alignas(Part) std::byte room_[Count * sizeof(Part)];
};

}  // namespace slabmalloc
