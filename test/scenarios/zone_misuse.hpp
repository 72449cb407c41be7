// SPDX-License-Identifier: MIT
//
// Scenarios of every bad call on every state of a page, from every caller: the zone reports it, and
// changes nothing else.
#pragma once

#include <cstddef>

#include "scenarios/configs.hpp"
#include "scenarios/misuse_log.hpp"
#include "scenarios/scenario.hpp"

namespace slabmalloc::scenario {

/// A zone whose pages of 64 B a scenario brings into a state, another zone, and all that must not
/// change.
template <class Config>
struct ZoneMisuse {
  using Pager = typename PagerFor<Config>::Type;
  using Zone = PagedZone<Pager, Config>;

  static constexpr bool readable_after_give_back = requires { typename Config::Table; };
  static constexpr Layout layout = layout_of(64, 8);
  static constexpr std::uint32_t index = Zone::class_for(layout);
  static constexpr std::size_t most_live = 8192;

  explicit ZoneMisuse(Trial& its_trial) noexcept
      : trial(its_trial), pager(trial), misuse(trial), live(trial, most_live) {}

  ~ZoneMisuse() {
    drain_and_leave_current();
    misuse.none();
    for (void* object : live) {
      zone.deallocate(object, layout);
    }
    drain_and_leave_current();
    zone.trim();
    other.trim();
    trial.sound(zone.validate());
    trial.equal(zone.statistics().used_bytes, 0u);
    trial.equal(pager.live_bytes(), 0u, "all memory is accounted for");
  }

  void* allocate() {
    void* object = zone.allocate(layout).value_or(nullptr);
    trial.differ(object, nullptr);
    live.push_back(object);
    return object;
  }
  void free(void* object) {
    zone.deallocate(object, layout);
    live.remove(object);
  }

  std::size_t slots_per_page() {
    const ClassStatistics statistics = zone.class_statistics(index);
    return statistics.slots / statistics.pages;
  }
  std::byte* frame_of(void* object) const {
    const std::size_t bytes = Zone::frame_bytes(layout);
    return static_cast<std::byte*>(object) - reinterpret_cast<std::uintptr_t>(object) % bytes;
  }

  /// The objects of a page that are all live, and from which the zone no longer allocates.
  Objects full_page() {
    for (;;) {
      std::byte* frame = frame_of(allocate());
      Objects objects(trial, slots_per_page());
      for (void* object : live) {
        if (frame_of(object) == frame) {
          objects.push_back(object);
        }
      }
      if (objects.size() == slots_per_page() || trial.has_failed()) {
        allocate();  // Allocates from the next page.
        return objects;
      }
    }
  }
  /// The address of a page without live objects that is still in its class.
  std::byte* idle_page() {
    const Objects objects = full_page();
    for (void* object : objects) {
      free(object);
    }
    return frame_of(objects[0]);
  }

  void drain_and_leave_current() {
    other.drain();
    zone.drain();
  }

  /// The state that a bad call must not change.
  struct Structure {
    std::size_t used, allocations, frees, pages, page_bytes, depot_bytes, pager_bytes;
    bool operator==(const Structure&) const = default;
  };
  Structure structure() const {
    const ClassStatistics statistics = zone.class_statistics(index);
    const ZoneStatistics sums = zone.statistics();
    return {statistics.used, statistics.allocations, statistics.frees,  statistics.pages,
            sums.page_bytes, sums.depot_bytes,       pager.live_bytes()};
  }
  Objects visited() const {
    Objects objects(trial, most_live);
    zone.visit_live([&](void* object, std::size_t) { objects.push_back(object); });
    return objects;
  }

  /// Runs `call` and expects exactly `kind`, at the latest once everything is drained.
  template <class Call>
  void expect_harmless(const char* what, MisuseKind kind, Call&& call,
                       Where where = Where::here()) {
    trial.set_step(what);
    const Structure before = structure();
    Objects live_before = visited();
    call();
    trial.sound(zone.validate(), where);
    drain_and_leave_current();
    misuse.take_one(kind, where);
    trial.sound(zone.validate(), where);
    trial.sound(other.validate(), where);
    Objects live_after = visited();
    trial.check(structure() == before && same_elements(live_before, live_after),
                "a bad call changes nothing", where);
    trial.set_step("");
  }

