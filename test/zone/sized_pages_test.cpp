// SPDX-License-Identifier: MIT
//
// Zones whose page kinds are SizedPages: one type of class serves frames of all sizes.
#include <gtest/gtest.h>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "scenarios/configs.hpp"
#include "slabmalloc/page/shaped_page.hpp"
#include "support/frames.hpp"
#include "support/misuse_recorder.hpp"
#include "zone/zone_configs.hpp"

namespace slabmalloc::test {
namespace {

using scenario::SizedPageConfig;
using Base = SizedPageConfig::BasePage;
using Middle = SizedPageConfig::MiddlePage;
using SizedZone = BasicZoneAllocator<SizedPageConfig>;
using Sizes = SizedPageConfig::SizeClasses;

/// The same page kinds, each with a type of class of its own.
using OtherZone = PagedZone<FrameSource, MiddlePageConfig>;
using PagedSizedZone = PagedZone<FrameSource, SizedPageConfig>;

TEST(SizedPages, have_the_geometry_of_embedded_pages) {
  for (std::uint32_t index = 0; index < Sizes::count; ++index) {
    EXPECT_EQ(PagedSizedZone::frame_bytes_of_class(index), OtherZone::frame_bytes_of_class(index));
    EXPECT_EQ(PagedSizedZone::slots_per_page(index), OtherZone::slots_per_page(index));
  }
}

TEST(SizedPages, go_in_and_out_by_hand_and_serve_classes_of_their_size_alone) {
  SizedZone zone;
  FrameSource frames;
  const Layout small = layout_of(64);
  const Layout medium = layout_of(4096);
  auto* const base = frames.page<Base>();
  auto* const middle = frames.page<Middle>();
  EXPECT_FALSE(zone.refill_with(small, middle));
  EXPECT_FALSE(zone.refill_with(medium, base));
  ASSERT_TRUE(zone.refill_with(small, base));
  ASSERT_TRUE(zone.refill_with(medium, middle));
  void* const one = zone.allocate(small).value_or(nullptr);
  void* const other = zone.allocate(medium).value_or(nullptr);
  EXPECT_EQ(one, base) << "slots begin where the frame does";
  EXPECT_EQ(other, middle);
  zone.deallocate(one, small);
  zone.deallocate(other, medium);
  std::vector<void*> given;
  EXPECT_EQ(zone.try_reclaim_pages<Base>(9, [&](Base* page) { given.push_back(page); }), 1u);
  EXPECT_EQ(zone.try_reclaim_pages<Middle>(9, [&](Middle* page) { given.push_back(page); }), 1u);
  EXPECT_EQ(given, (std::vector<void*>{base, middle}));
  EXPECT_EQ(zone.validate(), nullptr);
}

/// For each class: of the addresses in a page, a free takes none in the middle of a slot.
TEST(SizedPages, a_free_takes_only_the_first_byte_of_a_slot) {
  MisuseRecorder misuse;
  FrameSource frames;
  PagedSizedZone zone(frames);
  const std::uint32_t end = PagedSizedZone::class_for(layout_of(8192)) + 1;
  for (std::uint32_t index = 0; index < end; ++index) {
    const std::size_t size = Sizes::size_of(index);
    const std::size_t slots = PagedSizedZone::slots_per_page(index);
    std::vector<void*> live;
    while (live.size() != slots) {
      live.push_back(zone.allocate_class(index).value_or(nullptr));
      ASSERT_NE(live.back(), nullptr);
    }
    const auto frame_bytes = PagedSizedZone::frame_bytes_of_class(index);
    auto* const frame = reinterpret_cast<std::byte*>(
        align_down(reinterpret_cast<std::uintptr_t>(live[0]), frame_bytes));
    const std::size_t step = size < 512 ? 1 : 61;
    for (std::size_t offset = 1; offset < slots * size; offset += step) {
      if (offset % size != 0) {
        zone.deallocate_class(frame + offset, index);
        ASSERT_EQ(misuse.take_kinds(), std::vector{MisuseKind::MisalignedFree}) << size;
      }
    }
    for (void* const object : live) {
      zone.deallocate_class(object, index);
    }
  }
  EXPECT_EQ(zone.statistics().used_bytes, 0u);
  EXPECT_EQ(zone.validate(), nullptr);
}

/// A constant class and a variable one take different ways to the frames of the class.
TEST(SizedPages, constant_and_variable_layouts_reach_the_same_slots) {
  FrameSource frames;
  PagedSizedZone zone(frames);
  constexpr Layout constant = Layout::of<std::uint64_t[80]>();
  volatile std::size_t size = constant.size();
  for (int round = 0; round < 500; ++round) {
    void* const one = zone.allocate(constant).value_or(nullptr);
    zone.deallocate(one, layout_of(size, constant.align()));
    void* const again = zone.allocate(layout_of(size, constant.align())).value_or(nullptr);
    zone.deallocate(again, constant);
    ASSERT_NE(one, nullptr);
    ASSERT_NE(again, nullptr);
  }
  EXPECT_EQ(zone.statistics().used_bytes, 0u);
  EXPECT_EQ(zone.validate(), nullptr);
}

}  // namespace
}  // namespace slabmalloc::test
