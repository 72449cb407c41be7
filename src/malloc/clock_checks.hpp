// SPDX-License-Identifier: MIT
//
// ClockChecks: when a thread reads the clock, to see whether periodic work is due.
//
// A thread counts its slow calls. It cannot tell how long they took before it reads the clock, and
// what it did a moment ago does not tell what it does next: a server answers a burst of requests,
// and then one in a second. So the number of calls between two reads has a bound, and a low one.
//
//     calls before the next read     few, if the last two reads were clock_milliseconds apart
//                                    calls_per_clock_check, if less
//
// A read costs little, but the work behind it more. It begins where the clock has gone on since the
// read before, and after checks_per_scavenge reads at the same time.
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
    return calls_ >= Tunables::calls_per_clock_check;
  }

  /// Notes that the thread has read the time `now`, in milliseconds that wrap around. True if
  /// periodic work may be due.
  constexpr bool note(std::uint32_t now) noexcept {
    const std::uint32_t passed = now - read_at_;
    read_at_ = now;
    calls_ = 0;
    if (passed >= Tunables::clock_milliseconds) {
      expect_rare_calls();
    }
    ++checks_;
    if (passed == 0 && checks_ < Tunables::checks_per_scavenge) {
      return false;
    }
    checks_ = 0;
    return true;
  }

  /// Makes the next claim a read.
  constexpr void expect_rare_calls() noexcept {
    calls_ = Tunables::calls_per_clock_check - Tunables::calls_per_claim;
  }

 private:
  std::uint32_t calls_ = 0;   ///< Since the last read, and those that were not allowed.
  std::uint32_t checks_ = 0;  ///< Reads since the last work.
  std::uint32_t read_at_ = 0;
};

}  // namespace slabmalloc
