// SPDX-License-Identifier: MIT
//
// The scenarios that tested slabmalloc 0.11.0.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>

#include "scenarios/misuse_log.hpp"
#include "scenarios/pages.hpp"
#include "scenarios/scenario.hpp"
#include "support/pattern.hpp"

namespace slabmalloc::scenario {

/// Fills `allocator` until it needs more than `most_pages`, each object with a pattern of its own.
template <class Page>
Objects fill(Trial& trial, SCAllocator<Page>& allocator, PageSource<Page>& source, Layout layout,
             std::size_t most_pages) {
  Objects objects(trial, most_pages * Page::geometry(allocator.usable_size()).slots);
  for (;;) {
    const Result<void*> object = allocator.allocate(layout);
    if (!object) {
      trial.equal(object.error(), AllocationError::OutOfMemory);
      if (source.live_pages() == most_pages) {
        return objects;
      }
      trial.check(allocator.refill(source.page()));
      continue;
    }
    trial.equal(reinterpret_cast<std::uintptr_t>(*object) % layout.align(), 0u);
    test::fill_pattern(*object, layout.size(), objects.size());
    objects.push_back(*object);
  }
}

/// Fills, verifies and frees all, fills the same pages again, frees all, and returns every page.
template <class Page>
void fill_free_and_fill_again(Trial& trial, std::size_t size, std::size_t alignment,
                              std::size_t pages) {
  MisuseLog misuse(trial);
  PageSource<Page> source(trial);
  SCAllocator<Page> allocator(size, alignment);
  const Layout layout = layout_of(size, alignment);
  const std::size_t capacity = pages * Page::geometry(allocator.usable_size()).slots;
  for (int round = 0; round < 2; ++round) {
    Objects objects = fill(trial, allocator, source, layout, pages);
    if (!trial.equal(objects.size(), capacity)) {
      return;
    }
    if (!trial.sound(allocator.validate())) {
      return;
    }
    for (std::size_t index = 0; index < objects.size(); ++index) {
      if (!trial.check(test::holds_pattern(objects[index], size, index))) {
        return;
      }
    }
    for (void* object : objects) {
      allocator.deallocate(object, layout);
    }
    if (!trial.sound(allocator.validate())) {
      return;
    }
    trial.equal(source.live_pages(), pages);
    objects.sort();
    for (std::size_t index = 1; index < objects.size(); ++index) {
      trial.at_least(
          static_cast<std::byte*>(objects[index]) - static_cast<std::byte*>(objects[index - 1]),
          allocator.usable_size(), "objects do not overlap");
    }
  }
  trial.equal(reclaim_all(allocator, source), pages);
  trial.equal(source.live_pages(), 0u);
}

template <class Page>
struct SeedPage {
  explicit SeedPage(Trial& its_trial) noexcept : trial(its_trial), misuse(trial) {}

  void small_sizes_fill_base_pages_at_alignments_of_1_8_and_64() {
    for (const std::size_t sizes[] = {8u, 12u, 13u, 14u, 15u, 16u, 24u, 32u, 64u, 512u, 1024u,
                                      2048u};
         const std::size_t size : sizes) {
      for (const std::size_t alignments[] = {1u, 8u, 64u};
           const std::size_t alignment : alignments) {
        fill_free_and_fill_again<Page>(trial, size, alignment, 3);
      }
    }
  }

  void mixed_layouts_share_a_class() {
    PageSource<Page> source(trial);
    SCAllocator<Page> allocator(128, 64);
    refill(trial, allocator, source, 1);
    const Layout layouts[] = {layout_of(128, 64), layout_of(100, 1), layout_of(1, 1),
                              layout_of(64, 32), layout_of(0, 8)};
    constexpr std::size_t count = 5;
    Objects objects(trial, Page::geometry(128).slots);
    for (std::size_t index = 0;; ++index) {
      const Layout layout = layouts[index % count];
      const Result<void*> object = allocator.allocate(layout);
      if (!object) {
        break;
      }
      test::fill_pattern(*object, layout.size(), index);
      objects.push_back(*object);
    }
    trial.equal(objects.size(), Page::geometry(128).slots);
    for (std::size_t index = 0; index < objects.size(); ++index) {
      const Layout layout = layouts[index % count];
      trial.check(test::holds_pattern(objects[index], layout.size(), index));
      allocator.deallocate(objects[index], layout);
    }
    trial.equal(reclaim_all(allocator, source), 1u);
  }

