// SPDX-License-Identifier: MIT
//
// Clock: a vector clock, the moments of each thread that are in the past.
#pragma once

#include <cstdint>

#include "explorer/explorer.hpp"

namespace slabmalloc::explorer {

struct Clock {
  std::uint16_t at[most_threads] = {};

  void join(const Clock& other) noexcept {
    for (unsigned thread = 0; thread < most_threads; ++thread) {
      at[thread] = at[thread] > other.at[thread] ? at[thread] : other.at[thread];
    }
  }
  bool covers(unsigned thread, std::uint16_t time) const noexcept { return at[thread] >= time; }
};

}  // namespace slabmalloc::explorer
