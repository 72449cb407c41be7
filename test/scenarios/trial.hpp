// SPDX-License-Identifier: MIT
//
// A Trial is one scenario that runs on one host. Scenarios need only what a Host supplies. So the
// same source runs as hosted tests and inside a kernel.
//
//   Host ──frames──► Trial ◄──check, equal, …── scenario
//    ▲                 │
//    └──── Failure ────┘
//
// The trial reports and counts a failed check, and the scenario continues. If it cannot, it
// returns.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "scenarios/random.hpp"

namespace slabmalloc::scenario {

/// A place in a source, by default that of the call.
struct Where {
  const char* file;
  int line;
  static constexpr Where here(const char* file = __builtin_FILE(),
                              int line = __builtin_LINE()) noexcept {
    return {file, line};
  }
};

/// A failed check.
struct Failure {
  const char* text;  ///< The expectation in words; empty if the line says it.
  const char* step;  ///< The present step of the scenario; empty if it has no name.
  Where where;
  bool has_values;  ///< The two compared values follow.
  std::uint64_t found;
  std::uint64_t expected;
  std::uint64_t seed;  ///< Determines the random numbers of the trial.
};

struct Scenario;

/// The machine of a scenario. One scenario runs at a time, on one processor, and replaces the
/// misuse handler meanwhile.
struct Host {
  /// A frame of `bytes`, a power of two of at least 4 KiB, aligned to its size, or null.
  void* (*allocate_frame)(void* context, std::size_t bytes) noexcept;
  void (*deallocate_frame)(void* context, void* frame, std::size_t bytes) noexcept;
  /// Receives the first failures of a scenario.
  void (*report)(void* context, const Scenario& scenario, const Failure& failure) noexcept;
  void* context;                    ///< Passed to the functions above.
  std::size_t memory_bytes;         ///< The total that allocate_frame can issue.
  std::size_t largest_frame_bytes;  ///< The largest frame that it can issue.
  std::uint64_t seed;
  std::size_t rounds;  ///< The length of random scenarios: 1 for a slow machine.
};

/// A scenario's memory needs.
struct Needs {
  std::size_t memory_bytes;
  std::size_t largest_frame_bytes;
};

class Trial {
 public:
  Trial(const Host& host, const Scenario& scenario) noexcept
      : random(host.seed), host_(host), scenario_(scenario) {}
  Trial(const Trial&) = delete;
  Trial& operator=(const Trial&) = delete;

  /// Each check returns whether it held.
  template <class Condition>
  bool check(const Condition& condition, const char* text = "",
             Where where = Where::here()) noexcept {
    return static_cast<bool>(condition) || fail(text, where, false, 0, 0);
  }
  template <class Condition>
  bool refute(const Condition& condition, const char* text = "",
              Where where = Where::here()) noexcept {
    return check(!static_cast<bool>(condition), text, where);
  }
  template <class A, class B>
  bool equal(A found, B expected, const char* text = "", Where where = Where::here()) noexcept {
    return compare(number(found) == number(expected), number(found), number(expected), text, where);
  }
  template <class A, class B>
  bool differ(A found, B other, const char* text = "", Where where = Where::here()) noexcept {
    return compare(number(found) != number(other), number(found), number(other), text, where);
  }
  template <class A, class B>
  bool at_most(A found, B bound, const char* text = "", Where where = Where::here()) noexcept {
    return compare(number(found) <= number(bound), number(found), number(bound), text, where);
  }
  template <class A, class B>
  bool at_least(A found, B bound, const char* text = "", Where where = Where::here()) noexcept {
    return compare(number(found) >= number(bound), number(found), number(bound), text, where);
  }
  /// Holds if `broken`, the result of a validate(), names no invariant.
  bool sound(const char* broken, Where where = Where::here()) noexcept {
    return check(broken == nullptr, broken, where);
  }

  /// Names the present step in reports, until the next call.
  void set_step(const char* step) noexcept { step_ = step; }

  bool has_failed() const noexcept { return failures_ != 0; }

  std::size_t rounds() const noexcept { return host_.rounds; }

  void* allocate_frame(std::size_t bytes) noexcept {
    void* frame = host_.allocate_frame(host_.context, bytes);
    live_bytes_ += frame != nullptr ? bytes : 0;
    high_water_bytes_ = live_bytes_ > high_water_bytes_ ? live_bytes_ : high_water_bytes_;
    largest_bytes_ = bytes > largest_bytes_ ? bytes : largest_bytes_;
    return frame;
  }
  void deallocate_frame(void* frame, std::size_t bytes) noexcept {
    live_bytes_ -= bytes;
    host_.deallocate_frame(host_.context, frame, bytes);
  }
  /// Bytes of the issued frames that are not returned.
  std::size_t live_bytes() const noexcept { return live_bytes_; }
  std::size_t high_water_bytes() const noexcept { return high_water_bytes_; }
  /// Bytes of the largest requested frame.
  std::size_t largest_bytes() const noexcept { return largest_bytes_; }

  Random random;

 private:
  static constexpr std::size_t most_reports = 8;

  template <class T>
  static constexpr std::uint64_t number(T value) noexcept {
    if constexpr (std::is_null_pointer_v<T>) {
      return 0;
    } else if constexpr (std::is_pointer_v<T>) {
      return reinterpret_cast<std::uintptr_t>(value);
    } else {
      return static_cast<std::uint64_t>(value);
    }
  }

  bool compare(bool holds, std::uint64_t found, std::uint64_t expected, const char* text,
               Where where) noexcept {
    return holds || fail(text, where, true, found, expected);
  }
  [[gnu::cold, gnu::noinline]] bool fail(const char* text, Where where, bool has_values,
                                         std::uint64_t found, std::uint64_t expected) noexcept {
    if (++failures_ <= most_reports) {
      host_.report(host_.context, scenario_,
                   {text, step_, where, has_values, found, expected, host_.seed});
    }
    return false;
  }

  const Host& host_;
  const Scenario& scenario_;
  const char* step_ = "";
  std::size_t failures_ = 0;
  std::size_t live_bytes_ = 0;
  std::size_t high_water_bytes_ = 0;
  std::size_t largest_bytes_ = 0;
};

}  // namespace slabmalloc::scenario
