// SPDX-License-Identifier: MIT
//
// Report: the process heap in numbers, and these numbers as text, JSON and XML.
//
// Live objects are read off the bitmaps of all pages and allocations off the zones' counters; neither
// stops the threads that go on allocating meanwhile. The numbers are exact when none does.
#pragma once

#include <stdio.h>

#include <cstddef>
#include <cstdint>

#include "malloc/heap.hpp"
#include "malloc/options.hpp"

namespace slabmalloc {

/// One size class over all zones.
struct ProcessClass {
  std::size_t object_size = 0;  ///< Bytes.
  std::size_t pages = 0;
  std::size_t slots = 0;
  std::size_t used = 0;
  std::size_t allocations = 0;
  std::size_t frees = 0;
  std::size_t remote_frees = 0;
};

/// The whole process.
struct ProcessStatistics {
  ProcessClass classes[heap::SizeClasses::count];
  ArenaStatistics arena;
  std::size_t threads = 0;       ///< That ever allocated.
  std::size_t live_objects = 0;  ///< Large ones included, as in all sums.
  std::size_t live_bytes = 0;    ///< Bytes of slots and of large objects.
  std::size_t allocations = 0;
  std::size_t frees = 0;
  std::size_t remote_frees = 0;
};

/// A snapshot. Thread: any. Cost: O(committed memory).
ProcessStatistics process_statistics() noexcept;

/// Makes what was counted so far the beginning: the child of a fork reports its own calls only.
void start_counting_anew() noexcept;

/// Writes `parts` of the statistics, bits of StatsPart, to file descriptor `descriptor`.
void print_statistics(int descriptor,
                      std::uint32_t parts = stats_totals | stats_classes) noexcept;

/// Appends the statistics to the file `path` as one line of JSON; false if it cannot be written.
bool append_json(const char* path) noexcept;

/// Writes the statistics as malloc_info() does; false if the stream fails.
bool print_xml(FILE* stream) noexcept;

/// The misuse hook of the process heap: one line on stderr, then abort().
[[noreturn]] void report_misuse_and_abort(const Misuse& misuse) noexcept;

}  // namespace slabmalloc
