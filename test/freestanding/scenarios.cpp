// SPDX-License-Identifier: MIT
//
// Instantiates the scenarios as a kernel does, with only a Host.
#include "scenarios/table.hpp"

using namespace slabmalloc::scenario;

/// Keeps all of them in the object: external, and never called.
std::size_t run_all_scenarios(const Host& host) {
  const Summary summary =
      run_scenarios(host, all_scenarios, [](const auto&, const auto&, Outcome) {});
  return summary.failed + summary.skipped;
}
