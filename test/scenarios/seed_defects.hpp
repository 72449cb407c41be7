// SPDX-License-Identifier: MIT
//
// Scenarios that show the absence of known defects of slabmalloc 0.11.0.
#pragma once

#include <cstddef>
#include <cstdint>

#include "scenarios/misuse_log.hpp"
#include "scenarios/pages.hpp"
#include "scenarios/scenario.hpp"
#include "scenarios/snapshot.hpp"
#include "support/pattern.hpp"

namespace slabmalloc::scenario {

/// Known defects of slabmalloc 0.11.0, each shown to be absent. seed_defects_test.cpp covers those
/// that need threads or a count of operations.
struct SeedDefect {
  /// Of the objects of 64 B in a large page, or of 100 B in 50 pages.
  static constexpr std::size_t most_objects = LargeObjectPage::geometry(64).slots;

  explicit SeedDefect(Trial& its_trial) noexcept : trial(its_trial), misuse(trial), frames(trial) {}

  void large_pages_are_used_to_the_end_whatever_the_size() {
    auto* page = frames.page<LargeObjectPage>();
    for (const std::size_t sizes[] = {64u, 512u, 1024u, 2048u, 4096u};
         const std::size_t size : sizes) {
      SCAllocator<LargeObjectPage> allocator(size);
      if (!trial.check(allocator.refill(page))) {
        return;
      }
      trial.at_least(
          allocate_all(trial, allocator, layout_of(size), most_objects).size() * size * 100,
          99 * 2 * mebibyte);
    }
  }

  template <class Config>
  void expect_classes_of_exact_size() {
    using Zone = BasicZoneAllocator<Config>;
    for (std::size_t size = 8; size <= Zone::MAX_ALLOC_SIZE; size *= 2) {
      trial.equal(*Zone::get_max_size(size), size);
      trial.equal(Zone::usable_size(layout_of(size)), size);
      trial.equal(Config::SizeClasses::size_of(Zone::class_for(layout_of(size, size))), size);
    }
  }

  void every_power_of_two_is_served_by_a_class_of_its_own_size() {
    expect_classes_of_exact_size<DefaultConfig>();
    expect_classes_of_exact_size<PowerOfTwoConfig>();
  }

  void get_max_size_agrees_with_the_slot_that_is_given() {
    for (const std::size_t sizes[] = {1u, 100u, 256u, 257u, 32767u, 32768u, 32769u, 131072u};
         const std::size_t size : sizes) {
      const std::uint32_t index = zone.class_for(layout_of(size));
      if (!trial.check(zone.allocate(layout_of(size)))) {
        return;
      }
      trial.equal(zone.class_statistics(index).object_size, *zone.get_max_size(size));
      trial.at_least(zone.class_statistics(index).used, 1u);
    }
  }

  void an_alignment_wastes_no_slot_of_a_page() {
    SCAllocator<ObjectPage> aligned(8, 64);
    if (!trial.check(aligned.refill(frames.page<ObjectPage>()))) {
      return;
    }
    trial.equal(allocate_all(trial, aligned, layout_of(8, 64), most_objects).size(),
                ObjectPage::geometry(64).slots);
    SCAllocator<ObjectPage> odd(10);
    if (!trial.check(odd.refill(frames.page<ObjectPage>()))) {
      return;
    }
    trial.equal(allocate_all(trial, odd, layout_of(10, 8), most_objects).size(),
                ObjectPage::geometry(16).slots);
  }

  void the_class_is_chosen_by_size_and_alignment() {
    for (std::size_t alignment = 1; alignment <= 128 * kibibyte; alignment *= 2) {
      for (const std::size_t sizes[] = {1u, 10u, 65u, 100u, 257u, 5000u};
           const std::size_t size : sizes) {
        const Result<void*> object = zone.allocate(layout_of(size, alignment));
        if (!trial.check(object)) {
          return;
        }
        trial.equal(reinterpret_cast<std::uintptr_t>(*object) % alignment, 0u);
        zone.deallocate(*object, layout_of(size, alignment));
      }
    }
  }

  void an_alignment_above_the_page_is_an_invalid_layout() {
    SCAllocator<ObjectPage> allocator(64);
    if (!trial.check(allocator.refill(frames.page<ObjectPage>()))) {
      return;
    }
    for (const std::size_t alignments[] = {8 * kibibyte, 4 * mebibyte, std::size_t{1} << 30};
         const std::size_t alignment : alignments) {
      trial.equal(allocator.allocate(layout_of(8, alignment)).error(),
                  AllocationError::InvalidLayout);
      trial.equal(SCAllocator<ObjectPage>(8, alignment).allocate(layout_of(8, alignment)).error(),
                  AllocationError::InvalidLayout);
    }
    trial.equal(by_hand.allocate(layout_of(8, 4 * mebibyte)).error(),
                AllocationError::InvalidLayout);
  }

