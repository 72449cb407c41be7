// SPDX-License-Identifier: MIT
//
// Compares zones of every configuration with a reference heap, by random operations.
#pragma once

#include <cstddef>
#include <cstdint>

#include "scenarios/scenario.hpp"
#include "scenarios/zone_model.hpp"

namespace slabmalloc::scenario {

/// True if a scenario cannot fill several large pages.
template <class Config>
constexpr bool has_huge_pages =
    requires { requires sizeof(typename Config::LargePage) > most_filled_bytes; };

/// A layout for zones of type `Zone`: mostly small, sometimes aligned, seldom above all classes.
template <class Zone>
Layout random_layout(Random& random) noexcept {
  constexpr std::size_t largest = Zone::MAX_ALLOC_SIZE;
  std::size_t size = random.between(0, largest < 256 ? largest : 256);
  std::size_t alignment = std::size_t{1} << random.below(4);
  if (const std::size_t kind = random.below(100); kind < 20) {
    if constexpr (has_huge_pages<typename Zone::Config>) {
      size = kind % 2 == 0 ? 300 : 100'000;
    } else {
      constexpr std::size_t common = largest < 8 * kibibyte ? largest : 8 * kibibyte;
      size = random.between(1, kind < 12 ? common : largest);
      alignment <<= random.one_in(3) ? random.below(9) : 0;
    }
  } else if (kind == 99 && Zone::has_runs) {
    size = largest + random.between(1, 64 * kibibyte);
  }
  return layout_of(size, alignment);
}

/// Makes one step on the blocks of a model.
template <class Zone>
void step_blocks(ZoneModel<Zone>& model, Random& random, std::size_t most_live) noexcept {
  const bool wants_more = model.live_blocks() < most_live && !random.one_in(3);
  if (model.live_blocks() == 0 || wants_more) {
    model.allocate(random.below(2), random_layout<Zone>(random), random.one_in(4));
    return;
  }
  const std::size_t choice = random.below(model.live_blocks());
  switch (random.below(6)) {
    case 0:
      model.reallocate(choice, random_layout<Zone>(random));
      break;
    case 1:
      model.deallocate(choice, FreeRoute::static_remote);
      break;
    case 2:
      model.deallocate(choice, FreeRoute::other_zone);
      break;
    default:
      model.deallocate(choice, FreeRoute::own_zone);
  }
}

template <class Config>
struct RandomPagedZones {
  using Pager = typename PagerFor<Config>::Type;
  using Zone = ScopedZone<Pager, Config>;

  explicit RandomPagedZones(Trial& its_trial) noexcept : trial(its_trial), pager(trial) {}

  struct Length {
    std::size_t steps;
    std::size_t steps_per_check;
    std::size_t most_live;
    std::size_t edge_bytes;
  };

  void holds_after_every_step() {
    run({(has_huge_pages<Config> ? 60 : 300) * trial.rounds(), 1, 300, 64 * kibibyte});
  }
  void holds_over_many_steps() {
    run({(has_huge_pages<Config> ? 1000 : 3000) * trial.rounds(), 100, 3000, 128});
  }

  void run(const Length& length) {
    ZoneModel<Zone> model(trial, zones, length.most_live + 1, length.edge_bytes);
    // The whole heap grows and shrinks, so that pages become empty.
    const std::size_t phase = length.steps / 3 < 1000 ? length.steps / 3 : 1000;
    for (std::size_t step = 0; step < length.steps && !trial.has_failed(); ++step) {
      step_blocks(model, trial.random,
                  step / phase % 2 == 0 ? length.most_live : length.most_live / 16);
      step_pages(zones[trial.random.below(2)]);
      if (step % length.steps_per_check == 0) {
        model.check(step % (64 * length.steps_per_check) == 0);
        model.check_counts();
        trial.equal(pager.live_bytes(), model.frame_bytes() + model.live_run_bytes());
      }
      if (step % (32 * length.steps_per_check) == 0) {
        model.check_settled();
      }
    }
    finish(model);
  }

