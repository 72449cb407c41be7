// SPDX-License-Identifier: MIT
//
// Scenarios of reallocation of an address that is no live object.
#pragma once

#include <cstddef>

#include "scenarios/configs.hpp"
#include "scenarios/misuse_log.hpp"
#include "scenarios/scenario.hpp"

namespace slabmalloc::scenario {

struct Reallocation {
  using Zone = PagedZone<Frames, MiddlePageConfig>;

  explicit Reallocation(Trial& its_trial) noexcept
      : trial(its_trial), frames(trial), misuse(trial) {}

  static constexpr Layout bytes(std::size_t size) { return layout_of(size, 8); }

  void expect_refused(void* object, Layout old_layout, Layout new_layout, MisuseKind kind,
                      Where where = Where::here()) {
    const std::size_t used = zone.statistics().used_bytes;
    const Result<void*> result = zone.reallocate(object, old_layout, new_layout);
    trial.refute(result, "", where);
    trial.equal(result.error(), AllocationError::InvalidLayout, "", where);
    misuse.take_one(kind, where);
    trial.equal(zone.statistics().used_bytes, used, "", where);
    trial.sound(zone.validate(), where);
  }

  void of_a_null_pointer_allocates() {
    trial.check(zone.reallocate(nullptr, bytes(8), bytes(100)));
    trial.equal(zone.statistics().used_bytes, 112u);
  }

  void of_a_freed_object_is_reported_whether_it_would_move_or_stay() {
    void* object = zone.allocate(bytes(100)).value();
    if (!trial.check(zone.allocate(bytes(100)))) {
      return;
    }
    zone.deallocate(object, bytes(100));
    expect_refused(object, bytes(100), bytes(110), MisuseKind::DoubleFree);
    expect_refused(object, bytes(100), bytes(1000), MisuseKind::DoubleFree);
  }

  void with_another_size_than_the_objects_is_reported() {
    void* object = zone.allocate(bytes(32)).value();
    expect_refused(object, bytes(200), bytes(1000), MisuseKind::SizeMismatch);
  }

  void of_an_address_inside_an_object_is_reported() {
    auto* object = static_cast<char*>(zone.allocate(bytes(64)).value());
    expect_refused(object + 8, bytes(64), bytes(1000), MisuseKind::MisalignedFree);
  }

  void that_finds_no_memory_leaves_the_object_as_it_was() {
    auto* object = static_cast<char*>(zone.allocate(bytes(64)).value());
    __builtin_memset(object, 0x3C, 64);
    frames.set_limit(0);
    const Result<void*> result = zone.reallocate(object, bytes(64), bytes(5000));
    trial.refute(result);
    trial.equal(result.error(), AllocationError::OutOfMemory);
    trial.equal(object[0], 0x3C);
    trial.equal(object[63], 0x3C);
    zone.deallocate(object, bytes(64));
  }

  Trial& trial;
  Frames frames;
  MisuseLog misuse;
  Zone zone{frames};
};

inline constexpr Scenario reallocation_scenarios[] = {
    scenario<&Reallocation::of_a_null_pointer_allocates>(),
    scenario<&Reallocation::of_a_freed_object_is_reported_whether_it_would_move_or_stay>(),
    scenario<&Reallocation::with_another_size_than_the_objects_is_reported>(),
    scenario<&Reallocation::of_an_address_inside_an_object_is_reported>(),
    scenario<&Reallocation::that_finds_no_memory_leaves_the_object_as_it_was>(),
};

}  // namespace slabmalloc::scenario
