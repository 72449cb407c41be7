// SPDX-License-Identifier: MIT
//
// Compares an allocator of one size with a reference that knows every slot. The calls are random,
// good and bad, and validate() follows each.
#pragma once

#include <cstddef>
#include <cstdint>

#include "scenarios/misuse_log.hpp"
#include "scenarios/pages.hpp"
#include "scenarios/scenario.hpp"
#include "support/pattern.hpp"

namespace slabmalloc::scenario {

template <class Page>
struct OneSizeModel {
  static constexpr std::size_t most_pages = 6;
  static constexpr std::size_t most_live = most_pages * (Page::frame_bytes(8) / 8);

  struct Object {
    std::byte* address;
    std::uint64_t key;
    bool operator==(const Object& other) const { return address == other.address; }
  };

  explicit OneSizeModel(Trial& its_trial) noexcept
      : trial(its_trial),
        misuse(trial),
        source(trial),
        pages(trial, most_pages),
        live(trial, most_live),
        buffered(trial, most_live) {}

  void small_objects_agree_with_the_model() { run(8 + 8 * trial.random.below(4), 600); }
  void a_word_of_objects_agrees_with_the_model() { run(64 + trial.random.below(64), 800); }
  void few_objects_on_a_page_agree_with_the_model() {
    run(Page::frame_bytes(0) / (4 + trial.random.below(8)), 1000);
  }
  void one_object_on_a_page_agrees_with_the_model() { run(Page::frame_bytes(0) - 64, 600); }

  /// For each of the host's rounds, makes and checks so many random steps on an allocator of
  /// `size`.
  void run(std::size_t size, std::size_t steps) {
    SCAllocator<Page> its_allocator(size);
    allocator = &its_allocator;
    layout = layout_of(size, 8 <= size ? 8 : 1);
    slot_bytes = allocator->usable_size();
    geometry = Page::geometry(slot_bytes);
    for (std::size_t step = 0; step < steps * trial.rounds() && !trial.has_failed(); ++step) {
      take_step();
      trial.sound(allocator->validate());
      if (step % 64 == 0) {
        check_visit();
      }
    }
    finish();
  }

  void take_step() {
    const std::size_t kind = trial.random.below(100);
    if (kind < 2) {
      add_page();
    } else if (kind < 4) {
      reclaim(trial.random.below(4));
    } else if (kind < 6) {
      drain();
    } else if (kind < 8) {
      misalign();
    } else if (kind < 14) {
      touch_any_slot();
    } else if (kind < 55) {
      allocate();
    } else if (!live.empty()) {
      free_object(trial.random.below(live.size()), kind < 80);
    }
  }

  void allocate() {
    const Result<void*> object = allocator->allocate(layout);
    trial.equal(static_cast<bool>(object), live.size() < pages.size() * geometry.slots,
                "never out of memory while a slot is free");
    if (object) {
      ++allocations;
      const Object one{static_cast<std::byte*>(*object), ++last_key};
      trial.refute(live.contains(one), "given out twice");
      live.push_back(one);
      buffered.remove(one.address);
      test::fill_pattern(*object, layout.size(), one.key);
    }
  }

  void free_object(std::size_t index, bool by_owner) {
    const Object object = live.remove_at(index);
    trial.check(test::holds_pattern(object.address, layout.size(), object.key));
    if (by_owner) {
      allocator->deallocate(object.address, layout);
    } else {
      allocator->deallocate_remote(object.address, layout);
      ++remote_frees;
      buffered.push_back(object.address);
    }
  }

  /// Frees any slot, live or not. At the latest, the next drain must report a free of a slot that
  /// is not live.
  void touch_any_slot() {
    if (pages.empty()) {
      return;
    }
    std::byte* slot = any_page() + trial.random.below(geometry.slots) * slot_bytes;
    const bool by_owner = trial.random.one_in(2);
    if (const std::size_t index = live.index_of({slot, 0}); index < live.size()) {
      free_object(index, by_owner);
      return;
    }
    if (by_owner) {
      allocator->deallocate(slot, layout);
    } else {
      allocator->deallocate_remote(slot, layout);
    }
    allocator->drain();
    buffered.clear();
    misuse.take_one(MisuseKind::DoubleFree);
    // Double frees that the merge drained count as frees by others.
    remote_frees = allocator->statistics().remote_frees;
    drain();
  }

