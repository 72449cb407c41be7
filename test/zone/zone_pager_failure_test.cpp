// SPDX-License-Identifier: MIT
// Pagers that fail, lie and call back: exhaustion is a value, and after it everything is as before.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "support/frames.hpp"
#include "support/misuse_recorder.hpp"
#include "support/pattern.hpp"
#include "zone/zone_configs.hpp"

namespace slabmalloc::test {
namespace {

// ---- every call fails once, and from then on
// ----------------------------------------------------------

/// Fails the calls from `first_failing` on, for `failing_calls` calls; counts from 1.
template <class Pager>
struct FailingPager {
  Frame allocate_frame(std::size_t bytes) noexcept {
    return fails() ? Frame{} : frames.allocate_frame(bytes);
  }
  void deallocate_frame(void* frame, std::size_t bytes) noexcept {
    frames.deallocate_frame(frame, bytes);
  }
  Frame allocate_run(std::size_t bytes, std::size_t alignment) noexcept requires RunPager<Pager> {
    return fails() ? Frame{} : frames.allocate_run(bytes, alignment);
  }
  void deallocate_run(void* run, std::size_t bytes,
                      std::size_t alignment) noexcept requires RunPager<Pager> {
    frames.deallocate_run(run, bytes, alignment);
  }
  bool fails() noexcept {
    ++calls;
    return calls >= first_failing && calls - first_failing < failing_calls;
  }

  Pager frames;
  std::size_t first_failing = 0;
  std::size_t failing_calls = 0;
  std::size_t calls = 0;
};

/// A workload that is the same each time, over two zones that free each other's blocks.
template <class Config>
class PagerFailureScript {
 public:
  using Pager = FailingPager<typename PagerFor<Config>::Type>;
  using Zone = PagedZone<Pager, Config>;

  PagerFailureScript(std::size_t first_failing, std::size_t failing_calls) {
    pager_.first_failing = first_failing;
    pager_.failing_calls = failing_calls;
  }

  /// Runs everything, with the invariants checked after each call. Returns the pager's calls.
  std::size_t run() {
    for (std::size_t round = 0; round < 3; ++round) {
      for (const std::size_t size : sizes) {
        const std::size_t count = size <= 64 ? 150 : 3;
        for (std::size_t number = 0; number < count; ++number) {
          allocate((number + round) % 2, layout_of(size), number % 3 == 0);
        }
      }
      reallocate_some();
      free_some(round);
      if (round == 1) {
        zones_[0].trim();
        check();
      }
    }
    finish();
    return pager_.calls;
  }

  std::size_t exhaustions() const { return exhaustions_; }

 private:
  static constexpr std::size_t largest = Zone::MAX_ALLOC_SIZE;
  static constexpr std::array<std::size_t, 7> sizes = {8, 64, 100, 200, 1024, largest, 2 * largest};

  struct Block {
    Layout layout;
    std::size_t zone;
    std::uint64_t key;
  };

  void check() {
    for (Zone& zone : zones_) {
      ASSERT_EQ(zone.validate(), nullptr);
    }
  }

  static auto structure(const Zone& zone) {
    const ZoneStatistics sums = zone.statistics();
    return std::pair(sums.used_bytes, sums.allocations);
  }

  void allocate(std::size_t zone, Layout layout, bool zeroed) {
    if (!Zone::has_runs && layout.size() > largest) {
      return;
    }
    zones_[zone].collect();
    const auto before = structure(zones_[zone]);
    const Result<void*> block =
        zeroed ? zones_[zone].allocate_zeroed(layout) : zones_[zone].allocate(layout);
    check();
    if (!block) {
      ++exhaustions_;
      ASSERT_EQ(block.error(), AllocationError::OutOfMemory);
      ASSERT_TRUE(structure(zones_[zone]) == before);
      return;
    }
    ASSERT_TRUE(!zeroed || holds_zeroes(*block, layout.size()));
    insert(*block, {layout, zone, ++last_key_ * 0x10001});
  }

