// SPDX-License-Identifier: MIT
//
// RaceDetector: the latest accesses to each byte of the region.
//
// A plain write conflicts with every access of another thread, a plain read with plain writes.
// Operations on cells conflict with plain writes alone. Of two that conflict, one must happen
// before the other.
#pragma once

#include <cstdint>

#include "explorer/clock.hpp"

namespace slabmalloc::explorer {

class RaceDetector {
 public:
  enum class Access : std::uint8_t { Read, Write, Atomic };

  void begin_execution() noexcept { ++execution_; }

  /// Null, or what is wrong with an access of `thread`, which knows `clock`, to byte `offset`.
  const char* access(unsigned offset, Access access, unsigned thread, const Clock& clock) noexcept {
    Byte& byte = fresh(offset);
    if (byte.is_given_back) {
      return "access to memory that was given back";
    }
    if (byte.write_time != 0 && !clock.covers(byte.writer, byte.write_time)) {
      return access == Access::Atomic ? "an operation on a cell races with a plain write"
                                      : "data race with a plain write";
    }
    const std::uint16_t now = clock.at[thread];
    switch (access) {
      case Access::Read:
        byte.reads[thread] = now;
        break;
      case Access::Atomic:
        byte.operations[thread] = now;
        break;
      case Access::Write:
        for (unsigned other = 0; other < most_threads; ++other) {
          if (!clock.covers(other, byte.reads[other])) {
            return "a plain write races with a read";
          }
          if (!clock.covers(other, byte.operations[other])) {
            return "a plain write races with an operation on a cell";
          }
        }
        byte.writer = static_cast<std::uint8_t>(thread);
        byte.write_time = now;
        break;
    }
    return nullptr;
  }

  void set_given_back(unsigned offset, bool is_given_back) noexcept {
    fresh(offset).is_given_back = is_given_back;
  }

 private:
  struct Byte {
    std::uint32_t execution;
    std::uint16_t write_time;
    std::uint8_t writer;
    bool is_given_back;
    std::uint16_t reads[most_threads];
    std::uint16_t operations[most_threads];
  };

  Byte& fresh(unsigned offset) noexcept {
    Byte& byte = bytes_[offset];
    if (byte.execution != execution_) {
      byte = {};
      byte.execution = execution_;
    }
    return byte;
  }

  Byte bytes_[region_bytes];
  std::uint32_t execution_ = 0;
};

}  // namespace slabmalloc::explorer