  void a_page_is_full_after_its_last_slot_though_its_last_word_is_partly_used() {
    for (const std::size_t sizes[] = {24u, 40u, 56u, 72u, 120u, 200u, 500u};
         const std::size_t size : sizes) {
      PageSource<Page> source(trial);
      SCAllocator<Page> allocator(size);
      refill(trial, allocator, source, 1);
      const std::size_t slots = Page::geometry(allocator.usable_size()).slots;
      Objects objects(trial, slots);
      for (std::size_t slot = 0; slot < slots; ++slot) {
        if (!trial.equal(allocator.statistics().used, slot)) {
          return;
        }
        objects.push_back(allocator.allocate(layout_of(size)).value_or(nullptr));
        if (!trial.differ(objects.back(), nullptr)) {
          return;
        }
      }
      if (!trial.refute(allocator.allocate(layout_of(size)))) {
        return;
      }
      if (!trial.sound(allocator.validate())) {
        return;
      }
      allocator.deallocate(objects.back(), layout_of(size));
      trial.equal(allocator.allocate(layout_of(size)).value_or(nullptr), objects.back());
      trial.refute(allocator.allocate(layout_of(size)));
    }
  }

  Trial& trial;
  MisuseLog misuse;
};

struct SeedLargePage {
  explicit SeedLargePage(Trial& its_trial) noexcept : trial(its_trial) {}

  void sizes_to_128_kib_fill_large_pages_at_an_alignment_of_4096() {
    for (const std::size_t sizes[] = {8u, 4096u, 8192u, 16384u, 32768u, 65536u, 131072u};
         const std::size_t size : sizes) {
      fill_free_and_fill_again<LargeObjectPage>(trial, size, 4096, 2);
    }
  }

  void large_pages_of_one_processor_behave_alike() {
    fill_free_and_fill_again<PageSizes<4 * kibibyte, SingleCpuAtomics>::Large>(trial, 4096, 4096,
                                                                               2);
  }

  Trial& trial;
};

/// Pages that hold only objects of 128 KiB: most of them stay untouched.
template <class Page>
struct SeedHugePage {
  explicit SeedHugePage(Trial& its_trial) noexcept : trial(its_trial), misuse(trial) {}

  void is_filled_to_the_end() {
    Frames frames(trial, FrameContent::untouched);
    SCAllocator<Page> allocator(128 * kibibyte);
    trial.check(allocator.refill(frames.page<Page>()));
    Objects objects =
        allocate_all(trial, allocator, layout_of(128 * kibibyte), sizeof(Page) / (128 * kibibyte));
    trial.equal(objects.size(), sizeof(Page) / (128 * kibibyte) - 1);
    objects.sort();
    for (std::size_t index = 1; index < objects.size(); ++index) {
      trial.differ(objects[index - 1], objects[index]);
    }
    trial.sound(allocator.validate());
  }

  Trial& trial;
  MisuseLog misuse;
};

/// A zone that the scenario refills by hand, and only when it must.
template <class Config>
struct SeedZone {
  using Zone = BasicZoneAllocator<Config>;

  explicit SeedZone(Trial& its_trial) noexcept : trial(its_trial), misuse(trial), frames(trial) {}

  void* allocate(Layout layout) {
    for (;;) {
      const Result<void*> object = zone.allocate(layout);
      if (object || object.error() != AllocationError::OutOfMemory || trial.has_failed()) {
        return object.value_or(nullptr);
      }
      ++refills;
      trial.check(zone.refill(layout, frames.template page<typename Config::BasePage>()));
    }
  }

  void sizes_of_256_48_6_8_and_16_refill_only_when_they_must() {
    Objects objects(trial, 64);
    List<std::uint32_t> classes(trial, 8);
    for (const std::size_t sizes[] = {256u, 48u, 6u, 8u, 16u}; const std::size_t size : sizes) {
      const Layout layout = layout_of(size, size % 8 == 0 ? 8 : 2);
      if (!classes.contains(Zone::class_for(layout))) {
        classes.push_back(Zone::class_for(layout));
      }
      for (int count = 0; count < 10; ++count) {
        void* object = allocate(layout);
        if (!trial.differ(object, nullptr)) {
          return;
        }
        trial.equal(reinterpret_cast<std::uintptr_t>(object) % layout.align(), 0u);
        trial.refute(objects.contains(object), "pointers are distinct");
        objects.push_back(object);
      }
    }
    trial.equal(refills, classes.size());
    trial.sound(zone.validate());
  }

