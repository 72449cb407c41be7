// SPDX-License-Identifier: MIT
//
// The table of scenarios: which behaviour is tried on which page types and configurations, and how
// much memory that takes. Hosts run the whole of it; what they are too small for is reported as
// skipped.
#pragma once

#include <cstddef>

#include "scenarios/exhaustion.hpp"
#include "scenarios/one_size_misuse.hpp"
#include "scenarios/reallocation.hpp"
#include "scenarios/refill_misuse.hpp"
#include "scenarios/seed.hpp"
#include "scenarios/zone_misuse.hpp"

namespace slabmalloc::scenario {

/// Base pages and what a scenario keeps; large pages beside them; one very large page.
inline constexpr Needs small_needs{8 * mebibyte, 1 * mebibyte};
inline constexpr Needs large_needs{48 * mebibyte, 2 * mebibyte};
template <class Page>
inline constexpr Needs huge_needs{sizeof(Page) + small_needs.memory_bytes, sizeof(Page)};

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
    make_set("SeedReadme", "default", small_needs, seed_readme_scenarios),
    make_set("OneSizeMisuse", "4k", small_needs, one_size_misuse_scenarios<ObjectPage>),
    make_set("OneSizeMisuse", "16k", small_needs, one_size_misuse_scenarios<ObjectPage16K>),
    make_set("OneSizeMisuse", "64k", small_needs, one_size_misuse_scenarios<ObjectPage64K>),
    make_set("OneSizeMisuse", "4k_of_one_cpu", small_needs, one_size_misuse_scenarios<OneCpuPage>),
    make_set("ZoneMisuse", "default", small_needs, zone_misuse_scenarios<DefaultConfig>),
    make_set("ZoneMisuse", "hardened", small_needs, zone_misuse_scenarios<HardenedConfig>),
    make_set("ZoneMisuse", "middle_pages", small_needs, zone_misuse_scenarios<MiddlePageConfig>),
    make_set("ZoneMisuse", "one_cpu", small_needs, zone_misuse_scenarios<SingleCpuConfig>),
    make_set("ZoneMisuse", "base_16k", small_needs,
             zone_misuse_scenarios<BaseGranuleConfig<16 * kibibyte>>),
    make_set("ZoneMisuse", "base_64k", small_needs,
             zone_misuse_scenarios<BaseGranuleConfig<64 * kibibyte>>),
    make_set("RefillMisuse", "default", small_needs, refill_misuse_scenarios),
    make_set("Reallocation", "middle_pages", small_needs, reallocation_scenarios),
    make_set("Exhaustion", "default", small_needs, exhaustion_scenarios),
};

}  // namespace slabmalloc::scenario
