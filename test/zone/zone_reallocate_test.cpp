// SPDX-License-Identifier: MIT
//
// What reallocation does with an object that is none.
#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "slabmalloc/slabmalloc.hpp"
#include "support/frames.hpp"
#include "support/misuse_recorder.hpp"

namespace slabmalloc {
namespace {

class Reallocation : public ::testing::Test {
 protected:
  using Zone = PagedZone<test::FrameSource, MiddlePageConfig>;

  static Layout bytes(std::size_t size) { return Layout::from_size_align(size, 8).value(); }

  void expect_refused(void* object, Layout old_layout, Layout new_layout, MisuseKind kind) {
    const std::size_t used = zone_.statistics().used_bytes;
    const Result<void*> result = zone_.reallocate(object, old_layout, new_layout);
    EXPECT_FALSE(result);
    EXPECT_EQ(result.error(), AllocationError::InvalidLayout);
    EXPECT_EQ(misuse_.take_kinds(), std::vector{kind});
    EXPECT_EQ(zone_.statistics().used_bytes, used);
    EXPECT_EQ(zone_.validate(), nullptr);
  }

  test::FrameSource frames_;
  test::MisuseRecorder misuse_;
  Zone zone_{frames_};
};

TEST_F(Reallocation, of_a_null_pointer_allocates) {
  EXPECT_TRUE(zone_.reallocate(nullptr, bytes(8), bytes(100)));
  EXPECT_EQ(zone_.statistics().used_bytes, 112u);
}

TEST_F(Reallocation, of_a_freed_object_is_reported_whether_it_would_move_or_stay) {
  void* object = zone_.allocate(bytes(100)).value();
  ASSERT_TRUE(zone_.allocate(bytes(100)));
  zone_.deallocate(object, bytes(100));
  expect_refused(object, bytes(100), bytes(110), MisuseKind::DoubleFree);
  expect_refused(object, bytes(100), bytes(1000), MisuseKind::DoubleFree);
}

TEST_F(Reallocation, with_another_size_than_the_objects_is_reported) {
  void* object = zone_.allocate(bytes(32)).value();
  expect_refused(object, bytes(200), bytes(1000), MisuseKind::SizeMismatch);
}

TEST_F(Reallocation, of_an_address_inside_an_object_is_reported) {
  auto* object = static_cast<char*>(zone_.allocate(bytes(64)).value());
  expect_refused(object + 8, bytes(64), bytes(1000), MisuseKind::MisalignedFree);
}

TEST_F(Reallocation, that_finds_no_memory_leaves_the_object_as_it_was) {
  auto* object = static_cast<char*>(zone_.allocate(bytes(64)).value());
  std::memset(object, 0x3C, 64);
  frames_.set_limit(0);
  const Result<void*> result = zone_.reallocate(object, bytes(64), bytes(5000));
  EXPECT_FALSE(result);
  EXPECT_EQ(result.error(), AllocationError::OutOfMemory);
  EXPECT_EQ(object[0], 0x3C);
  EXPECT_EQ(object[63], 0x3C);
  zone_.deallocate(object, bytes(64));
}

}  // namespace
}  // namespace slabmalloc
