// SPDX-License-Identifier: MIT
//
// A libFuzzer target: two zones that free each other's blocks, over a pager that fails on demand,
// against the model of zone_model.hpp. Bad frees must be reported and change nothing.
#include "scenarios/hosted_host.hpp"
#include "scenarios/misuse_log.hpp"
#include "scenarios/zone_model.hpp"
#include "support/fuzz.hpp"

namespace slabmalloc::scenario {
namespace {

using BaseConfig = BaseGranuleConfig<4 * kibibyte>;
struct HardenedBaseConfig : BaseConfig {
  static constexpr bool hardened = true;
};
struct EagerBaseConfig : BaseConfig {
  static constexpr std::uint32_t idle_pages_per_class = 0;
  static constexpr std::uint32_t depot_pages = 0;
};
/// Pages of two sizes, and claims that soon drain.
struct TwoPagesConfig : CommonConfig {
  using BasePage = EmbeddedPage<4 * kibibyte>;
  using MiddlePage = EmbeddedPage<16 * kibibyte>;
  using SizeClasses = SizeClassTable<SmallSpec>;
  using Pages = PageKinds<PageKind<BasePage, 128>, PageKind<MiddlePage, 1024>>;
  static constexpr std::uint32_t claims_per_drain = 3;
  static constexpr std::uint32_t drain_pages = 1;
};
static_assert(TwoPagesConfig::claims_per_drain != CommonConfig::claims_per_drain);

template <class Config>
class ZoneProgram {
  using Zone = ScopedZone<Frames, Config>;
  static constexpr std::size_t most_live = 600;
  static constexpr std::size_t edge_bytes = 64;

 public:
  ZoneProgram(Trial& trial, test::FuzzInput& input) : trial_(trial), input_(input) {}

  void run() {
    for (std::size_t step = 1; !input_.is_empty(); ++step) {
      const std::size_t exhaustions = model_.exhaustions();
      act();
      trial_.check(may_fail_ || model_.exhaustions() == exhaustions, "the pager has frames");
      misuse_.none();
      if (step % 32 == 0) {
        model_.check(step % 128 == 0);
        model_.check_counts();
        trial_.equal(pager_.live_bytes(), model_.frame_bytes() + model_.live_run_bytes());
      }
    }
    free_all();
  }

 private:
  void act() {
    const std::size_t blocks = model_.live_blocks();
    switch (input_.below(16)) {
      case 0:
      case 1:
      case 2:
        return allocate(1);
      case 3:
        return allocate(input_.between(1, 80));
      case 4:
      case 5:
      case 6:
        return blocks != 0 ? free_some(1) : void();
      case 7:
        return blocks != 0 ? free_some(input_.between(1, 80)) : void();
      case 8:
        return blocks != 0 ? model_.reallocate(input_.below(blocks), some_layout()) : void();
      case 9:
        return zones_[input_.below(2)].drain();
      case 10:
        return zones_[input_.below(2)].drain_and_leave_current();
      case 11:
        zones_[input_.below(2)].trim();
        return;
      case 12:
        return let_pager_fail();
      case 13:
        return blocks != 0 ? free_badly(input_.below(blocks)) : void();
      case 14:
        return blocks != 0 ? free_twice(input_.below(blocks)) : void();
      default:
        return model_.check_settled();
    }
  }

  Layout some_layout() {
    constexpr std::size_t largest = Zone::MAX_ALLOC_SIZE;
    switch (input_.below(8)) {
      case 0:
        return layout_of(input_.between(0, largest));
      case 1:
        return layout_of(input_.between(0, largest), input_.power_of_two(9));
      case 2:
        return layout_of(largest + input_.between(1, 8 * kibibyte));
      default:
        return layout_of(8 * input_.between(0, 16), 8);
    }
  }

  void allocate(std::size_t count) {
    const std::size_t zone = input_.below(2);
    const bool zeroed = input_.one_in(4);
    const Layout layout = some_layout();
    while (count-- != 0 && model_.live_blocks() < most_live) {
      model_.allocate(zone, layout, zeroed);
    }
  }

  void free_some(std::size_t count) {
    const auto route = FreeRoute(input_.below(3));
    // Neighbours in the list come from one page, and so does each second one.
    const std::size_t stride = input_.between(1, 2);
    std::size_t place = input_.below(model_.live_blocks());
    for (; count-- != 0 && model_.live_blocks() != 0; place += stride) {
      model_.deallocate(place % model_.live_blocks(), route);
    }
  }

