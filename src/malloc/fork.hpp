// SPDX-License-Identifier: MIT
//
// Fork: the heap's mutexes are held across a fork, so that the child finds all shared data
// consistent.
#pragma once

#include "slabmalloc/base/atomics.hpp"

namespace slabmalloc {

namespace detail {

[[gnu::visibility("hidden")]] extern constinit HardwareAtomics::Cell<bool> forks_are_followed;

/// Registers the handlers, unless another thread does.
void register_fork_handlers() noexcept;

}  // namespace detail

/// Makes forks from now on keep the heap consistent, and asks the system what it tells once. It may
/// allocate.
///
/// A thread calls it before its first allocation. The process's first call comes before its second
/// thread: the GNU C library allocates to create one, and elsewhere start() calls at load time.
/// There, a call at load time would make 130 KiB of the library resident, which is useless in a
/// program that never allocates.
/// Pre: no lock is held.
inline void follow_forks() noexcept {
  if (!detail::forks_are_followed.load(Order::relaxed)) [[unlikely]] {
    detail::register_fork_handlers();
  }
}

}  // namespace slabmalloc
