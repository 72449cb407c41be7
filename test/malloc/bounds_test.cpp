// SPDX-License-Identifier: MIT
//
// Random calls of whole programs at bounds that the kernel or an option enforces: on address space,
// on writable memory, on mappings, and on memory in use, as a container has. bounds_program checks
// each call.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cstdio>
#include <string>
#include <vector>

#include "malloc/run_program.hpp"
#include "support/random.hpp"

namespace slabmalloc::test {
namespace {

constexpr rlim_t mebibyte = rlim_t{1} << 20;

class Bounds : public testing::TestWithParam<Form> {
 protected:
  /// Runs the program with as much room in turn. Some of its calls must be refused.
  void run_at(const std::string& bound, const std::vector<std::size_t>& rooms,
              const Surroundings& surroundings = {}) {
    Random random;
    std::size_t refused = 0;
    for (const std::size_t room : rooms) {
      const std::string seed = std::to_string(random.next());
      const Outcome outcome =
          run({program("bounds_program", GetParam()), bound, std::to_string(room), seed},
              GetParam(), surroundings);
      if (outcome.exited_with(77)) {
        GTEST_SKIP() << "the bound is higher here than a test can reach";
      }
      ASSERT_TRUE(outcome.exited_with(0)) << bound << " " << room << " " << seed << outcome;
      std::size_t calls = 0;
      std::size_t refusals = 0;
      EXPECT_EQ(std::sscanf(outcome.output.c_str(), "%zu calls, %zu refused", &calls, &refusals),
                2);
      refused += refusals;
    }
    EXPECT_GT(refused, 0u) << "the test wants to reach the bound";
  }

  static Surroundings with_soft_limit(__rlimit_resource resource, rlim_t bytes) {
    Surroundings surroundings;
    surroundings.in_child = [=] {
      const rlimit limit{bytes, RLIM_INFINITY};
      setrlimit(resource, &limit);
    };
    return surroundings;
  }
};

INSTANTIATE_TEST_SUITE_P(Forms, Bounds, testing::Values(Form::preload, Form::hardened),
                         [](const auto& form) {
                           return form.param == Form::hardened ? std::string("hardened")
                                                               : std::string(name_of(form.param));
                         });

TEST_P(Bounds, on_address_space_that_the_program_sets) { run_at("address_space", {1, 60}); }

TEST_P(Bounds, on_address_space_from_the_start) {
  run_at("given", {0}, with_soft_limit(RLIMIT_AS, 150 * mebibyte));
}

TEST_P(Bounds, on_writable_memory_that_the_program_sets) { run_at("data", {1, 60}); }

TEST_P(Bounds, on_writable_memory_from_the_start) {
  run_at("given", {0}, with_soft_limit(RLIMIT_DATA, 100 * mebibyte));
}

TEST_P(Bounds, on_mappings) { run_at("mappings", {0, 12}); }

// The kernel ends a process whose container has too little memory, so only the heap's own bound
// keeps it alive. A few MiB are for the program, its stacks, and what the limit does not count.
TEST_P(Bounds, on_memory_in_use_hold_for_resident_memory) {
  Surroundings surroundings;
  surroundings.environment = {"SLABMALLOC_OPTIONS=hard_limit:48M"};
  run_at("resident", {52}, surroundings);
}

}  // namespace
}  // namespace slabmalloc::test
