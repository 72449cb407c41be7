// SPDX-License-Identifier: MIT
//
// Tunables: every interval, limit and threshold of the malloc, with its unit and its reason.
//
//     static constexpr member    fixed when the malloc is compiled: the length of an array or the
//                                bound of a loop
//     other member               an option may set it (malloc/option_table.hpp), once, before the
//                                constructors of the program; slow paths alone read it, so that
//                                fast paths have no load for it
//
// The core's limits are in its own configuration (slabmalloc/zone/config.hpp, MallocConfig).
// Facts that nobody can tune stay where they are used: the length of a chunk, the layout of a
// record, and the places in the address space.
#pragma once

#include <cstddef>
#include <cstdint>

namespace slabmalloc {

struct Tunables {
 private:
  static constexpr std::size_t kibibyte = std::size_t{1} << 10;
  static constexpr std::size_t mebibyte = std::size_t{1} << 20;
  static constexpr std::size_t gibibyte = std::size_t{1} << 30;
  static constexpr bool is_64_bit = sizeof(void*) == 8;

  /// The pace of everything that is done "after a while". At 1 s the benchmark `growing/1` had 15 %
  /// fewer page faults and held 3.5 MiB more at its end; nothing else changed.
  static constexpr std::uint32_t pace_milliseconds = 250;

 public:
  // ---- Purging --------------------------------------------------------------------------------

  /// Freed memory is purged when it has been dirty for so long: what is wanted again sooner is
  /// spared a page fault. A large-object cache is looked through as often.
  std::uint32_t decay_milliseconds = pace_milliseconds;
  /// Memory that was purged as excess and is faulted in again within this time would have been
  /// found dirty, had it been kept: the dirty limit was too low. So it is the default of the decay.
  static constexpr std::uint32_t refault_milliseconds = pace_milliseconds;

  /// Chunks that one system call purges: 4 MiB. Others' purges wait for that call.
  static constexpr std::uint32_t purge_step_chunks = 64;
  /// Steps that one operation takes for what has decayed: 8 MiB in all, so that none is long.
  static constexpr std::uint32_t purge_steps = 2;
  /// Runs that one operation purges for others, who free them while it purges. Without a bound it
  /// would go on for as long as they do.
  static constexpr std::uint32_t purge_steps_for_others = 16;

  // The dirty limit (arena/dirty_limit.hpp has the formula). The benchmark `large/1` had 143,000
  // page faults by these figures, and 386,000 with 4 MiB + 1/32 of the peak and no experience.

  /// Kept dirty whatever happens: a few blocks that come and go.
  static constexpr std::size_t dirty_least_bytes = mebibyte;
  /// And this part of the peak.
  static constexpr std::size_t dirty_least_part_of_peak = 32;
  /// Without experience this part of the memory in use is kept, for the ordinary come and go.
  static constexpr std::size_t dirty_usual_part_of_use = 2;
  /// By experience at most so many times the memory in use is kept: little, once all is freed.
  static constexpr std::size_t dirty_learned_times_use = 4;
  /// Or this much, whichever is more: for programs that free everything and start again.
  static constexpr std::size_t dirty_learned_bytes = 4 * mebibyte;
  /// In use and dirty together are at most the peak and this part of it: keeping memory hardly
  /// makes the process larger than it was already.
  static constexpr std::size_t dirty_part_beyond_peak = 8;
  /// Each purge of excess makes experience forget this part of the purged bytes: a program that
  /// winds down purges and does not come back.
  static constexpr std::size_t dirty_part_forgotten = 4;

  // ---- Scavenging -----------------------------------------------------------------------------

  /// Zones of sleeping threads are scavenged, and dirty memory is looked at, so often. Each time
  /// costs a membarrier for every zone in which frees wait.
  std::uint32_t scavenge_milliseconds = pace_milliseconds;

  /// Slow calls of one thread between two looks at the clock. A look costs 10 instructions for
  /// each claim of slots when it comes every 64 claims.
  static constexpr std::uint32_t calls_per_look = 1024;
  /// A claim of slots stands for up to 64 allocations, a slow free for one. It counts as so many
  /// calls: then a look comes every 64 claims.
  static constexpr std::uint32_t calls_per_claim = 16;
  /// Requests for pages, by all threads, between two drains of a parked zone. Each drain takes the
  /// registry's mutex twice.
  static constexpr std::uint32_t requests_per_drain = 16;
  /// Pages that a scavenger looks at with the mutex held, since the zone's owner may wait for it.
  static constexpr std::uint32_t pages_per_step = 64;
  /// Such steps for one zone at a time, so that no call takes long: 1024 pages.
  static constexpr int steps_per_scavenge = 16;

  // ---- Large objects --------------------------------------------------------------------------

