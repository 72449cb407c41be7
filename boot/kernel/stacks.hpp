// SPDX-License-Identifier: MIT
//
// The stacks of all CPUs, one after the other; each grows down from its end. The part of it that
// has never been used still holds the pattern which prepare() put there.
//
//   stacks:  | canary | unused: pattern | used  <- | canary | ...
//              256 B                    ^ deepest()
//
// Invariant S1: the canary holds the pattern. What overflows a stack overwrites it, and the end of
// the kernel checks.
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

  /// Writes the pattern to all that is below `limit`. Pre: nobody uses that part.
  void prepare(const void* limit) noexcept {
    for (std::uint64_t* each = word; each < limit; ++each) {
      *each = pattern;
    }
  }
  void prepare() noexcept { prepare(word + words); }

  /// How many bytes of it have been in use at most.
  std::size_t deepest() const noexcept {
    std::size_t unused = 0;
    while (unused < words && word[unused] == pattern) {
      ++unused;
    }
    return (words - unused) * sizeof(std::uint64_t);
  }

  /// S1.
  bool intact() const noexcept { return deepest() <= stack_bytes - canary_words * sizeof(word[0]); }
};
static_assert(sizeof(Stack) == stack_bytes, "the first instructions compute where a stack ends");

extern "C" Stack stacks[maximum_cpus];

}  // namespace boot