  void insert(void* address, Block block) {
    fill_pattern(address, std::min<std::size_t>(block.layout.size(), 256), block.key);
    ASSERT_TRUE(blocks_.emplace(address, block).second) << "given out twice";
  }

  void expect_contents(void* address, const Block& block) {
    ASSERT_TRUE(holds_pattern(address, std::min<std::size_t>(block.layout.size(), 256), block.key));
  }

  void reallocate_some() {
    const std::map<void*, Block> before = blocks_;
    std::size_t number = 0;
    for (const auto& [address, block] : before) {
      if (++number % 10 != 0 || block.layout.size() > largest / 2) {
        continue;
      }
      const Layout wanted = layout_of(block.layout.size() * 2);
      const Result<void*> moved = zones_[block.zone].reallocate(address, block.layout, wanted);
      check();
      if (!moved) {
        ++exhaustions_;
        expect_contents(address, block);
        continue;
      }
      const std::size_t kept = std::min<std::size_t>(block.layout.size(), 256);
      ASSERT_TRUE(holds_pattern(*moved, kept, block.key));
      blocks_.erase(address);
      insert(*moved, {wanted, block.zone, block.key});
    }
  }

  void free_some(std::size_t round) {
    const std::map<void*, Block> before = blocks_;
    std::size_t number = round;
    for (const auto& [address, block] : before) {
      if (++number % 3 != 0) {
        free(address, block, number % 2 == 0 ? block.zone : 1 - block.zone);
      }
    }
  }

  void free(void* address, const Block& block, std::size_t zone) {
    expect_contents(address, block);
    zones_[zone].deallocate(address, block.layout);
    blocks_.erase(address);
    check();
  }

  /// With the pager working again: calls succeed, and nothing has leaked.
  void finish() {
    pager_.failing_calls = 0;
    const std::size_t failed_before = exhaustions_;
    for (const std::size_t size : sizes) {
      allocate(0, layout_of(size), false);
      allocate(1, layout_of(size), true);
    }
    EXPECT_EQ(exhaustions_, failed_before) << "later calls succeed";
    const std::map<void*, Block> rest = blocks_;
    for (const auto& [address, block] : rest) {
      free(address, block, block.zone);
    }
    for (Zone& zone : zones_) {
      zone.collect();
    }
    for (Zone& zone : zones_) {
      zone.trim();
    }
    check();
    EXPECT_EQ(zones_[0].statistics().used_bytes + zones_[1].statistics().used_bytes, 0u);
    EXPECT_EQ(pager_.frames.live_bytes(), 0u) << "nothing leaks";
  }