  /// The bad free by the owner, by another zone and by a thread without one.
  void expect_each_rejects(const char* what, MisuseKind kind, void* address, Layout as,
                           Where where = Where::here()) {
    expect_harmless(what, kind, [&] { zone.deallocate(address, as); }, where);
    expect_harmless(what, kind, [&] { other.deallocate(address, as); }, where);
    expect_harmless(what, kind, [&] { Zone::deallocate_remote(address, as); }, where);
  }

  /// All wrong addresses in the page of `object`, which is live or free.
  void expect_page_rejects_bad_addresses(std::byte* frame, Where where = Where::here()) {
    const auto reject = [&](const char* what, MisuseKind kind, std::size_t offset, Layout as) {
      expect_each_rejects(what, kind, frame + offset, as, where);
    };
    const std::size_t end = slots_per_page() * 64;
    const std::size_t bytes = Zone::frame_bytes(layout);
    reject("one byte into a slot", MisuseKind::MisalignedFree, 1, layout);
    reject("the middle of a slot", MisuseKind::MisalignedFree, 64 + 32, layout);
    reject("the last byte of the last slot", MisuseKind::MisalignedFree, end - 1, layout);
    if (end < bytes) {
      reject("behind the last slot", MisuseKind::MisalignedFree, end, layout);
      reject("the last word of the frame", MisuseKind::MisalignedFree, bytes - 8, layout);
    }
    reject("a smaller layout", MisuseKind::SizeMismatch, 0, layout_of(32));
    reject("a larger layout", MisuseKind::SizeMismatch, 64, layout_of(96));
  }

  /// The state of the page of an object that is freed twice.
  enum class Around { current, partial, full, alone };

  void* object_in(Around around) {
    if (around == Around::current) {
      allocate();
      return allocate();
    }
    const Objects objects = full_page();
    if (around == Around::partial) {
      free(objects[1]);
    } else if (around == Around::alone) {
      for (std::size_t slot = 1; slot < objects.size(); ++slot) {
        free(objects[slot]);
      }
    }
    return objects[0];
  }

  void of_freed_slots_of_the_current_page_is_rejected() {
    allocate();
    void* freed = allocate();
    allocate();
    free(freed);
    expect_each_rejects("freed", MisuseKind::DoubleFree, freed, layout);
    expect_page_rejects_bad_addresses(frame_of(freed));
  }

  void of_slots_never_issued_of_the_current_page_is_rejected() {
    std::byte* frame = frame_of(allocate());
    for (const std::size_t slots[] = {std::size_t{1}, std::size_t{2}, slots_per_page() - 1};
         const std::size_t slot : slots) {
      expect_each_rejects("never issued", MisuseKind::DoubleFree, frame + slot * 64, layout);
    }
  }

  void of_a_slot_freed_and_claimed_again_is_rejected() {
    // The zone uses up the page's first word, then claims its freed slots again.
    Objects objects(trial, 1024);
    while (objects.size() < 60) {
      objects.push_back(allocate());
    }
    free(objects[7]);
    free(objects[8]);
    free(objects[9]);
    void* freed[] = {objects[7], objects[8], objects[9]};
    std::size_t reissued = 0;
    while (!live.contains(freed[0]) && reissued < 2 * slots_per_page()) {
      allocate();
      ++reissued;
    }
    for (void* object : freed) {
      if (!live.contains(object)) {
        expect_each_rejects("claimed", MisuseKind::DoubleFree, object, layout);
      }
    }
  }

  void of_a_partial_page_is_rejected() {
    const Objects objects = full_page();
    for (const std::size_t slots[] = {std::size_t{0}, std::size_t{5}, objects.size() - 1};
         const std::size_t slot : slots) {
      free(objects[slot]);
    }
    for (const std::size_t slots[] = {std::size_t{0}, std::size_t{5}, objects.size() - 1};
         const std::size_t slot : slots) {
      expect_each_rejects("freed", MisuseKind::DoubleFree, objects[slot], layout);
    }
    expect_page_rejects_bad_addresses(frame_of(objects[0]));
  }

  void of_a_full_page_is_rejected() {
    const Objects objects = full_page();
    expect_page_rejects_bad_addresses(frame_of(objects[0]));
  }

  void of_an_idle_page_is_rejected() {
    std::byte* frame = idle_page();
    expect_each_rejects("first slot", MisuseKind::DoubleFree, frame, layout);
    expect_each_rejects("last slot", MisuseKind::DoubleFree, frame + (slots_per_page() - 1) * 64,
                        layout);
    expect_page_rejects_bad_addresses(frame);
  }

