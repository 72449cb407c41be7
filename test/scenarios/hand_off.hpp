// SPDX-License-Identifier: MIT
//
// Scenarios of slot hand-off: a free on a full page hands its slot off to the next allocation.
#pragma once

#include <cstddef>
#include <cstdint>

#include "scenarios/misuse_log.hpp"
#include "scenarios/pages.hpp"
#include "scenarios/scenario.hpp"
#include "support/pattern.hpp"

namespace slabmalloc::scenario {

/// Two pages, full of objects.
template <class Page>
struct HandOff {
  static constexpr std::size_t object_bytes = 48;
  static constexpr Layout layout = layout_of(object_bytes);
  static constexpr std::size_t capacity = 3 * std::size_t{Page::geometry(object_bytes).slots};

  explicit HandOff(Trial& its_trial) noexcept
      : trial(its_trial),
        misuse(trial),
        source(trial),
        allocator(object_bytes),
        objects(trial, capacity) {
    refill(trial, allocator, source, 2);
    while (void* object = allocate()) {
      objects.push_back(object);
    }
  }

  void* allocate() { return allocator.allocate(layout).value_or(nullptr); }
  void free(void* object) {
    allocator.deallocate(object, layout);
    trial.sound(allocator.validate());
  }
  static std::uintptr_t state(void* object) {
    return Page::header_of(object)->tag.load(Order::relaxed) & PageState::mask;
  }
  Objects visited() {
    Objects found(trial, capacity);
    allocator.visit_live([&](void* object, std::size_t) noexcept { found.push_back(object); });
    return found;
  }
  void expect_next_are(void* one, void* other, Where where = Where::here()) {
    void* first = allocate();
    void* second = allocate();
    trial.check((first == one && second == other) || (first == other && second == one),
                "these two are next", where);
  }
  void free_all() {
    for (void* object : objects) {
      free(object);
    }
  }

  void replacing_objects_of_full_pages_leaves_the_pages_full() {
    for (std::size_t index = 0; index < objects.size(); index += 7) {
      void* object = objects[index];
      free(object);
      trial.equal(state(object), PageState::full);
      if (!trial.equal(allocate(), object)) {
        return;
      }
      if (!trial.sound(allocator.validate())) {
        return;
      }
    }
    trial.equal(allocate(), nullptr, "no slot is given out twice");
  }

  void a_second_free_of_the_object_is_reported_until_it_is_allocated_again() {
    void* object = objects[70 % objects.size()];
    free(object);
    free(object);
    misuse.take_one(MisuseKind::DoubleFree);
    if (!trial.equal(allocate(), object)) {
      return;
    }
    free(object);
    if (!trial.equal(allocate(), object)) {
      return;
    }
    trial.equal(allocate(), nullptr);
  }

  void a_second_free_in_the_page_frees_both() {
    free(objects[5]);
    free(objects[9]);
    trial.equal(state(objects[5]), PageState::open);
    free(objects[5]);
    misuse.take_one(MisuseKind::DoubleFree);
    expect_next_are(objects[5], objects[9]);
    trial.equal(allocate(), nullptr);
  }

  void a_free_in_another_full_page_is_not_lost() {
    free(objects.front());
    free(objects.back());
    trial.equal(allocate(), objects.front());
    trial.equal(allocate(), objects.back());
    trial.equal(allocate(), nullptr);
  }

  void statistics_and_visit_live_treat_the_slot_as_free() {
    const std::size_t count = objects.size();
    void* object = objects[3];
    free(object);
    const ClassStatistics statistics = allocator.statistics();
    trial.equal(statistics.used, count - 1);
    trial.equal(statistics.allocations, count);
    trial.equal(statistics.frees, 1u);
    Objects found = visited();
    trial.equal(found.size(), count - 1);
    trial.refute(found.contains(object));

    if (!trial.equal(allocate(), object)) {
      return;
    }
    trial.equal(allocator.statistics().used, count);
    trial.equal(allocator.statistics().allocations, count + 1);
    trial.equal(visited().size(), count);
  }