  void a_free_slot_anywhere_is_allocated_by_the_next_call() {
    PageSource<ObjectPage> source(trial);
    SCAllocator<ObjectPage> allocator(100);
    refill(trial, allocator, source, 50);
    const Objects objects = allocate_all(trial, allocator, layout_of(100), most_objects);
    for (int round = 0; round < 5000; ++round) {
      void* object = objects[trial.random.below(objects.size())];
      allocator.deallocate(object, layout_of(100));
      if (!trial.equal(allocator.allocate(layout_of(100)).value_or(nullptr), object)) {
        return;
      }
    }
  }

  void a_live_set_of_two_objects_needs_no_more_pages_than_two_objects_do() {
    PageSource<LargeObjectPage> source(trial);
    const std::size_t size = 1 * mebibyte;
    SCAllocator<LargeObjectPage> allocator(size);
    Objects live(trial, 2);
    for (int round = 0; round < 1000; ++round) {
      if (live.size() == 2) {
        void* oldest = live.front();
        allocator.deallocate(oldest, layout_of(size));
        live.remove(oldest);
      }
      Result<void*> object = allocator.allocate(layout_of(size));
      if (!object) {
        refill(trial, allocator, source, 1);
        object = allocator.allocate(layout_of(size));
      }
      if (!trial.check(object)) {
        return;
      }
      live.push_back(*object);
    }
    trial.equal(source.live_pages(), 2u);
  }

  void addresses_in_the_meta_data_of_a_page_are_reported() {
    for (const std::size_t sizes[] = {64u, 2048u, 112u * 1024u}; const std::size_t size : sizes) {
      const Layout layout = layout_of(size);
      const std::size_t frame_bytes = zone.frame_bytes(layout);
      auto* object = static_cast<std::byte*>(*zone.allocate(layout));
      auto* frame = reinterpret_cast<std::byte*>(
          align_down(reinterpret_cast<std::uintptr_t>(object), frame_bytes));
      const std::size_t slots = zone.class_statistics(zone.class_for(layout)).slots;
      Snapshot before(trial, frame_bytes);
      before.add(frame, frame_bytes);
      std::size_t bad_calls = 0;
      for (std::size_t offset = slots * size; offset < frame_bytes; ++offset, ++bad_calls) {
        zone.deallocate(frame + offset, layout);
      }
      misuse.take_all(MisuseKind::MisalignedFree, bad_calls);
      trial.at_least(bad_calls, sizeof(PageHeader<HardwareAtomics>));
      trial.check(before.holds());
      trial.sound(zone.validate());
    }
  }

  void a_refill_that_fails_has_written_nothing() {
    SCAllocator<ObjectPage> allocator(64);
    auto* memory = static_cast<std::byte*>(frames.frame(16 * kibibyte));
    Snapshot before(trial, 16 * kibibyte);
    before.add(memory, 16 * kibibyte);
    for (const std::size_t offsets[] = {1u, 8u, 64u, 2048u, 4095u};
         const std::size_t offset : offsets) {
      auto* page = reinterpret_cast<ObjectPage*>(memory + offset);
      trial.equal(allocator.refill(page).error(), AllocationError::InvalidLayout);
      trial.equal(by_hand.refill(layout_of(64), page).error(), AllocationError::InvalidLayout);
    }
    trial.check(before.holds());
    misuse.take_all(MisuseKind::InvalidPage, 10u);
  }

  void a_page_that_is_inserted_twice_is_noticed() {
    SCAllocator<ObjectPage> allocator(64);
    auto* first = frames.page<ObjectPage>();
    auto* second = frames.page<ObjectPage>();
    if (!trial.check(allocator.refill(first))) {
      return;
    }
    if (!trial.check(by_hand.refill(layout_of(64), second))) {
      return;
    }
    trial.refute(allocator.refill(first));
    trial.refute(by_hand.refill(layout_of(64), second));
    trial.refute(by_hand.refill(layout_of(8), second), "for any class of the zone");
    misuse.take_all(MisuseKind::InvalidPage, 3u);
    trial.equal(allocate_all(trial, allocator, layout_of(64), most_objects).size(),
                ObjectPage::geometry(64).slots);
    trial.equal(allocate_all(trial, by_hand, layout_of(64), most_objects).size(),
                ObjectPage::geometry(64).slots);
  }

