// SPDX-License-Identifier: MIT
//
// Scenarios of double frees that are not drained yet at the most harmful moments. At these moments
// the zone gives the page up, or issues the slot again.
#pragma once

#include <cstddef>

#include "scenarios/configs.hpp"
#include "scenarios/misuse_log.hpp"
#include "scenarios/scenario.hpp"

namespace slabmalloc::scenario {

struct LateDoubleFree {
  explicit LateDoubleFree(Trial& its_trial) noexcept
      : trial(its_trial), frames(trial), misuse(trial) {}

  void of_a_slot_about_to_be_issued_is_reported_by_a_hardened_zone() {
    const Box<BasicZoneAllocator<HardenedConfig>> its_zone(trial);
    BasicZoneAllocator<HardenedConfig>& zone = *its_zone;
    const Layout layout = layout_of(64, 8);
    if (!trial.check(zone.refill(layout, frames.page<ObjectPage>()))) {
      return;
    }
    if (!trial.check(zone.refill(layout, frames.page<ObjectPage>()))) {
      return;
    }
    void* object = zone.allocate(layout).value();
    zone.deallocate(object, layout);
    zone.deallocate_remote(object, layout);
    Objects live(trial, 512);
    for (int round = 0; round < 2; ++round) {
      while (const auto next = zone.allocate(layout)) {
        trial.refute(live.contains(next.value()), "given to two clients");
        live.push_back(next.value());
      }
      zone.drain();
    }
    trial.equal(live.size(), 2 * ObjectPage::geometry(64).slots);
    misuse.take_one(MisuseKind::DoubleFree);
    trial.sound(zone.validate());
  }

  void of_a_slot_in_a_word_about_to_be_selected_is_reported_by_any_zone() {
    const Box<ZoneAllocator> its_zone(trial);
    ZoneAllocator& zone = *its_zone;
    // A page has three words.
    const Layout layout = layout_of(24, 8);
    if (!trial.check(zone.refill(layout, frames.page<ObjectPage>()))) {
      return;
    }
    Objects objects(trial, 1024);
    while (const auto next = zone.allocate(layout)) {
      objects.push_back(next.value());
    }
    void* last = objects.back();
    for (void* object : objects) {
      zone.deallocate(object, layout);
    }
    // The page is current again, and the sweep has not selected its last word yet.
    Objects live(trial, 512);
    live.push_back(zone.allocate(layout).value());
    zone.deallocate_remote(last, layout);
    for (int round = 0; round < 2; ++round) {
      while (const auto next = zone.allocate(layout)) {
        trial.refute(live.contains(next.value()), "given to two clients");
        live.push_back(next.value());
      }
      zone.drain();
    }
    trial.equal(live.size(), objects.size());
    misuse.take_one(MisuseKind::DoubleFree);
    trial.sound(zone.validate());
  }

  void gathered_by_another_zone_does_not_touch_a_page_that_was_given_to_another_class() {
    const Box<ZoneAllocator> its_owner(trial);
    ZoneAllocator& owner = *its_owner;
    const Box<ZoneAllocator> its_other(trial);
    ZoneAllocator& other = *its_other;
    const Layout layout = layout_of(64, 8);
    const Layout other_layout = layout_of(32, 8);
    auto* page = frames.page<ObjectPage>();
    if (!trial.check(owner.refill(layout, page))) {
      return;
    }
    void* object = owner.allocate(layout).value();
    other.deallocate(object, layout);
    if (!trial.equal(other.statistics().buffered_bytes, 64u)) {
      return;
    }
    owner.deallocate(object, layout);
    if (!trial.equal(owner.try_reclaim_base_pages(1, [](ObjectPage*) {}), 1u)) {
      return;
    }
    if (!trial.check(owner.refill(other_layout, page))) {
      return;
    }
    while (owner.allocate(other_layout)) {
    }
    other.drain();
    misuse.take_one(MisuseKind::DoubleFree);
    owner.drain();
    trial.refute(owner.allocate(other_layout), "an object in use was given out again");
    trial.sound(owner.validate());
  }

  Trial& trial;
  Frames frames;
  MisuseLog misuse;
};

inline constexpr Scenario late_double_free_scenarios[] = {
    scenario<&LateDoubleFree::of_a_slot_about_to_be_issued_is_reported_by_a_hardened_zone>(),
    scenario<&LateDoubleFree::of_a_slot_in_a_word_about_to_be_selected_is_reported_by_any_zone>(),
    scenario<&LateDoubleFree::
                 gathered_by_another_zone_does_not_touch_a_page_that_was_given_to_another_class>(),
};

}  // namespace slabmalloc::scenario
