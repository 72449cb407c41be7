// SPDX-License-Identifier: MIT
//
// CallStack: the calls that led to an allocation or a free, for a report.
#pragma once

#include <cstdint>

namespace slabmalloc {

/// Return addresses, innermost first.
struct CallStack {
  static constexpr int most_calls = 32;

  void* calls[most_calls];
  std::uint32_t count = 0;

  /// Prepares capture(): it loads libgcc, which allocates.
  static void prepare() noexcept;

  /// Records the calls that led here; true if the stack was known (known_stacks.hpp). It records
  /// none before prepare(), and where the C library has no backtrace(). It takes no lock of the
  /// heap. It allocates nothing, unless unwind tables were registered at run time.
  /// Cost: 2,000 instructions for each call; 20 if the stack is known.
  [[gnu::noinline]] bool capture() noexcept;
};

}  // namespace slabmalloc
