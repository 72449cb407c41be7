// SPDX-License-Identifier: MIT
//
// The rest of a leak scan is tested in debug_calls_test.cpp.
#include "slabmalloc/kernel/leak_scan.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>

namespace slabmalloc::test {
namespace {

/// Beside the bytes of each root around the end of the address space and around another address.
TEST(LeakScan, the_words_of_a_root_are_all_aligned_words_in_it) {
  constexpr std::size_t word = sizeof(void*);
  for (const std::uintptr_t origin : {std::uintptr_t{0} - 4 * word, std::uintptr_t{0x1000}}) {
    for (std::size_t begin = 0; begin <= 4 * word; ++begin) {
      for (std::size_t bytes = 0; begin + bytes <= 4 * word; ++bytes) {
        std::size_t count = 0;
        std::size_t first = 4 * word;
        for (std::size_t at = 0; at < 4 * word; at += word) {
          if (at >= begin && at + word <= begin + bytes) {
            first = count++ == 0 ? at : first;
          }
        }
        const WordSpan words = words_within(origin + begin, bytes);
        EXPECT_EQ(words.count, count) << begin << ", " << bytes;
        if (count != 0) {
          EXPECT_EQ(words.first, origin + first) << begin << ", " << bytes;
        }
      }
    }
  }
}

}  // namespace
}  // namespace slabmalloc::test
