// SPDX-License-Identifier: MIT
//
// Scenarios of zones with a pager: when they take pages and when they return them.
#pragma once

#include <cstddef>

#include "scenarios/configs.hpp"
#include "scenarios/misuse_log.hpp"
#include "scenarios/scenario.hpp"
#include "support/pattern.hpp"

namespace slabmalloc::scenario {

/// Any size, over frames of 4 KiB and 2 MiB.
struct PagedZoneScenario {
  using Zone = PagedZone<Frames>;

  static constexpr std::size_t base_page_bytes = 4 * kibibyte;
  static constexpr std::size_t slots_of_64 = ObjectPage::geometry(64).slots;
  static constexpr Layout layout = layout_of(64);

  explicit PagedZoneScenario(Trial& its_trial) noexcept
      : trial(its_trial), frames(trial), misuse(trial) {}
  ~PagedZoneScenario() { trial.sound(zone.validate()); }

  Objects allocate(std::size_t count, Layout wanted) {
    Objects objects(trial, count);
    for (std::size_t number = 0; number < count; ++number) {
      objects.push_back(zone.allocate(wanted).value_or(nullptr));
      trial.differ(objects.back(), nullptr);
    }
    return objects;
  }
  void free(const Objects& objects, Layout as) {
    for (void* object : objects) {
      zone.deallocate(object, as);
    }
  }

  /// A configuration with one object of 128 KiB to a page.
  struct OneSlotConfig : DefaultConfig {
    using Pages = PageKinds<PageKind<ObjectPage, 256>, PageKind<EmbeddedPage<256 * kibibyte>, 0>>;
  };

  void asks_for_a_frame_only_when_nothing_is_free() {
    for (std::size_t pages = 1; pages <= 5; ++pages) {
      allocate(slots_of_64, layout);
      trial.equal(frames.calls(), pages);
    }
  }

  void fills_freed_slots_before_it_asks() {
    Objects objects = allocate(10 * slots_of_64, layout);
    Objects freed(trial, 1024);
    for (std::size_t position = 0; position < objects.size(); position += 3) {
      freed.push_back(objects[position]);
    }
    free(freed, layout);
    const std::size_t calls = frames.calls();
    allocate(freed.size(), layout);
    trial.equal(frames.calls(), calls, "no slot stays unused while the class grows");
    allocate(1, layout);
    trial.equal(frames.calls(), calls + 1);
  }

  void fills_slots_freed_by_others_before_it_asks() {
    const Objects objects = allocate(10 * slots_of_64, layout);
    for (std::size_t position = 0; position < objects.size(); position += 3) {
      Zone::deallocate_remote(objects[position], layout);
    }
    const std::size_t calls = frames.calls();
    allocate((objects.size() + 2) / 3, layout);
    trial.equal(frames.calls(), calls);
  }

  void drains_all_frees_by_others_before_memory_is_out() {
    // Others free more pages than one slow path drains, and the pager is exhausted.
    constexpr std::size_t pages = 100;
    const Objects objects = allocate(pages * slots_of_64, layout);
    frames.set_limit(frames.live_bytes());
    for (void* object : objects) {
      Zone::deallocate_remote(object, layout);
    }
    trial.check(zone.allocate(layout_of(256)), "pages freed by others serve another class");
    allocate((pages - 1) * slots_of_64, layout);
    trial.refute(zone.allocate(layout));
  }

  void empty_pages_move_between_classes_before_it_asks() {
    free(allocate(4 * slots_of_64, layout), layout);
    zone.drain_and_leave_current();
    const std::size_t calls = frames.calls();
    const std::size_t pages = frames.live_frames();
    for (const std::size_t sizes[] = {16u, 32u, 128u, 256u}; const std::size_t size : sizes) {
      if (!trial.check(zone.allocate(layout_of(size)))) {
        return;
      }
    }
    trial.equal(frames.calls(), calls, "four empty pages serve four classes");
    trial.equal(frames.live_frames(), pages);
  }

  void reuses_frames_that_it_gave_back_on_the_way_to_exhaustion() {
    const Box<ScopedZone<Frames, EagerConfig>> its_eager(trial, frames);
    ScopedZone<Frames, EagerConfig>& eager = *its_eager;
    Objects objects(trial, 40 * slots_of_64);
    while (objects.size() < 40 * slots_of_64) {
      objects.push_back(eager.allocate(layout_of(64)).value_or(nullptr));
    }
    frames.set_limit(frames.live_bytes());
    // Others empty half of the pages, then free one object of each other page. The zone drains
    // these first, and none of them is empty. The others go back to the pager, which has no frame
    // until then.
    for (std::size_t position = 0; position < objects.size(); ++position) {
      if (position < objects.size() / 2 || position % slots_of_64 == 0) {
        eager.deallocate_remote(objects[position], layout_of(64));
      }
    }
    trial.check(eager.allocate(layout_of(256)));
  }

