// SPDX-License-Identifier: MIT
//
// Scenarios of an allocator of one size that reports exhaustion, and of frees of null pointers.
#pragma once

#include <cstddef>

#include "scenarios/misuse_log.hpp"
#include "scenarios/pages.hpp"
#include "scenarios/scenario.hpp"

namespace slabmalloc::scenario {

/// An allocator whose pages are all full.
struct FullAllocator {
  static constexpr std::size_t pages = 40;
  static constexpr Layout layout = layout_of(64);

  explicit FullAllocator(Trial& its_trial) noexcept
      : trial(its_trial),
        source(trial),
        misuse(trial),
        objects(trial, pages * ObjectPage::geometry(64).slots) {
    refill(trial, allocator, source, pages);
    while (void* object = allocator.allocate(layout).value_or(nullptr)) {
      objects.push_back(object);
    }
  }

  void drains_the_whole_remote_free_queue_before_memory_is_out() {
    // Queues every page with one free slot. One slow path drains fewer pages than that.
    const std::size_t slots = ObjectPage::geometry(64).slots;
    for (std::size_t index = 0; index < objects.size(); index += slots) {
      allocator.deallocate_remote(objects[index], layout);
    }
    std::size_t count = 0;
    while (allocator.allocate(layout)) {
      ++count;
    }
    trial.equal(count, pages);
    trial.sound(allocator.validate());
  }

  void reclaims_pages_whose_objects_others_freed() {
    for (void* object : objects) {
      allocator.deallocate_remote(object, layout);
    }
    trial.equal(allocator.try_reclaim_pages(2 * pages, [](ObjectPage*) {}), pages);
  }

  void frees_of_a_null_pointer_do_nothing() {
    allocator.deallocate(nullptr, layout);
    allocator.deallocate_remote(nullptr, layout);
    trial.refute(allocator.allocate(layout));
    trial.sound(allocator.validate());
  }

  Trial& trial;
  PageSource<ObjectPage> source;
  MisuseLog misuse;
  SCAllocator<ObjectPage> allocator{64};
  Objects objects;
};

struct AnyZone {
  using Zone = ScopedZone<Frames>;

  explicit AnyZone(Trial& its_trial) noexcept : trial(its_trial), frames(trial), misuse(trial) {}

  void frees_of_a_null_pointer_do_nothing_for_any_layout() {
    for (const std::size_t sizes[] = {std::size_t{1}, std::size_t{64}, std::size_t{4000},
                                      std::size_t{500000}};
         const std::size_t size : sizes) {
      const Layout layout = Layout::from_size_align(size, 8).value();
      zone.deallocate(nullptr, layout);
      if (size <= Zone::MAX_ALLOC_SIZE) {
        Zone::deallocate_remote(nullptr, layout);
      }
    }
    trial.sound(zone.validate());
  }

  Trial& trial;
  Frames frames;
  MisuseLog misuse;
  Zone zone{frames};
};

inline constexpr Scenario exhaustion_scenarios[] = {
    scenario<&FullAllocator::drains_the_whole_remote_free_queue_before_memory_is_out>(),
    scenario<&FullAllocator::reclaims_pages_whose_objects_others_freed>(),
    scenario<&FullAllocator::frees_of_a_null_pointer_do_nothing>(),
    scenario<&AnyZone::frees_of_a_null_pointer_do_nothing_for_any_layout>(),
};

}  // namespace slabmalloc::scenario