  void ends_when_there_is_another_page_to_allocate_from() {
    free(objects[3]);
    if (!trial.equal(allocate(), objects[3])) {
      return;
    }
    refill(trial, allocator, source, 1);
    void* object = allocate();
    if (!trial.sound(allocator.validate())) {
      return;
    }
    trial.equal(allocator.statistics().used, objects.size() + 1);
    free(objects[3]);
    trial.equal(state(objects[3]), PageState::open, "not handed off: much is claimed");
    free(object);
    trial.equal(allocator.statistics().used, objects.size() - 1);
  }

  void an_announced_free_by_another_is_seen_before_the_slot_is_issued() {
    void* object = objects[11];
    allocator.deallocate_remote(object, layout);
    free(object);
    trial.equal(allocate(), object);
    misuse.take_one(MisuseKind::DoubleFree);
    trial.equal(allocate(), nullptr, "the slot is given out once");
    trial.sound(allocator.validate());
  }

  void a_later_free_by_another_is_reported_at_the_call() {
    void* object = objects[11];
    free(object);
    allocator.deallocate_remote(object, layout);
    misuse.take_one(MisuseKind::DoubleFree);
    allocator.drain();
    if (!trial.sound(allocator.validate())) {
      return;
    }
    trial.equal(allocate(), object);
    trial.equal(allocate(), nullptr);
  }

  void draining_frees_by_others_in_its_page_keeps_the_slot_free() {
    free(objects[2]);
    allocator.deallocate_remote(objects[4], layout);
    allocator.drain();
    if (!trial.sound(allocator.validate())) {
      return;
    }
    trial.equal(allocator.statistics().used, objects.size() - 2);
    expect_next_are(objects[2], objects[4]);
    trial.equal(allocate(), nullptr);
  }

  void frees_by_others_of_all_else_leave_a_page_that_can_be_reclaimed() {
    free(objects[0]);
    for (std::size_t index = 1; index < objects.size(); ++index) {
      allocator.deallocate_remote(objects[index], layout);
    }
    trial.equal(reclaim_all(allocator, source), 2u);
    trial.equal(allocator.statistics().used, 0u);
  }

  void a_slot_handed_off_does_not_keep_its_page_from_being_reclaimed() {
    free_all();
    trial.equal(reclaim_all(allocator, source), 2u);
    trial.equal(allocate(), nullptr);
  }

  Trial& trial;
  MisuseLog misuse;
  PageSource<Page> source;
  SCAllocator<Page> allocator;
  Objects objects;
};

struct HandOffInZones {
  explicit HandOffInZones(Trial& its_trial) noexcept : trial(its_trial), misuse(trial) {}

  void the_last_object_of_a_page_empties_it() {
    PageSource<ObjectPage> source(trial);
    // First one object to a page, then two.
    for (const std::size_t sizes[] = {std::size_t{3000}, std::size_t{2000}};
         const std::size_t size : sizes) {
      SCAllocator<ObjectPage> allocator(size);
      if (!trial.check(allocator.refill(source.page()))) {
        return;
      }
      Objects objects(trial, 2);
      while (void* object = allocator.allocate(layout_of(size)).value_or(nullptr)) {
        objects.push_back(object);
      }
      for (void* object : objects) {
        allocator.deallocate(object, layout_of(size));
        if (!trial.sound(allocator.validate())) {
          return;
        }
      }
      trial.equal(ObjectPage::header_of(objects[0])->tag.load(Order::relaxed) & PageState::mask,
                  PageState::idle);
      trial.equal(allocator.statistics().used, 0u);
      trial.equal(allocator.try_reclaim_pages(9, [&](ObjectPage* page) { source.take_back(page); }),
                  1u);
    }
  }

