// SPDX-License-Identifier: MIT
//
// The scenarios: small programs of threads that use the library's own code.
#pragma once

#include <memory>
#include <vector>

#include "explorer/explorer.hpp"

namespace slabmalloc::explorer {

using Scenarios = std::vector<std::unique_ptr<Scenario>>;

/// Remote frees, drains and pages that go back (core_scenarios.cpp).
void add_core_scenarios(Scenarios& all);
/// The kernel's spin lock, deferred runs, reserves and frame caches (kernel_scenarios.cpp).
void add_kernel_scenarios(Scenarios& all);
/// The malloc's mutex, buffered frees, scans and large-object caches (malloc_scenarios.cpp).
void add_malloc_scenarios(Scenarios& all);

inline Scenarios all_scenarios() {
  Scenarios all;
  add_core_scenarios(all);
  add_kernel_scenarios(all);
  add_malloc_scenarios(all);
  return all;
}

}  // namespace slabmalloc::explorer
