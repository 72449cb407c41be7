// SPDX-License-Identifier: MIT
//
// The option table: each option's name, kind, bounds and meaning. It is the source of
//
//     read_options()                       options.cpp: parsing, validation, `help`
//     docs/OPTIONS.md, docs/slabmalloc.7   documents/option_documents.cpp, by target docs-options
//
// A new option needs one entry here and the member that it sets. Numbers and sizes are members of
// Tunables, all others of Options. The member's default is the option's default.
//
//     kind      value                                  example
//     Flag      none                                   huge_pages
//     Number    decimal, within bounds                 decay_ms:100
//     Size      bytes, or with K, M or G, in bounds    direct_threshold:4M
//     Path      any bytes but a comma                  stats_file:/tmp/heap.json
//     List      words joined by '+', or none           stats:totals+json
//     Help      none                                   help
#pragma once

#include <cstddef>
#include <cstdint>

#include "malloc/options.hpp"
#include "tunables.hpp"

namespace slabmalloc {

/// Sets its member to `value`.
struct Flag {
  bool Options::* member;
  bool value;
};

struct Number {
  std::uint32_t Tunables::* member;
  std::uint32_t least;
  std::uint32_t most;
  const char* unit;
};

/// In bytes.
struct Size {
  std::size_t Tunables::* member;
  std::size_t least;
  std::size_t most;
};

struct Path {
  char (Options::*member)[Options::path_bytes];
};

/// A word that a list accepts.
struct Word {
  const char* name;
  std::uint32_t bit;  ///< The word's bit in the list's member.
  const char* meaning;
};

/// Sets its member to the bits of the words.
struct List {
  template <std::size_t Count>
  constexpr List(std::uint32_t Options::* set, const Word (&choice)[Count],
                 std::uint32_t set_without_value) noexcept
      : member(set), words(choice), count(Count), without_value(set_without_value) {}

  std::uint32_t Options::* member;
  const Word* words;
  std::size_t count;
  std::uint32_t without_value;  ///< The bits if the option has no value.
};

struct Help {};

/// One of the kinds above.
class OptionKind {
 public:
  constexpr OptionKind(Flag kind) noexcept : tag_(Tag::Flag), flag_(kind) {}
  constexpr OptionKind(Number kind) noexcept : tag_(Tag::Number), number_(kind) {}
  constexpr OptionKind(Size kind) noexcept : tag_(Tag::Size), size_(kind) {}
  constexpr OptionKind(Path kind) noexcept : tag_(Tag::Path), path_(kind) {}
  constexpr OptionKind(List kind) noexcept : tag_(Tag::List), list_(kind) {}
  constexpr OptionKind(Help kind) noexcept : tag_(Tag::Help), help_(kind) {}

  /// Calls `work` with the kind's own type.
  template <class Work>
  constexpr auto visit(Work&& work) const noexcept {
    switch (tag_) {
      case Tag::Flag:
        return work(flag_);
      case Tag::Number:
        return work(number_);
      case Tag::Size:
        return work(size_);
      case Tag::Path:
        return work(path_);
      case Tag::List:
        return work(list_);
      case Tag::Help:
        break;
    }
    return work(help_);
  }

 private:
  enum class Tag : std::uint8_t { Flag, Number, Size, Path, List, Help };

