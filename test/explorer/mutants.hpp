// SPDX-License-Identifier: MIT
//
// Mutants: the library with one operation broken. Each should fail a scenario.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "explorer/scenarios.hpp"

namespace slabmalloc::explorer {

struct Mutant {
  std::size_t site;
  Mutation mutation;
};

/// The mutants of all sites of the library where, in the scenarios explored so far, a thread wrote
/// what another one read, or read what another one wrote. In the order of file, function and line.
/// A load is not blinded if a compare-exchange tests what it found.
std::vector<Mutant> mutants();

/// The file, the function, the operation with its order, and how it is broken, as the columns of a
/// table. Alike operations of a function have numbers.
std::string describe(const Mutant& mutant);

/// What became of a mutant.
struct Verdict {
  const Scenario* killer = nullptr;  ///< Null: all scenarios were sound.
  const char* failure = nullptr;
  std::size_t executions = 0;  ///< Of all scenarios.
};
/// Explores the scenarios whose threads came to the mutant's site; `outcomes` are those without a
/// mutant.
Verdict try_mutant(const Mutant& mutant, const Scenarios& scenarios,
                   const std::vector<Outcome>& outcomes, const Bounds& bounds);

}  // namespace slabmalloc::explorer
