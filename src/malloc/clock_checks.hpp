// SPDX-License-Identifier: MIT
//
// ClockChecks: when a thread reads the clock, to see whether periodic work is due.
//
// A thread reads it after a number of slow calls, since a read at each of them would cost too much.
// A thread whose slow calls are rare can read it at each: it makes few. So the number adapts. It is
// what the thread did in Tunables::clock_milliseconds, as far as the last read can tell:
//
//     calls before the next read = calls before the last read * clock_milliseconds / their time
//
// within a claim's weight and Tunables::calls_per_clock_check.
#pragma once

#include <cstdint>

#include "tunables.hpp"

namespace slabmalloc {

/// The reads of one thread.
class ClockChecks {
 public:
  constexpr ClockChecks() noexcept = default;

  /// Counts slow calls, by their weight; true if a read is due.
  [[gnu::always_inline]] constexpr bool count(std::uint32_t calls) noexcept {
    calls_ += calls;
    return is_due();
  }
  constexpr bool is_due() const noexcept { return calls_ >= Tunables::calls_per_clock_check; }

  /// Notes that the thread has read the time `now`, in milliseconds that wrap around.
  constexpr void note(std::uint32_t now) noexcept {
    const std::uint32_t passed = now - read_at_;
    std::uint32_t next = Tunables::calls_per_clock_check;
    if (passed != 0 && budget_ * Tunables::clock_milliseconds / passed < next) {
      next = budget_ * Tunables::clock_milliseconds / passed;
    }
    allow(next > Tunables::calls_per_claim ? next : Tunables::calls_per_claim);
    read_at_ = now;
  }

  /// Makes the next claim a read, which then tells how rare calls are.
  constexpr void expect_rare_calls() noexcept { allow(Tunables::calls_per_claim); }

 private:
  constexpr void allow(std::uint32_t calls) noexcept {
    budget_ = calls;
    calls_ = Tunables::calls_per_clock_check - calls;
  }

  std::uint32_t calls_ = 0;   ///< Since the last read, and those that were not allowed.
  std::uint32_t budget_ = 0;  ///< The calls that were allowed after the last read.
  std::uint32_t read_at_ = 0;
};

}  // namespace slabmalloc
