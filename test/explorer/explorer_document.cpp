// SPDX-License-Identifier: MIT
//
// Prints docs/EXPLORER.md: the scenarios, each mutant with the scenario that kills it, and why the
// others survive. Fails if a scenario does, if a survivor has no reason or a reason no survivor, or
// if less than 95 % are killed. With `--verbose` it adds executions and failures.
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "explorer/mutants.hpp"
#include "explorer/scenarios.hpp"

namespace slabmalloc::explorer {
namespace {

struct Reason {
  const char* mutant;  ///< As describe() has it.
  const char* reason;
};
constexpr Reason reasons[] = {
    {"| `include/slabmalloc/kernel/retired_objects.hpp` `is_done` | load | acquire | without "
     "acquire |",
     "The scenarios get the freed memory by an allocation, which synchronises already. It matters "
     "to a caller that unloads the code of the frees."},
    {"| `include/slabmalloc/kernel/object_reserve.hpp` `adjust` | exchange | acquire | without "
     "acquire |",
     "The object was put by an earlier `adjust`. These calls are one after the other, so their "
     "callers are synchronised already."},
    {"| `include/slabmalloc/zone/remote_buffer.hpp` `add` | load | relaxed | blind |",
     "The entry is delivered, and the free begins a new one: earlier than needed, but sound."},
    {"| `include/slabmalloc/zone/remote_buffer.hpp` `merge` | load 1 | relaxed | blind |",
     "`add` does the same work, under the lock."},
    {"| `include/slabmalloc/zone/remote_buffer.hpp` `merge` | load 2 | relaxed | blind |",
     "`add` does the same work, under the lock."},
    {"| `src/malloc/asymmetric_lock.hpp` `announce_scavenger` | exchange | acquire | without "
     "acquire |",
     "The fence on all processors that follows orders the same. The model in "
     "`test/model/asymmetric_lock.pml`, whose fence orders less, needs it."},
};

const Reason* reason_for(const std::string& mutant) {
  for (const Reason& reason : reasons) {
    if (mutant == reason.mutant) {
      return &reason;
    }
  }
  return nullptr;
}

constexpr const char* head = R"(# What the explorer finds

The explorer runs the real code of what threads share, under the interleavings and stale reads that
C++20 allows, within bounds (`test/explorer/explorer.hpp` says which, and what it leaves out). The
models in `test/model/` remain the specification ([CONCURRENCY](CONCURRENCY.md)). They check the
protocol for more steps; the explorer checks that the code implements it.

`ctest -L explorer` runs it within bounds, `scripts/soak explorer` for longer. The target
`docs-explorer` writes this page, and a test compares it. `test/explorer/break_plain_steps` leaves
out steps on plain memory, such as the write of a page's link.

## Scenarios

Objects carry marks, so a slot with two owners shows. Accesses to plain memory are checked for data
races and for pages that were given back. At the end no free may be lost, every empty page must be
able to go back, `validate()` must be null, and only misuse may have been reported.

| threads | scenario |
|---|---|
)";

constexpr const char* middle = R"(
## Mutants

Each row breaks one operation of the library: its order is weakened, it is left out, a load finds
0, or a read-modify-write becomes a load and a store. All operations are listed where a thread reads
what another one wrote. A load that a compare-exchange tests is not blinded. The last column names
the first scenario that fails, among the first 10,000 executions of each.

| where | operation | order | broken | killed by |
|---|---|---|---|---|
)";

int print(bool is_verbose) {
  const Scenarios scenarios = all_scenarios();
  const Bounds bounds{.executions = 10'000};
  std::vector<Outcome> outcomes;
  std::printf("%s", head);
  for (const auto& scenario : scenarios) {
    outcomes.push_back(explore(*scenario, bounds));
    const Outcome& outcome = outcomes.back();
    std::printf("| %u | %s |", scenario->threads(), scenario->name());
    if (is_verbose) {
      std::printf(" %zu%s", outcome.executions, outcome.is_complete ? ", all" : "");
    }
    std::printf("\n");
    if (outcome.failure != nullptr) {
      std::fprintf(stderr, "%s: %s\n%s", scenario->name(), outcome.failure, outcome.trace.c_str());
      return 1;
    }
  }
  std::printf("%s", middle);
  std::string survivors;
  std::size_t total = 0;
  std::size_t killed = 0;
  std::size_t explained = 0;
  for (const Mutant& mutant : mutants()) {
    const Verdict verdict = try_mutant(mutant, scenarios, outcomes, bounds);
    const std::string name = describe(mutant);
    ++total;
    std::printf("%s %s |", name.c_str(),
                verdict.killer != nullptr ? verdict.killer->name() : "**survives**");
    if (is_verbose) {
      std::printf(" %zu %s", verdict.executions, verdict.failure != nullptr ? verdict.failure : "");
    }
    std::printf("\n");
    std::fflush(stdout);
    if (verdict.killer != nullptr) {
      ++killed;
      continue;
    }
    const Reason* const reason = reason_for(name);
    if (reason == nullptr) {
      std::fprintf(stderr, "survives without a reason: %s\n", name.c_str());
      continue;
    }
    ++explained;
    survivors += name + " " + reason->reason + " |\n";
  }
  std::printf("\n%zu of %zu mutants are killed. The others, and why they survive:\n\n", killed,
              total);
  std::printf("| where | operation | order | broken | why it survives |\n|---|---|---|---|---|\n%s",
              survivors.c_str());
  const bool is_explained =
      explained == total - killed && explained == sizeof(reasons) / sizeof(reasons[0]);
  if (!is_explained) {
    std::fprintf(stderr, "each survivor needs a reason, and each reason a survivor\n");
  }
  return is_explained && killed * 100 >= total * 95 ? 0 : 1;
}

}  // namespace
}  // namespace slabmalloc::explorer

int main(int argc, char** argv) {
  return slabmalloc::explorer::print(argc == 2 && std::strcmp(argv[1], "--verbose") == 0);
}
