// SPDX-License-Identifier: MIT
//
// CLibrary: what the malloc needs to know of the C library under it, beyond ISO C and POSIX. One
// header for each library defines it, and no other file asks which library it is.
//
//   glibc.hpp   the GNU C library, which alone defines __GLIBC__
//   musl.hpp    musl, and any other
//
// src/CMakeLists.txt adds the entry points that only the GNU C library declares.
#pragma once

#include <features.h>

#include <concepts>

#ifdef __GLIBC__
#include "libc/glibc.hpp"
#else
#include "libc/musl.hpp"
#endif

namespace slabmalloc {

/// What each definition has.
template <class T>
concept KnowsCLibrary = requires {
  /// pthread_create() calls malloc(). So the process's first call precedes its second thread.
  { T::allocates_for_threads } -> std::convertible_to<bool>;
  /// realloc() to no bytes frees the block and returns null; else it returns a block.
  { T::reallocation_to_nothing_frees } -> std::convertible_to<bool>;
  /// A fork: before it, after it in the parent, and after it in the child.
  { T::lock_streams() } noexcept;
  { T::unlock_streams() } noexcept;
  { T::unlock_streams_in_child() } noexcept;
};
static_assert(KnowsCLibrary<CLibrary>);

}  // namespace slabmalloc
