// SPDX-License-Identifier: MIT
//
// The host of scenarios that run as GoogleTest cases. It takes frames from the heap and reports
// failures to GoogleTest. The seed comes from SLABMALLOC_TEST_SEED, or is new on each run.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <new>
#include <string>

#include "scenarios/scenario.hpp"
#include "support/random.hpp"

namespace slabmalloc::scenario {

inline Host hosted_host(std::uint64_t seed = test::Random().seed()) {
  Host host{};
  host.allocate_frame = [](void*, std::size_t bytes) noexcept -> void* {
    return ::operator new(bytes, std::align_val_t{bytes}, std::nothrow);
  };
  host.deallocate_frame = [](void*, void* frame, std::size_t bytes) noexcept {
    ::operator delete(frame, std::align_val_t{bytes});
  };
  host.report = [](void*, const Scenario&, const Failure& failure) noexcept {
    testing::Message message;
    message << failure.text;
    if (failure.has_values) {
      message << " (found " << failure.found << ", expected " << failure.expected << ")";
    }
    ADD_FAILURE_AT(failure.where.file, failure.where.line)
        << message << (*failure.step != 0 ? "; at: " : "") << failure.step;
  };
  host.memory_bytes = SIZE_MAX;
  host.largest_frame_bytes = SIZE_MAX / 2;
  host.seed = seed;
  host.rounds = 10;
  return host;
}

/// A GoogleTest case that runs one scenario.
class ScenarioTest : public testing::Test {
 public:
  ScenarioTest(const ScenarioSet& set, const Scenario& scenario) : set_(set), scenario_(scenario) {}
  void TestBody() override { EXPECT_NE(run(hosted_host(), set_, scenario_), Outcome::skipped); }

 private:
  const ScenarioSet& set_;
  const Scenario& scenario_;
};

/// Registers every scenario of `sets` as a test named SUBJECT.BEHAVIOUR/CONFIGURATION.
template <class Sets>
void register_scenarios(const Sets& sets) {
  for (const ScenarioSet& set : sets) {
    for (const Scenario& one : set) {
      const std::string name = std::string(one.name) + "/" + set.configuration;
      testing::RegisterTest(
          set.subject, name.c_str(), nullptr, nullptr, __FILE__, __LINE__,
          [&set, &one]() -> testing::Test* { return new ScenarioTest(set, one); });
    }
  }
}

}  // namespace slabmalloc::scenario