  void misalign() {
    const std::size_t offset = trial.random.below(Page::frame_bytes(slot_bytes));
    if (pages.empty() || (offset % slot_bytes == 0 && offset / slot_bytes < geometry.slots)) {
      return;
    }
    std::byte* address = any_page() + offset;
    if (trial.random.one_in(2)) {
      allocator->deallocate(address, layout);
    } else {
      allocator->deallocate_remote(address, layout);
    }
    misuse.take_one(MisuseKind::MisalignedFree);
  }

  void add_page() {
    if (pages.size() < most_pages) {
      Page* page = source.page();
      trial.check(allocator->refill(page));
      pages.push_back(page);
      ++refills;
    }
  }

  void reclaim(std::size_t limit) {
    const std::size_t count = allocator->try_reclaim_pages(limit, [&](Page* page) {
      trial.check(pages.remove(page));
      auto* frame = reinterpret_cast<std::byte*>(page);
      for (const Object& object : live) {
        const bool is_in_page =
            object.address >= frame && object.address < frame + Page::frame_bytes(slot_bytes);
        trial.refute(is_in_page, "a page with a live object was reclaimed");
      }
      source.take_back(page);
      ++reclaims;
    });
    trial.at_most(count, limit);
  }

  void drain() {
    allocator->drain();
    buffered.clear();
    const ClassStatistics statistics = allocator->statistics();
    trial.equal(statistics.used, live.size());
    trial.equal(statistics.allocations, allocations);
    trial.equal(statistics.frees, allocations - live.size());
    trial.equal(statistics.remote_frees, remote_frees);
    trial.equal(statistics.pages, pages.size());
    trial.equal(statistics.refills, refills);
    trial.equal(statistics.reclaims, reclaims);
  }

  void check_visit() {
    Objects visited(trial, most_live);
    Objects expected(trial, most_live);
    allocator->visit_live([&](void* object, std::size_t bytes) {
      trial.equal(bytes, slot_bytes);
      visited.push_back(object);
    });
    for (const Object& object : live) {
      expected.push_back(object.address);
    }
    trial.check(same_elements(visited, expected), "exactly the live objects are visited");
    const ClassStatistics statistics = allocator->statistics();
    trial.at_least(statistics.used, live.size());
    trial.at_most(statistics.used, live.size() + buffered.size());
  }

  void finish() {
    while (!live.empty()) {
      free_object(live.size() - 1, live.size() % 2 == 0);
    }
    drain();
    reclaim(most_pages);
    trial.equal(source.live_pages(), 0u);
    trial.sound(allocator->validate());
  }

  std::byte* any_page() {
    return reinterpret_cast<std::byte*>(pages[trial.random.below(pages.size())]);
  }

  Trial& trial;
  MisuseLog misuse;
  PageSource<Page> source;
  SCAllocator<Page>* allocator = nullptr;
  Layout layout;
  std::size_t slot_bytes = 0;
  SlotGeometry geometry;
  List<Page*> pages;
  List<Object> live;
  Objects buffered;  ///< Freed by others, perhaps not drained yet.
  std::uint64_t last_key = 0;
  std::size_t allocations = 0;
  std::size_t remote_frees = 0;
  std::size_t refills = 0;
  std::size_t reclaims = 0;
};

template <class Page>
inline constexpr Scenario one_size_model_scenarios[] = {
    scenario<&OneSizeModel<Page>::small_objects_agree_with_the_model>(),
    scenario<&OneSizeModel<Page>::a_word_of_objects_agrees_with_the_model>(),
    scenario<&OneSizeModel<Page>::few_objects_on_a_page_agree_with_the_model>(),
    scenario<&OneSizeModel<Page>::one_object_on_a_page_agrees_with_the_model>(),
};

}  // namespace slabmalloc::scenario
