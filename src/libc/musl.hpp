// SPDX-License-Identifier: MIT
//
// musl. Its dynamic linker and most of its functions keep what is theirs in a heap of their own. So
// the malloc here serves the program, and what the program is to free.
#pragma once

/// Nothing: these are the names of musl's own heap.
#define SLABMALLOC_LIBC_NAME(name) ""

namespace slabmalloc {

struct CLibrary {
  static constexpr bool allocates_for_threads = false;  ///< It maps stacks.
  static constexpr bool reallocation_to_nothing_frees = false;

  // musl hides the lock of its list of streams, and fork() takes it after the handlers. So three
  // threads can wait for each other: one forks, one is in fflush(NULL), one in getline().
  static void lock_streams() noexcept {}
  static void unlock_streams() noexcept {}
  static void unlock_streams_in_child() noexcept {}
};

}  // namespace slabmalloc