  Pager pager_;
  std::array<Zone, 2> zones_{Zone(pager_), Zone(pager_)};
  std::map<void*, Block> blocks_;
  std::size_t exhaustions_ = 0;
  std::uint64_t last_key_ = 0;
};

template <class Config>
class PagerFailure : public testing::Test {};

using Configs = testing::Types<DefaultConfig, MiddlePageConfig, BasePageConfig, HardenedConfig,
                               EagerConfig, BesideConfig>;
TYPED_TEST_SUITE(PagerFailure, Configs);

TYPED_TEST(PagerFailure, of_any_one_call_leaks_nothing) {
  const std::size_t calls = PagerFailureScript<TypeParam>(0, 0).run();
  ASSERT_GT(calls, 10u);
  std::size_t exhaustions = 0;
  for (std::size_t call = 1; call <= calls && !this->HasFailure(); ++call) {
    SCOPED_TRACE("call " + std::to_string(call));
    PagerFailureScript<TypeParam> script(call, 1);
    script.run();
    exhaustions += script.exhaustions();
  }
  EXPECT_GT(exhaustions, calls / 2) << "most failures reach the caller";
}

TYPED_TEST(PagerFailure, of_every_call_from_any_one_on_leaks_nothing) {
  const std::size_t calls = PagerFailureScript<TypeParam>(0, 0).run();
  std::size_t exhaustions = 0;
  for (std::size_t call = 1; call <= calls && !this->HasFailure(); ++call) {
    SCOPED_TRACE("from call " + std::to_string(call));
    PagerFailureScript<TypeParam> script(call, SIZE_MAX);
    script.run();
    exhaustions += script.exhaustions();
  }
  EXPECT_GT(exhaustions, 10 * calls);
}

TEST(PagerExhaustion, is_the_same_value_until_something_is_freed) {
  FrameSource frames;
  ScopedZone<FrameSource> zone(frames);
  frames.set_limit(2 * 4 * kibibyte);
  const Layout layout = layout_of(64);
  std::vector<void*> objects;
  while (void* object = zone.allocate(layout).value_or(nullptr)) {
    objects.push_back(object);
  }
  EXPECT_EQ(objects.size(), 126u) << "to the last slot";
  for (int count = 0; count < 10; ++count) {
    EXPECT_EQ(zone.allocate(layout).error(), AllocationError::OutOfMemory);
    EXPECT_EQ(zone.allocate(layout_of(100000)).error(), AllocationError::OutOfMemory);
    EXPECT_EQ(zone.allocate(layout_of(1000000)).error(), AllocationError::OutOfMemory);
    EXPECT_EQ(zone.validate(), nullptr);
  }
  zone.deallocate(objects[70], layout);
  EXPECT_EQ(zone.allocate(layout).value_or(nullptr), objects[70]);
  EXPECT_FALSE(zone.allocate(layout));
}

// ---- pagers that use the zone they serve
// -------------------------------------------------------------

/// Calls back before each frame that it gives or takes, one level deep.
struct ReentrantPager {
  Frame allocate_frame(std::size_t bytes) noexcept {
    call(before_allocation, bytes);
    return frames.allocate_frame(bytes);
  }
  void deallocate_frame(void* frame, std::size_t bytes) noexcept {
    call(before_deallocation, bytes);
    frames.deallocate_frame(frame, bytes);
  }
  void call(const std::function<void(std::size_t)>& function, std::size_t bytes) noexcept {
    if (depth == 0 && function) {
      ++depth;
      ++calls;
      function(bytes);
      --depth;
    }
  }

  FrameSource frames;
  std::function<void(std::size_t)> before_allocation;
  std::function<void(std::size_t)> before_deallocation;
  std::size_t calls = 0;
  int depth = 0;
};

class ReentrantPagerTest : public testing::TestWithParam<std::size_t> {
 protected:
  using Zone = PagedZone<ReentrantPager>;

  void allocate(Layout layout) {
    void* object = zone_.allocate(layout).value_or(nullptr);
    ASSERT_NE(object, nullptr);
    fill_pattern(object, layout.size(), reinterpret_cast<std::uintptr_t>(object));
    ASSERT_TRUE(blocks_.emplace(object, layout).second) << "given out twice";
  }
  void free_one() {
    const auto [object, layout] = *blocks_.begin();
    EXPECT_TRUE(holds_pattern(object, layout.size(), reinterpret_cast<std::uintptr_t>(object)));
    blocks_.erase(blocks_.begin());
    zone_.deallocate(object, layout);
  }