  void an_empty_page_that_another_class_allocates_from_serves_when_memory_is_out() {
    frames.set_limit(base_page_bytes);
    free(allocate(1, layout), layout);
    trial.check(zone.allocate(layout_of(128)), "the only page is wholly empty");
  }

  void a_pair_at_the_edge_of_a_page_does_not_go_to_the_pager() {
    for (const std::size_t page_counts[] = {1u, 2u, 7u, 20u};
         const std::size_t pages : page_counts) {
      const Objects objects = allocate(pages * slots_of_64, layout);
      free(allocate(1, layout), layout);
      const std::size_t calls = frames.calls();
      const std::size_t live = frames.live_frames();
      for (int count = 0; count < 1000; ++count) {
        free(allocate(1, layout), layout);
      }
      trial.equal(frames.calls(), calls);
      trial.equal(frames.live_frames(), live);
      free(objects, layout);
    }
  }

  void bursts_of_a_page_at_the_edge_do_not_go_to_the_pager() {
    allocate(3 * slots_of_64, layout);
    for (const std::size_t bursts[] = {slots_of_64, 2 * slots_of_64, 3 * slots_of_64};
         const std::size_t burst : bursts) {
      free(allocate(burst, layout), layout);
      const std::size_t calls = frames.calls();
      for (int count = 0; count < 100; ++count) {
        free(allocate(burst, layout), layout);
      }
      trial.equal(frames.calls(), calls);
    }
  }

  void pairs_of_one_object_pages_do_not_go_to_the_pager_again_and_again() {
    const Box<ScopedZone<Frames, OneSlotConfig>> its_one_slot(trial, frames);
    ScopedZone<Frames, OneSlotConfig>& one_slot = *its_one_slot;
    const Layout wanted = layout_of(128 * kibibyte);
    void* kept = one_slot.allocate(wanted).value_or(nullptr);
    if (!trial.differ(kept, nullptr)) {
      return;
    }
    for (int count = 0; count < 100; ++count) {
      void* object = one_slot.allocate(wanted).value_or(nullptr);
      if (!trial.differ(object, nullptr)) {
        return;
      }
      one_slot.deallocate(object, wanted);
    }
    trial.at_most(frames.calls(), 3u);
  }

  void keeps_few_empty_pages() {
    free(allocate(200 * slots_of_64, layout), layout);
    zone.drain_and_leave_current();
    trial.at_most(frames.live_frames(),
                  DefaultConfig::idle_pages_per_class + DefaultConfig::depot_pages);
  }

  void gives_back_pages_that_others_empty() {
    for (void* object : allocate(200 * slots_of_64, layout)) {
      Zone::deallocate_remote(object, layout);
    }
    zone.drain_and_leave_current();
    trial.at_most(frames.live_frames(),
                  DefaultConfig::idle_pages_per_class + DefaultConfig::depot_pages);
  }

  void drains_frees_by_others_though_it_needs_no_further_page() {
    constexpr std::size_t most_frames =
        2 + DefaultConfig::idle_pages_per_class + DefaultConfig::depot_pages;
    for (const std::size_t bytess[] = {std::size_t{64}, std::size_t{512}};
         const std::size_t bytes : bytess) {
      const Layout wanted = layout_of(bytes);
      // 200 pages of 4 KiB, or 12 of 2 MiB.
      for (void* object : allocate(bytes == 64 ? 200 * slots_of_64 : 12 * 4064, wanted)) {
        Zone::deallocate_remote(object, wanted);
      }
      Objects ring = allocate(60, wanted);
      for (std::size_t step = 0; step < 200'000; ++step) {
        void*& oldest = ring[step % ring.size()];
        zone.deallocate(oldest, wanted);
        oldest = zone.allocate(wanted).value_or(nullptr);
      }
      trial.at_most(frames.live_frames(), most_frames);
      free(ring, wanted);
      zone.trim();
    }
  }

