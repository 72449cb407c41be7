// SPDX-License-Identifier: MIT
//
// What the adaptors' tests put into containers, and the zones they take it from.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "slabmalloc/slabmalloc.hpp"
#include "support/frames.hpp"

namespace slabmalloc::test {

/// Middle pages, so that a test does not touch 2 MiB for each class.
using TestZone = ScopedZone<FrameSource, MiddlePageConfig>;

/// More than any malloc guarantees.
struct alignas(256) Wide {
  std::uint64_t value;
};

inline bool is_aligned(const void* address, std::size_t alignment) {
  return (reinterpret_cast<std::uintptr_t>(address) & (alignment - 1)) == 0;
}

/// A text that no string keeps inside itself.
inline std::string long_text(std::size_t number) {
  return "the text that belongs to the number " + std::to_string(number);
}

}  // namespace slabmalloc::test