  ReentrantPager pager_;
  Zone zone_{pager_};
  std::map<void*, Layout> blocks_;
};

TEST_P(ReentrantPagerTest, may_allocate_and_free_in_the_zone_that_called_it) {
  // The same class as the call under way, another one on such pages, one on other pages.
  const Layout inner = layout_of(GetParam());
  pager_.before_allocation = [&](std::size_t) {
    for (int count = 0; count < 3; ++count) {
      allocate(inner);
    }
    free_one();
  };
  pager_.before_deallocation = [&](std::size_t) {
    allocate(inner);
    if (blocks_.size() > 1) {
      free_one();
    }
  };
  for (int round = 0; round < 5; ++round) {
    for (int count = 0; count < 700; ++count) {
      allocate(layout_of(64));
      ASSERT_EQ(zone_.validate(), nullptr);
    }
    allocate(layout_of(1000));
    while (blocks_.size() > 10) {
      free_one();
      ASSERT_EQ(zone_.validate(), nullptr);
    }
    zone_.trim();
    ASSERT_EQ(zone_.validate(), nullptr);
  }
  EXPECT_GT(pager_.calls, 20u);
  pager_.before_allocation = nullptr;
  pager_.before_deallocation = nullptr;
  while (!blocks_.empty()) {
    free_one();
  }
  zone_.trim();
  EXPECT_EQ(zone_.validate(), nullptr);
  EXPECT_EQ(pager_.frames.live_frames(), 0u);
}

INSTANTIATE_TEST_SUITE_P(Inner, ReentrantPagerTest, testing::Values(64, 48, 2000));

TEST(ReentrantPagerFailure, after_a_nested_allocation_took_the_last_frame_is_a_value) {
  ReentrantPager pager;
  PagedZone<ReentrantPager> zone(pager);
  void* nested = nullptr;
  pager.before_allocation = [&](std::size_t) {
    nested = zone.allocate(layout_of(64)).value_or(nullptr);
  };
  pager.frames.set_limit(4 * kibibyte);
  // The frame that the nested call was given has room for the outer one.
  void* outer = zone.allocate(layout_of(64)).value_or(nullptr);
  EXPECT_NE(nested, nullptr);
  EXPECT_NE(outer, nullptr);
  EXPECT_NE(outer, nested);
  EXPECT_FALSE(zone.allocate(layout_of(128)));
  EXPECT_EQ(zone.validate(), nullptr);
}

// ---- pagers that break their promise
// -----------------------------------------------------------------

/// Gives frames that are not aligned to their size as often as told.
struct CrookedPager {
  Frame allocate_frame(std::size_t bytes) noexcept {
    auto* frame = static_cast<std::byte*>(frames.frame(2 * bytes));
    const bool crooked = crooked_calls != 0;
    crooked_calls -= crooked ? 1 : 0;
    return frame == nullptr ? Frame{} : Frame{frame + (crooked ? offset : 0)};
  }
  void deallocate_frame(void* frame, std::size_t bytes) noexcept {
    const auto address = align_down(reinterpret_cast<std::uintptr_t>(frame), 2 * bytes);
    frames.deallocate_frame(reinterpret_cast<void*>(address), 2 * bytes);
  }

  FrameSource frames;
  std::size_t offset = 0;
  std::size_t crooked_calls = 0;
};

TEST(CrookedPagerTest, misaligned_frames_are_reported_and_handed_back) {
  for (const std::size_t offset : {1u, 8u, 64u, 2048u, 4095u}) {
    CrookedPager pager;
    pager.offset = offset;
    pager.crooked_calls = 1;
    {
      ScopedZone<CrookedPager> zone(pager);
      MisuseRecorder misuse;
      const Result<void*> object = zone.allocate(layout_of(64));
      EXPECT_EQ(misuse.take_kinds(), std::vector{MisuseKind::InvalidPage});
      ASSERT_FALSE(object);
      EXPECT_EQ(object.error(), AllocationError::OutOfMemory);
      EXPECT_EQ(pager.frames.live_frames(), 0u) << "it was handed back";
      EXPECT_EQ(zone.validate(), nullptr);
      EXPECT_TRUE(zone.allocate(layout_of(64))) << "the next frame is sound";
      EXPECT_EQ(zone.validate(), nullptr);
    }
    EXPECT_EQ(pager.frames.live_frames(), 0u);
  }
}

}  // namespace
}  // namespace slabmalloc::test
