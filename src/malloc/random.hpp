// SPDX-License-Identifier: MIT
//
// Random numbers for each thread, which are cheap and no secret.
#pragma once

#include <cstdint>

#include "os/os.hpp"
#include "slabmalloc/base/atomics.hpp"

namespace slabmalloc {

namespace detail {

/// The threads that have random numbers so far.
[[gnu::visibility("hidden")]] inline constinit HardwareAtomics::Cell<std::uint64_t> random_threads;

/// The first state of a thread's generator, which is not 0. Threads differ by their number, since a
/// new thread may have all addresses of one that has ended. The mixer is that of SplitMix64:
/// Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014.
[[gnu::cold, gnu::noinline]] inline std::uint64_t seed_of_thread() noexcept {
  const std::uint64_t number = random_threads.fetch_add(1, Order::relaxed) + 1;
  std::uint64_t mixed = os::interface().random_bits() + number * 0x9E37'79B9'7F4A'7C15u;
  mixed = (mixed ^ mixed >> 30) * 0xBF58'476D'1CE4'E5B9u;
  mixed = (mixed ^ mixed >> 27) * 0x94D0'49BB'1331'11EBu;
  return (mixed ^ mixed >> 31) | 1;
}

/// The state of a thread's generator; 0 before its first number.
[[gnu::visibility("hidden")]] inline constinit thread_local std::uint64_t random_state = 0;

}  // namespace detail

/// Makes the numbers of the child of a fork differ from its parent's, and from other children's.
inline void reseed_in_child() noexcept {
  if (detail::random_state != 0) {
    detail::random_state =
        (detail::random_state ^ os::interface().process_id() * 0x9E37'79B9'7F4A'7C15u) | 1;
  }
}

/// Random bits. Marsaglia, "Xorshift RNGs", Journal of Statistical Software 8 (14), 2003, with the
/// shifts 13, 7 and 17.
inline std::uint64_t thread_random_bits() noexcept {
  std::uint64_t& state = detail::random_state;
  if (state == 0) [[unlikely]] {
    state = detail::seed_of_thread();
  }
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}

}  // namespace slabmalloc