  void a_zone_that_leaves_its_pages_takes_the_slot_back() {
    const Layout layout = layout_of(64);
    Frames frames(trial);
    const Box<ScopedZone<Frames>> its_zone(trial, frames);
    ScopedZone<Frames>& zone = *its_zone;
    const std::size_t count = 2 * std::size_t{ObjectPage::geometry(64).slots};
    Objects objects(trial, 1024);
    while (objects.size() < count) {
      objects.push_back(zone.allocate(layout).value_or(nullptr));
    }
    zone.deallocate(objects[9], layout);
    auto* page = ObjectPage::header_of(objects[9]);
    if (!trial.equal(page->tag.load(Order::relaxed), zone.tag() | PageState::full)) {
      return;
    }
    zone.drain_and_leave_current();
    trial.equal(page->tag.load(Order::relaxed), zone.tag());
    trial.sound(zone.validate());
    trial.equal(zone.statistics().used_bytes, (count - 1) * 64);
    trial.equal(zone.allocate(layout).value_or(nullptr), objects[9]);
  }

  void is_never_taken_for_zeroed() {
    const Layout layout = layout_of(64);
    Frames frames(trial, FrameContent::zero);
    const Box<ScopedZone<Frames>> its_zone(trial, frames);
    ScopedZone<Frames>& zone = *its_zone;
    Objects objects(trial, 1024);
    for (std::uint32_t count = 0; count < 2 * ObjectPage::geometry(64).slots; ++count) {
      objects.push_back(zone.allocate(layout).value_or(nullptr));
      if (!trial.differ(objects.back(), nullptr)) {
        return;
      }
      __builtin_memset(objects.back(), 0xFF, 64);
    }
    zone.deallocate(objects.front(), layout);
    const void* again = zone.allocate_zeroed(layout).value_or(nullptr);
    trial.check(again != nullptr && test::holds_zeroes(again, 64));
  }

  void a_hardened_zone_sees_a_free_under_way_by_another() {
    const Layout layout = layout_of(64);
    Frames frames(trial);
    const Box<ScopedZone<Frames, HardenedConfig>> its_zone(trial, frames);
    ScopedZone<Frames, HardenedConfig>& zone = *its_zone;
    Objects objects(trial, 1024);
    for (std::uint32_t count = 0; count < 2 * ObjectPage::geometry(64).slots; ++count) {
      objects.push_back(zone.allocate(layout).value_or(nullptr));
    }
    // The free has set its bit, but not announced it yet.
    auto* page = ObjectPage::header_of(objects[8]);
    page->remote(0, 1).fetch_or(Word{1} << 8, Order::relaxed);
    zone.deallocate(objects[8], layout);
    misuse.take_one(MisuseKind::DoubleFree);
    page->remote(0, 1).store(0, Order::relaxed);
  }

  Trial& trial;
  MisuseLog misuse;
};

template <class Page>
inline constexpr Scenario hand_off_scenarios[] = {
    scenario<&HandOff<Page>::replacing_objects_of_full_pages_leaves_the_pages_full>(),
    scenario<&HandOff<Page>::a_second_free_of_the_object_is_reported_until_it_is_allocated_again>(),
    scenario<&HandOff<Page>::a_second_free_in_the_page_frees_both>(),
    scenario<&HandOff<Page>::a_free_in_another_full_page_is_not_lost>(),
    scenario<&HandOff<Page>::statistics_and_visit_live_treat_the_slot_as_free>(),
    scenario<&HandOff<Page>::ends_when_there_is_another_page_to_allocate_from>(),
    scenario<&HandOff<Page>::an_announced_free_by_another_is_seen_before_the_slot_is_issued>(),
    scenario<&HandOff<Page>::a_later_free_by_another_is_reported_at_the_call>(),
    scenario<&HandOff<Page>::draining_frees_by_others_in_its_page_keeps_the_slot_free>(),
    scenario<&HandOff<Page>::frees_by_others_of_all_else_leave_a_page_that_can_be_reclaimed>(),
    scenario<&HandOff<Page>::a_slot_handed_off_does_not_keep_its_page_from_being_reclaimed>(),
};

inline constexpr Scenario hand_off_in_zones_scenarios[] = {
    scenario<&HandOffInZones::the_last_object_of_a_page_empties_it>(),
    scenario<&HandOffInZones::a_zone_that_leaves_its_pages_takes_the_slot_back>(),
    scenario<&HandOffInZones::is_never_taken_for_zeroed>(),
    scenario<&HandOffInZones::a_hardened_zone_sees_a_free_under_way_by_another>(),
};

}  // namespace slabmalloc::scenario
