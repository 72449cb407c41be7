// SPDX-License-Identifier: MIT
//
// A Scenario is one behaviour of the core with its name. This file also runs it on a host.
//
//   struct Fixture { explicit Fixture(Trial&); ~Fixture(); void a_behaviour(); … };
//   constexpr Scenario one = scenario<&Fixture::a_behaviour>();        // its name is "a_behaviour"
#pragma once

#include <cstddef>

#include "scenarios/list.hpp"
#include "scenarios/trial.hpp"

namespace slabmalloc::scenario {

struct Scenario {
  const char* name;  ///< A sentence without spaces.
  void (*play)(Trial& trial) noexcept;
};

/// Scenarios of one subject on one configuration.
struct ScenarioSet {
  const char* subject;
  const char* configuration;
  Needs needs;
  const Scenario* first;
  std::size_t count;

  constexpr const Scenario* begin() const noexcept { return first; }
  constexpr const Scenario* end() const noexcept { return first + count; }
};

template <std::size_t count>
constexpr ScenarioSet make_set(const char* subject, const char* configuration, Needs needs,
                               const Scenario (&scenarios)[count]) noexcept {
  return {subject, configuration, needs, scenarios, count};
}

namespace detail {

template <class Method>
struct FixtureOf;
template <class Fixture>
struct FixtureOf<void (Fixture::*)()> {
  using Type = Fixture;
};

struct Name {
  char text[128];
};

constexpr bool is_of_a_name(char one) noexcept {
  return one == '_' || (one >= '0' && one <= '9') || (one >= 'a' && one <= 'z') ||
         (one >= 'A' && one <= 'Z');
}

/// The last name in `spelling`.
consteval Name last_name(const char* spelling) {
  Name name{};
  std::size_t size = 0;
  for (std::size_t index = 0; spelling[index] != 0; ++index) {
    if (is_of_a_name(spelling[index])) {
      const bool is_first = index == 0 || !is_of_a_name(spelling[index - 1]);
      if (is_first) {
        name = Name{};
        size = 0;
      }
      name.text[size++] = spelling[index];
    }
  }
  return name;
}

/// Compilers spell this function "… spelling() [… = &Fixture::a_behaviour]".
template <auto method>
consteval const char* spelling() {
  return __PRETTY_FUNCTION__;
}

template <auto method>
inline constexpr Name name_of = last_name(spelling<method>());

template <auto method>
void play(Trial& trial) noexcept {
  using Fixture = typename FixtureOf<decltype(method)>::Type;
  const Box<Fixture> fixture(trial, trial);
  if (fixture) {
    ((*fixture).*method)();
  }
}

}  // namespace detail

/// The scenario of a fixture's `method`.
template <auto method>
consteval Scenario scenario() {
  return {detail::name_of<method>.text, &detail::play<method>};
}

enum class Outcome { passed, failed, skipped };

/// Runs `scenario` of `set` unless the host is too small for it.
inline Outcome run(const Host& host, const ScenarioSet& set, const Scenario& scenario) noexcept {
  if (host.memory_bytes < set.needs.memory_bytes ||
      host.largest_frame_bytes < set.needs.largest_frame_bytes) {
    return Outcome::skipped;
  }
  Trial trial(host, scenario);
  scenario.play(trial);
  trial.equal(trial.live_bytes(), 0u, "every frame goes back to the host");
  trial.at_most(trial.high_water_bytes(), set.needs.memory_bytes,
                "the scenario said how much memory it needs");
  trial.at_most(trial.largest_bytes(), set.needs.largest_frame_bytes,
                "the scenario said how large its frames are");
  return trial.has_failed() ? Outcome::failed : Outcome::passed;
}

/// The number of scenarios by outcome.
struct Summary {
  std::size_t passed = 0;
  std::size_t failed = 0;
  std::size_t skipped = 0;
};

/// Runs all scenarios of `sets`; calls `tell(set, scenario, outcome)` after each.
template <class Sets, class Tell>
Summary run_scenarios(const Host& host, const Sets& sets, Tell&& tell) noexcept {
  Summary summary;
  for (const ScenarioSet& set : sets) {
    for (const Scenario& one : set) {
      const Outcome outcome = run(host, set, one);
      ++(outcome == Outcome::passed   ? summary.passed
         : outcome == Outcome::failed ? summary.failed
                                      : summary.skipped);
      tell(set, one, outcome);
    }
  }
  return summary;
}

}  // namespace slabmalloc::scenario
