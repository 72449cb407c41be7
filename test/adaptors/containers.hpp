// SPDX-License-Identifier: MIT
//
// Containers that the adaptors' tests fill, and the zones that they allocate from.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "slabmalloc/slabmalloc.hpp"
#include "support/frames.hpp"

namespace slabmalloc::test {

/// Middle pages keep a test from touching 2 MiB for each class.
using TestZone = ScopedZone<FrameSource, MiddlePageConfig>;

/// An alignment that no malloc guarantees.
struct alignas(256) Wide {
  std::uint64_t value;
};

inline bool is_aligned(const void* address, std::size_t alignment) {
  return (reinterpret_cast<std::uintptr_t>(address) & (alignment - 1)) == 0;
}

/// A text too long for a string's internal buffer.
inline std::string long_text(std::size_t number) {
  return "the text that belongs to the number " + std::to_string(number);
}

}  // namespace slabmalloc::test
