// SPDX-License-Identifier: MIT
#include "slabmalloc/page/embedded_page.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>

#include "slabmalloc/classes/size_class_table.hpp"
#include "support/frames.hpp"

namespace slabmalloc {
namespace {

static_assert(sizeof(ObjectPage) == 4 * kibibyte && sizeof(LargeObjectPage) == 2 * mebibyte);
static_assert(sizeof(ObjectPage16K) == 16 * kibibyte &&
              sizeof(LargeObjectPage16K) == 32 * mebibyte);
static_assert(sizeof(ObjectPage64K) == 64 * kibibyte &&
              sizeof(LargeObjectPage64K) == 512 * mebibyte);
static_assert(std::is_trivial_v<ObjectPage>, "a page is never constructed");

template <class Page>
class EmbeddedPageTest : public testing::Test {
 protected:
  test::FrameSource frames_{test::FrameContent::untouched};
};

using Pages =
    testing::Types<ObjectPage, LargeObjectPage, ObjectPage16K, LargeObjectPage16K, ObjectPage64K,
                   LargeObjectPage64K, EmbeddedPage<4 * kibibyte, SingleCpuAtomics>,
                   EmbeddedPage<64 * kibibyte>>;
TYPED_TEST_SUITE(EmbeddedPageTest, Pages);

TYPED_TEST(EmbeddedPageTest, is_an_allocable_page_of_exactly_its_frame) {
  static_assert(AllocablePage<TypeParam>);
  static_assert(sizeof(TypeParam) == TypeParam::size_bytes);
  EXPECT_EQ(TypeParam::frame_bytes(64), sizeof(TypeParam));
}

TYPED_TEST(EmbeddedPageTest, the_header_is_the_end_of_the_frame) {
  auto* page = this->frames_.template page<TypeParam>();
  auto* header = TypeParam::header_of(page);
  EXPECT_EQ(static_cast<void*>(header + 1), static_cast<void*>(page + 1));
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(header) % alignof(decltype(*header)), 0u);
}

TYPED_TEST(EmbeddedPageTest, header_and_frame_are_found_from_any_address) {
  auto* page = this->frames_.template page<TypeParam>();
  auto* frame = reinterpret_cast<std::byte*>(page);
  auto* header = TypeParam::header_of(page);
  const std::size_t step = sizeof(TypeParam) / 4096 > 0 ? sizeof(TypeParam) / 4096 : 1;
  for (std::size_t offset = 0; offset < sizeof(TypeParam); offset += step) {
    ASSERT_EQ(TypeParam::header_of(frame + offset), header);
    ASSERT_EQ(TypeParam::head_of(frame + offset), header);
  }
  EXPECT_EQ(TypeParam::header_of(frame + sizeof(TypeParam) - 1), header);
  EXPECT_EQ(TypeParam::frame_of(header), frame);
}

TYPED_TEST(EmbeddedPageTest, slots_end_before_the_bitmaps_begin_for_every_class) {
  auto* page = this->frames_.template page<TypeParam>();
  auto* frame = reinterpret_cast<std::byte*>(page);
  auto* header = TypeParam::header_of(page);
  for (std::uint32_t index = 0; index < FineSizeClasses::count; ++index) {
    const SlotGeometry geometry = TypeParam::geometry(FineSizeClasses::size_of(index));
    if (geometry.slots != 0) {
      auto* lowest =
          reinterpret_cast<std::byte*>(&header->remote(geometry.words - 1, geometry.words));
      ASSERT_LE(frame + std::size_t{geometry.slots} * geometry.object_size, lowest);
    }
  }
}

TYPED_TEST(EmbeddedPageTest, slots_have_their_natural_alignment) {
  auto* page = this->frames_.template page<TypeParam>();
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(page) % sizeof(TypeParam), 0u);
}

TEST(PageSizes, the_large_page_is_one_level_up_the_page_table) {
  static_assert(sizeof(PageSizes<4 * kibibyte>::Large) ==
                512 * sizeof(PageSizes<4 * kibibyte>::Base));
  static_assert(sizeof(PageSizes<16 * kibibyte>::Large) ==
                2048 * sizeof(PageSizes<16 * kibibyte>::Base));
  static_assert(sizeof(PageSizes<64 * kibibyte>::Large) ==
                8192 * sizeof(PageSizes<64 * kibibyte>::Base));
}

}  // namespace
}  // namespace slabmalloc
