// SPDX-License-Identifier: MIT
//
// What a size-class allocator does before it says that nothing is free, and with no object at all.
#include <gtest/gtest.h>

#include <vector>

#include "slabmalloc/slabmalloc.hpp"
#include "support/frames.hpp"
#include "support/misuse_recorder.hpp"

namespace slabmalloc {
namespace {

constexpr std::size_t pages = 40;

/// An allocator whose pages are all full.
class FullAllocator : public ::testing::Test {
 protected:
  void SetUp() override {
    for (std::size_t count = 0; count < pages; ++count) {
      ASSERT_TRUE(allocator_.refill(frames_.page<ObjectPage>()));
    }
    while (const auto object = allocator_.allocate(layout_)) {
      objects_.push_back(object.value());
    }
  }

  test::FrameSource frames_;
  test::MisuseRecorder misuse_;
  SCAllocator<ObjectPage> allocator_{64};
  Layout layout_ = Layout::of<std::byte[64]>();
  std::vector<void*> objects_;
};

TEST_F(FullAllocator, takes_in_the_whole_inbox_before_memory_is_out) {
  // Every page is queued, with one slot free: more pages than one slow path takes in.
  const std::size_t slots = ObjectPage::geometry(64).slots;
  for (std::size_t index = 0; index < objects_.size(); index += slots) {
    allocator_.deallocate_remote(objects_[index], layout_);
  }
  std::size_t count = 0;
  while (allocator_.allocate(layout_)) {
    ++count;
  }
  EXPECT_EQ(count, pages);
  EXPECT_EQ(allocator_.validate(), nullptr);
}

TEST_F(FullAllocator, reclaims_pages_whose_objects_others_freed) {
  for (void* object : objects_) {
    allocator_.deallocate_remote(object, layout_);
  }
  EXPECT_EQ(allocator_.try_reclaim_pages(2 * pages, [](ObjectPage*) {}), pages);
}

TEST_F(FullAllocator, frees_of_a_null_pointer_do_nothing) {
  allocator_.deallocate(nullptr, layout_);
  allocator_.deallocate_remote(nullptr, layout_);
  EXPECT_FALSE(allocator_.allocate(layout_));
  EXPECT_EQ(allocator_.validate(), nullptr);
}

TEST(Zone, frees_of_a_null_pointer_do_nothing_for_any_layout) {
  test::FrameSource frames;
  test::MisuseRecorder misuse;
  ScopedZone<test::FrameSource> zone(frames);
  for (std::size_t size : {std::size_t{1}, std::size_t{64}, std::size_t{4000}, std::size_t{500000}}) {
    const Layout layout = Layout::from_size_align(size, 8).value();
    zone.deallocate(nullptr, layout);
    if (size <= decltype(zone)::MAX_ALLOC_SIZE) {
      decltype(zone)::deallocate_remote(nullptr, layout);
    }
  }
  EXPECT_EQ(zone.validate(), nullptr);
}

}  // namespace
}  // namespace slabmalloc
