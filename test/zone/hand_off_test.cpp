// SPDX-License-Identifier: MIT
//
// Tests that a zone does not read a page after giving it back. A free on a full page hands its slot
// off to the next allocation.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstddef>
#include <vector>

#include "slabmalloc/zone/zone_allocator.hpp"
#include "zone/zone_configs.hpp"

namespace slabmalloc {
namespace {

using test::layout_of;

/// Base pages that the pager unmaps when they come back, so that reading one crashes.
struct UnmappingPager {
  Frame allocate_frame(std::size_t bytes) noexcept {
    void* frame = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (bytes != sizeof(ObjectPage) || frame == MAP_FAILED) {
      return {};
    }
    ++live_frames;
    return {frame, false};
  }
  void deallocate_frame(void* frame, std::size_t bytes) noexcept {
    EXPECT_EQ(munmap(frame, bytes), 0);
    --live_frames;
  }
  std::size_t live_frames = 0;
};

TEST(HandOff, does_not_read_the_page_of_a_handed_off_slot_after_giving_it_back) {
  const Layout layout = layout_of(64);
  UnmappingPager frames;
  ScopedZone<UnmappingPager, test::EagerConfig> zone(frames);
  const std::uint32_t slots = ObjectPage::geometry(64).slots;
  std::vector<void*> objects;
  while (objects.size() < 2 * std::size_t{slots}) {
    objects.push_back(zone.allocate(layout).value_or(nullptr));
  }
  for (std::uint32_t index = 0; index < slots; ++index) {
    zone.deallocate(objects[index], layout);
    ASSERT_EQ(zone.validate(), nullptr);
  }
  ASSERT_EQ(frames.live_frames, 1u);
  zone.deallocate(objects.back(), layout);
  EXPECT_EQ(zone.allocate(layout).value_or(nullptr), objects.back());
  EXPECT_NE(zone.allocate(layout).value_or(nullptr), nullptr);
  EXPECT_EQ(zone.validate(), nullptr);
}

}  // namespace
}  // namespace slabmalloc
