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
/// Lists of memory that waits for readers (grace_scenarios.cpp).
void add_grace_scenarios(Scenarios& all);
// The malloc's parts, each in the file of its name: mutex_scenarios.cpp, and so on.
void add_mutex_scenarios(Scenarios& all);
void add_buffer_scenarios(Scenarios& all);
void add_scan_scenarios(Scenarios& all);
void add_large_cache_scenarios(Scenarios& all);

inline Scenarios all_scenarios() {
  Scenarios all;
  add_core_scenarios(all);
  add_kernel_scenarios(all);
  add_grace_scenarios(all);
  add_mutex_scenarios(all);
  add_buffer_scenarios(all);
  add_scan_scenarios(all);
  add_large_cache_scenarios(all);
  return all;
}

}  // namespace slabmalloc::explorer
