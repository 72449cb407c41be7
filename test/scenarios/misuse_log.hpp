// SPDX-License-Identifier: MIT
//
// MisuseLog replaces the misuse hook for as long as it lives, and lets the bad call return. A
// scenario fails if it does not take a report.
#pragma once

#include <cstddef>

#include "scenarios/trial.hpp"
#include "slabmalloc/base/misuse.hpp"

namespace slabmalloc::scenario {

/// Counts all reports and stores the first of them. Only one log may exist.
class MisuseLog {
 public:
  explicit MisuseLog(Trial& trial) noexcept : trial_(trial) {
    forget();
    previous_ = set_misuse_handler(&record);
  }
  MisuseLog(const MisuseLog&) = delete;
  MisuseLog& operator=(const MisuseLog&) = delete;
  ~MisuseLog() {
    set_misuse_handler(previous_);
    for (std::size_t index = 0; index < count_ && index < kept; ++index) {
      trial_.check(false, describe(reports_[index].kind));
    }
  }

  /// The number of reports since the last take(). Forgets them, and leaves the first `reserved` in
  /// the log until the next call.
  std::size_t take() noexcept {
    const std::size_t count = count_;
    forget();
    return count;
  }
  static constexpr std::size_t kept = 16;
  /// One of the first `reserved` reports that take() counted.
  const Misuse& operator[](std::size_t index) const noexcept { return reports_[index]; }

  /// Takes all reports; true if their number and kinds are as given.
  bool take_all(MisuseKind kind, std::size_t count, Where where = Where::here()) noexcept {
    const std::size_t others = count_ - of_kind_[static_cast<std::size_t>(kind)];
    return trial_.equal(take(), count, describe(kind), where) &&
           trial_.equal(others, 0u, "reports of other kinds", where);
  }
  /// As take_all(), for one report.
  bool take_one(MisuseKind kind, Where where = Where::here()) noexcept {
    return take_all(kind, 1, where);
  }
  /// Takes all reports; fails if there is any.
  bool none(Where where = Where::here()) noexcept {
    return trial_.equal(take(), 0u, "reports of misuse", where);
  }

 private:
  static constexpr std::size_t kinds = 5;

  static void record(const Misuse& misuse) noexcept {
    if (count_ < kept) {
      reports_[count_] = misuse;
    }
    ++count_;
    ++of_kind_[static_cast<std::size_t>(misuse.kind)];
  }
  static void forget() noexcept {
    count_ = 0;
    for (std::size_t& count : of_kind_) {
      count = 0;
    }
  }

  static inline std::size_t count_ = 0;
  static inline std::size_t of_kind_[kinds] = {};
  static inline Misuse reports_[kept] = {};

  Trial& trial_;
  MisuseHandler previous_ = nullptr;
};

}  // namespace slabmalloc::scenario