  void let_pager_fail() {
    may_fail_ = !input_.one_in(3);
    pager_.fail_calls(input_.below(4), may_fail_ ? input_.below(4) : 0);
    pager_.set_limit(may_fail_ && input_.one_in(2)
                         ? pager_.live_bytes() + input_.below(4) * 4 * kibibyte
                         : ~std::size_t{0});
  }

  /// Frees an address inside a block, or a block with the layout of another class.
  void free_badly(std::size_t choice) {
    const auto [block, layout, zone] = model_.place(choice);
    const std::uint32_t index = Zone::class_for(layout);
    if (index == Zone::SizeClasses::no_class) {
      return;
    }
    const Layout other = some_layout();
    if (layout.size() > 1 && input_.one_in(2)) {
      free_by_any_route(block + input_.between(1, layout.size() - 1), layout, zone);
      expect_one(MisuseKind::MisalignedFree, MisuseKind::MisalignedFree);
    } else if (Zone::class_for(other) != index &&
               Zone::frame_bytes(other) == Zone::frame_bytes(layout)) {
      free_by_any_route(block, other, zone);
      expect_one(MisuseKind::SizeMismatch, MisuseKind::ForeignPointer);
    }
  }

  /// Frees a block a second time, if its page is still there.
  void free_twice(std::size_t choice) {
    const auto [block, layout, zone] = model_.place(choice);
    if (Zone::class_for(layout) == Zone::SizeClasses::no_class) {
      return;
    }
    model_.check_settled();
    const std::size_t bytes = pager_.live_bytes();
    model_.deallocate(choice, FreeRoute(input_.below(3)));
    drain_all();
    if (pager_.live_bytes() == bytes) {
      free_by_any_route(block, layout, zone);
      expect_one(MisuseKind::DoubleFree, MisuseKind::ForeignPointer);
    }
  }

  void free_by_any_route(std::byte* address, Layout layout, std::size_t zone) {
    switch (FreeRoute(input_.below(3))) {
      case FreeRoute::own_zone:
        return zones_[zone].deallocate(address, layout);
      case FreeRoute::other_zone:
        return zones_[1 - zone].deallocate(address, layout);
      case FreeRoute::static_remote:
        return Zone::deallocate_remote(address, layout);
    }
  }

  void drain_all() {
    for (const std::size_t zones[] = {0, 1, 0, 1}; const std::size_t zone : zones) {
      zones_[zone].drain();
    }
  }

  /// Expects one report of either kind, once all frees have arrived.
  void expect_one(MisuseKind kind, MisuseKind other) {
    drain_all();
    trial_.equal(misuse_.take(), 1u, "a bad free is reported, and once");
    trial_.check(misuse_[0].kind == kind || misuse_[0].kind == other, describe(misuse_[0].kind));
    model_.check_counts();
  }

  void free_all() {
    model_.check(true);
    while (model_.live_blocks() != 0) {
      model_.deallocate(0, FreeRoute(model_.live_blocks() % 3));
    }
    model_.check_settled();
    for (Zone& zone : zones_) {
      zone.trim();
      trial_.sound(zone.validate());
    }
    trial_.equal(pager_.live_bytes(), 0u, "every block is freed, so every frame is given back");
  }

  Trial& trial_;
  test::FuzzInput& input_;
  MisuseLog misuse_{trial_};
  Frames pager_{trial_};
  Zone zones_[2] = {Zone(pager_), Zone(pager_)};
  ZoneModel<Zone> model_{trial_, zones_, most_live + 1, edge_bytes};
  bool may_fail_ = false;
};

}  // namespace
}  // namespace slabmalloc::scenario

SLABMALLOC_FUZZ_TARGET(slabmalloc::test::FuzzInput& input) {
  using namespace slabmalloc;
  using namespace slabmalloc::scenario;
  static const Host host = hosted_host(1);
  static constexpr Scenario scenario{"zone_fuzz", nullptr};
  Trial trial(host, scenario);
  switch (input.below(6)) {
    case 0:
      return ZoneProgram<BaseConfig>(trial, input).run();
    case 1:
      return ZoneProgram<HardenedBaseConfig>(trial, input).run();
    case 2:
      return ZoneProgram<EagerBaseConfig>(trial, input).run();
    case 3:
      return ZoneProgram<TwoPagesConfig>(trial, input).run();
    case 4:
      return ZoneProgram<SizedPageConfig>(trial, input).run();
    default:
      return ZoneProgram<SmallArenaConfig>(trial, input).run();
  }
}
