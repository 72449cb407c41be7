// SPDX-License-Identifier: MIT
//
// Scenarios in which others free an allocator's objects at every moment between the owner's calls.
#pragma once

#include <cstddef>
#include <cstdint>

#include "scenarios/misuse_log.hpp"
#include "scenarios/pages.hpp"
#include "scenarios/scenario.hpp"

namespace slabmalloc::scenario {

/// An allocator of 64 B whose objects others also free between the owner's calls.
template <class Page>
struct OneSizeRemote {
  static constexpr std::size_t object_bytes = 64;
  static constexpr std::size_t most_pages = 30;
  static constexpr Layout layout = layout_of(object_bytes, 8);

  explicit OneSizeRemote(Trial& its_trial) noexcept
      : trial(its_trial), misuse(trial), source(trial), allocator(object_bytes) {}

  void* allocate() { return allocator.allocate(layout).value_or(nullptr); }
  Objects allocate_all() {
    return scenario::allocate_all(trial, allocator, layout,
                                  most_pages * Page::geometry(object_bytes).slots);
  }

  /// The two halves of a remote free, so that the owner can act in between.
  struct SplitFree {
    void mark() const {
      page->remote(slot / word_bits, words).fetch_or(Word{1} << (slot % word_bits), Order::release);
    }
    void announce() const {
      if (page->announced.fetch_add(1, Order::acq_rel) == 0) {
        RemoteFreeQueue<typename Page::Atomics>::of(page->tag.load(Order::relaxed))->push(page);
      }
    }

    typename Page::Header* page;
    std::uint32_t slot;
    std::uint32_t words;
  };

  void an_object_freed_by_another_is_reused_without_a_call_to_drain() {
    refill(trial, allocator, source, 2);
    for (void* object : allocate_all()) {
      allocator.deallocate_remote(object, layout);
      if (!trial.equal(allocate(), object)) {
        return;
      }
      if (!trial.equal(allocate(), nullptr)) {
        return;
      }
      if (!trial.sound(allocator.validate())) {
        return;
      }
    }
  }

  void many_queued_pages_are_all_reused() {
    refill(trial, allocator, source, 30);
    const Objects objects = allocate_all();
    for (void* object : objects) {
      allocator.deallocate_remote(object, layout);
    }
    trial.equal(allocate_all().size(), objects.size());
    trial.sound(allocator.validate());
  }

  void draining_makes_pages_reclaimable() {
    refill(trial, allocator, source, 3);
    for (void* object : allocate_all()) {
      allocator.deallocate_remote(object, layout);
    }
    allocator.drain();
    trial.sound(allocator.validate());
    trial.equal(allocator.statistics().used, 0u);
    trial.equal(reclaim_all(allocator, source), 3u);
  }

  void a_page_with_frees_that_are_not_drained_is_not_reclaimed() {
    refill(trial, allocator, source, 1);
    void* object = allocate();
    allocator.deallocate_remote(object, layout);
    reclaim_all(allocator, source);
    allocator.drain();
    reclaim_all(allocator, source);
    trial.equal(source.live_pages(), 0u);
    trial.sound(allocator.validate());
  }

  void frees_by_others_are_counted() {
    refill(trial, allocator, source, 2);
    const Objects objects = allocate_all();
    for (std::size_t index = 0; index < objects.size(); ++index) {
      if (index % 3 == 0) {
        allocator.deallocate_remote(objects[index], layout);
      } else if (index % 3 == 1) {
        allocator.deallocate(objects[index], layout);
      }
    }
    allocator.drain();
    const ClassStatistics statistics = allocator.statistics();
    trial.equal(statistics.remote_frees, (objects.size() + 2) / 3);
    trial.equal(statistics.used, objects.size() / 3);
    trial.equal(statistics.allocations, objects.size());
    trial.equal(statistics.frees, objects.size() - objects.size() / 3);
  }

  void an_object_of_another_allocator_goes_home() {
    SCAllocator<Page> other(object_bytes);
    refill(trial, allocator, source, 1);
    const Objects objects = allocate_all();
    for (void* object : objects) {
      other.deallocate(object, layout);
    }
    trial.equal(other.allocate(layout).error(), AllocationError::OutOfMemory);
    trial.equal(allocate_all().size(), objects.size());
    trial.sound(other.validate());
  }

  void a_free_by_another_after_the_owners_is_reported_at_the_merge() {
    refill(trial, allocator, source, 2);
    const Objects objects = allocate_all();
    for (const std::size_t indices[] = {std::size_t{0}, objects.size() / 2, objects.size() - 1};
         const std::size_t index : indices) {
      allocator.deallocate(objects[index], layout);
      allocator.deallocate_remote(objects[index], layout);
      allocator.drain();
      misuse.take_one(MisuseKind::DoubleFree);
      trial.equal(misuse[0].address, objects[index]);
      trial.sound(allocator.validate());
      trial.equal(allocator.statistics().used, objects.size() - 1);
      trial.equal(allocate(), objects[index]);
      trial.equal(allocate(), nullptr, "the slot is given out once");
    }
  }

  void a_free_by_another_of_a_slot_next_to_be_given_out_is_reported() {
    refill(trial, allocator, source, 1);
    const Objects objects = allocate_all();
    allocator.deallocate(objects[3], layout);
    allocator.deallocate(objects[7], layout);
    if (!trial.equal(allocate(), objects[3])) {
      return;
    }
    allocator.deallocate_remote(objects[7], layout);
    allocator.drain();
    misuse.take_all(MisuseKind::DoubleFree, 1u);
    trial.sound(allocator.validate());
    trial.equal(allocate(), objects[7]);
    trial.equal(allocate(), nullptr);
    trial.equal(allocator.statistics().used, objects.size());
  }

