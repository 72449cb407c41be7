// SPDX-License-Identifier: MIT
//
// Assertions: for this library's own bugs only. What a client can do wrong goes to the misuse hook
// (misuse.hpp), what can run out is a value (result.hpp).
#pragma once

namespace slabmalloc {

/// Stops the program where an invariant of this library is broken; a debugger shows `equation`.
[[noreturn, gnu::cold, gnu::noinline]] inline void broken_invariant(
    [[maybe_unused]] const char* equation) noexcept {
  __builtin_trap();
}

/// Asserts `condition`, always on. For slow paths: it costs a predicted branch.
constexpr void invariant(bool condition, const char* equation) noexcept {
  if (!condition) [[unlikely]] {
    broken_invariant(equation);
  }
}

}  // namespace slabmalloc