  void trim_gives_back_every_empty_page_and_says_how_many_bytes() {
    const Objects small = allocate(10 * slots_of_64, layout);
    const Objects large = allocate(100, layout_of(32 * kibibyte));
    void* kept = allocate(1, layout_of(128))[0];
    free(small, layout);
    free(large, layout_of(32 * kibibyte));
    const std::size_t before = frames.live_bytes();
    trial.equal(zone.trim(), before - base_page_bytes);
    trial.equal(frames.live_bytes(), base_page_bytes, "one page has a live object");
    zone.deallocate(kept, layout_of(128));
    trial.equal(zone.trim(), base_page_bytes);
    trial.equal(zone.trim(), 0u);
    trial.equal(frames.live_frames(), 0u);
    allocate(1, layout);
  }

  void trim_delivers_its_buffer_and_drains_frees_by_others() {
    const Box<Zone> its_other(trial, frames);
    Zone& other = *its_other;
    void* mine = allocate(1, layout)[0];
    void* theirs = other.allocate(layout).value_or(nullptr);
    zone.deallocate(theirs, layout);
    Zone::deallocate_remote(mine, layout);
    zone.trim();
    trial.equal(other.trim(), base_page_bytes);
    trial.equal(frames.live_frames(), 0u);
  }

  void a_scoped_zone_returns_all_frames_with_their_live_objects() {
    {
      const Box<ScopedZone<Frames>> its_scoped(trial, frames);
      ScopedZone<Frames>& scoped = *its_scoped;
      for (std::size_t size = 1; size <= Zone::MAX_ALLOC_SIZE; size = size * 3 / 2 + 1) {
        void* object = scoped.allocate(layout_of(size)).value_or(nullptr);
        if (!trial.differ(object, nullptr)) {
          return;
        }
        if (size % 2 == 0) {
          scoped.deallocate(object, layout_of(size));
        }
      }
      for (int count = 0; count < 1000; ++count) {
        if (!trial.check(scoped.allocate(layout))) {
          return;
        }
      }
      trial.check(frames.live_frames() > 20u);
    }
    trial.equal(frames.live_frames(), 0u);
  }

  void release_all_leaves_a_zone_that_works() {
    allocate(1000, layout);
    allocate(3, layout_of(1000));
    zone.release_all(
        [&](void* frame, std::size_t bytes) { frames.deallocate_frame(frame, bytes); });
    trial.equal(frames.live_frames(), 0u);
    trial.sound(zone.validate());
    const Objects objects = allocate(1000, layout);
    free(objects, layout);
    zone.trim();
    trial.equal(frames.live_frames(), 0u);
  }

  Trial& trial;
  Frames frames;
  Zone zone{frames};
  MisuseLog misuse;
};

inline constexpr Scenario paged_zone_scenarios[] = {
    scenario<&PagedZoneScenario::asks_for_a_frame_only_when_nothing_is_free>(),
    scenario<&PagedZoneScenario::fills_freed_slots_before_it_asks>(),
    scenario<&PagedZoneScenario::fills_slots_freed_by_others_before_it_asks>(),
    scenario<&PagedZoneScenario::drains_all_frees_by_others_before_memory_is_out>(),
    scenario<&PagedZoneScenario::empty_pages_move_between_classes_before_it_asks>(),
    scenario<&PagedZoneScenario::reuses_frames_that_it_gave_back_on_the_way_to_exhaustion>(),
    scenario<&PagedZoneScenario::
                 an_empty_page_that_another_class_allocates_from_serves_when_memory_is_out>(),
    scenario<&PagedZoneScenario::a_pair_at_the_edge_of_a_page_does_not_go_to_the_pager>(),
    scenario<&PagedZoneScenario::bursts_of_a_page_at_the_edge_do_not_go_to_the_pager>(),
    scenario<
        &PagedZoneScenario::pairs_of_one_object_pages_do_not_go_to_the_pager_again_and_again>(),
    scenario<&PagedZoneScenario::keeps_few_empty_pages>(),
    scenario<&PagedZoneScenario::gives_back_pages_that_others_empty>(),
    scenario<&PagedZoneScenario::drains_frees_by_others_though_it_needs_no_further_page>(),
    scenario<&PagedZoneScenario::trim_gives_back_every_empty_page_and_says_how_many_bytes>(),
    scenario<&PagedZoneScenario::trim_delivers_its_buffer_and_drains_frees_by_others>(),
    scenario<&PagedZoneScenario::a_scoped_zone_returns_all_frames_with_their_live_objects>(),
    scenario<&PagedZoneScenario::release_all_leaves_a_zone_that_works>(),
};

}  // namespace slabmalloc::scenario