  void one_object_of_a_type_is_allocated_and_freed() {
    struct Point {
      std::uint64_t x, y;
    };
    const Layout layout = Layout::of<Point>();
    if (!trial.check(zone.refill(layout, frames.template page<typename Config::BasePage>()))) {
      return;
    }
    const Result<void*> memory = zone.allocate(layout);
    if (!trial.check(memory)) {
      return;
    }
    auto* point = new (*memory) Point{3, 4};
    trial.equal(point->x + point->y, 7u);
    zone.deallocate(point, layout);
    trial.equal(zone.try_reclaim_base_pages(
                    1, [&](typename Config::BasePage* page) { frames.take_page(page); }),
                1u);
    trial.equal(frames.live_frames(), 0u);
  }

  void the_wrong_kind_of_page_is_an_invalid_layout() {
    auto* base = frames.template page<typename Config::BasePage>();
    auto* large = frames.template page<typename Config::LargePage>();
    trial.equal(zone.refill(layout_of(4096), base).error(), AllocationError::InvalidLayout);
    trial.equal(zone.refill_large(layout_of(8), large).error(), AllocationError::InvalidLayout);
    trial.equal(zone.refill_large(layout_of(1 * mebibyte), large).error(),
                AllocationError::InvalidLayout);
  }

  Trial& trial;
  MisuseLog misuse;
  Frames frames;
  Zone zone;
  std::size_t refills = 0;
};

struct SeedReadme {
  explicit SeedReadme(Trial& its_trial) noexcept : trial(its_trial), frames(trial) {}

  void one_size_on_one_page() {
    SCAllocator<ObjectPage> allocator(8);
    const Layout layout = layout_of(8, 8);
    trial.equal(allocator.allocate(layout).error(), AllocationError::OutOfMemory);
    if (!trial.check(allocator.refill(frames.page<ObjectPage>()))) {
      return;
    }
    const Result<void*> object = allocator.allocate(layout);
    if (!trial.check(object)) {
      return;
    }
    allocator.deallocate(*object, layout);
  }

  void the_limits_of_a_zone_are_256_bytes_and_128_kib() {
    trial.equal(ZoneAllocator::MAX_BASE_ALLOC_SIZE, 256u);
    trial.equal(ZoneAllocator::MAX_ALLOC_SIZE, 128 * kibibyte);
    trial.equal(ZoneAllocator::get_max_size(128 * kibibyte + 1).error(),
                AllocationError::InvalidLayout);
  }

  Trial& trial;
  Frames frames;
};

template <class Page>
inline constexpr Scenario seed_page_scenarios[] = {
    scenario<&SeedPage<Page>::small_sizes_fill_base_pages_at_alignments_of_1_8_and_64>(),
    scenario<&SeedPage<Page>::mixed_layouts_share_a_class>(),
    scenario<
        &SeedPage<Page>::a_page_is_full_after_its_last_slot_though_its_last_word_is_partly_used>(),
};

inline constexpr Scenario seed_large_page_scenarios[] = {
    scenario<&SeedLargePage::sizes_to_128_kib_fill_large_pages_at_an_alignment_of_4096>(),
    scenario<&SeedLargePage::large_pages_of_one_processor_behave_alike>(),
};

template <class Page>
inline constexpr Scenario seed_huge_page_scenarios[] = {
    scenario<&SeedHugePage<Page>::is_filled_to_the_end>(),
};

template <class Config>
inline constexpr Scenario seed_zone_scenarios[] = {
    scenario<&SeedZone<Config>::sizes_of_256_48_6_8_and_16_refill_only_when_they_must>(),
    scenario<&SeedZone<Config>::one_object_of_a_type_is_allocated_and_freed>(),
    scenario<&SeedZone<Config>::the_wrong_kind_of_page_is_an_invalid_layout>(),
};

inline constexpr Scenario seed_readme_scenarios[] = {
    scenario<&SeedReadme::one_size_on_one_page>(),
    scenario<&SeedReadme::the_limits_of_a_zone_are_256_bytes_and_128_kib>(),
};

}  // namespace slabmalloc::scenario
