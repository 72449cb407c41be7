// SPDX-License-Identifier: MIT
#include "slabmalloc/base/layout.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <limits>

namespace slabmalloc {
namespace {

constexpr std::size_t largest = PTRDIFF_MAX;

struct alignas(64) Line {
  char bytes[128];
};

static_assert(Layout::of<Line>().size() == 128 && Layout::of<Line>().align() == 64);
static_assert(Layout::from_size_align(24, 8)->size() == 24);

/// The error of a layout that must not exist.
AllocationError error_of(std::size_t size, std::size_t align) {
  const Result<Layout> layout = Layout::from_size_align(size, align);
  EXPECT_FALSE(layout) << size << " B aligned to " << align;
  return layout ? AllocationError{} : layout.error();
}

TEST(Layout, keeps_the_size_and_alignment_it_was_made_of) {
  const Result<Layout> layout = Layout::from_size_align(100, 32);
  ASSERT_TRUE(layout);
  EXPECT_EQ(layout->size(), 100u);
  EXPECT_EQ(layout->align(), 32u);
  EXPECT_EQ(*layout, *Layout::from_size_align(100, 32));
  EXPECT_NE(*layout, *Layout::from_size_align(100, 16));
}

TEST(Layout, the_default_has_no_bytes) {
  EXPECT_EQ(Layout().size(), 0u);
  EXPECT_EQ(Layout().align(), 1u);
}

TEST(Layout, a_size_of_zero_is_allowed) { EXPECT_TRUE(Layout::from_size_align(0, 1)); }

TEST(Layout, an_alignment_is_a_power_of_two) {
  for (const std::size_t align : {std::size_t{0}, std::size_t{3}, std::size_t{24}, largest,
                                  std::numeric_limits<std::size_t>::max()}) {
    EXPECT_EQ(error_of(8, align), AllocationError::InvalidLayout);
  }
}

TEST(Layout, a_size_rounded_up_to_its_alignment_is_at_most_ptrdiff_max) {
  for (std::size_t align = 1; align <= largest; align *= 2) {
    const std::size_t limit = largest - (align - 1);
    EXPECT_TRUE(Layout::from_size_align(limit, align)) << align;
    EXPECT_EQ(error_of(limit + 1, align), AllocationError::InvalidLayout) << align;
    EXPECT_EQ(error_of(std::numeric_limits<std::size_t>::max(), align),
              AllocationError::InvalidLayout);
    const std::size_t rounded = (limit + align - 1) / align * align;
    EXPECT_LE(rounded, largest);
    if (align > largest / 2) {
      break;
    }
  }
}

TEST(Layout, an_alignment_of_half_the_address_space_is_refused) {
  EXPECT_EQ(error_of(0, largest + 1), AllocationError::InvalidLayout);
}

}  // namespace
}  // namespace slabmalloc
