// SPDX-License-Identifier: MIT
//
// The stacks of all CPUs, one after the other. Each grows down from its end. prepare() fills it
// with a pattern, and the part that was never used still holds that.
//
//   stacks:  | canary | unused: pattern | used  <- | canary | ...
//              256 B                    ^ deepest()
//
// Invariant S1: the canary holds the pattern. An overflow of a stack overwrites it, and the kernel
// checks that at its end.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernel/machine.hpp"

namespace boot {

struct alignas(64) Stack {
  static constexpr std::uint64_t pattern = 0x736c'6162'736c'6162;
  static constexpr std::size_t words = stack_bytes / sizeof(std::uint64_t);
  static constexpr std::size_t canary_words = 256 / sizeof(std::uint64_t);

  std::uint64_t word[words];

  /// Writes the pattern to all bytes below `limit`. Pre: that part is not in use.
  void prepare(const void* limit) noexcept {
    for (std::uint64_t* each = word; each < limit; ++each) {
      *each = pattern;
    }
  }
  void prepare() noexcept { prepare(word + words); }

  /// The most bytes that have been in use.
  std::size_t deepest() const noexcept {
    std::size_t unused = 0;
    while (unused < words && word[unused] == pattern) {
      ++unused;
    }
    return (words - unused) * sizeof(std::uint64_t);
  }

  /// True if S1 holds.
  bool intact() const noexcept { return deepest() <= stack_bytes - canary_words * sizeof(word[0]); }
};
static_assert(sizeof(Stack) == stack_bytes, "the first instructions compute where a stack ends");

extern "C" Stack stacks[maximum_cpus];

}  // namespace boot
