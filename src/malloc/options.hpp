// SPDX-License-Identifier: MIT
//
// Options: the choices in SLABMALLOC_OPTIONS, a list of `name` or `name:value` separated by commas.
// option_table.hpp lists them. Numbers and sizes among them are tunables (tunables.hpp).
#pragma once

#include <cstddef>
#include <cstdint>

namespace slabmalloc {

/// The parts of the statistics, as bits of a set.
enum StatsPart : std::uint32_t { stats_totals = 1, stats_classes = 2, stats_json = 4 };

struct Options {
  static constexpr std::size_t path_bytes = 1024;

  std::uint32_t stats = 0;         ///< The parts written to stderr at exit.
  char stats_file[path_bytes]{};   ///< A file that gets a line of JSON at exit; empty: none.
  bool huge_pages = false;         ///< The system may use huge pages for the heap.
  bool scavenging = true;          ///< Threads scavenge the zones of sleeping threads, by
                                   ///< membarrier.
  bool deep_bind = false;          ///< dlopen() heeds RTLD_DEEPBIND.
  bool background_thread = false;  ///< A thread purges and scavenges.
  bool back_trace = true;          ///< A report of misuse ends with a back trace.
  bool size_check = true;          ///< A wrong size given to a free is misuse.
  // Of the hardened library:
  bool kind_check = true;       ///< So is a free by a function of another kind.
  bool canaries = true;         ///< Blocks are filled behind the bytes asked for, and checked.
  bool clearing = true;         ///< A free clears the block.
  bool reuse_check = true;      ///< An allocation looks whether its slot is clear still.
  bool zero_size_traps = true;  ///< Blocks of no bytes have addresses without memory.
  bool quarantine = true;       ///< Freed blocks rest before their memory is used again.
  bool random_order = true;     ///< Slots are issued in an order that is hard to guess.
  bool class_addresses = true;  ///< Addresses of small blocks keep their size class.
  bool guards = true;           ///< Inaccessible memory lies beside pages and large blocks.

  bool wants_statistics() const noexcept { return stats != 0 || stats_file[0] != '\0'; }
};

/// The options in use: the defaults until read_options().
[[gnu::visibility("hidden")]] extern constinit Options options;

/// Reads `text`, which may be null, into `options` and `tunables`.
/// Fails: reports a wrong entry on stderr and skips it; its option stays as it was.
void read_options(const char* text) noexcept;

}  // namespace slabmalloc
