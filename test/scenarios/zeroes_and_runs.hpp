// SPDX-License-Identifier: MIT
//
// Scenarios of zeroed memory in zones with a pager, and of requests above the size classes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "scenarios/configs.hpp"
#include "scenarios/scenario.hpp"
#include "support/pattern.hpp"

namespace slabmalloc::scenario {

struct ZeroedZone {
  static constexpr std::size_t slots_of_64 = ObjectPage::geometry(64).slots;

  explicit ZeroedZone(Trial& its_trial) noexcept : trial(its_trial) {}

  void allocate_zeroed_is_zero_however_its_slot_was_used() {
    for (const FrameContent contents[] = {FrameContent::zero, FrameContent::garbage};
         const FrameContent content : contents) {
      Frames frames(trial, content);
      const Box<ScopedZone<Frames>> its_zone(trial, frames);
      ScopedZone<Frames>& zone = *its_zone;
      for (const std::size_t sizes[] = {8u, 64u, 100u, 5000u}; const std::size_t size : sizes) {
        const Layout layout = layout_of(size);
        Objects objects(trial, 1024);
        for (int round = 0; round < 500; ++round) {
          void* object = zone.allocate_zeroed(layout).value_or(nullptr);
          if (!trial.differ(object, nullptr)) {
            return;
          }
          if (!trial.check(test::holds_zeroes(object, size))) {
            return;
          }
          __builtin_memset(object, 0xFF, size);
          objects.push_back(object);
          if (round % 3 == 0) {  // Dirty slots come back in the middle of the first sweep.
            zone.deallocate(objects[objects.size() / 2], layout);
            objects.remove_at(objects.size() / 2);
          }
          if (round % 5 == 1) {
            PagedZone<Frames>::deallocate_remote(objects.back(), layout);
            objects.pop_back();
          }
          if (round % 50 == 0) {
            zone.drain();
          }
        }
      }
    }
  }

  void fresh_memory_that_is_known_to_be_zero_is_not_written_again() {
    Frames frames(trial, FrameContent::lying);
    const Box<ScopedZone<Frames>> its_zone(trial, frames);
    ScopedZone<Frames>& zone = *its_zone;
    for (const std::size_t sizes[] = {8u, 64u, 256u, 5000u}; const std::size_t size : sizes) {
      const Layout layout = layout_of(size);
      std::size_t fresh = 0;
      for (int count = 0; count < 200; ++count) {
        void* object = zone.allocate_zeroed(layout).value_or(nullptr);
        if (!trial.differ(object, nullptr)) {
          return;
        }
        fresh += test::holds_zeroes(object, size) ? 0u : 1u;
      }
      trial.equal(fresh, 200u);
    }
  }

  void slots_used_before_are_written_again_even_in_a_page_that_came_zeroed() {
    Frames frames(trial, FrameContent::lying);
    const Box<ScopedZone<Frames>> its_zone(trial, frames);
    ScopedZone<Frames>& zone = *its_zone;
    const Layout layout = layout_of(64);
    Objects objects(trial, 1024);
    for (std::size_t count = 0; count < slots_of_64; ++count) {
      objects.push_back(zone.allocate(layout).value_or(nullptr));
    }
    zone.deallocate(objects[5], layout);
    zone.deallocate(objects[62], layout);
    void* again = zone.allocate_zeroed(layout).value_or(nullptr);
    if (!trial.differ(again, nullptr)) {
      return;
    }
    trial.check(test::holds_zeroes(again, 64));
  }

  void a_page_that_was_idle_again_is_not_fresh() {
    Frames frames(trial, FrameContent::zero);
    const Box<ScopedZone<Frames>> its_zone(trial, frames);
    ScopedZone<Frames>& zone = *its_zone;
    const Layout layout = layout_of(64);
    Objects objects(trial, 2 * slots_of_64);
    for (std::size_t count = 0; count < 2 * slots_of_64; ++count) {
      void* object = zone.allocate(layout).value_or(nullptr);
      if (!trial.differ(object, nullptr)) {
        return;
      }
      __builtin_memset(object, 7, 64);
      objects.push_back(object);
    }
    // The first page becomes current again; then the second is idle.
    zone.deallocate(objects[0], layout);
    zone.deallocate(objects[1], layout);
    static_cast<void>(zone.allocate(layout));
    static_cast<void>(zone.allocate(layout));
    for (std::size_t index = slots_of_64; index < 2 * slots_of_64; ++index) {
      zone.deallocate(objects[index], layout);
    }
    for (std::size_t count = 0; count < slots_of_64; ++count) {
      void* object = zone.allocate_zeroed(layout).value_or(nullptr);
      if (!trial.differ(object, nullptr) || !trial.check(test::holds_zeroes(object, 64))) {
        return;
      }
    }
  }

  void a_page_that_moved_to_another_class_is_not_fresh() {
    Frames frames(trial, FrameContent::lying);
    const Box<ScopedZone<Frames>> its_zone(trial, frames);
    ScopedZone<Frames>& zone = *its_zone;
    zone.deallocate(zone.allocate(layout_of(64)).value_or(nullptr), layout_of(64));
    zone.drain_and_leave_current();
    const std::size_t calls = frames.calls();
    void* object = zone.allocate_zeroed(layout_of(128)).value_or(nullptr);
    if (!trial.differ(object, nullptr)) {
      return;
    }
    if (!trial.equal(frames.calls(), calls)) {
      return;
    }
    trial.check(test::holds_zeroes(object, 128));
  }

