// SPDX-License-Identifier: MIT
//
// Scenarios of pagers that use the zone they serve, and of pagers that violate their contract.
#pragma once

#include <cstddef>
#include <cstdint>

#include "scenarios/configs.hpp"
#include "scenarios/misuse_log.hpp"
#include "scenarios/scenario.hpp"
#include "support/pattern.hpp"

namespace slabmalloc::scenario {

/// Calls back before each frame that it issues or takes back, one level deep.
struct ReentrantPager {
  using Callback = void (*)(void* context) noexcept;

  Frame allocate_frame(std::size_t bytes) noexcept {
    call(before_allocation);
    return frames.allocate_frame(bytes);
  }
  void deallocate_frame(void* frame, std::size_t bytes) noexcept {
    call(before_deallocation);
    frames.deallocate_frame(frame, bytes);
  }
  void call(Callback callback) noexcept {
    if (depth == 0 && callback != nullptr) {
      ++depth;
      ++calls;
      callback(context);
      --depth;
    }
  }

  Frames& frames;
  void* context;
  Callback before_allocation = nullptr;
  Callback before_deallocation = nullptr;
  std::size_t calls = 0;
  int depth = 0;
};

struct ReentrantZone {
  explicit ReentrantZone(Trial& its_trial) noexcept
      : trial(its_trial), frames(trial), blocks(trial, 4096) {}

  void may_allocate_and_free_in_the_class_that_called_the_pager() { run(layout_of(64)); }
  void may_allocate_and_free_in_another_class_on_such_pages() { run(layout_of(48)); }
  void may_allocate_and_free_on_other_pages() { run(layout_of(2000)); }

  void has_room_in_the_frame_that_a_nested_allocation_took() {
    pager.before_allocation = [](void* context) noexcept {
      auto& self = *static_cast<ReentrantZone*>(context);
      self.nested = self.zone.allocate(layout_of(64)).value_or(nullptr);
    };
    frames.set_limit(4 * kibibyte);
    void* outer = zone.allocate(layout_of(64)).value_or(nullptr);
    trial.differ(nested, nullptr);
    trial.differ(outer, nullptr);
    trial.differ(outer, nested);
    trial.refute(zone.allocate(layout_of(128)), "a failure is a value");
    trial.sound(zone.validate());
  }

  struct Block {
    void* address;
    Layout layout;
    bool operator==(const Block& other) const { return address == other.address; }
  };

  void allocate(Layout layout) {
    void* object = zone.allocate(layout).value_or(nullptr);
    if (trial.differ(object, nullptr)) {
      test::fill_pattern(object, layout.size(), reinterpret_cast<std::uintptr_t>(object));
      trial.refute(blocks.contains({object, layout}), "given out twice");
      blocks.push_back({object, layout});
    }
  }
  void free_one() {
    const Block block = blocks.remove_at(0);
    trial.check(test::holds_pattern(block.address, block.layout.size(),
                                    reinterpret_cast<std::uintptr_t>(block.address)));
    zone.deallocate(block.address, block.layout);
  }

  void run(Layout inner_layout) {
    inner = inner_layout;
    pager.before_allocation = [](void* context) noexcept {
      auto& self = *static_cast<ReentrantZone*>(context);
      for (int count = 0; count < 3; ++count) {
        self.allocate(self.inner);
      }
      self.free_one();
    };
    pager.before_deallocation = [](void* context) noexcept {
      auto& self = *static_cast<ReentrantZone*>(context);
      self.allocate(self.inner);
      if (self.blocks.size() > 1) {
        self.free_one();
      }
    };
    for (int round = 0; round < 5 && !trial.has_failed(); ++round) {
      for (int count = 0; count < 700; ++count) {
        allocate(layout_of(64));
        trial.sound(zone.validate());
      }
      allocate(layout_of(1000));
      while (blocks.size() > 10) {
        free_one();
        trial.sound(zone.validate());
      }
      zone.trim();
      trial.sound(zone.validate());
    }
    trial.at_least(pager.calls, 21u);
    finish();
  }

  void finish() {
    pager.before_allocation = nullptr;
    pager.before_deallocation = nullptr;
    while (!blocks.empty()) {
      free_one();
    }
    zone.trim();
    trial.sound(zone.validate());
    trial.equal(frames.live_frames(), 0u);
  }

  Trial& trial;
  Frames frames;
  ReentrantPager pager{frames, this};
  PagedZone<ReentrantPager> zone{pager};
  List<Block> blocks;
  Layout inner;
  void* nested = nullptr;
};

/// Issues misaligned frames as often as it is told to.
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

  Frames& frames;
  std::size_t offset;
  std::size_t crooked_calls;
};

struct CrookedFrames {
  explicit CrookedFrames(Trial& its_trial) noexcept : trial(its_trial), frames(trial) {}

  void are_reported_and_handed_back() {
    for (const std::size_t offsets[] = {1, 8, 64, 2048, 4095}; const std::size_t offset : offsets) {
      CrookedPager pager{frames, offset, 1};
      {
        const Box<ScopedZone<CrookedPager>> zone(trial, pager);
        expect_one_is_refused(*zone);
      }
      trial.equal(frames.live_frames(), 0u);
    }
  }

  void expect_one_is_refused(ScopedZone<CrookedPager>& zone) {
    MisuseLog misuse(trial);
    const Result<void*> object = zone.allocate(layout_of(64));
    misuse.take_one(MisuseKind::InvalidPage);
    trial.refute(object);
    trial.equal(object.error(), AllocationError::OutOfMemory);
    trial.equal(frames.live_frames(), 0u, "it was handed back");
    trial.sound(zone.validate());
    trial.check(zone.allocate(layout_of(64)), "the next frame is sound");
    trial.sound(zone.validate());
  }

  Trial& trial;
  Frames frames;
};

inline constexpr Scenario reentrant_zone_scenarios[] = {
    scenario<&ReentrantZone::may_allocate_and_free_in_the_class_that_called_the_pager>(),
    scenario<&ReentrantZone::may_allocate_and_free_in_another_class_on_such_pages>(),
    scenario<&ReentrantZone::may_allocate_and_free_on_other_pages>(),
    scenario<&ReentrantZone::has_room_in_the_frame_that_a_nested_allocation_took>(),
};

inline constexpr Scenario crooked_frames_scenarios[] = {
    scenario<&CrookedFrames::are_reported_and_handed_back>(),
};

}  // namespace slabmalloc::scenario