  void finish(ZoneModel<Zone>& model) {
    trial.equal(model.exhaustions(), 0u);
    model.check(true);
    while (model.live_blocks() != 0) {
      model.deallocate(trial.random.below(model.live_blocks()), FreeRoute(trial.random.below(3)));
    }
    model.check_settled();
    for (Zone& zone : zones) {
      zone.trim();
      trial.sound(zone.validate());
    }
    trial.equal(pager.live_bytes(), 0u, "every block is freed, so every frame is given back");
  }

  void step_pages(Zone& zone) {
    const std::size_t kind = trial.random.below(2000);
    if (kind == 0) {
      zone.trim();
    } else if (kind < 4) {
      zone.drain_and_leave_current();
    } else if (kind < 24) {
      zone.drain();
    }
  }

  Trial& trial;
  Pager pager;
  Zone zones[2] = {Zone(pager), Zone(pager)};
};

/// Zones that a scenario refills and reclaims by hand.
template <class Config>
struct RandomZonesByHand {
  using Zone = BasicZoneAllocator<Config>;

  explicit RandomZonesByHand(Trial& its_trial) noexcept : trial(its_trial), frames(trial) {}

  void holds_after_every_step() {
    ZoneModel<Zone> model(trial, zones, 401, 64 * kibibyte);
    const std::size_t steps = 300 * trial.rounds();
    for (std::size_t step = 0; step < steps && !trial.has_failed(); ++step) {
      const std::size_t zone = trial.random.below(2);
      if (model.live_blocks() == 0 || (model.live_blocks() < 400 && !trial.random.one_in(3))) {
        const Layout layout = random_layout<Zone>(trial.random);
        if (!model.allocate(zone, layout, trial.random.one_in(4))) {
          refill(zones[zone], layout);
          trial.check(model.allocate(zone, layout, false), "there is a page for it now");
        }
      } else {
        model.deallocate(trial.random.below(model.live_blocks()), FreeRoute(trial.random.below(3)));
      }
      if (trial.random.one_in(100)) {
        reclaim(zones[zone], trial.random.below(4));
      }
      if (trial.random.one_in(200)) {
        zones[zone].drain_and_leave_current();
      }
      model.check(step % 64 == 0);
      model.check_counts();
      if (step % 32 == 0) {
        model.check_settled();
      }
      trial.equal(frames.live_bytes(), model.frame_bytes());
    }
    while (model.live_blocks() != 0) {
      model.deallocate(0, FreeRoute(trial.random.below(3)));
    }
    model.check_settled();
    for (Zone& zone : zones) {
      reclaim(zone, ~std::size_t{0} / 4);
      trial.sound(zone.validate());
    }
    trial.equal(frames.live_frames(), 0u, "all pages are empty, so all can be reclaimed");
  }

  /// Refills the zone for `layout` with a page of the kind that its class uses.
  void refill(Zone& zone, Layout layout) {
    using Base = typename Config::BasePage;
    using Large = typename Config::LargePage;
    trial.check(Zone::frame_bytes(layout) == Base::size_bytes
                    ? zone.refill(layout, frames.template page<Base>())
                    : zone.refill_large(layout, frames.template page<Large>()));
  }

  void reclaim(Zone& zone, std::size_t limit) {
    const std::size_t before = frames.live_frames();
    const auto take = [this](auto* page) { frames.take_page(page); };
    const std::size_t count =
        zone.try_reclaim_base_pages(limit, take) + zone.try_reclaim_large_pages(limit, take);
    trial.at_most(count, 2 * limit);
    trial.equal(frames.live_frames(), before - count);
  }

  Trial& trial;
  Frames frames;
  Zone zones[2];
};

template <class Config>
inline constexpr Scenario random_paged_zones_scenarios[] = {
    scenario<&RandomPagedZones<Config>::holds_after_every_step>(),
    scenario<&RandomPagedZones<Config>::holds_over_many_steps>(),
};

template <class Config>
inline constexpr Scenario random_zones_by_hand_scenarios[] = {
    scenario<&RandomZonesByHand<Config>::holds_after_every_step>(),
};

}  // namespace slabmalloc::scenario
