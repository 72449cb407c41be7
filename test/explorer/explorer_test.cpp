// SPDX-License-Identifier: MIT
//
// Explores every scenario. SLABMALLOC_TEST_EXECUTIONS bounds the executions of each, by default
// 60,000: then most are searched in full.
#include <gtest/gtest.h>

#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "explorer/scenarios.hpp"

namespace slabmalloc::explorer {
namespace {

const Scenarios scenarios = all_scenarios();

class ExplorerTest : public testing::TestWithParam<std::size_t> {};

TEST_P(ExplorerTest, is_sound) {
  Bounds bounds{.executions = 60'000};
  if (const char* const given = std::getenv("SLABMALLOC_TEST_EXECUTIONS")) {
    bounds = {.executions = std::strtoull(given, nullptr, 10), .stale_reads = 16};
  }
  Scenario& scenario = *scenarios[GetParam()];
  const Outcome outcome = explore(scenario, bounds);
  EXPECT_EQ(outcome.failure, nullptr) << outcome.failure << "\n" << outcome.trace;
  std::printf("%zu executions%s: %s\n", outcome.executions, outcome.is_complete ? ", all" : "",
              scenario.name());
}

std::string name_of(const testing::TestParamInfo<std::size_t>& info) {
  std::string name;
  for (const char* character = scenarios[info.param]->name(); *character != 0; ++character) {
    if (std::isalnum(static_cast<unsigned char>(*character)) != 0) {
      name += *character;
    } else if (*character == ' ') {
      name += '_';
    }
  }
  return name;
}

INSTANTIATE_TEST_SUITE_P(Scenarios, ExplorerTest, testing::Range(std::size_t{0}, scenarios.size()),
                         name_of);

}  // namespace
}  // namespace slabmalloc::explorer