  Tag tag_;
  union {
    Flag flag_;
    Number number_;
    Size size_;
    Path path_;
    List list_;
    Help help_;
  };
};

/// A function for each kind in one object, for OptionKind::visit().
template <class... Functions>
struct Overloaded : Functions... {
  using Functions::operator()...;
};
// Clang 14 does not deduce the arguments of an aggregate.
template <class... Functions>
Overloaded(Functions...) -> Overloaded<Functions...>;

struct Option {
  const char* name;
  OptionKind kind;
  const char* meaning;             ///< A sentence for `help`.
  const char* details;             ///< Further sentences in the documents. `Code` is in backquotes.
  const char* old_name = nullptr;  ///< Another name, from an earlier version.
};

inline constexpr Word stats_words[] = {
    {"totals", stats_totals, "calls, live objects, memory and threads"},
    {"classes", stats_classes, "a table of the size classes in use and of large objects"},
    {"json", stats_json, "all of it as one line of JSON, as `stats_file` has it"},
};

inline constexpr Option option_table[] = {
    {"stats", List{&Options::stats, stats_words, stats_totals | stats_classes},
     "Print statistics of the heap on stderr at exit.",
     "They are exact if no thread allocates or frees at that moment."},
    {"stats_file", Path{&Options::stats_file},
     "Append statistics of the heap to a file at exit, one line of JSON for each process.",
     "A child of `fork` counts its own calls alone."},
    {"huge_pages", Flag{&Options::huge_pages, true},
     "Let the system use huge pages for all of the heap, and for blocks with mappings of their "
     "own.",
     "There are fewer page faults then, and more memory for scattered blocks. Memory that went "
     "back may return, since the system collects OS pages into huge ones. It has an effect where "
     "`/sys/kernel/mm/transparent_hugepage/enabled` says `madvise`, and overrides "
     "`huge_threshold`."},
    {"huge_threshold", Size{&Tunables::huge_threshold_bytes, 0, Tunables::most_limit_bytes},
     "Let the system use huge pages where the heap grows beyond this size.",
     "It asks for them where the program wrote nearly all of what the heap grew by before; with 0 "
     "always. Where memory went back once, there are no more huge pages. That holds where "
     "`/sys/kernel/mm/transparent_hugepage/enabled` says `always`, too. If your sandbox forbids "
     "`mincore`, or new kinds of `madvise`, set it to `1024G`."},
    {"no_scavenging", Flag{&Options::scavenging, false},
     "Leave the memory alone that threads hold while they sleep.",
     "Without this option other threads deliver what a sleeping thread freed of their blocks, and "
     "give back the free memory of its own. For that they call `membarrier`. Set it if your "
     "sandbox forbids that call.",
     "no_visits"},
    {"deep_bind", Flag{&Options::deep_bind, true}, "Heed the flag `RTLD_DEEPBIND` of `dlopen`.",
     "Without this option the library takes the flag away. With it a plug-in calls the C library's "
     "`malloc` and `free`, and the program must not free the plug-in's blocks, nor the plug-in the "
     "program's. `dlmopen` gives a plug-in a C library of its own, and that one's malloc, in any "
     "case."},
    {"background_thread", Flag{&Options::background_thread, true},
     "Let a thread of the malloc give memory back while the program makes no calls.",
     "It works every `scavenge_ms`, or up to sixteen times as seldom while nothing is free. "
     "Without it an idle process keeps what it freed last. The program then has a second thread. "
     "Do not set it for programs whose main thread ends before the others, since the process then "
     "never ends."},
    {"decay_ms", Number{&Tunables::decay_milliseconds, 0, 60'000, "milliseconds"},
     "Give freed memory back to the system when nothing has needed it for this time.",
     "Memory goes back in steps, the first after a quarter of this time. A larger number saves "
     "page faults where memory is soon wanted again. A smaller one makes the process smaller "
     "sooner. With 0 the call that frees memory gives it back. Calls that need more than their "
     "thread has at hand look at the clock, and others do so every `scavenge_ms`. A process that "
     "makes no such call keeps its memory, unless `background_thread` is set."},
    {"scavenge_ms", Number{&Tunables::scavenge_milliseconds, 1, 60'000, "milliseconds"},
     "Look this often for memory that sleeping threads hold, and for decayed memory.",
     "A thread does that while it allocates or frees. A larger number makes fewer calls of "
     "`membarrier`. A smaller one brings memory of sleeping threads back sooner."},
    {"soft_limit",
     Size{&Tunables::soft_limit_bytes, Tunables::least_limit_bytes, Tunables::most_limit_bytes},
     "Keep no free memory while the heap is larger than this.",
     "The heap then gives free memory back at once, and allocations still succeed. What counts is "
     "memory in use and free memory that the system still backs: the statistics `in_use_bytes` and "
     "`dirty_bytes`, and about 2 % more for records. Memory that a block has and the program never "
     "wrote counts too."},
    {"hard_limit",
     Size{&Tunables::hard_limit_bytes, Tunables::least_limit_bytes, Tunables::most_limit_bytes},
     "Refuse an allocation that would make the memory in use larger than this.",
     "`malloc` returns a null pointer then, with `ENOMEM`, and `new` throws. Before that, the heap "
     "gives all free memory back. Memory counts as for `soft_limit`."},
    {"direct_threshold",
     Size{&Tunables::direct_threshold_bytes, std::size_t{64} << 10, std::size_t{1} << 30},
     "Give each block of at least this size a mapping of its own.",
     "Such a block grows without being copied. Freed ones stay mapped for `decay_ms`, since the "
     "next large block may need them. Smaller blocks share the arena, where "
     "freed memory is used again. While the address space is bounded, the threshold is at most "
     "1M."},
    {"guard_one_in", Number{&Tunables::guard_one_in, 0, 1'000'000'000, "allocations"},
     "Guard one allocation in this many, chosen at random, against wrong accesses; 0 for none.",
     "A guarded block lies between inaccessible OS pages, and is inaccessible after its free. So "
     "an access beyond it or after its free stops the program, after a report of the access, the "
     "allocation and the free. Blocks up to 32 KiB are guarded. For that the library sets handlers "
     "of `SIGSEGV` and `SIGBUS`, which pass other faults on. One in 10,000 adds 0.5 % to the "
     "instructions of `malloc` and `free`, or 3 % if each call stack is a new one. `no_backtrace` "
     "leaves the stacks out. 1 guards each allocation while there are places. The hardened library "
     "guards "
     "none."},
    {"guard_bytes", Size{&Tunables::guard_bytes, 0, Tunables::most_limit_bytes},
     "Guard one allocation for each so many bytes of blocks, as `guard_one_in` does; 0 for none.",
     "So larger blocks are guarded more often. With both options the two kinds add up."},
    {"guard_places", Number{&Tunables::guarded_places, 1, 16'384, "places"},
     "Have at most so many guarded blocks at a time.",
     "A freed block's place waits until all others were used. So more places find more uses after "
     "free. Each takes 36 KiB of address space, 600 bytes for its record, and two of the process's "
     "mappings while its block lives."},
    {"no_backtrace", Flag{&Options::back_trace, false},
     "Leave the back trace out of a report of misuse.",
     "The C library loads `libgcc_s` for it, and its symbols come from the program's files. Set it "
     "if your sandbox forbids to open files."},
    {"no_size_check", Flag{&Options::size_check, false},
     "Ignore the sizes that `operator delete`, `free_sized` and `free_aligned_sized` get.",
     "Without this option a size of another size class than the block's is misuse. Often the "
     "program deletes an object through a base class without a virtual destructor."},
    {"no_kind_check", Flag{&Options::kind_check, false},
     "In the hardened library: let `free` and `delete` free the blocks of each other.",
     "Without this option a block of `malloc` is for `free`, one of `new` for `delete` and one of "
     "`new[]` for `delete[]`. Set it if an executable has `delete` of its own, as with "
     "`-static-libstdc++`, and frees what shared libraries made."},
    {"no_canaries", Flag{&Options::canaries, false},
     "In the hardened library: do not fill the bytes behind those that a block was asked for.",
     "A free then misses most short overflows. It still finds those that reach the last eight "
     "bytes of a slot."},
    {"no_clearing", Flag{&Options::clearing, false},
     "In the hardened library: do not clear blocks when they are freed.",
     "Allocations clear them then. Nothing looks for writes into freed memory, nor at the blocks "
     "beside a freed one."},
    {"no_reuse_check", Flag{&Options::reuse_check, false},
     "In the hardened library: do not look for writes into freed memory.",
     "Without this option an allocation looks at each byte of its slot. The last eight bytes of a "
     "freed block are looked at in any case."},
    {"no_zero_size_traps", Flag{&Options::zero_size_traps, false},
     "In the hardened library: give blocks of no bytes memory, as if they had one.",
     "Without this option their addresses can be neither read nor written. They take 1 GiB of "
     "address space, and a bit each."},
    {"no_quarantine", Flag{&Options::quarantine, false},
     "In the hardened library: let the next allocation use the memory of a freed block.",
     "Without this option each thread keeps up to 64 freed blocks of at most 1016 bytes, and 8 "
     "larger ones, for a random number of frees. Statistics count them as in use."},
    {"no_random_order", Flag{&Options::random_order, false},
     "In the hardened library: issue the slots of a page lowest first.",
     "Without this option each claim takes a random half of the slots that are free in a word of "
     "the bitmap. So it is hard to tell which block comes next, and when one is used again."},
    {"no_class_addresses", Flag{&Options::class_addresses, false},
     "In the hardened library: let memory of freed small blocks serve blocks of other sizes.",
     "Without this option it serves only its size class again. So a stale pointer meets a block of "
     "the same class, memory of zeros, or memory that cannot be accessed. That takes address space "
     "for the most memory that each class ever had. Where the address space is bounded, or used "
     "up, the memory serves any class all the same."},
    {"no_guards", Flag{&Options::guards, false},
     "In the hardened library: leave out the inaccessible memory beside pages of small blocks and "
     "beside large blocks.",
     "Each takes one or two of the process's mappings, of which the system allows about 65,000. So "
     "pages of small blocks have guards in the first 2 GiB of the heap alone."},
    {"help", Help{}, "Print the list of options on stderr when the program starts.", ""},
};

inline constexpr std::size_t option_count = sizeof(option_table) / sizeof(option_table[0]);

}  // namespace slabmalloc
