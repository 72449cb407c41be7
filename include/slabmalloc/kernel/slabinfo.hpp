// SPDX-License-Identifier: MIT
//
// A report of all heaps and caches, in the manner of /proc/slabinfo: a line for each cache and for
// each size class of a heap that was ever used.
//
//   name                 in use   objects   bytes  per page     KiB   pages    most   limit …
//   inode                   120       128     600         6       4      20      24       -
//   heap-64                   -       126      64        63       4       2       2       -
//
//   in use    objects that clients hold; - where frees are not counted (Config::counts_frees)
//   objects   in all pages            bytes   from one object to the next
//   per page  objects                 KiB     of a page
//   pages, most, limit    now, ever, at most
//   refills   times that a CPU took a page     remote   frees by other CPUs
//   nested    calls in the middle of another one on their CPU
//   failed    allocations that found no memory
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/kernel/cache_statistics.hpp"
#include "slabmalloc/kernel/reclaimer.hpp"
#include "slabmalloc/kernel/text_line.hpp"

namespace slabmalloc {

/// The lines of the report. The text is valid until the next call.
class SlabinfoLine {
 public:
  const char* header() noexcept {
    line_.clear();
    line_.append("name");
    line_.end_column(name_width);
    for (const Column& column : columns) {
      line_.right(column.title, column.width);
    }
    return line_.c_str();
  }

  const char* of(const CacheStatistics& one) noexcept {
    line_.clear();
    line_.append(one.name);
    if (one.is_class) {
      line_.append('-');
      line_.append(one.object_bytes);
    }
    line_.end_column(name_width);
    const bool knows_calls = !one.is_class;
    const Value values[] = {{one.objects_in_use, one.knows_use},
                            {one.objects, true},
                            {one.object_bytes, true},
                            {one.objects_per_page, true},
                            {one.page_bytes / 1024, true},
                            {one.pages, true},
                            {one.pages_high_water, true},
                            {one.limit_pages, one.limit_pages != 0},
                            {one.refills, true},
                            {one.remote_frees, true},
                            {one.nested_calls, knows_calls},
                            {one.failures, knows_calls}};
    static_assert(sizeof(values) / sizeof(values[0]) == sizeof(columns) / sizeof(columns[0]),
                  "each column has its value");
    std::size_t index = 0;
    for (const Value& value : values) {
      const std::size_t width = columns[index++].width;
      value.is_known ? line_.right(value.number, width) : line_.right("-", width);
    }
    return line_.c_str();
  }

 private:
  struct Column {
    const char* title;
    std::size_t width;
  };
  struct Value {
    std::size_t number;
    bool is_known;
  };
  static constexpr std::size_t name_width = 18;
  static constexpr Column columns[] = {{"in use", 9},   {"objects", 9}, {"bytes", 7},
                                       {"per page", 9}, {"KiB", 6},     {"pages", 8},
                                       {"most", 8},     {"limit", 8},   {"refills", 10},
                                       {"remote", 10},  {"nested", 8},  {"failed", 8}};

  TextLine<160> line_;
};

/// Calls sink(const char*) for each line of the report of `entry`.
template <class Sink>
void write_slabinfo(const Reclaimable& entry, Sink&& sink) noexcept {
  SlabinfoLine line;
  CacheStatistics one;
  for (std::uint32_t index = 0; entry.statistics(index, one); ++index) {
    if (!one.is_class || one.refills != 0) {
      sink(line.of(one));
    }
  }
}

/// Calls sink(const char*) for each line of the report of all that `reclaimer` has: titles, then
/// heaps and caches, oldest first. Thread: as Reclaimer; the sink is called with nothing held.
template <class Hooks, class Atomics, class Sink>
void write_slabinfo(Reclaimer<Hooks, Atomics>& reclaimer, Sink&& sink) noexcept {
  SlabinfoLine line;
  sink(line.header());
  reclaimer.for_each([&](Reclaimable& entry) { write_slabinfo(entry, sink); });
}

/// The same by Hooks::log().
template <class Hooks, class Atomics>
void log_slabinfo(Reclaimer<Hooks, Atomics>& reclaimer) noexcept {
  write_slabinfo(reclaimer, [](const char* line) { Hooks::log(line); });
}

}  // namespace slabmalloc
