// SPDX-License-Identifier: MIT
//
// Counts of instructions. A tick may come in the middle of what is counted, so the least of several
// counts is the number without one.
#pragma once

#include <cstdint>

#include "kernel/machine.hpp"

namespace boot {

/// Least, mean and most of the counts.
struct Counts {
  std::uint64_t least = ~std::uint64_t{0};
  std::uint64_t most = 0;
  std::uint64_t sum = 0;
  std::uint64_t number = 0;

  void add(std::uint64_t instructions) noexcept {
    least = instructions < least ? instructions : least;
    most = instructions > most ? instructions : most;
    sum += instructions;
    ++number;
  }
  std::uint64_t mean() const noexcept { return number == 0 ? 0 : (sum + number / 2) / number; }
};

/// The instructions of `call()` and of reading the counter.
template <class Call>
std::uint64_t count(Call call) noexcept {
  const std::uint64_t before = instructions();
  call();
  return instructions() - before;
}

}  // namespace boot
