// SPDX-License-Identifier: MIT
//
// Report: the numbers of the process heap, as text, JSON and XML.
//
// Live objects come from the bitmaps of all pages, and allocations from the zones' counters.
// Neither stops the threads that allocate meanwhile. The numbers are exact when no thread
// allocates.
#pragma once

#include <stdio.h>

#include <cstddef>
#include <cstdint>

#include "arena/statistics.hpp"
#include "malloc/heap.hpp"
#include "malloc/options.hpp"
#include "slabmalloc/zone/statistics.hpp"

namespace slabmalloc {

/// The sums over all size classes and large objects, and the totals that only a process has.
struct ProcessTotals : Turnover {
  std::size_t live_objects = 0;
  std::size_t live_bytes = 0;
  std::size_t threads = 0;
  std::size_t guarded = 0;
  std::size_t guards_refused = 0;

  using Base = Turnover;
  using Self = ProcessTotals;
  static constexpr CounterEntry<Self> counters[] = {
      {&Self::live_objects, "live_objects", "objects", CounterKind::Current, "Live objects."},
      {&Self::live_bytes, "live_bytes", "bytes", CounterKind::Current, "What live objects take."},
      {&Self::threads, "threads", "threads", CounterKind::Total,
       "Threads that ever had a zone, those before a fork too."},
      {&Self::guarded, "guarded", "objects", CounterKind::Total, "Allocations that were guarded."},
      {&Self::guards_refused, "guards_refused", "objects", CounterKind::Total,
       "Allocations to be guarded that could not be, mostly since all places held live blocks."},
  };
};
static_assert(has_entry_for_each_counter<ProcessTotals>());

/// The numbers of the whole process.
struct ProcessStatistics : ProcessTotals {
  std::size_t guarded_frees = 0;  ///< Those of guarded blocks, which `frees` includes.
  ClassStatistics classes[heap::SizeClasses::count];
  ArenaStatistics arena;
};

/// A snapshot of these numbers.
/// Thread: any.
/// Cost: O(committed memory).
ProcessStatistics process_statistics() noexcept;

/// Starts all totals again now: the child of a fork reports only its own calls.
void start_counting_anew() noexcept;

/// Writes `parts` of the statistics, bits of StatsPart, to file descriptor `descriptor`.
void print_statistics(int descriptor, std::uint32_t parts = stats_totals | stats_classes) noexcept;

/// Appends the statistics to the file `path` as one line of JSON.
/// Fails: false if the file cannot be written.
bool append_json(const char* path) noexcept;

/// Writes the statistics in the format of malloc_info().
/// Fails: false if the stream fails.
bool print_xml(FILE* stream) noexcept;

/// The misuse hook of the process heap: a report on stderr (misuse_report.cpp), then abort().
[[noreturn]] void report_misuse_and_abort(const Misuse& misuse) noexcept;

/// What an access that faulted did.
enum class FaultingAccess : std::uint8_t { Unknown, Read, Write };

/// Reports on stderr that an access to `address`, which lies among the guarded blocks, faulted.
/// Thread: the one that faulted, in its handler of the fault.
void report_fault(const void* address, FaultingAccess access) noexcept;

}  // namespace slabmalloc
