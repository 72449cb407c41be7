// SPDX-License-Identifier: MIT
//
// Assertions, only for bugs of this library. Errors of a client go to the misuse hook (misuse.hpp).
// Exhausted resources are error values (result.hpp).
#pragma once

#include "slabmalloc/base/language.hpp"

namespace slabmalloc {

/// Stops the program after an invariant of this library fails; a debugger shows `equation`.
[[noreturn, gnu::cold, gnu::noinline]] inline void broken_invariant(
    [[maybe_unused]] const char* equation) noexcept {
  __builtin_trap();
}

/// Asserts `condition` in every build. For slow paths: it costs a predicted branch.
constexpr void invariant(bool condition, const char* equation) noexcept {
  if (!condition) [[unlikely]] {
    broken_invariant(equation);
  }
}

}  // namespace slabmalloc