  void a_zone_reports_its_pages_and_objects() {
    for (int count = 0; count < 10; ++count) {
      if (!trial.check(zone.allocate(layout_of(64)))) {
        return;
      }
    }
    const ZoneStatistics statistics = zone.statistics();
    trial.equal(statistics.used_bytes, 640u);
    trial.equal(statistics.allocations, 10u);
    trial.equal(statistics.page_bytes + statistics.depot_bytes, frames.live_bytes());
  }

  void zeroed_memory_is_zero_on_reused_slots() {
    for (const std::size_t sizes[] = {8u, 100u, 5000u}; const std::size_t size : sizes) {
      for (std::uint64_t round = 0; round < 100; ++round) {
        void* object = *zone.allocate_zeroed(layout_of(size));
        if (!trial.check(test::holds_zeroes(object, size))) {
          return;
        }
        test::fill_pattern(object, size, round);
        if (round % 2 == 0) {
          zone.deallocate(object, layout_of(size));
        }
      }
    }
  }

  void an_empty_page_moves_to_the_class_that_needs_it() {
    if (!trial.check(by_hand.refill(layout_of(64), frames.page<ObjectPage>()))) {
      return;
    }
    void* object = *by_hand.allocate(layout_of(64));
    trial.refute(by_hand.allocate(layout_of(16)), "the page has a live object");
    by_hand.deallocate(object, layout_of(64));
    trial.check(by_hand.allocate(layout_of(16)));
    trial.sound(by_hand.validate());
    trial.equal(frames.live_frames(), 1u);
  }

  void a_zone_that_ends_gives_its_pages_back() {
    {
      const Box<ScopedZone<Frames>> scoped(trial, frames);
      for (const std::size_t sizes[] = {8u, 64u, 4096u, 100'000u}; const std::size_t size : sizes) {
        trial.check(scoped->allocate(layout_of(size)));
      }
      trial.equal(frames.live_frames(), 4u);
    }
    trial.equal(frames.live_frames(), 0u);
  }

  Trial& trial;
  MisuseLog misuse;
  Frames frames;
  PagedZone<Frames> zone{frames};
  ZoneAllocator by_hand;
};

struct SeedDefectHuge {
  explicit SeedDefectHuge(Trial& its_trial) noexcept
      : trial(its_trial), frames(trial, FrameContent::untouched) {}

  void page_sizes_are_a_choice_of_type() {
    trial.equal(middle.frame_bytes(layout_of(64)), 16 * kibibyte);
    trial.equal(large.frame_bytes(layout_of(64)), 64 * kibibyte);
    for (const std::size_t sizes[] = {64, 4096}; const std::size_t size : sizes) {
      trial.check(middle.allocate(layout_of(size)));
      trial.check(large.allocate(layout_of(size)));
    }
    trial.equal(frames.live_bytes(),
                16 * kibibyte + 64 * kibibyte + 32 * mebibyte + 512 * mebibyte);
  }

  Trial& trial;
  Frames frames;
  PagedZone<Frames, GranuleConfig<16 * kibibyte>> middle{frames};
  PagedZone<Frames, GranuleConfig<64 * kibibyte>> large{frames};
};

inline constexpr Scenario seed_defect_scenarios[] = {
    scenario<&SeedDefect::large_pages_are_used_to_the_end_whatever_the_size>(),
    scenario<&SeedDefect::every_power_of_two_is_served_by_a_class_of_its_own_size>(),
    scenario<&SeedDefect::get_max_size_agrees_with_the_slot_that_is_given>(),
    scenario<&SeedDefect::an_alignment_wastes_no_slot_of_a_page>(),
    scenario<&SeedDefect::the_class_is_chosen_by_size_and_alignment>(),
    scenario<&SeedDefect::an_alignment_above_the_page_is_an_invalid_layout>(),
    scenario<&SeedDefect::a_free_slot_anywhere_is_allocated_by_the_next_call>(),
    scenario<&SeedDefect::a_live_set_of_two_objects_needs_no_more_pages_than_two_objects_do>(),
    scenario<&SeedDefect::addresses_in_the_meta_data_of_a_page_are_reported>(),
    scenario<&SeedDefect::a_refill_that_fails_has_written_nothing>(),
    scenario<&SeedDefect::a_page_that_is_inserted_twice_is_noticed>(),
    scenario<&SeedDefect::a_zone_reports_its_pages_and_objects>(),
    scenario<&SeedDefect::zeroed_memory_is_zero_on_reused_slots>(),
    scenario<&SeedDefect::an_empty_page_moves_to_the_class_that_needs_it>(),
    scenario<&SeedDefect::a_zone_that_ends_gives_its_pages_back>(),
};

inline constexpr Scenario seed_defect_huge_scenarios[] = {
    scenario<&SeedDefectHuge::page_sizes_are_a_choice_of_type>(),
};

}  // namespace slabmalloc::scenario
