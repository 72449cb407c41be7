// SPDX-License-Identifier: MIT
//
// Runs the scenarios of the table as hosted tests. Also runs some on pages with meta-data beside
// them.
#include <gtest/gtest.h>

#include "scenarios/hosted_host.hpp"
#include "scenarios/hosted_pages.hpp"
#include "scenarios/table.hpp"

namespace slabmalloc::scenario {
namespace {

using BesidePages = BesidePage<test::SmallChunkTable<HardwareAtomics>>;
using BesidePagesOfOneCpu = BesidePage<test::SmallChunkTable<SingleCpuAtomics>>;

constexpr ScenarioSet hosted_scenarios[] = {
    make_set("SeedPage", "beside", small_needs, seed_page_scenarios<BesidePages>),
    make_set("SeedPage", "beside_of_one_cpu", small_needs,
             seed_page_scenarios<BesidePagesOfOneCpu>),
    make_set("OneSizeMisuse", "beside", small_needs, one_size_misuse_scenarios<BesidePages>),
    make_set("OneSizeMisuse", "beside_of_one_cpu", small_needs,
             one_size_misuse_scenarios<BesidePagesOfOneCpu>),
    make_set("OneSizeModel", "beside", small_needs, one_size_model_scenarios<BesidePages>),
    make_set("OneSizeModel", "beside_of_one_cpu", small_needs,
             one_size_model_scenarios<BesidePagesOfOneCpu>),
    make_set("OneSizeRemote", "beside", small_needs, one_size_remote_scenarios<BesidePages>),
    make_set("OneSizeRemote", "beside_of_one_cpu", small_needs,
             one_size_remote_scenarios<BesidePagesOfOneCpu>),
    make_set("HandOff", "beside", small_needs, hand_off_scenarios<BesidePages>),
    make_set("HandOff", "beside_of_one_cpu", small_needs, hand_off_scenarios<BesidePagesOfOneCpu>),
    make_set("ZoneMisuse", "beside", small_needs, zone_misuse_scenarios<test::BesideConfig>),
    make_set("ZoneMisuse", "beside_hardened", small_needs,
             zone_misuse_scenarios<test::HardenedBesideConfig>),
    make_set("RandomPagedZones", "beside", small_needs,
             random_paged_zones_scenarios<test::BesideConfig>),
    make_set("RandomPagedZones", "beside_hardened", small_needs,
             random_paged_zones_scenarios<test::HardenedBesideConfig>),
    make_set("PagerFailure", "beside", small_needs, pager_failure_scenarios<test::BesideConfig>),
};

}  // namespace
}  // namespace slabmalloc::scenario

int main(int argument_count, char** arguments) {
  testing::InitGoogleTest(&argument_count, arguments);
  slabmalloc::scenario::register_scenarios(slabmalloc::scenario::all_scenarios);
  slabmalloc::scenario::register_scenarios(slabmalloc::scenario::hosted_scenarios);
  return RUN_ALL_TESTS();
}
