// SPDX-License-Identifier: MIT
//
// Tunables: every interval, limit and threshold of the malloc, with its unit and its reason.
//
//     static constexpr member    fixed at compile time: an array length or a loop bound
//     other member               an option may set it once (malloc/option_table.hpp), before the
//                                program's constructors run; only slow paths read it, so fast
//                                paths need no load for it
//
// The core keeps its limits in its own configuration (slabmalloc/zone/config.hpp; MallocConfig in
// malloc/arena_zone.hpp). Values that nobody can tune stay where the code uses them: the chunk
// length, the record layout, and the addresses of the window.
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

 public:
  /// True in the hardened library alone.
#ifdef SLABMALLOC_HARDENED
  static constexpr bool hardened = true;
#else
  static constexpr bool hardened = false;
#endif

  // ---- The hardened library ---------------------------------------------------------------------

  /// Inaccessible memory lies behind each page of slots, and on both sides of each large object.
  bool guards = hardened;
  /// The chunks of the window in which pages have guards: 2 GiB. A page takes two of the process's
  /// mappings there. So all take half of the 65,530 that the system allows.
  std::size_t guarded_chunks = 32'768;
  /// A claim takes a random half of the free slots.
  bool random_order = hardened;
  /// Addresses of a page of slots serve no other size class afterwards.
  bool class_addresses = hardened;
  /// The sets of free runs: that of runs without a size class, and one for each of 40 size classes.
  static constexpr std::uint32_t run_classes = hardened ? 41 : 1;
  /// Freed large objects whose addresses stay inaccessible and unused: one more than this. They
  /// take no memory, but a mapping each.
  static constexpr std::size_t quarantined_mappings = 1024;
  /// The largest of them, so that all together take about 64 GiB of address space at most.
  static constexpr std::size_t quarantined_bytes = 64 * mebibyte;

  // ---- Guarded sampling (malloc/guarded_blocks.hpp) ------------------------------------------

  /// One allocation in this many is guarded, and one for each so many bytes; 0 for none.
  std::uint32_t guard_one_in = 0;
  std::size_t guard_bytes = 0;
  /// Guarded blocks at a time. A long-lived block keeps its place. At one allocation in 1000 a
  /// freed block stays inaccessible for about 200,000 allocations.
  std::uint32_t guarded_places = 256;

  // ---- Purging --------------------------------------------------------------------------------

  /// The time within which unneeded dirty memory is purged, and before a quarter of which none is
  /// (arena/decay.hpp). If the program uses memory again sooner, it avoids page faults. The arena
  /// also checks the large-object caches at this interval.
  std::uint32_t decay_milliseconds = 1000;

  /// Chunks that one system call purges: 4 MiB. Other threads' purges wait for that call.
  static constexpr std::uint32_t purge_step_chunks = 64;
  /// Steps that one operation takes for decayed memory: 64 MiB in all, a few milliseconds.
  static constexpr std::uint32_t purge_steps = 16;
  /// Runs that one operation purges for other threads, which free them during the purge. Without a
  /// bound the operation would continue for as long as they free.
  static constexpr std::uint32_t purge_steps_for_others = 16;

  /// Memory in use and dirty memory together are at most the recent peak, this fraction of it, and
  /// as many bytes. So fragments of dirty memory hardly raise the peak size of the process.
  static constexpr std::size_t dirty_part_beyond_peak = 64;
  static constexpr std::size_t dirty_bytes_beyond_peak = mebibyte;

  // ---- Memory limits (arena/memory_limit.hpp) ---------------------------------------------------

  /// The value of a limit that is not set.
  static constexpr std::size_t no_limit = ~std::size_t{0};
  /// Below this size even small programs would fail to start. Above this one there is no window.
  static constexpr std::size_t least_limit_bytes = mebibyte;
  static constexpr std::size_t most_limit_bytes = std::size_t{1} << (is_64_bit ? 40 : 30);
  /// While the memory in use and the dirty memory exceed this, no free memory is kept.
  std::size_t soft_limit_bytes = no_limit;
  /// And an allocation fails that would raise the memory in use above this.
  std::size_t hard_limit_bytes = no_limit;

  // ---- Scavenging -----------------------------------------------------------------------------

  /// The interval at which zones of sleeping threads are scavenged and decayed memory is purged.
  /// Each scavenge costs a membarrier for every zone that holds waiting frees.
  std::uint32_t scavenge_milliseconds = 250;

  /// The most slow calls of one thread between two reads of the clock: sixteen claims of 64
  /// slots. More would hold memory for longer where calls have become rare. With four claims cfrac
  /// took 1.04 of the time.
  static constexpr std::uint32_t calls_per_clock_check = 256;
  /// A claim counts as so many while other threads' frees wait in the thread's queue.
  static constexpr std::uint32_t claims_per_late_claim = 4;
  /// A thread with fewer slow calls in this time reads the clock at each claim.
  static constexpr std::uint32_t clock_milliseconds = 32;
  /// A claim serves up to 64 allocations, a slow free is one. So a claim of 64 slots counts as this
  /// many calls, and one of fewer slots as fewer.
  static constexpr std::uint32_t calls_per_claim = 16;
  /// Reads of the same time after which a thread drains a few pages of its zone, and goes on with a
  /// scan. The clock's tick is up to 10 ms long.
  static constexpr std::uint32_t checks_per_scavenge = 16;
  /// If a thread's zone was not drained completely for this time, the thread drains it, although it
  /// needs no page. More often costs time: frees that come later could share a drain.
  static constexpr std::uint32_t full_drain_milliseconds = 64;
  /// Pages that this drains at most, so that no call takes long.
  static constexpr std::uint32_t full_drain_pages = 1024;
  /// Requests for pages, by all threads, between two drains of a parked zone. Each drain takes the
  /// registry's mutex twice.
  static constexpr std::uint32_t requests_per_drain = 16;

  // ---- Holes ----------------------------------------------------------------------------------

  /// The bounds of a step of a scan for holes: the records that it looks at, and the system calls
  /// that it makes. It ends after the page that reaches a bound.
  struct ScanStep {
    std::uint32_t records;
    std::uint32_t calls;
  };
  /// The owner's step: up to half a millisecond, as for expired memory.
  static constexpr ScanStep owner_scan_step{4096, 256};
  /// A scavenger's step. It is shorter, since the owners of the pages may wait for it.
  static constexpr ScanStep scavenger_scan_step{1024, 64};
  /// The split of a huge page takes a third of a millisecond, as long as so many calls. Later scans
  /// count it again, although it takes no time then.
  static constexpr std::uint32_t calls_per_split = 128;
  /// Before each step of a long scan, a scavenger sleeps while other threads wait for its mutex: at
  /// most this often, and each time this long. The system adds about as much, so an owner has a
  /// millisecond to run. If it is stopped, the scan goes on.
  static constexpr int scavenger_naps = 8;
  static constexpr std::uint32_t scavenger_nap_microseconds = 50;
  /// Steps of scavengers in one call, every scavenge_milliseconds. Later calls go on one by one.
  static constexpr int steps_per_scavenge = 16;
  /// The least interval of a zone's scans, however short the decay time is: a step over that many
  /// records takes a tenth of a millisecond, and there are steps as long as a scan is under way.
  static constexpr std::uint32_t least_scan_milliseconds = 10;
  /// Scans become rarer by at most this factor while programs claim again what scans drop.
  static constexpr std::uint32_t longest_scan_stretch = 8;

  // ---- The shared zone ------------------------------------------------------------------------

  /// The first allocations of a thread, which the shared zone serves. A thread with fewer needs no
  /// zone, which takes 11 KiB.
  static constexpr std::uint8_t shared_blocks_without_zone = 64;
  /// Of them, those within a few milliseconds. A thread that goes on gets a zone then: a parked one
  /// sooner than a new one, since it has pages already. A thread that allocates now and then takes
  /// no parked zone away from those that would use its pages.
  static constexpr std::uint32_t shared_burst_milliseconds = 4;
  static constexpr std::uint32_t shared_burst = 32;
  static constexpr std::uint32_t shared_burst_beside_parked = 4;
  /// The first allocations of a class of a thread's zone, which the shared zone serves too. A page
  /// of the class costs at least 5 KiB of memory, and a shared allocation and its free 30 ns more.
  static constexpr std::uint8_t shared_blocks(std::size_t object_bytes) noexcept {
    return object_bytes <= 512 ? 8 : object_bytes <= 2 * kibibyte ? 4 : 2;
  }
  /// The shared zone serves all allocations of larger blocks, until a thread makes too many of them
  /// within these milliseconds: then it gets pages of its own for the classes that it uses within
  /// the rest. Such a page touches memory for the most blocks that the thread ever had, and
  /// different threads have most at different times. A shared allocation and its free take 30 ns
  /// more, so a burst costs 1.5 %.
  static constexpr std::size_t small_shared_bytes = 4 * kibibyte;
  static constexpr std::uint32_t shared_burst_of_large = 2048;
  static constexpr std::uint32_t shared_rest_milliseconds = 1000;
  /// An allocation of a thread with a zone that finds the shared zone's mutex held counts as so
  /// many more.
  static constexpr std::uint32_t shared_turns_per_wait = 32;

  // ---- Large objects --------------------------------------------------------------------------

  /// A large object of at least this size gets its own mapping: it grows without a copy. The system
  /// calls cost little beside the work on its contents.
  std::size_t direct_threshold_bytes = 32 * mebibyte;
  /// The upper bound of that threshold where address space is limited. The window never returns
  /// address space, but mappings do: hundreds of freed 1 MiB buffers would block one of 500 MiB.
  static constexpr std::size_t bounded_direct_threshold_bytes = mebibyte;
  /// An object with a larger alignment also gets a mapping: a run would leave as much space unused
  /// before it.
  static constexpr std::size_t run_alignment_bytes = 4 * mebibyte;
  /// If the kernel refuses a larger mapping, the request fails: growing the window by as much would
  /// make the same request again.
  static constexpr std::size_t largest_run_bytes = gibibyte;
  /// Freed direct mappings whose addresses are remembered, so that a double free is told from a
  /// free of a foreign address. They take a KiB, and only diagnosis searches them.
  static constexpr std::size_t remembered_ends = 64;

  /// Large-object caches of the process: with fewer threads than this, two seldom share one.
  static constexpr std::size_t large_caches = 8;
  /// Objects in each: a pair of sizes that alternate. All caches together keep at most 2 MiB.
  static constexpr std::uint32_t large_cache_places = 2;
  /// Largest object in a cache, in chunks: 128 KiB. For larger ones the mutex costs little beside
  /// the work on their contents.
  static constexpr std::uint32_t large_cache_chunks = 2;

  /// Freed direct mappings that stay mapped, and backed by memory, until they decay. Programs use
  /// few objects of this size at a time.
  static constexpr std::size_t cached_mappings = 16;

  // ---- Finding free runs ----------------------------------------------------------------------

  /// Runs of one bin that a search examines, so that its cost is constant. A larger value finds the
  /// lowest address more often.
  static constexpr std::uint32_t search_depth = 8;
  /// Free neighbours on each side of a dirty run that a search joins to it.
  static constexpr std::uint32_t search_reach = 8;

  // ---- The window -----------------------------------------------------------------------------

  /// Data bytes that a window has room for. The largest size is tried first; each next one is a
  /// quarter. The size costs nothing; the window must only fit between mappings.
  static constexpr std::size_t largest_window_bytes = std::size_t{1} << (is_64_bit ? 40 : 30);
  static constexpr std::size_t smallest_window_bytes = std::size_t{1} << (is_64_bit ? 30 : 28);
  /// The same at a known base, where the address space limit shows that the program is not large.
  static constexpr std::size_t bounded_window_bytes = std::size_t{1} << (is_64_bit ? 36 : 29);
  /// This fraction of the data's size is left empty before the window, in the space that the system
  /// proposes. Some systems fill a space from its low end: the legacy layout, and most processors
  /// where the stack is unlimited. Other mappings would then block the growth of records and tags.
  static constexpr std::size_t window_part_left_empty = 4;

  /// Chunks by which the window grows: a fraction of its length, so that the number of steps is
  /// logarithmic at first. Steps are from 4 MiB to 64 MiB.
  static constexpr std::uint32_t growth_part = 8;
  static constexpr std::uint32_t smallest_growth_chunks = 64;
  static constexpr std::uint32_t largest_growth_chunks = 1024;
  /// The same where address space is limited, since the program has less for each step: from 1 MiB
  /// to 4 MiB.
  static constexpr std::uint32_t bounded_growth_part = 16;
  static constexpr std::uint32_t smallest_bounded_growth_chunks = 16;
  static constexpr std::uint32_t largest_bounded_growth_chunks = 64;

  /// The window skips other mappings by gaps of this many chunks, doubled at each try. It maps the
  /// records of a gap, so large gaps are only for an unlimited address space.
  static constexpr std::uint32_t first_gap_chunks = 16;
  static constexpr std::uint32_t largest_gap_chunks = std::uint32_t{1} << (is_64_bit ? 18 : 12);
  static constexpr std::uint32_t largest_bounded_gap_chunks = 4096;

  // ---- Pages and zones ------------------------------------------------------------------------

  /// Objects up to this size live on pages of one chunk, at least eight on each. Larger ones live
  /// on pages of several chunks.
  static constexpr std::size_t one_chunk_object_bytes = 8 * kibibyte;
  /// Chunks of such a page, so that it holds at least 16 objects.
  static constexpr std::size_t chunks_per_large_page = 8;
  /// A thread that has no zone frees this many small blocks before it gets one. A zone takes 11
  /// KiB, and saves an atomic operation or two for each free by its buffer.
  static constexpr std::uint32_t frees_before_zone = 64;
  /// Sizes up to this find their class by a look-up, the others by arithmetic. The table is
  /// thread-local, with a pointer for every 16 B: half a KiB.
  static constexpr std::size_t class_lookup_bytes = kibibyte;
  /// calloc() writes to the OS pages of fresh memory up to this size: a page that is first read and
  /// then written costs two faults. Larger blocks may be meant to be sparse. With 128 KiB the
  /// benchmark `zeroed/16`, whose tables have 64 to 256 KiB, took 1.5 times as long.
  static constexpr std::size_t touched_zeroed_bytes = 256 * kibibyte;

  // ---- The operating system -------------------------------------------------------------------

  /// Reads of a held mutex before the thread sleeps. Critical sections are short: most waits end
  /// sooner than a kernel entry would.
  static constexpr int mutex_spins = 64;
  /// How long a fork waits for a mutex if it interrupted a critical section: a fifth of a second.
  /// The mutex's holder may wait for that section's end.
  static constexpr int naps_before_fork = 2000;
  static constexpr std::uint32_t fork_nap_microseconds = 50;
  /// How long a thread that faults waits for another's report of a fault: five seconds. That report
  /// may need a lock of the loader that the thread holds.
  static constexpr int naps_before_fault = 5000;
  static constexpr std::uint32_t fault_nap_microseconds = 1000;
  /// The bytes of a huge page, where OS pages have 4 KiB.
  static constexpr std::size_t huge_page_bytes = 2 * mebibyte;
  static constexpr std::size_t os_page_bytes_of_huge_pages = 4 * kibibyte;
  /// The heap asks for huge pages if at most an eighth of a probe is not in memory.
  static constexpr std::size_t huge_waste_part = 8;
  /// Where the heap grows beyond this, the system may use huge pages (arena/huge_pages.hpp). With
  /// 16 MiB eleven programs took 1.4 % more memory, for the same time.
  std::size_t huge_threshold_bytes = 32 * mebibyte;
};

/// The tunables in use: the defaults until the options are read.
[[gnu::visibility("hidden")]] inline constinit Tunables tunables;

}  // namespace slabmalloc