  /// From here on a large object gets a mapping of its own: it grows without being copied, and its
  /// memory goes back at once. The system calls are little beside the page faults of its contents.
  std::size_t direct_threshold_bytes = 32 * mebibyte;
  /// The same at most where address space is bounded. The window keeps its share of that, mappings
  /// do not: hundreds of freed 1 MiB buffers would stand in the way of one of 500 MiB.
  static constexpr std::size_t bounded_direct_threshold_bytes = mebibyte;
  /// From an alignment above this an object gets a mapping too, since a run would leave as much
  /// unused before it.
  static constexpr std::size_t run_alignment_bytes = 4 * mebibyte;
  /// A mapping above this that the kernel refuses is refused: to grow the window by as much would
  /// only ask the same again.
  static constexpr std::size_t largest_run_bytes = gibibyte;
  /// Ended direct mappings whose addresses are remembered, so that a second free is told from a
  /// free of no block. They are half a KiB, and looked through for diagnosis alone.
  static constexpr std::size_t remembered_ends = 64;

  /// Large-object caches of the process: threads share one seldom where fewer than so many run.
  static constexpr std::size_t large_caches = 8;
  /// Objects in each: a pair of sizes that come and go. All caches together keep at most 2 MiB.
  static constexpr std::uint32_t large_cache_places = 2;
  /// Chunks of an object that is kept there: 128 KiB. For larger ones the mutex is little beside
  /// the work on their contents.
  static constexpr std::uint32_t large_cache_chunks = 2;

  // ---- Finding free runs ----------------------------------------------------------------------

  /// Runs of one bin that a search looks at: that makes it constant. The more, the more often the
  /// lowest address wins.
  static constexpr std::uint32_t search_depth = 8;
  /// Free neighbours on each side of a dirty run that a search joins to it.
  static constexpr std::uint32_t search_reach = 8;

  // ---- The window -----------------------------------------------------------------------------

  /// Data that a window has room for: sizes tried, the largest first, each a quarter of the one
  /// before. Size costs nothing; the window must only fit between mappings.
  static constexpr std::size_t largest_window_bytes = std::size_t{1} << (is_64_bit ? 40 : 30);
  static constexpr std::size_t smallest_window_bytes = std::size_t{1} << (is_64_bit ? 30 : 28);
  /// The same at a known place, where the bound on the address space says that the program is not
  /// large.
  static constexpr std::size_t bounded_window_bytes = std::size_t{1} << (is_64_bit ? 36 : 29);
  /// Of the space that the system proposes, this part of the data's size is left empty before the
  /// window. It is for others' mappings where the system fills a space from its low end: in its
  /// legacy layout, and on most processors where the stack may grow without bound. Records and
  /// tags could not grow past them.
  static constexpr std::size_t window_part_left_empty = 4;

  /// Chunks by which the window grows: a part of its length, so that the number of steps stays
  /// logarithmic until they are large, from 4 MiB to 64 MiB.
  static constexpr std::uint32_t growth_part = 8;
  static constexpr std::uint32_t smallest_growth_chunks = 64;
  static constexpr std::uint32_t largest_growth_chunks = 1024;
  /// The same where address space is bounded, and a step is taken from the program: from 1 MiB to
  /// 4 MiB.
  static constexpr std::uint32_t bounded_growth_part = 16;
  static constexpr std::uint32_t smallest_bounded_growth_chunks = 16;
  static constexpr std::uint32_t largest_bounded_growth_chunks = 64;

  /// Others' mappings are stepped over by gaps of so many chunks, doubling. The records of the gap
  /// are mapped, so that large gaps are for where address space is free.
  static constexpr std::uint32_t first_gap_chunks = 16;
  static constexpr std::uint32_t largest_gap_chunks = std::uint32_t{1} << (is_64_bit ? 18 : 12);
  static constexpr std::uint32_t largest_bounded_gap_chunks = 4096;

  // ---- Pages and zones ------------------------------------------------------------------------

  /// Objects up to this size live on pages of one chunk, at least eight on each. Larger ones live
  /// on pages of several chunks.
  static constexpr std::size_t one_chunk_object_bytes = 8 * kibibyte;
  /// Chunks of such a page: at least 16 objects.
  static constexpr std::size_t chunks_per_large_page = 8;
  /// Sizes up to here lead to their class by a look-up, the others by arithmetic. The table is
  /// thread-local, of a pointer for every 16 B: half a KiB.
  static constexpr std::size_t class_lookup_bytes = kibibyte;
  /// calloc() touches the pages of fresh memory up to this size: its caller seldom reads first, and
  /// a page that is read first is faulted in twice. Larger blocks may be meant to be sparse.
  static constexpr std::size_t touched_zeroed_bytes = mebibyte;

  // ---- The operating system -------------------------------------------------------------------

  /// Looks at a held mutex before its thread sleeps. Sections are short: most waits end before a
  /// kernel entry would.
  static constexpr int mutex_spins = 64;
  /// Shorter ranges would hardly hold one of the huge pages of processors whose pages have 4 KiB.
  static constexpr std::size_t least_huge_bytes = 2 * mebibyte;
};

/// The tunables in force: the defaults until options are read.
[[gnu::visibility("hidden")]] inline constinit Tunables tunables;

}  // namespace slabmalloc
