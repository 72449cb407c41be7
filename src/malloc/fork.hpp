// SPDX-License-Identifier: MIT
//
// Fork: the heap's mutexes are held across one, so that the child finds all that is shared whole.
#pragma once

#include "slabmalloc/base/atomics.hpp"

namespace slabmalloc {

namespace detail {

[[gnu::visibility("hidden")]] extern constinit HardwareAtomics::Cell<bool> forks_are_followed;

/// Registers the handlers, unless another thread does.
void register_fork_handlers() noexcept;

}  // namespace detail

/// From now on forks find the heap whole. Called before a thread's first allocation; the process's first comes before its
/// second thread, since the C library allocates to make that. Not when the library is loaded: registering makes
/// 130 KiB of the C library resident, for programs that never allocate in vain. It may allocate.
/// Pre: no lock is held.
inline void follow_forks() noexcept {
  if (!detail::forks_are_followed.load(Order::relaxed)) [[unlikely]] {
    detail::register_fork_handlers();
  }
}

}  // namespace slabmalloc
