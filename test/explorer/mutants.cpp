// SPDX-License-Identifier: MIT
#include "explorer/mutants.hpp"

#include <algorithm>
#include <tuple>

namespace slabmalloc::explorer {

namespace {

bool is_update(Operation operation) noexcept {
  return operation == Operation::Exchange || operation == Operation::CompareExchange ||
         operation == Operation::FetchAdd || operation == Operation::FetchSub ||
         operation == Operation::FetchOr;
}

auto key_of(const Site& site) {
  return std::tie(site.file, site.function, site.line, site.operation, site.order);
}

bool is_alike(const Site& one, const Site& other) noexcept {
  return one.file == other.file && one.function == other.function &&
         one.operation == other.operation && one.order == other.order;
}

}  // namespace

std::vector<Mutant> mutants() {
  std::vector<Mutant> result;
  for (std::size_t number = 0; number < sites().size(); ++number) {
    const Site& site = sites()[number];
    if (site.file.empty() || !site.is_shared) {
      continue;
    }
    const auto add = [&](Mutation mutation) { result.push_back({number, mutation}); };
    if (site.operation != Operation::Fence) {
      if (site.order == Order::acquire || site.order == Order::acq_rel) {
        add(Mutation::NoAcquire);
      }
      if (site.order == Order::release || site.order == Order::acq_rel) {
        add(Mutation::NoRelease);
      }
    }
    if (site.operation != Operation::Load) {
      add(Mutation::Omit);
    } else if (!site.is_confirmed) {
      add(Mutation::Blind);
    }
    if (is_update(site.operation)) {
      add(Mutation::Split);
    }
  }
  std::sort(result.begin(), result.end(), [](const Mutant& one, const Mutant& other) {
    const auto key = key_of(sites()[one.site]);
    const auto other_key = key_of(sites()[other.site]);
    return key != other_key ? key < other_key : one.mutation < other.mutation;
  });
  return result;
}

std::string describe(const Mutant& mutant) {
  const Site& site = sites()[mutant.site];
  unsigned before = 0;
  unsigned alike = 0;
  for (const Site& other : sites()) {
    if (other.is_shared && is_alike(site, other)) {
      ++alike;
      before += other.line < site.line ? 1 : 0;
    }
  }
  std::string text = "| `";
  text += site.file;
  text += "` `";
  text += site.function;
  text += "` | ";
  text += describe(site.operation);
  if (alike > 1) {
    text += ' ';
    text += std::to_string(before + 1);
  }
  text += " | ";
  text += site.operation == Operation::Fence ? "" : describe(site.order);
  text += " | ";
  text += describe(mutant.mutation);
  text += " |";
  return text;
}

Verdict try_mutant(const Mutant& mutant, const Scenarios& scenarios,
                   const std::vector<Outcome>& outcomes, const Bounds& bounds) {
  Verdict verdict;
  mutate(mutant.site, mutant.mutation);
  for (std::size_t index = 0; index < scenarios.size() && verdict.killer == nullptr; ++index) {
    const std::vector<bool>& used = outcomes[index].used;
    if (mutant.site >= used.size() || !used[mutant.site]) {
      continue;
    }
    const Outcome outcome = explore(*scenarios[index], bounds);
    verdict.executions += outcome.executions;
    if (outcome.failure != nullptr) {
      verdict.killer = scenarios[index].get();
      verdict.failure = outcome.failure;
    }
  }
  mutate(mutant.site, Mutation::None);
  return verdict;
}

}  // namespace slabmalloc::explorer