  void a_free_by_the_owner_after_anothers_is_reported_at_the_merge() {
    refill(trial, allocator, source, 2);
    const Objects objects = allocate_all();
    for (const std::size_t indices[] = {std::size_t{0}, objects.size() - 1};
         const std::size_t index : indices) {
      allocator.deallocate_remote(objects[index], layout);
      allocator.deallocate(objects[index], layout);
      allocator.drain();
      misuse.take_all(MisuseKind::DoubleFree, 1u);
      trial.sound(allocator.validate());
      trial.equal(allocate(), objects[index]);
      trial.equal(allocate(), nullptr);
    }
  }

  void the_last_object_freed_by_owner_and_another_empties_its_page_once() {
    for (const bool orders[] = {true, false}; const bool owner_first : orders) {
      refill(trial, allocator, source, 1);
      const Objects objects = allocate_all();
      for (std::size_t index = 1; index < objects.size(); ++index) {
        allocator.deallocate(objects[index], layout);
      }
      if (owner_first) {
        allocator.deallocate(objects[0], layout);
        allocator.deallocate_remote(objects[0], layout);
      } else {
        allocator.deallocate_remote(objects[0], layout);
        allocator.deallocate(objects[0], layout);
      }
      reclaim_all(allocator, source);
      allocator.drain();
      reclaim_all(allocator, source);
      misuse.take_all(MisuseKind::DoubleFree, 1u);
      trial.equal(source.live_pages(), 0u);
      trial.sound(allocator.validate());
    }
  }

  void two_frees_by_others_of_one_object_are_reported_once() {
    refill(trial, allocator, source, 1);
    const Objects objects = allocate_all();
    for (const bool choices[] = {false, true}; const bool drain_between : choices) {
      allocator.deallocate_remote(objects[5], layout);
      if (drain_between) {
        allocator.drain();
      }
      allocator.deallocate_remote(objects[5], layout);
      allocator.drain();
      misuse.take_all(MisuseKind::DoubleFree, 1u);
      trial.sound(allocator.validate());
      trial.equal(allocate(), objects[5]);
      trial.equal(allocate(), nullptr);
    }
  }

  void a_free_that_is_not_announced_yet_pins_its_page() {
    for (const bool choices[] = {false, true}; const bool owner_fills_up_before : choices) {
      refill(trial, allocator, source, 1);
      const Objects objects = allocate_all();
      if (!trial.equal(allocate(), nullptr)) {
        return;
      }
      const SplitFree late{Page::header_of(objects[0]), 0, Page::geometry(object_bytes).words};
      late.mark();
      for (std::size_t index = 1; index < objects.size(); ++index) {
        allocator.deallocate_remote(objects[index], layout);
      }
      allocator.drain();
      if (!trial.sound(allocator.validate())) {
        return;
      }
      if (!trial.equal(reclaim_all(allocator, source), 0u,
                       "its announcement would land in memory of someone else")) {
        return;
      }
      if (owner_fills_up_before) {
        if (!trial.equal(allocate_all().size(), objects.size(), "marked slots are reusable")) {
          return;
        }
        if (!trial.sound(allocator.validate())) {
          return;
        }
        late.announce();
        allocator.drain();
        if (!trial.sound(allocator.validate())) {
          return;
        }
        if (!trial.equal(allocator.statistics().used, objects.size())) {
          return;
        }
        for (void* object : objects) {
          allocator.deallocate(object, layout);
        }
      } else {
        late.announce();
        allocator.drain();
      }
      trial.sound(allocator.validate());
      trial.equal(reclaim_all(allocator, source), 1u);
    }
  }

  Trial& trial;
  MisuseLog misuse;
  PageSource<Page> source;
  SCAllocator<Page> allocator;
};

template <class Page>
inline constexpr Scenario one_size_remote_scenarios[] = {
    scenario<&OneSizeRemote<Page>::an_object_freed_by_another_is_reused_without_a_call_to_drain>(),
    scenario<&OneSizeRemote<Page>::many_queued_pages_are_all_reused>(),
    scenario<&OneSizeRemote<Page>::draining_makes_pages_reclaimable>(),
    scenario<&OneSizeRemote<Page>::a_page_with_frees_that_are_not_drained_is_not_reclaimed>(),
    scenario<&OneSizeRemote<Page>::frees_by_others_are_counted>(),
    scenario<&OneSizeRemote<Page>::an_object_of_another_allocator_goes_home>(),
    scenario<&OneSizeRemote<Page>::a_free_by_another_after_the_owners_is_reported_at_the_merge>(),
    scenario<&OneSizeRemote<Page>::a_free_by_another_of_a_slot_next_to_be_given_out_is_reported>(),
    scenario<&OneSizeRemote<Page>::a_free_by_the_owner_after_anothers_is_reported_at_the_merge>(),
    scenario<
        &OneSizeRemote<Page>::the_last_object_freed_by_owner_and_another_empties_its_page_once>(),
    scenario<&OneSizeRemote<Page>::two_frees_by_others_of_one_object_are_reported_once>(),
    scenario<&OneSizeRemote<Page>::a_free_that_is_not_announced_yet_pins_its_page>(),
};

}  // namespace slabmalloc::scenario
