// SPDX-License-Identifier: MIT
//
// RunMap: which chunks of the window are handed out and which are free. Pure bookkeeping: it knows
// neither addresses nor the operating system, and is guarded by the arena's mutex.
//
//     chunk   0        3    4          8      9              16 = end()
//             | InUse 3 | D1 | InUse 4  | D 1  | Clean 7      |      -> append() makes it longer
//
// Free runs lie in bins by length, one set for each state (run_bins.hpp). Dirty runs are also in a
// list by age, the oldest first, in which order they are purged:
//
//     take:     Dirty or Clean -> InUse    (dirty preferred: its memory is there already; a row of
//                                           neighbours of both kinds will do)
//     release:  InUse -> Dirty             (youngest, but as old as the oldest run it merges with)
//     purge:    Dirty -> Purging -> Clean  (back to Dirty, as the youngest, if that was refused)
//
// Invariants, checked by validate():
//   R1  runs tile the window: the lengths from chunk 0 on add up to end()
//   R2  the tags of a run's first and last chunk agree in state and length
//   R3  a run is in the bin of its state and length <=> it is free
//   R4  no two neighbouring runs are both Dirty or both Clean
//   R5  the age list holds the dirty runs and nothing else, stamps never decreasing along it
//   R6  chunks_in(state) = the lengths of the runs in that state added up; so by R1
//       end() = chunks_in(InUse) + chunks_in(Unusable) + chunks_in(Dirty) + chunks_in(Clean)
//               + chunks_in(Purging)
#pragma once

#include <cstdint>

#include "arena/run_bins.hpp"
#include "arena/run_tag.hpp"

namespace slabmalloc {

/// The runs of one window. Thread: every call under one mutex.
class RunMap {
 public:
  constexpr RunMap() noexcept = default;

  /// Starts with no chunks. `tags` is where the tags of chunks 0, 1, … will be.
  void attach(RunTag* tags) noexcept { tags_ = tags; }

  /// Chunks covered; the number of the first chunk beyond.
  std::uint32_t end() const noexcept { return end_; }
  std::uint32_t chunks_in(RunState state) const noexcept {
    return counts_[static_cast<std::uint32_t>(state)];
  }

  /// Covers `chunks` more, Clean or Unusable. Pre: their tags are writable and zero.
  void append(std::uint32_t chunks, RunState state) noexcept;

  /// Free chunks for `request`: within a dirty run if there is one, else a dirty run with free
  /// neighbours, else within a clean run. Exhaustive finds any placement that there is.
  Placement find(const RunRequest& request, SearchEffort effort) const noexcept;

  /// The first of the free runs in a row that the window ends with, or no_chunk if there is none.
  std::uint32_t trailing_free_run() const noexcept;

  /// The placement that starts at chunk `first`. Pre: that lies in the run at `run` or in one after
  /// it.
  Placement placement_at(std::uint32_t first, std::uint32_t run) const noexcept {
    return {run_with(first, run), first};
  }

  /// Hands out `chunks` at `placement`; what is left of the free runs on either side stays free.
  /// Returns Clean if all of the chunks were, else Dirty.
  RunState take(const Placement& placement, std::uint32_t chunks) noexcept;

  /// Takes back the run in use that starts at `first`.
  void release(std::uint32_t first, std::uint32_t stamp) noexcept;

  /// Shortens the run in use at `first` to `chunks`, taking back the rest. Pre: chunks >= 1.
  void shrink(std::uint32_t first, std::uint32_t chunks, std::uint32_t stamp) noexcept;

  /// Lengthens the run in use at `first` to `chunks` by the free runs that follow it; false if
  /// those do not suffice.
  bool extend(std::uint32_t first, std::uint32_t chunks) noexcept;

  /// The length of the run that starts at `first`. Pre: one does.
  std::uint32_t run_chunks(std::uint32_t first) const noexcept { return tags_[first].chunks; }

  /// The first chunk of the run that holds `chunk`. Pre: chunk < end(). Cost: O(runs); for
  /// diagnosis.
  std::uint32_t run_holding(std::uint32_t chunk) const noexcept;
  RunState state_of_run(std::uint32_t first) const noexcept { return tags_[first].state; }

  /// The dirty run that was freed first, or no_chunk.
  std::uint32_t oldest_dirty_run() const noexcept { return oldest_; }
  std::uint32_t stamp_of(std::uint32_t run) const noexcept { return tags_[run].stamp; }

  /// Takes the first `chunks` of the dirty run at `first` out, to be purged.
  /// Pre: 1 <= chunks <= its length.
  void begin_purge(std::uint32_t first, std::uint32_t chunks) noexcept;

  /// Puts back what is being purged at `first`: clean, or if it could not be purged dirty again, as
  /// the youngest together with the dirty runs around it.
  void end_purge(std::uint32_t first, bool is_purged, std::uint32_t stamp) noexcept;

  /// True if R1 to R6 hold. Cost: O(runs).
  bool validate() const noexcept;

 private:
  RunBins& bins(RunState state) noexcept { return state == RunState::Dirty ? dirty_ : clean_; }
  const RunBins& bins(RunState state) const noexcept {
    return state == RunState::Dirty ? dirty_ : clean_;
  }
  std::uint32_t& count(RunState state) noexcept {
    return counts_[static_cast<std::uint32_t>(state)];
  }

  Placement find_around_dirty(const RunRequest& request) const noexcept;
  Placement find_anywhere(const RunRequest& request) const noexcept;
  std::uint32_t run_with(std::uint32_t chunk, std::uint32_t first) const noexcept;
  std::uint32_t free_from(std::uint32_t run, std::uint32_t reach) const noexcept;
  std::uint32_t free_until(std::uint32_t run, std::uint32_t reach) const noexcept;
  RunState take_free(std::uint32_t run, std::uint32_t first, std::uint32_t end) noexcept;
  void write_tags(std::uint32_t first, std::uint32_t chunks, RunState state) noexcept;
  void add_free(std::uint32_t first, std::uint32_t chunks, RunState state) noexcept;
  void remove_free(std::uint32_t first) noexcept;
  std::uint32_t add_dirty(std::uint32_t first, std::uint32_t chunks, std::uint32_t stamp) noexcept;
  void add_clean(std::uint32_t first, std::uint32_t chunks) noexcept;
  void put_back(std::uint32_t first, std::uint32_t chunks, const RunTag& origin) noexcept;
  bool is_older(std::uint32_t run, std::uint32_t other) const noexcept;
  void link_before(std::uint32_t run, std::uint32_t next) noexcept;
  void unlink_age(std::uint32_t run) noexcept;
  bool validate_tiling() const noexcept;
  bool validate_ages() const noexcept;

  RunTag* tags_ = nullptr;
  std::uint32_t end_ = 0;
  std::uint32_t oldest_ = no_chunk;
  std::uint32_t youngest_ = no_chunk;
  std::uint32_t counts_[run_states] = {};
  RunBins dirty_;
  RunBins clean_;
};

}  // namespace slabmalloc
