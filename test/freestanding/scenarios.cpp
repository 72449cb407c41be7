// SPDX-License-Identifier: MIT
//
// The scenarios, as a kernel takes them in: all that they need is a Host.
#include "scenarios/table.hpp"

using namespace slabmalloc::scenario;

/// Keeps all of them: called by nobody, and external.
std::size_t run_all_scenarios(const Host& host) {
  const Summary summary =
      run_scenarios(host, all_scenarios, [](const auto&, const auto&, Outcome) {});
  return summary.failed + summary.skipped;
}
