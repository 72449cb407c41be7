// SPDX-License-Identifier: MIT
#include "slabmalloc/kernel/object_reserve.hpp"

#include <gtest/gtest.h>

#include <cstdint>

namespace slabmalloc {
namespace {

constexpr std::uint32_t classes = 70;  // More objects than a word has bits.
using Reserve = ObjectReserve<HardwareAtomics, classes, 2>;

void give_none(std::uint32_t, void*) { ADD_FAILURE() << "nothing is to be given back"; }

TEST(ObjectReserve, a_class_that_cannot_be_filled_does_not_block_another) {
  static int object;
  Reserve reserve;
  for (const std::uint32_t index : {0u, 5u, 64u, 69u}) {
    reserve.want(index, 2);
  }
  const auto get = [](std::uint32_t index) -> void* { return index % 64 != 0 ? &object : nullptr; };
  for (std::uint32_t call = 0; call < 4; ++call) {
    reserve.adjust_one(get, give_none);
  }
  EXPECT_EQ(reserve.size(5), 2u);
  EXPECT_EQ(reserve.size(69), 2u);
  EXPECT_TRUE(reserve.has_work());
  EXPECT_FALSE(reserve.adjust_one(get, give_none));
  const auto get_any = [](std::uint32_t) -> void* { return &object; };
  EXPECT_TRUE(reserve.adjust_one(get_any, give_none));
  EXPECT_TRUE(reserve.adjust_one(get_any, give_none));
  EXPECT_FALSE(reserve.has_work());
  EXPECT_EQ(reserve.size(0) + reserve.size(64), 4u);
}

}  // namespace
}  // namespace slabmalloc