  void runs_that_come_zeroed_are_not_written_again() {
    Frames frames(trial, FrameContent::lying);
    const Box<ScopedZone<Frames>> its_zone(trial, frames);
    ScopedZone<Frames>& zone = *its_zone;
    const Layout layout = layout_of(200 * kibibyte);
    void* run = zone.allocate_zeroed(layout).value_or(nullptr);
    if (!trial.differ(run, nullptr)) {
      return;
    }
    trial.refute(test::holds_zeroes(run, 1));
    zone.deallocate(run, layout);
  }

  Trial& trial;
};

struct RunsOfZone {
  using Zone = PagedZone<Frames>;

  /// A pager of frames alone.
  struct PlainPager {
    void* allocate_frame(std::size_t bytes) noexcept { return frames.frame(bytes); }
    void deallocate_frame(void* frame, std::size_t bytes) noexcept {
      frames.deallocate_frame(frame, bytes);
    }
    Frames& frames;
  };

  explicit RunsOfZone(Trial& its_trial) noexcept : trial(its_trial), frames(trial) {}

  void requests_above_the_classes_are_runs_of_their_own() {
    for (const std::size_t sizes[] = {Zone::MAX_ALLOC_SIZE + 1, mebibyte};
         const std::size_t size : sizes) {
      for (const std::size_t alignments[] = {1u, 64u, 4096u, 65536u};
           const std::size_t alignment : alignments) {
        const Layout wanted = layout_of(size, alignment);
        trial.equal(Zone::usable_size(wanted), 0u);
        void* run = zone.allocate_zeroed(wanted).value_or(nullptr);
        if (!trial.differ(run, nullptr)) {
          return;
        }
        trial.equal(reinterpret_cast<std::uintptr_t>(run) % alignment, 0u);
        trial.check(test::holds_zeroes(run, size), "garbage came from the pager");
        trial.equal(frames.live_bytes(), size);
        zone.deallocate(run, wanted);
        trial.equal(frames.live_bytes(), 0u);
      }
    }
  }

  void an_alignment_above_the_classes_is_a_run_too() {
    const Layout wanted = layout_of(100, 256 * kibibyte);
    void* run = zone.allocate(wanted).value_or(nullptr);
    if (!trial.differ(run, nullptr)) {
      return;
    }
    trial.equal(reinterpret_cast<std::uintptr_t>(run) % wanted.align(), 0u);
    zone.deallocate(run, wanted);
    trial.equal(frames.live_bytes(), 0u);
  }

  void reallocate_moves_between_slots_and_runs_and_keeps_the_bytes() {
    const Layout sizes[] = {layout_of(100),    layout_of(112),          layout_of(4000),
                            layout_of(300000), layout_of(1 * mebibyte), layout_of(50)};
    Layout wanted = layout_of(40);
    void* block = zone.allocate(wanted).value_or(nullptr);
    test::fill_pattern(block, wanted.size(), 1);
    for (const Layout next : sizes) {
      block = zone.reallocate(block, wanted, next).value_or(nullptr);
      if (!trial.differ(block, nullptr)) {
        return;
      }
      const std::size_t kept = wanted.size() < next.size() ? wanted.size() : next.size();
      trial.check(test::holds_pattern(block, kept, 1));
      test::fill_pattern(block, next.size(), 1);
      wanted = next;
    }
    zone.deallocate(block, wanted);
    zone.trim();
    trial.equal(frames.live_frames(), 0u);
  }

  void requests_above_the_classes_are_invalid() {
    PlainPager pager{frames};
    const Box<ScopedZone<PlainPager>> its_plain(trial, pager);
    ScopedZone<PlainPager>& plain = *its_plain;
    const Layout wanted = layout_of(plain.MAX_ALLOC_SIZE + 1);
    trial.equal(plain.allocate(wanted).error(), AllocationError::InvalidLayout);
    trial.equal(plain.allocate_zeroed(wanted).error(), AllocationError::InvalidLayout);
    trial.equal(plain.allocate(layout_of(8, 256 * kibibyte)).error(),
                AllocationError::InvalidLayout);
    void* object = plain.allocate(layout_of(64)).value_or(nullptr);
    test::fill_pattern(object, 64, 3);
    trial.equal(plain.reallocate(object, layout_of(64), wanted).error(),
                AllocationError::InvalidLayout);
    trial.check(test::holds_pattern(object, 64, 3));
    trial.equal(frames.calls(), 1u, "the pager is not asked in vain");
  }

  Trial& trial;
  Frames frames;
  Zone zone{frames};
};

inline constexpr Scenario zeroed_zone_scenarios[] = {
    scenario<&ZeroedZone::allocate_zeroed_is_zero_however_its_slot_was_used>(),
    scenario<&ZeroedZone::fresh_memory_that_is_known_to_be_zero_is_not_written_again>(),
    scenario<&ZeroedZone::slots_used_before_are_written_again_even_in_a_page_that_came_zeroed>(),
    scenario<&ZeroedZone::a_page_that_was_idle_again_is_not_fresh>(),
    scenario<&ZeroedZone::a_page_that_moved_to_another_class_is_not_fresh>(),
    scenario<&ZeroedZone::runs_that_come_zeroed_are_not_written_again>(),
};

inline constexpr Scenario runs_of_zone_scenarios[] = {
    scenario<&RunsOfZone::requests_above_the_classes_are_runs_of_their_own>(),
    scenario<&RunsOfZone::an_alignment_above_the_classes_is_a_run_too>(),
    scenario<&RunsOfZone::reallocate_moves_between_slots_and_runs_and_keeps_the_bytes>(),
    scenario<&RunsOfZone::requests_above_the_classes_are_invalid>(),
};

}  // namespace slabmalloc::scenario
