// SPDX-License-Identifier: MIT
//
// Options: what SLABMALLOC_OPTIONS asks for, a list `key` or `key:value` separated by commas.
#pragma once

#include <cstddef>

namespace slabmalloc {

struct Options {
  static constexpr std::size_t path_bytes = 1024;

  bool stats = false;              ///< A summary on stderr at exit.
  char stats_file[path_bytes]{};  ///< A line of JSON is appended there at exit; empty: nowhere.
  bool huge_pages = false;         ///< The system may use huge pages for the heap.
  bool scavenging = true;              ///< Threads that sleep are looked after by others, by means of membarrier.

  bool wants_statistics() const noexcept { return stats || stats_file[0] != '\0'; }
};

/// The options in force: the defaults until read_options().
[[gnu::visibility("hidden")]] extern constinit Options options;

/// Reads `text` into `options`; null is no text. What is not understood is told on stderr and skipped.
void read_options(const char* text) noexcept;

}  // namespace slabmalloc
