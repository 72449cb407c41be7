// SPDX-License-Identifier: MIT
//
// PartOwner: which CPU may use the part of a CPU. An idle CPU offers its part to the others.
//
//              offer()                      begin_step()
//   its CPU ─────────────────► nobody ◄────────────────────► another CPU, for one step
//      ▲                         │            end_step()
//      └────── take_back() ──────┘
//
// Nobody owns a part that its CPU has not used yet. No call tells that a CPU wakes: its next slow
// path takes the part back. If another CPU has the part at that moment, the caller waits for the
// end of the step, which is of a constant length. No CPU begins another step meanwhile.
//
// Invariant between sections, with its line in validate():
//   K6  the part is its CPU's or nobody's, and no caller waits for it
#pragma once

#include <cstdint>

#include "slabmalloc/base/atomics.hpp"

namespace slabmalloc {

/// The owner of one CPU's part. Thread: as each function says; a handler may interrupt any of them.
template <class Atomics>
class PartOwner {
 public:
  /// True if its CPU owns the part. Thread: any; exact for the CPU itself.
  bool is_its_cpu() const noexcept { return state_.load(Order::relaxed) == its_cpu; }
  /// True if nobody owns it, or another CPU does. Thread: any; a hint.
  bool is_nobody() const noexcept { return state_.load(Order::relaxed) == nobody; }
  bool is_another_cpu() const noexcept { return state_.load(Order::relaxed) == another_cpu; }

  /// Offers the part to all CPUs. Thread: its CPU, in a section that ends with this call.
  /// Order: release, with the acquires in take_back() and begin_step().
  void offer() noexcept { state_.store(nobody, Order::release); }

  /// Makes its CPU the owner if nobody is, and begins a section of the caller. False otherwise, and
  /// at times without a reason.
  /// Thread: its CPU, with interrupts saved.
  /// Order: acquire, with the releases in offer() and end_step(): the CPU sees the part as the last
  /// user left it.
  bool take_back() noexcept {
    State expected = nobody;
    return state_.compare_exchange(expected, its_cpu, Order::acquire);
  }

  /// Makes the caller the owner for one step, if nobody is and the part's CPU does not wait for it.
  /// Thread: another CPU, in a section of its own.
  /// Order: acquire, with the releases in offer() and end_step(), as in take_back().
  bool begin_step() noexcept {
    State found = is_wanted_.load(Order::relaxed) ? its_cpu : nobody;
    while (found == nobody) {
      if (state_.compare_exchange(found, another_cpu, Order::acquire)) {
        return true;
      }
    }
    return false;
  }
  /// Ends the step. Order: release, with the acquires in take_back() and begin_step().
  void end_step() noexcept { state_.store(nobody, Order::release); }

  /// Tells other CPUs that its CPU waits, or that it does no more. Thread: its CPU.
  void set_wanted(bool is_wanted) noexcept { is_wanted_.store(is_wanted, Order::relaxed); }

  /// K6, or null. Pre: no CPU is in a section.
  const char* validate() const noexcept {
    return state_.load(Order::relaxed) != another_cpu && !is_wanted_.load(Order::relaxed)
               ? nullptr
               : "K6: a part is its CPU's or nobody's, and no caller waits for it";
  }

 private:
  using State = std::uint32_t;
  static constexpr State nobody = 0;
  static constexpr State its_cpu = 1;
  static constexpr State another_cpu = 2;

  typename Atomics::template Cell<State> state_{nobody};
  typename Atomics::template Cell<bool> is_wanted_;
};

}  // namespace slabmalloc
