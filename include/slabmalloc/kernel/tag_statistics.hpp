// SPDX-License-Identifier: MIT
//
// TagStatistics: the figures of one tag of a heap, and its line in the report.
//
//   tag net: 12 objects, 4096 of 65536 bytes, 5120 at most, 3 refused
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/base/counters.hpp"
#include "slabmalloc/kernel/text_line.hpp"

namespace slabmalloc {

/// A snapshot. It may lag behind the work of other CPUs.
struct TagStatistics {
  static constexpr std::size_t no_limit = ~std::size_t{0};  ///< In `limit_bytes`.

  const char* name = nullptr;  ///< Null if the tag has none.
  std::size_t tag = 0;
  std::size_t objects = 0;
  std::size_t bytes = 0;
  std::size_t bytes_high_water = 0;
  std::size_t limit_bytes = 0;
  std::size_t refused = 0;

  /// Whether there is something to report.
  constexpr bool was_used() const noexcept {
    return bytes_high_water != 0 || refused != 0 || limit_bytes != no_limit;
  }

  using Self = TagStatistics;
  static constexpr CounterEntry<Self> counters[] = {
      {&Self::objects, "objects", "blocks", CounterKind::Current,
       "Blocks that are charged to the tag, runs included."},
      {&Self::bytes, "bytes", "bytes", CounterKind::Current,
       "Their bytes, as their size classes or the pager round them up."},
      {&Self::bytes_high_water, "bytes_high_water", "bytes", CounterKind::Peak,
       "The most that `bytes` ever was."},
      {&Self::limit_bytes, "limit_bytes", "bytes", CounterKind::Current,
       "By `set_tag_limit()`; all bits are set without one."},
      {&Self::refused, "refused", "calls", CounterKind::Total,
       "Allocations that ended as `OutOfMemory` since they would have passed the limit."},
  };
};
// Beside the counters: the name and the tag.
static_assert(has_entry_for_each_counter<TagStatistics, const char*, std::size_t>());

/// The line of a tag. The text is valid until the next call.
class TagLine {
 public:
  const char* of(const TagStatistics& one) noexcept {
    line_.clear();
    line_.append("tag ");
    if (one.name != nullptr) {
      line_.append(one.name);
    } else {
      line_.append(one.tag);
    }
    line_.append(": ");
    line_.append(one.objects);
    line_.append(" objects, ");
    line_.append(one.bytes);
    if (one.limit_bytes != TagStatistics::no_limit) {
      line_.append(" of ");
      line_.append(one.limit_bytes);
    }
    line_.append(" bytes, ");
    line_.append(one.bytes_high_water);
    line_.append(" at most");
    if (one.refused != 0) {
      line_.append(", ");
      line_.append(one.refused);
      line_.append(" refused");
    }
    return line_.c_str();
  }

 private:
  TextLine<160> line_;
};

}  // namespace slabmalloc
