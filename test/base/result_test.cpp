// SPDX-License-Identifier: MIT
#include "slabmalloc/base/result.hpp"

#include <gtest/gtest.h>

#include <cstdint>

namespace slabmalloc {
namespace {

constexpr AllocationError errors[] = {AllocationError::OutOfMemory, AllocationError::InvalidLayout,
                                      AllocationError::TooMany};

static_assert(Result<int>(5).value() == 5 && !Result<int>(AllocationError::InvalidLayout));

TEST(Result, holds_a_value) {
  const Result<int> result = 42;
  ASSERT_TRUE(result);
  EXPECT_EQ(result.value(), 42);
  EXPECT_EQ(*result, 42);
  EXPECT_EQ(result.value_or(7), 42);
}

TEST(Result, a_value_of_zero_is_a_value) { EXPECT_TRUE(Result<int>(0)); }

TEST(Result, holds_an_error) {
  for (const AllocationError error : errors) {
    const Result<int> result = error;
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error(), error);
    EXPECT_EQ(result.value_or(7), 7);
  }
}

TEST(Result, members_of_the_value_are_reached_through_it) {
  struct Pair {
    int first = 0;
    int second = 0;
  };
  const Result<Pair> result = Pair{3, 4};
  EXPECT_EQ(result->second, 4);
}

TEST(Result, without_a_value_type_is_success_or_an_error) {
  EXPECT_TRUE(Result<void>());
  for (const AllocationError error : errors) {
    const Result<void> result = error;
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error(), error);
  }
}

TEST(Result, of_a_pointer_holds_any_aligned_address) {
  std::uint64_t target = 0;
  const Result<std::uint64_t*> result = &target;
  ASSERT_TRUE(result);
  EXPECT_EQ(result.value(), &target);
  EXPECT_EQ(*result, &target);
  EXPECT_EQ(result.value_or(nullptr), &target);
}

TEST(Result, of_a_pointer_holds_every_error) {
  for (const AllocationError error : errors) {
    const Result<void*> result = error;
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error(), error);
    EXPECT_EQ(result.value_or(nullptr), nullptr);
  }
}

TEST(Result, of_a_pointer_fits_a_register) {
  static_assert(sizeof(Result<void*>) == sizeof(void*));
}

TEST(Result, of_a_null_pointer_is_out_of_memory) {
  const Result<void*> result = static_cast<void*>(nullptr);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error(), AllocationError::OutOfMemory);
}

}  // namespace
}  // namespace slabmalloc