  void of_an_idle_page_does_not_reach_its_next_objects() {
    std::byte* frame = idle_page();
    Zone::deallocate_remote(frame, layout);
    misuse.take_one(MisuseKind::DoubleFree);
    full_page();
    drain_and_leave_current();
    trial.sound(zone.validate());
    trial.equal(zone.class_statistics(index).used, live.size());
  }

  void of_a_page_that_left_its_class_is_rejected() {
    if constexpr (!readable_after_give_back && Config::depot_pages == 0) {
      return;  // Its meta-data cannot be read any more.
    }
    // One idle page stays in the class. The next goes to the depot or back to the pager.
    const Objects first = full_page();
    const Objects second = full_page();
    for (void* object : second) {
      free(object);
    }
    for (void* object : first) {
      free(object);
    }
    if (!readable_after_give_back) {
      if (!trial.differ(zone.statistics().depot_bytes, 0u, "its meta-data can still be read")) {
        return;
      }
    }
    std::size_t foreign = 0;
    const auto is_foreign = [this] {
      return misuse.take() == 1 && misuse[0].kind == MisuseKind::ForeignPointer;
    };
    for (void* const objects[] = {first[0], second[0]}; void* object : objects) {
      zone.deallocate(object, layout);
      foreign += is_foreign() ? 1u : 0u;
      Zone::deallocate_remote(object, layout);
      foreign += is_foreign() ? 1u : 0u;
    }
    trial.equal(foreign, 2u, "one page is idle and one in no class");
    trial.sound(zone.validate());
  }

  void after_trim_is_rejected_where_meta_data_is_beside() {
    if constexpr (readable_after_give_back) {
      void* object = allocate();
      free(object);
      zone.trim();
      if (!trial.equal(pager.live_bytes(), 0u)) {
        return;
      }
      expect_each_rejects("given back", MisuseKind::ForeignPointer, object, layout);
      expect_each_rejects("interior", MisuseKind::ForeignPointer,
                          static_cast<std::byte*>(object) + 1, layout);
    }
  }

  void of_foreign_addresses_is_rejected() {
    allocate();
    if constexpr (!readable_after_give_back) {
      Objects not_a_page(trial, Zone::frame_bytes(layout) / sizeof(void*));
      auto* frame = static_cast<std::byte*>(static_cast<void*>(not_a_page.begin()));
      __builtin_memset(frame, 0, Zone::frame_bytes(layout));
      expect_each_rejects("a frame", MisuseKind::ForeignPointer, frame, layout);
      expect_each_rejects("in a frame", MisuseKind::ForeignPointer, frame + 64, layout);
    } else {
      int on_the_stack = 0;
      auto* arena = Config::Table::chunk(0);
      expect_each_rejects("stack", MisuseKind::ForeignPointer, &on_the_stack, layout);
      expect_each_rejects("below", MisuseKind::ForeignPointer, arena - 64, layout);
      expect_each_rejects("unused", MisuseKind::ForeignPointer,
                          arena + 100 * Config::Table::chunk_bytes, layout);
    }
  }

  void of_runs_is_rejected_where_there_are_none() {
    const Layout huge = layout_of(Zone::MAX_ALLOC_SIZE + 1);
    void* object = allocate();
    expect_harmless("remote", MisuseKind::SizeMismatch,
                    [&] { Zone::deallocate_remote(object, huge); });
    if (!Zone::has_runs) {
      expect_harmless("owner", MisuseKind::SizeMismatch, [&] { zone.deallocate(object, huge); });
    }
  }

  void second_remote_free_is_reported_from_every_caller() {
    void* object = allocate();
    allocate();
    Zone::deallocate_remote(object, layout);
    live.remove(object);
    Zone::deallocate_remote(object, layout);
    misuse.take_one(MisuseKind::DoubleFree);
    other.deallocate(object, layout);
    drain_and_leave_current();
    misuse.take_one(MisuseKind::DoubleFree);
    trial.equal(zone.class_statistics(index).used, 1u);
  }

  void second_free_by_another_zone_is_reported_at_the_call() {
    void* object = allocate();
    allocate();
    other.deallocate(object, layout);
    live.remove(object);
    other.deallocate(object, layout);
    misuse.take_one(MisuseKind::DoubleFree);
  }

