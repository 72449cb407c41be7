// SPDX-License-Identifier: MIT
//
// The table of scenarios: each behaviour with its page types and configurations, and the memory
// that it takes. A host runs the whole table. A scenario that needs a larger host ends as skipped.
#pragma once

#include <cstddef>

#include "scenarios/exhaustion.hpp"
#include "scenarios/hand_off.hpp"
#include "scenarios/late_double_free.hpp"
#include "scenarios/one_size_misuse.hpp"
#include "scenarios/one_size_model.hpp"
#include "scenarios/one_size_remote.hpp"
#include "scenarios/paged_zone.hpp"
#include "scenarios/pager_failure.hpp"
#include "scenarios/random_zones.hpp"
#include "scenarios/reallocation.hpp"
#include "scenarios/refill_misuse.hpp"
#include "scenarios/retired_objects.hpp"
#include "scenarios/seed.hpp"
#include "scenarios/seed_defects.hpp"
#include "scenarios/unusual_pagers.hpp"
#include "scenarios/zeroes_and_runs.hpp"
#include "scenarios/zone_misuse.hpp"

namespace slabmalloc::scenario {

/// Base pages and a scenario's data; one large page; some; many.
inline constexpr Needs small_needs{8 * mebibyte, 1 * mebibyte};
inline constexpr Needs one_large_needs{8 * mebibyte, 2 * mebibyte};
inline constexpr Needs large_needs{40 * mebibyte, 2 * mebibyte};
inline constexpr Needs many_large_needs{160 * mebibyte, 2 * mebibyte};
/// So many pages of a very large kind.
template <class Page, std::size_t count = 1>
inline constexpr Needs huge_needs{count * sizeof(Page) + small_needs.memory_bytes, sizeof(Page)};

using OneCpuPage = PageSizes<4 * kibibyte, SingleCpuAtomics>::Base;
using OneCpuLargePage = PageSizes<4 * kibibyte, SingleCpuAtomics>::Large;

inline constexpr ScenarioSet all_scenarios[] = {
    make_set("SeedPage", "4k", small_needs, seed_page_scenarios<ObjectPage>),
    make_set("SeedPage", "16k", small_needs, seed_page_scenarios<ObjectPage16K>),
    make_set("SeedPage", "64k", small_needs, seed_page_scenarios<ObjectPage64K>),
    make_set("SeedPage", "4k_of_one_cpu", small_needs, seed_page_scenarios<OneCpuPage>),
    make_set("SeedLargePage", "2m", large_needs, seed_large_page_scenarios),
    make_set("SeedHugePage", "32m", huge_needs<LargeObjectPage16K>,
             seed_huge_page_scenarios<LargeObjectPage16K>),
    make_set("SeedHugePage", "512m", huge_needs<LargeObjectPage64K>,
             seed_huge_page_scenarios<LargeObjectPage64K>),
    make_set("SeedZone", "default", large_needs, seed_zone_scenarios<DefaultConfig>),
    make_set("SeedZone", "powers_of_two", large_needs, seed_zone_scenarios<PowerOfTwoConfig>),
    make_set("SeedZone", "16k", huge_needs<LargeObjectPage16K>,
             seed_zone_scenarios<GranuleConfig<16 * kibibyte>>),
    make_set("SeedZone", "one_cpu", large_needs, seed_zone_scenarios<SingleCpuConfig>),
    make_set("SeedZone", "hardened", large_needs, seed_zone_scenarios<HardenedConfig>),
    make_set("SeedDefect", "default", large_needs, seed_defect_scenarios),
    make_set("SeedDefect", "16k_and_64k", huge_needs<LargeObjectPage64K, 2>,
             seed_defect_huge_scenarios),
    make_set("SeedReadme", "default", small_needs, seed_readme_scenarios),
    make_set("OneSizeMisuse", "4k", small_needs, one_size_misuse_scenarios<ObjectPage>),
    make_set("OneSizeMisuse", "16k", small_needs, one_size_misuse_scenarios<ObjectPage16K>),
    make_set("OneSizeMisuse", "64k", small_needs, one_size_misuse_scenarios<ObjectPage64K>),
    make_set("OneSizeMisuse", "4k_of_one_cpu", small_needs, one_size_misuse_scenarios<OneCpuPage>),
    make_set("OneSizeModel", "4k", small_needs, one_size_model_scenarios<ObjectPage>),
    make_set("OneSizeModel", "16k", small_needs, one_size_model_scenarios<ObjectPage16K>),
    make_set("OneSizeModel", "64k", small_needs, one_size_model_scenarios<ObjectPage64K>),
    make_set("OneSizeModel", "4k_of_one_cpu", small_needs, one_size_model_scenarios<OneCpuPage>),
    make_set("OneSizeRemote", "4k", small_needs, one_size_remote_scenarios<ObjectPage>),
    make_set("OneSizeRemote", "16k", small_needs, one_size_remote_scenarios<ObjectPage16K>),
    make_set("OneSizeRemote", "64k", small_needs, one_size_remote_scenarios<ObjectPage64K>),
    make_set("OneSizeRemote", "4k_of_one_cpu", small_needs, one_size_remote_scenarios<OneCpuPage>),
    make_set("HandOff", "4k", small_needs, hand_off_scenarios<ObjectPage>),
    make_set("HandOff", "16k", small_needs, hand_off_scenarios<ObjectPage16K>),
    make_set("HandOff", "64k", small_needs, hand_off_scenarios<ObjectPage64K>),
    make_set("HandOff", "4k_of_one_cpu", small_needs, hand_off_scenarios<OneCpuPage>),
    make_set("HandOff", "zones", small_needs, hand_off_in_zones_scenarios),
    make_set("LateDoubleFree", "zones", small_needs, late_double_free_scenarios),
    make_set("ZoneMisuse", "default", small_needs, zone_misuse_scenarios<DefaultConfig>),
    make_set("ZoneMisuse", "hardened", small_needs, zone_misuse_scenarios<HardenedConfig>),
    make_set("ZoneMisuse", "middle_pages", small_needs, zone_misuse_scenarios<MiddlePageConfig>),
    make_set("ZoneMisuse", "sized_pages", small_needs, zone_misuse_scenarios<SizedPageConfig>),
    make_set("ZoneMisuse", "one_cpu", small_needs, zone_misuse_scenarios<SingleCpuConfig>),
    make_set("ZoneMisuse", "base_16k", small_needs,
             zone_misuse_scenarios<BaseGranuleConfig<16 * kibibyte>>),
    make_set("ZoneMisuse", "base_64k", small_needs,
             zone_misuse_scenarios<BaseGranuleConfig<64 * kibibyte>>),
    make_set("RefillMisuse", "default", one_large_needs, refill_misuse_scenarios),
    make_set("Reallocation", "middle_pages", small_needs, reallocation_scenarios),
    make_set("PagedZone", "default", large_needs, paged_zone_scenarios),
    make_set("ZeroedZone", "default", large_needs, zeroed_zone_scenarios),
    make_set("RunsOfZone", "default", large_needs, runs_of_zone_scenarios),
    make_set("RandomPagedZones", "default", many_large_needs,
             random_paged_zones_scenarios<DefaultConfig>),
    make_set("RandomPagedZones", "powers_of_two", many_large_needs,
             random_paged_zones_scenarios<PowerOfTwoConfig>),
    make_set("RandomPagedZones", "middle_pages", many_large_needs,
             random_paged_zones_scenarios<MiddlePageConfig>),
    make_set("RandomPagedZones", "sized_pages", many_large_needs,
             random_paged_zones_scenarios<SizedPageConfig>),
    make_set("RandomPagedZones", "small_arena", small_needs,
             random_paged_zones_scenarios<SmallArenaConfig>),
    make_set("RandomPagedZones", "base_pages", small_needs,
             random_paged_zones_scenarios<BasePageConfig>),
    make_set("RandomPagedZones", "16k", huge_needs<LargeObjectPage16K, 4>,
             random_paged_zones_scenarios<GranuleConfig<16 * kibibyte>>),
    make_set("RandomPagedZones", "64k", huge_needs<LargeObjectPage64K, 4>,
             random_paged_zones_scenarios<GranuleConfig<64 * kibibyte>>),
    make_set("RandomPagedZones", "base_16k", small_needs,
             random_paged_zones_scenarios<BaseGranuleConfig<16 * kibibyte>>),
    make_set("RandomPagedZones", "base_64k", small_needs,
             random_paged_zones_scenarios<BaseGranuleConfig<64 * kibibyte>>),
    make_set("RandomPagedZones", "hardened", many_large_needs,
             random_paged_zones_scenarios<HardenedConfig>),
    make_set("RandomPagedZones", "one_cpu", many_large_needs,
             random_paged_zones_scenarios<SingleCpuConfig>),
    make_set("RandomPagedZones", "eager", many_large_needs,
             random_paged_zones_scenarios<EagerConfig>),
    make_set("RandomZonesByHand", "default", many_large_needs,
             random_zones_by_hand_scenarios<DefaultConfig>),
    make_set("RandomZonesByHand", "powers_of_two", many_large_needs,
             random_zones_by_hand_scenarios<PowerOfTwoConfig>),
    make_set("RandomZonesByHand", "hardened", many_large_needs,
             random_zones_by_hand_scenarios<HardenedConfig>),
    make_set("RandomZonesByHand", "one_cpu", many_large_needs,
             random_zones_by_hand_scenarios<SingleCpuConfig>),
    make_set("RandomZonesByHand", "16k", huge_needs<LargeObjectPage16K, 4>,
             random_zones_by_hand_scenarios<GranuleConfig<16 * kibibyte>>),
    make_set("PagerFailure", "default", large_needs, pager_failure_scenarios<DefaultConfig>),
    make_set("PagerFailure", "middle_pages", large_needs,
             pager_failure_scenarios<MiddlePageConfig>),
    make_set("PagerFailure", "base_pages", small_needs, pager_failure_scenarios<BasePageConfig>),
    make_set("PagerFailure", "hardened", large_needs, pager_failure_scenarios<HardenedConfig>),
    make_set("PagerFailure", "eager", large_needs, pager_failure_scenarios<EagerConfig>),
    make_set("PagerFailure", "base_64k", small_needs,
             pager_failure_scenarios<BaseGranuleConfig<64 * kibibyte>>),
    make_set("PagerExhaustion", "default", small_needs, pager_exhaustion_scenarios),
    make_set("ReentrantZone", "default", large_needs, reentrant_zone_scenarios),
    make_set("CrookedFrames", "default", small_needs, crooked_frames_scenarios),
    make_set("Exhaustion", "default", small_needs, exhaustion_scenarios),
    make_set("RetiredObjects", "default", small_needs, retired_objects_scenarios<KernelConfig>),
    make_set("RetiredObjects", "one_cpu", small_needs,
             retired_objects_scenarios<GranuleKernelConfig<4 * kibibyte, SingleCpuAtomics>>),
};

}  // namespace slabmalloc::scenario
