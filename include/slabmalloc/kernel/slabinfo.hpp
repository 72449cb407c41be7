// SPDX-License-Identifier: MIT
//
// A report of all heaps and caches, in the manner of /proc/slabinfo. It has a line for each cache.
// For a heap it has one for each size class that a client ever used, one for runs, and one for all
// frames and runs. Then comes one for each tag that a client used or limited (tag_statistics.hpp).
//
//   name                 in use   objects   bytes  per page     KiB   pages    most   limit …
//   inode                   120       128     600         6       4      20      24       -
//   heap-64                   -       126      64        63       4       2       2       -
//   heap-runs                 -         -       -         -       4      25      25       -
//   heap                      -         -       -         -       4      30      30     100
//
// The columns are those of cache_statistics.hpp, and docs/STATISTICS.md lists them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/kernel/cache_statistics.hpp"
#include "slabmalloc/kernel/reclaimer.hpp"
#include "slabmalloc/kernel/tag_statistics.hpp"
#include "slabmalloc/kernel/text_line.hpp"

namespace slabmalloc {

/// What the report needs of a column, without the words of the documents.
struct SlabinfoColumn {
  std::size_t CacheStatistics::* member;
  const char* name;
  bool (*is_known)(const CacheStatistics& one) noexcept;
  std::uint32_t width;
  std::uint32_t divisor;
};

/// The columns of the report.
struct SlabinfoColumns {
  SlabinfoColumn at[counter_entries<CacheStatistics>];

  static constexpr SlabinfoColumns make() noexcept {
    SlabinfoColumns result{};
    for (std::size_t index = 0; index < counter_entries<CacheStatistics>; ++index) {
      const CacheColumn& column = CacheStatistics::counters[index];
      result.at[index] = {column.member, column.name, column.is_known,
                          static_cast<std::uint32_t>(column.width),
                          static_cast<std::uint32_t>(column.divisor)};
    }
    return result;
  }
};
inline constexpr SlabinfoColumns slabinfo_columns = SlabinfoColumns::make();

/// The lines of the report. The text is valid until the next call.
class SlabinfoLine {
 public:
  const char* header() noexcept {
    line_.clear();
    line_.append("name");
    line_.end_column(name_width);
    for (const SlabinfoColumn& column : slabinfo_columns.at) {
      line_.right(column.name, column.width);
    }
    return line_.c_str();
  }

  const char* of(const CacheStatistics& one) noexcept {
    line_.clear();
    line_.append(one.name);
    if (one.kind == CacheKind::Class) {
      line_.append('-');
      line_.append(one.object_bytes);
    } else if (one.kind == CacheKind::Runs) {
      line_.append("-runs");
    }
    line_.end_column(name_width);
    for (const SlabinfoColumn& column : slabinfo_columns.at) {
      if (column.is_known(one)) {
        line_.right(one.*column.member / column.divisor, column.width);
      } else {
        line_.right("-", column.width);
      }
    }
    return line_.c_str();
  }

 private:
  static constexpr std::size_t name_width = 18;

  TextLine<160> line_;
};

/// Calls sink(const char*) with a line for each counter: its name and value.
template <class Counters, class Sink>
void write_counters(const Counters& counters, Sink&& sink) noexcept {
  for_each_counter<Counters>([&](const auto& entry) noexcept {
    TextLine<80> line;
    line.append("  ");
    line.append(entry.name);
    line.end_column(26);
    line.right(counters.*entry.member, 14);
    sink(line.c_str());
  });
}

/// Calls sink(const char*) for each line of the report of `entry`.
template <class Sink>
void write_slabinfo(const Reclaimable& entry, Sink&& sink) noexcept {
  SlabinfoLine line;
  CacheStatistics one;
  for (std::uint32_t index = 0; entry.statistics(index, one); ++index) {
    if (one.was_used()) {
      sink(line.of(one));
    }
  }
  TagLine tag_line;
  TagStatistics tag;
  for (std::uint32_t number = 0; entry.tag_statistics(number, tag); ++number) {
    if (tag.was_used()) {
      sink(tag_line.of(tag));
    }
  }
}

/// Calls sink(const char*) for each line of the report of all entries of `reclaimer`: titles, then
/// heaps and caches, oldest first. Thread: as Reclaimer; it calls the sink with nothing held.
template <class Hooks, class Atomics, class Sink>
void write_slabinfo(Reclaimer<Hooks, Atomics>& reclaimer, Sink&& sink) noexcept {
  SlabinfoLine line;
  sink(line.header());
  reclaimer.for_each([&](Reclaimable& entry) { write_slabinfo(entry, sink); });
}

/// The same, by Hooks::log().
template <class Hooks, class Atomics>
void log_slabinfo(Reclaimer<Hooks, Atomics>& reclaimer) noexcept {
  write_slabinfo(reclaimer, [](const char* line) { Hooks::log(line); });
}

}  // namespace slabmalloc
