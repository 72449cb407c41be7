// SPDX-License-Identifier: MIT
//
// Scenarios of objects that are freed after a grace period: read sections of several readers, at
// random, on one CPU.
#pragma once

#include <cstddef>
#include <cstdint>

#include "scenarios/frames.hpp"
#include "scenarios/list.hpp"
#include "scenarios/scenario.hpp"
#include "slabmalloc/kernel/cpu_zones.hpp"
#include "slabmalloc/kernel/retired_objects.hpp"

namespace slabmalloc::scenario {

/// A kernel of one CPU, whose read sections the scenario opens and closes.
struct ReadingHooks : NoHooks {
  static constexpr std::uint32_t readers = 3;

  static std::uintptr_t grace_period_begin() noexcept { return ++now; }
  static bool has_passed(std::uintptr_t number) noexcept {
    for (const std::uintptr_t began : sections) {
      if (began != 0 && began < number) {
        return false;
      }
    }
    return true;
  }

  static inline std::uintptr_t now = 1;
  static inline std::uintptr_t sections[readers] = {};  ///< When they began, or 0.
};

template <class Config>
struct RetiredObjectsOfOneCpu {
  using Heap = CpuZones<ReadingHooks, Frames, Config>;
  using Retired = RetiredObjects<Heap>;

  struct Route {
    std::uint64_t words[20];
    RetiredLink retired;
  };
  static constexpr RetiredKind kind = RetiredKind::of<Route>(offsetof(Route, retired));
  static constexpr Layout layout = Layout::of<Route>();

  explicit RetiredObjectsOfOneCpu(Trial& its_trial) noexcept : trial(its_trial), frames(trial) {
    for (std::uintptr_t& section : ReadingHooks::sections) {
      section = 0;
    }
  }

  void stay_as_they_were_until_their_readers_leave() {
    for (std::size_t step = 0; step < 4000 * trial.rounds() && !trial.has_failed(); ++step) {
      const std::uint32_t reader = trial.random.below(ReadingHooks::readers);
      switch (trial.random.below(8)) {
        case 0:
          open(reader);
          break;
        case 1:
          close(reader);
          break;
        case 2:
          Retired::step(&retired);
          break;
        case 3:
          retired.free_passed();
          break;
        default:
          replace(trial.random.below(places), step);
      }
    }
    end();
  }

  void serve_a_heap_without_memory_once_their_readers_leave() {
    frames.set_limit(frames.live_bytes() + 64 * kibibyte);
    heap.set_reclaim(Retired::reclaim, &retired);
    List<Route*> all(trial, 2000);
    while (void* const route = heap.allocate(layout, Context::MayNotWait).value_or(nullptr)) {
      all.push_back(static_cast<Route*>(route));
    }
    ReadingHooks::sections[0] = ReadingHooks::now;
    for (Route* const route : all) {
      retired.retire(route, kind, Context::Interrupt);
    }
    trial.refute(heap.allocate(layout), "a reader may look at all of them");
    ReadingHooks::sections[0] = 0;
    for (std::size_t number = 0; number < all.size(); ++number) {
      if (!trial.check(heap.allocate(layout), "their memory serves as many objects again")) {
        break;
      }
    }
    trial.check(retired.drain(), "nothing waits any more");
    heap.release_all();
  }

  static constexpr std::uint32_t places = 24;

 private:
  static void fill(Route& route, std::uint64_t key) {
    for (std::uint64_t& word : route.words) {
      word = key;
    }
  }
  bool holds(const Route& route, std::uint64_t key) {
    bool holds_all = true;
    for (const std::uint64_t word : route.words) {
      holds_all = holds_all && word == key;
    }
    return trial.check(holds_all, "a reader finds an object as it was");
  }

  /// Opens a read section that looks at all objects.
  void open(std::uint32_t reader) {
    close(reader);
    ReadingHooks::sections[reader] = ReadingHooks::now;
    for (std::uint32_t place = 0; place < places; ++place) {
      seen[reader][place] = {table[place], keys[place]};
    }
  }
  void close(std::uint32_t reader) {
    if (ReadingHooks::sections[reader] != 0) {
      for (const Seen& one : seen[reader]) {
        if (one.route != nullptr && !holds(*one.route, one.key)) {
          break;
        }
      }
      ReadingHooks::sections[reader] = 0;
    }
  }
  void replace(std::uint32_t place, std::uint64_t key) {
    constexpr Context contexts[] = {Context::MayWait, Context::MayNotWait, Context::Interrupt};
    const Context context = contexts[trial.random.below(3)];
    Route* const before = table[place];
    table[place] = static_cast<Route*>(heap.allocate(layout, context).value_or(nullptr));
    if (table[place] != nullptr) {
      fill(*table[place], key);
      keys[place] = key;
    }
    if (before != nullptr &&
        (trial.random.one_in(2) || !retired.retire(before, layout, Context::Interrupt))) {
      retired.retire(before, kind, context);
    }
  }
  void end() {
    for (std::uint32_t reader = 0; reader < ReadingHooks::readers; ++reader) {
      close(reader);
    }
    for (Route* const route : table) {
      if (route != nullptr) {
        heap.deallocate(route, layout);
      }
    }
    trial.sound(retired.validate());
    trial.check(retired.drain(), "all that was retired is free");
    trial.sound(heap.validate());
    heap.drain_and_leave_current();
    trial.equal(heap.statistics().zones.used_bytes, 0u, "no object is lost");
    heap.release_all();
    trial.equal(frames.live_bytes(), 0u, "all frames are back");
  }

  struct Seen {
    Route* route = nullptr;
    std::uint64_t key = 0;
  };

 public:
  Trial& trial;
  Frames frames;
  Heap heap{frames};
  Retired retired{heap};
  Route* table[places] = {};
  std::uint64_t keys[places] = {};
  Seen seen[ReadingHooks::readers][places] = {};
};

template <class Config>
inline constexpr Scenario retired_objects_scenarios[] = {
    scenario<&RetiredObjectsOfOneCpu<Config>::stay_as_they_were_until_their_readers_leave>(),
    scenario<
        &RetiredObjectsOfOneCpu<Config>::serve_a_heap_without_memory_once_their_readers_leave>(),
};

}  // namespace slabmalloc::scenario
