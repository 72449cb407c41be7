// SPDX-License-Identifier: MIT
// Zones of every configuration against a reference heap, by random operations.
#include "zone/zone_model.hpp"

#include <array>
#include <cstdint>
#include <memory>

namespace slabmalloc::test {
namespace {

/// How much of a configuration one test can touch.
template <class Config>
constexpr bool has_huge_frames = requires {
  requires Config::LargePage::size_bytes >
  4 * mebibyte;
};

/// A layout for zones of type `Zone`: mostly small, sometimes aligned, seldom above all classes.
template <class Zone>
Layout random_layout(Random& random) {
  constexpr std::size_t largest = Zone::MAX_ALLOC_SIZE;
  std::size_t size = random.between(0, std::min<std::size_t>(256, largest));
  std::size_t alignment = std::size_t{1} << random.below(4);
  if (const std::size_t kind = random.below(100); kind < 20) {
    if constexpr (has_huge_frames<typename Zone::Config>) {
      size = std::array<std::size_t, 2>{300, 100000}[kind % 2];
    } else {
      size = random.between(1, std::min(largest, kind < 12 ? 8 * kibibyte : largest));
      alignment <<= random.one_in(3) ? random.below(9) : 0;
    }
  } else if (kind == 99 && Zone::has_runs) {
    size = largest + random.between(1, 64 * kibibyte);
  }
  return layout_of(size, alignment);
}

/// One step on the blocks.
template <class Zone>
void step_blocks(ZoneModel<Zone>& model, Random& random, std::size_t zones, std::size_t most_live) {
  const bool wants_more = model.live_blocks() < most_live && !random.one_in(3);
  if (model.live_blocks() == 0 || wants_more) {
    model.allocate(random.below(zones), random_layout<Zone>(random), random.one_in(4));
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
class PagedZoneModel : public testing::Test {
 protected:
  using Pager = typename PagerFor<Config>::Type;
  using Zone = ScopedZone<Pager, Config>;

  void run(FrameContent content, std::size_t steps, std::size_t steps_per_check,
           std::size_t most_live, std::size_t edge_bytes) {
    Random random;
    const auto pager = make_pager(content);
    {
      std::array<Zone, 2> zones{Zone(*pager), Zone(*pager)};
      ZoneModel<Zone> model({&zones[0], &zones[1]}, edge_bytes);
      for (std::size_t step = 0; step < steps && !HasFailure(); ++step) {
        // The heap grows and shrinks as a whole, so that pages become empty.
        const std::size_t limit = step / 1000 % 2 == 0 ? most_live : most_live / 16;
        step_blocks(model, random, zones.size(), limit);
        step_pages(zones[random.below(zones.size())], random);
        if (step % steps_per_check == 0) {
          model.check(step % (64 * steps_per_check) == 0);
          model.check_counts();
          ASSERT_EQ(pager->live_bytes(), model.frame_bytes() + model.live_run_bytes());
        }
        if (step % (32 * steps_per_check) == 0) {
          model.check_settled();
        }
      }
      EXPECT_EQ(model.exhaustions(), 0u);
      model.check(true);
      while (model.live_blocks() != 0) {
        model.deallocate(random.below(model.live_blocks()), FreeRoute(random.below(3)));
      }
      model.check_settled();
      for (Zone& zone : zones) {
        zone.trim();
        EXPECT_EQ(zone.validate(), nullptr);
      }
      EXPECT_EQ(pager->live_bytes(), 0u) << "every block is freed, so every frame is given back";
    }
  }

 private:
  static std::unique_ptr<Pager> make_pager(FrameContent content) {
    if constexpr (has_huge_frames<Config>) {
      return std::make_unique<Pager>(FrameContent::untouched);
    } else if constexpr (std::is_constructible_v<Pager, FrameContent>) {
      return std::make_unique<Pager>(content);
    } else {
      return std::make_unique<Pager>();
    }
  }

  static void step_pages(Zone& zone, Random& random) {
    switch (random.below(2000)) {
      case 0:
        zone.trim();
        break;
      case 1:
      case 2:
      case 3:
        zone.settle();
        break;
      default:
        if (random.one_in(100)) {
          zone.collect();
        }
    }
  }
};

using PagedConfigs =
    testing::Types<DefaultConfig, PowerOfTwoConfig, MiddlePageConfig, BasePageConfig,
                   GranuleConfig<16 * kibibyte>, GranuleConfig<64 * kibibyte>, HardenedConfig,
                   SingleCpuConfig, EagerConfig, BesideConfig, HardenedBesideConfig>;
TYPED_TEST_SUITE(PagedZoneModel, PagedConfigs);

TYPED_TEST(PagedZoneModel, holds_after_every_step) {
  const std::size_t steps = has_huge_frames<TypeParam> ? 600 : 3000;
  this->run(FrameContent::garbage, steps, 1, 300, 64 * kibibyte);
}

TYPED_TEST(PagedZoneModel, holds_over_many_steps) {
  const std::size_t steps = has_huge_frames<TypeParam> ? 10000 : 30000;
  this->run(FrameContent::zero, steps, 100, 3000, 128);
}

/// Zones that are refilled and reclaimed by hand.
template <class Config>
class HandRefilledZoneModel : public testing::Test {
 protected:
  using Zone = BasicZoneAllocator<Config>;

  /// Hands the zone a page for `layout`, of whichever kind its class lives on.
  void refill(Zone& zone, Layout layout) {
    using Base = typename Config::BasePage;
    using Large = typename Config::LargePage;
    if (Zone::frame_bytes(layout) == Base::size_bytes) {
      ASSERT_TRUE(zone.refill(layout, frames_.page<Base>()));
    } else {
      ASSERT_TRUE(zone.refill_large(layout, frames_.page<Large>()));
    }
  }

  void reclaim(Zone& zone, std::size_t limit) {
    const std::size_t before = frames_.live_frames();
    const auto take = [this](auto* page) { frames_.take_page(page); };
    const std::size_t count =
        zone.try_reclaim_base_pages(limit, take) + zone.try_reclaim_large_pages(limit, take);
    EXPECT_LE(count, 2 * limit);
    EXPECT_EQ(frames_.live_frames(), before - count);
  }

  FrameSource frames_{has_huge_frames<Config> ? FrameContent::untouched : FrameContent::garbage};
};

using HandRefilledConfigs = testing::Types<DefaultConfig, PowerOfTwoConfig, HardenedConfig,
                                           SingleCpuConfig, GranuleConfig<16 * kibibyte>>;
TYPED_TEST_SUITE(HandRefilledZoneModel, HandRefilledConfigs);

TYPED_TEST(HandRefilledZoneModel, holds_after_every_step) {
  using HandZone = typename TestFixture::Zone;
  Random random;
  std::array<HandZone, 2> zones;
  ZoneModel<HandZone> model({&zones[0], &zones[1]}, 64 * kibibyte);
  for (std::size_t step = 0; step < 3000 && !this->HasFailure(); ++step) {
    const std::size_t zone = random.below(zones.size());
    if (model.live_blocks() == 0 || (model.live_blocks() < 400 && !random.one_in(3))) {
      const Layout layout = random_layout<HandZone>(random);
      if (!model.allocate(zone, layout, random.one_in(4))) {
        this->refill(zones[zone], layout);
        ASSERT_TRUE(model.allocate(zone, layout, false)) << "there is a page for it now";
      }
    } else {
      model.deallocate(random.below(model.live_blocks()), FreeRoute(random.below(3)));
    }
    if (random.one_in(100)) {
      this->reclaim(zones[zone], random.below(4));
    }
    if (random.one_in(200)) {
      zones[zone].settle();
    }
    model.check(step % 64 == 0);
    model.check_counts();
    if (step % 32 == 0) {
      model.check_settled();
    }
    ASSERT_EQ(this->frames_.live_bytes(), model.frame_bytes());
  }
  while (model.live_blocks() != 0) {
    model.deallocate(0, FreeRoute(random.below(3)));
  }
  model.check_settled();
  for (HandZone& zone : zones) {
    this->reclaim(zone, SIZE_MAX / 4);
    EXPECT_EQ(zone.validate(), nullptr);
  }
  EXPECT_EQ(this->frames_.live_frames(), 0u) << "all pages are empty, so all can be reclaimed";
}

}  // namespace
}  // namespace slabmalloc::test
