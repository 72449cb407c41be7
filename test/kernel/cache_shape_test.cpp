// SPDX-License-Identifier: MIT
#include "slabmalloc/kernel/cache_shape.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "slabmalloc/kernel/cache_config.hpp"

namespace slabmalloc {
namespace {

using Page = ShapedPage<HardwareAtomics>;

template <class Options>
CacheShape shape_of(std::size_t bytes, std::size_t alignment) {
  return CacheShape::of<Options>(bytes, alignment);
}

struct LargeGranules : GranuleCacheOptions<64 * kibibyte> {};

/// Expects of the shape for `bytes` and `alignment` all that a cache relies on.
template <class Options>
void expect_sound(std::size_t bytes, std::size_t alignment) {
  const CacheShape shape = shape_of<Options>(bytes, alignment);
  ASSERT_EQ(shape.error, CacheError::None) << bytes << ", " << alignment;
  ASSERT_EQ(shape.validate(Page::header_bytes), nullptr) << bytes << ", " << alignment;
  ASSERT_GE(shape.object_bytes(), bytes);
  ASSERT_LT(shape.object_bytes(), bytes + alignment + 1);
  ASSERT_EQ(shape.object_bytes() % alignment, 0u);
  ASSERT_EQ(shape.geometry,
            SlotGeometry::fit(shape.object_bytes(), shape.page_bytes, Page::header_bytes, true))
      << "colours take no slot";
  if (shape.page_bytes < Options::largest_page_bytes) {
    ASSERT_LE(shape.waste(), shape.page_bytes / 8) << bytes << ", " << alignment;
  }
  if (shape.page_bytes > Options::granule_bytes) {
    const std::size_t half = shape.page_bytes / 2;
    const std::size_t slots =
        SlotGeometry::fit(shape.object_bytes(), half, Page::header_bytes, true).slots;
    ASSERT_GT(half - slots * shape.object_bytes(), half / 8) << bytes << ": half of it would do";
  }
  const std::size_t meta_data = Page::header_bytes + 2 * sizeof(Word) * shape.geometry.words;
  ASSERT_GT((2 * shape.colours() - 1) * shape.step_bytes, shape.waste() - meta_data)
      << bytes << ": more colours would have been possible";
}

template <class Options>
void expect_all_sound(std::size_t stride) {
  const std::size_t most = Options::largest_page_bytes / 8;
  for (std::size_t alignment = 1; alignment <= most; alignment *= 2) {
    for (std::size_t bytes = 1; bytes <= most; bytes += stride) {
      expect_sound<Options>(bytes, alignment);
    }
    expect_sound<Options>(most, alignment);
  }
}

TEST(CacheShape, is_sound_for_every_size_and_alignment) { expect_all_sound<CacheOptions>(1); }

TEST(CacheShape, is_sound_for_other_granules) { expect_all_sound<LargeGranules>(61); }

TEST(CacheShape, names_what_is_wrong) {
  const std::size_t most = CacheOptions::largest_page_bytes / 8;
  EXPECT_EQ(shape_of<CacheOptions>(0, 8).error, CacheError::NoSize);
  EXPECT_EQ(shape_of<CacheOptions>(8, 0).error, CacheError::AlignmentNotPower);
  EXPECT_EQ(shape_of<CacheOptions>(8, 48).error, CacheError::AlignmentNotPower);
  EXPECT_EQ(shape_of<CacheOptions>(most + 1, 1).error, CacheError::TooLarge);
  EXPECT_EQ(shape_of<CacheOptions>(most - 1, most).error, CacheError::None);
  EXPECT_EQ(shape_of<CacheOptions>(8, 2 * most).error, CacheError::TooLarge);
  EXPECT_EQ(shape_of<CacheOptions>(~std::size_t{0}, 64).error, CacheError::TooLarge);
  EXPECT_EQ(shape_of<CacheOptions>(8, ~(~std::size_t{0} >> 1)).error, CacheError::TooLarge);
  for (int error = 0; error <= static_cast<int>(CacheError::OutOfMemory); ++error) {
    EXPECT_STRNE(describe(static_cast<CacheError>(error)), "an error");
  }
}

TEST(CacheShape, gives_frames_at_any_regular_distance_all_colours) {
  constexpr std::size_t frames_each = 64;
  for (const std::size_t bytes : {96u, 216u, 576u, 700u, 1472u, 5000u, 8192u}) {
    const CacheShape shape = shape_of<CacheOptions>(bytes, 8);
    for (std::uintptr_t distance = 1; distance <= 512; distance += distance < 16 ? 1 : distance) {
      std::vector<std::size_t> frames(shape.colours(), 0);
      for (std::uintptr_t number = 1; number <= frames_each * shape.colours(); ++number) {
        // The test only computes addresses here: the address alone decides the colour.
        auto* const frame = reinterpret_cast<void*>(number * distance * shape.page_bytes);
        ++frames[shape.colour_of(frame)];
        EXPECT_EQ(shape.first_slot(frame) - static_cast<std::byte*>(frame),
                  static_cast<std::ptrdiff_t>(shape.colour_of(frame) * shape.step_bytes));
      }
      for (const std::size_t count : frames) {
        EXPECT_GE(count, frames_each / 4) << bytes << " B, " << distance << " frames apart";
        EXPECT_LE(count, frames_each * 3) << bytes << " B, " << distance << " frames apart";
      }
    }
  }
}

}  // namespace
}  // namespace slabmalloc
