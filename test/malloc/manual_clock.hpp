// SPDX-License-Identifier: MIT
//
// ManualClock: a clock of the system that a test moves.
#pragma once

#include <atomic>
#include <cstdint>

#include "os/os.hpp"

namespace slabmalloc {

/// A clock that goes on only by `now += milliseconds`, as long as this lives.
class ManualClock {
 public:
  ManualClock() {
    table_ = os::linux_interface;
    table_.now_milliseconds = [] { return now.load(); };
    previous_ = &os::replace_interface(table_);
  }
  ~ManualClock() { os::replace_interface(*previous_); }
  ManualClock(const ManualClock&) = delete;
  ManualClock& operator=(const ManualClock&) = delete;

  static inline std::atomic<std::uint64_t> now{1'000'000};

 private:
  os::Interface table_;
  const os::Interface* previous_;
};

}  // namespace slabmalloc
