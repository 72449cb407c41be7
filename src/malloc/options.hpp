// SPDX-License-Identifier: MIT
//
// Options: the choices of SLABMALLOC_OPTIONS, a list of `name` or `name:value` separated by commas.
// option_table.hpp says which there are; numbers and sizes among them are tunables (tunables.hpp).
#pragma once

#include <cstddef>
#include <cstdint>

namespace slabmalloc {

/// The parts of the statistics, as bits of a set.
enum StatsPart : std::uint32_t { stats_totals = 1, stats_classes = 2, stats_json = 4 };

struct Options {
  static constexpr std::size_t path_bytes = 1024;

  std::uint32_t stats = 0;        ///< These parts are written on stderr at exit.
  char stats_file[path_bytes]{};  ///< A line of JSON is appended there at exit; empty: nowhere.
  bool huge_pages = false;        ///< The system may use huge pages for the heap.
  bool scavenging = true;         ///< Others scavenge zones of sleeping threads, by membarrier.

  bool wants_statistics() const noexcept { return stats != 0 || stats_file[0] != '\0'; }
};

/// The options in force: the defaults until read_options().
[[gnu::visibility("hidden")]] extern constinit Options options;

/// Reads `text` into `options` and `tunables`; null is no text. A wrong entry is told on stderr and
/// skipped: its option stays as it was.
void read_options(const char* text) noexcept;

}  // namespace slabmalloc
