// SPDX-License-Identifier: MIT
//
// Random numbers for each thread, which are cheap and no secret.
#pragma once

#include <cstdint>

#include "os/os.hpp"

namespace slabmalloc {

/// Random bits. Marsaglia, "Xorshift RNGs", Journal of Statistical Software 8 (14), 2003, with the
/// shifts 13, 7 and 17.
inline std::uint64_t thread_random_bits() noexcept {
  static constinit thread_local std::uint64_t state = 0;
  if (state == 0) [[unlikely]] {
    // Threads differ by the address.
    const auto address = static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(&state));
    state = (os::interface().random_bits() ^ address * 0x9E37'79B9'7F4A'7C15u) | 1;
  }
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}

}  // namespace slabmalloc