  void local_then_remote_is_found_at_the_call_or_the_delivery() {
    for (const Around arounds[] = {Around::current, Around::partial, Around::full};
         const Around around : arounds) {
      void* object = object_in(around);
      free(object);
      Zone::deallocate_remote(object, layout);
      misuse.take_one(MisuseKind::DoubleFree);
      expect_harmless("without a zone", MisuseKind::DoubleFree,
                      [&] { Zone::deallocate_remote(object, layout); });
      expect_harmless("other zone", MisuseKind::DoubleFree,
                      [&] { other.deallocate(object, layout); });
    }
  }

  void remote_then_local_is_found_at_the_call_if_hardened_else_at_the_merge() {
    for (const Around arounds[] = {Around::current, Around::partial, Around::full, Around::alone};
         const Around around : arounds) {
      void* object = object_in(around);
      const std::size_t used = zone.class_statistics(index).used;
      Zone::deallocate_remote(object, layout);
      live.remove(object);
      zone.deallocate(object, layout);
      trial.sound(zone.validate());
      if (Config::hardened) {
        misuse.take_one(MisuseKind::DoubleFree);
        drain_and_leave_current();
        misuse.none();
      } else {
        drain_and_leave_current();
        misuse.take_one(MisuseKind::DoubleFree);
      }
      trial.sound(zone.validate());
      trial.equal(zone.class_statistics(index).used, used - 1);
    }
  }

  void hardened_rejects_other_zone_then_local_at_the_call() {
    if (!Config::hardened) {
      return;
    }
    void* object = allocate();
    allocate();
    other.deallocate(object, layout);
    live.remove(object);
    zone.deallocate(object, layout);
    misuse.take_one(MisuseKind::DoubleFree);
  }

  void every_second_free_is_reported_in_random_order() {
    // All states but idle at once. Every tenth object stays, so that no page leaves the zone.
    Objects freed(trial, 3000);
    for (int count = 0; count < 3000; ++count) {
      void* object = allocate();
      if (count % 10 != 0) {
        freed.push_back(object);
      }
    }
    for (std::size_t position = freed.size(); position > 1; --position) {
      freed.swap(position - 1, trial.random.below(position));
    }
    for (std::size_t position = 0; position < freed.size(); ++position) {
      free(freed[position]);
      zone.deallocate(freed[position], layout);
      zone.deallocate(freed[trial.random.below(position + 1)], layout);
      if (!misuse.take_all(MisuseKind::DoubleFree, 2u)) {
        return;
      }
    }
    trial.sound(zone.validate());
    trial.equal(zone.class_statistics(index).used, live.size());
  }

  Trial& trial;
  Pager pager;
  Zone zone{pager};
  Zone other{pager};
  MisuseLog misuse;
  Objects live;
};

template <class Config>
inline constexpr Scenario zone_misuse_scenarios[] = {
    scenario<&ZoneMisuse<Config>::of_freed_slots_of_the_current_page_is_rejected>(),
    scenario<&ZoneMisuse<Config>::of_slots_never_issued_of_the_current_page_is_rejected>(),
    scenario<&ZoneMisuse<Config>::of_a_slot_freed_and_claimed_again_is_rejected>(),
    scenario<&ZoneMisuse<Config>::of_a_partial_page_is_rejected>(),
    scenario<&ZoneMisuse<Config>::of_a_full_page_is_rejected>(),
    scenario<&ZoneMisuse<Config>::of_an_idle_page_is_rejected>(),
    scenario<&ZoneMisuse<Config>::of_an_idle_page_does_not_reach_its_next_objects>(),
    scenario<&ZoneMisuse<Config>::of_a_page_that_left_its_class_is_rejected>(),
    scenario<&ZoneMisuse<Config>::after_trim_is_rejected_where_meta_data_is_beside>(),
    scenario<&ZoneMisuse<Config>::of_foreign_addresses_is_rejected>(),
    scenario<&ZoneMisuse<Config>::of_runs_is_rejected_where_there_are_none>(),
    scenario<&ZoneMisuse<Config>::second_remote_free_is_reported_from_every_caller>(),
    scenario<&ZoneMisuse<Config>::second_free_by_another_zone_is_reported_at_the_call>(),
    scenario<&ZoneMisuse<Config>::local_then_remote_is_found_at_the_call_or_the_delivery>(),
    scenario<&ZoneMisuse<
        Config>::remote_then_local_is_found_at_the_call_if_hardened_else_at_the_merge>(),
    scenario<&ZoneMisuse<Config>::hardened_rejects_other_zone_then_local_at_the_call>(),
    scenario<&ZoneMisuse<Config>::every_second_free_is_reported_in_random_order>(),
};

}  // namespace slabmalloc::scenario
