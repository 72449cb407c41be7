// SPDX-License-Identifier: MIT
//
// MisuseRecorder replaces the misuse hook for as long as it lives, and lets the bad call return.
//
//   test::MisuseRecorder misuse;
//   allocator.deallocate(object, layout);
//   allocator.deallocate(object, layout);
//   EXPECT_EQ(misuse.take_kinds(), std::vector{MisuseKind::DoubleFree});
//
// The test fails if it does not take a report.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <mutex>
#include <ostream>
#include <utility>
#include <vector>

#include "slabmalloc/base/misuse.hpp"

namespace slabmalloc {

/// Prints a kind for GoogleTest.
inline void PrintTo(MisuseKind kind, std::ostream* stream) { *stream << describe(kind); }

}  // namespace slabmalloc

namespace slabmalloc::test {

/// Records all reports of misuse; only one may exist. Thread: reports may come from any.
class MisuseRecorder {
 public:
  MisuseRecorder() noexcept {
    (void)reports_of(nullptr);
    previous_ = set_misuse_handler(&record);
  }
  MisuseRecorder(const MisuseRecorder&) = delete;
  MisuseRecorder& operator=(const MisuseRecorder&) = delete;
  ~MisuseRecorder() {
    set_misuse_handler(previous_);
    for (const Misuse& misuse : take()) {
      ADD_FAILURE() << "unexpected report: " << describe(misuse.kind) << " at " << misuse.address
                    << ", slot " << misuse.slot << " of " << misuse.object_size << " B";
    }
  }

  /// The reports since the last take, in order.
  std::vector<Misuse> take() { return reports_of(nullptr); }
  /// As take(), the kinds alone.
  std::vector<MisuseKind> take_kinds() {
    std::vector<MisuseKind> kinds;
    for (const Misuse& misuse : take()) {
      kinds.push_back(misuse.kind);
    }
    return kinds;
  }
  /// As take(), but returns their number; all must be of `kind`.
  std::size_t take_count(MisuseKind kind) {
    const std::vector<MisuseKind> kinds = take_kinds();
    EXPECT_TRUE(std::all_of(kinds.begin(), kinds.end(), [&](auto one) { return one == kind; }))
        << "expected reports of one kind only: " << describe(kind);
    return kinds.size();
  }

 private:
  static void record(const Misuse& misuse) noexcept { (void)reports_of(&misuse); }

  /// Adds `added`; if that is null, takes all out.
  static std::vector<Misuse> reports_of(const Misuse* added) {
    static std::mutex mutex;
    static std::vector<Misuse> reports;
    const std::lock_guard lock(mutex);
    if (added != nullptr) {
      reports.push_back(*added);
      return {};
    }
    return std::exchange(reports, {});
  }

  MisuseHandler previous_ = nullptr;
};

}  // namespace slabmalloc::test
