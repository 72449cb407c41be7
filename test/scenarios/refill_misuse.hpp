// SPDX-License-Identifier: MIT
//
// Scenarios of refills with an address that is no page, or with a page in use. The zone must refuse
// it before any write.
#pragma once

#include <cstddef>

#include "scenarios/configs.hpp"
#include "scenarios/misuse_log.hpp"
#include "scenarios/scenario.hpp"
#include "scenarios/snapshot.hpp"

namespace slabmalloc::scenario {

struct RefillMisuse {
  explicit RefillMisuse(Trial& its_trial) noexcept
      : trial(its_trial), frames(trial), misuse(trial) {}

  /// Expects that the zone refuses `page` without a write to it.
  void expect_refused(Layout layout, ObjectPage* page, MisuseKind kind,
                      Where where = Where::here()) {
    const ZoneStatistics before = zone.statistics();
    const Result<void> result = zone.refill(layout, page);
    trial.refute(result, "", where);
    trial.equal(result.error(), AllocationError::InvalidLayout, "", where);
    misuse.take_one(kind, where);
    trial.sound(zone.validate(), where);
    trial.equal(zone.statistics().page_bytes, before.page_bytes, "", where);
  }

  void of_null_and_misaligned_pages_is_refused_before_any_write() {
    expect_refused(layout_of(64), nullptr, MisuseKind::InvalidPage);
    auto* frame = static_cast<std::byte*>(frames.frame(8 * kibibyte));
    Snapshot before(trial, 8 * kibibyte);
    before.add(frame, 8 * kibibyte);
    for (const std::size_t offsets[] = {1u, 8u, 64u, 2048u, 4095u};
         const std::size_t offset : offsets) {
      expect_refused(layout_of(64), reinterpret_cast<ObjectPage*>(frame + offset),
                     MisuseKind::InvalidPage);
    }
    trial.check(before.holds());
  }

  void of_a_page_in_any_state_is_refused() {
    const Layout layout = layout_of(64);
    auto* first = frames.page<ObjectPage>();
    auto* second = frames.page<ObjectPage>();
    if (!trial.check(zone.refill(layout, first))) {
      return;
    }
    expect_refused(layout, first, MisuseKind::InvalidPage);  // idle
    Objects objects(trial, 64);
    objects.push_back(*zone.allocate(layout));
    expect_refused(layout, first, MisuseKind::InvalidPage);  // current
    expect_refused(layout_of(32), first, MisuseKind::InvalidPage);
    if (!trial.check(zone.refill(layout, second))) {
      return;
    }
    while (objects.size() < 64) {
      objects.push_back(*zone.allocate(layout));
    }
    expect_refused(layout, first, MisuseKind::InvalidPage);  // full
    zone.deallocate(objects[5], layout);
    expect_refused(layout, first, MisuseKind::InvalidPage);  // partial
  }

  void of_a_page_in_the_depot_is_refused() {
    const Layout layout = layout_of(64);
    ObjectPage* pages[] = {frames.page<ObjectPage>(), frames.page<ObjectPage>()};
    for (ObjectPage* page : pages) {
      if (!trial.check(zone.refill(layout, page))) {
        return;
      }
    }
    zone.drain_and_leave_current();
    if (!trial.equal(zone.statistics().depot_bytes, 4 * kibibyte, "one page stays in the class")) {
      return;
    }
    for (ObjectPage* page : pages) {
      expect_refused(layout, page, MisuseKind::InvalidPage);
      expect_refused(layout_of(128), page, MisuseKind::InvalidPage);
    }
  }

  void of_a_page_that_was_reclaimed_is_a_plain_refill() {
    const Layout layout = layout_of(64);
    auto* page = frames.page<ObjectPage>();
    if (!trial.check(zone.refill(layout, page))) {
      return;
    }
    trial.equal(zone.try_reclaim_base_pages(1, [](ObjectPage*) {}), 1u);
    trial.check(zone.refill(layout_of(32), page));
    trial.sound(zone.validate());
  }

  void with_the_other_page_kind_is_an_invalid_layout() {
    auto* base = frames.page<ObjectPage>();
    auto* large = frames.page<LargeObjectPage>();
    trial.equal(zone.refill(layout_of(257), base).error(), AllocationError::InvalidLayout);
    trial.equal(zone.refill_large(layout_of(256), large).error(), AllocationError::InvalidLayout);
    trial.equal(zone.refill_large(layout_of(256 * kibibyte), large).error(),
                AllocationError::InvalidLayout);
    trial.equal(zone.statistics().page_bytes, 0u);
  }

  Trial& trial;
  Frames frames;
  ZoneAllocator zone;
  MisuseLog misuse;
};

inline constexpr Scenario refill_misuse_scenarios[] = {
    scenario<&RefillMisuse::of_null_and_misaligned_pages_is_refused_before_any_write>(),
    scenario<&RefillMisuse::of_a_page_in_any_state_is_refused>(),
    scenario<&RefillMisuse::of_a_page_in_the_depot_is_refused>(),
    scenario<&RefillMisuse::of_a_page_that_was_reclaimed_is_a_plain_refill>(),
    scenario<&RefillMisuse::with_the_other_page_kind_is_an_invalid_layout>(),
};

}  // namespace slabmalloc::scenario
