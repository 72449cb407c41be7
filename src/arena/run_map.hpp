// SPDX-License-Identifier: MIT
//
// RunMap: the state of every chunk of the window, in use or free. It knows neither addresses nor
// the operating system. The arena's mutex guards it.
//
//     chunk   0         3     4          8      9              16 = end()
//             | InUse 3 | D 1 | InUse 4  | D 1  | Clean 7      |      -> append() extends it
//
// Free runs lie in bins by length, one set of bins for each state and class (run_bins.hpp). Dirty
// runs also lie in a list by age, and are purged from its old end:
//
//     take:     Dirty or Clean -> InUse    (dirty preferred, since memory backs it; adjacent runs
//                                           of both states also serve)
//     release:  InUse -> Dirty             (youngest, but as old as the oldest run it merges with)
//     purge:    Dirty -> Purging -> Clean  (Dirty again, as the youngest, if the purge failed)
//
// In the hardened library a run that a size class took belongs to this class from then on, in each
// state. A request gets chunks of its class and chunks of none. So an address that was in a page of
// slots is in no page of another class later, unless the caller asks find_of_any_class(). Runs of
// different classes do not merge. In the default library all runs are of no class.
//
// Invariants, checked by validate():
//   R1  runs tile the window: the sum of the lengths from chunk 0 on = end()
//   R2  the tags of a run's first and last chunk agree in state, length and class
//   R3  a run is in the bin of its state, class and length <=> it is free
//   R4  no two neighbouring runs of one class are both Dirty or both Clean
//   R5  the age list holds exactly the dirty runs, and stamps never decrease along it
//   R6  chunks_in(state) = the sum of the lengths of the runs in that state; so by R1
//       end() = chunks_in(InUse) + chunks_in(Unusable) + chunks_in(Dirty) + chunks_in(Clean)
//               + chunks_in(Purging)
#pragma once

#include <cstdint>

#include "arena/run_bins.hpp"
#include "arena/run_tag.hpp"

namespace slabmalloc {

/// The runs of one window.
/// Thread: every call under one mutex.
class RunMap {
 public:
  constexpr RunMap() noexcept = default;

  /// Sets the array for the tags of chunks 0, 1, …. The map has no chunks at first.
  void attach(RunTag* tags) noexcept { tags_ = tags; }

  /// The chunks in the map; also the number of the first chunk after it.
  std::uint32_t end() const noexcept { return end_; }
  std::uint32_t chunks_in(RunState state) const noexcept {
    return counts_[static_cast<std::uint32_t>(state)];
  }

  /// Appends `chunks` chunks, Clean or Unusable.
  /// Pre: their tags are writable and zero.
  void append(std::uint32_t chunks, RunState state) noexcept;

  /// Finds free chunks: in a dirty run, else in a dirty run with free neighbours, else in a clean
  /// run. It looks at runs of the request's class before those of none. Exhaustive finds any
  /// placement that exists.
  Placement find(const RunRequest& request, SearchEffort effort) const noexcept;

  /// The lowest placement over free runs of any class.
  /// Cost: O(runs).
  Placement find_of_any_class(RunRequest request) const noexcept {
    request.run_class = RunClass::any();
    return find_anywhere(request);
  }

  /// The first of the adjacent free runs at the end of the window that class `run_class` may use;
  /// no_chunk if there is none.
  std::uint32_t trailing_free_run(RunClass run_class = {}) const noexcept;

  /// The placement that starts at chunk `first`.
  /// Pre: `first` lies in the run at `run` or in a later one.
  Placement placement_at(std::uint32_t first, std::uint32_t run) const noexcept {
    return {run_with(first, run), first};
  }

  /// Allocates `chunks` at `placement` to `run_class`; the rest of the free runs stays free, and of
  /// its class. Returns Clean if all of these chunks were clean, else Dirty.
  RunState take(const Placement& placement, std::uint32_t chunks, RunClass run_class = {}) noexcept;

  /// Frees the run in use that starts at `first`. It keeps its class.
  void release(std::uint32_t first, std::uint32_t stamp) noexcept;

  /// Shortens the run in use at `first` to `chunks` and frees the rest.
  /// Pre: chunks >= 1.
  void shrink(std::uint32_t first, std::uint32_t chunks, std::uint32_t stamp) noexcept;

  /// Extends the run in use at `first` to `chunks` by the free runs after it.
  /// Fails: false; they are too short.
  bool extend(std::uint32_t first, std::uint32_t chunks) noexcept;

  /// The length of the run that starts at `first`.
  /// Pre: one does.
  std::uint32_t run_chunks(std::uint32_t first) const noexcept { return tags_[first].chunks; }

  /// The first chunk of the run that holds `chunk`.
  /// Pre: chunk < end().
  /// Cost: O(runs); for diagnosis.
  std::uint32_t run_holding(std::uint32_t chunk) const noexcept;
  RunState state_of_run(std::uint32_t first) const noexcept { return tags_[first].state; }
  RunClass class_of_run(std::uint32_t first) const noexcept { return tags_[first].run_class(); }

  /// The dirty run that was freed first, or no_chunk.
  std::uint32_t oldest_dirty_run() const noexcept { return oldest_; }
  std::uint32_t stamp_of(std::uint32_t run) const noexcept { return tags_[run].stamp; }

  /// Takes the first `chunks` of the dirty run at `first` out of the free runs, for a purge.
  /// Pre: 1 <= chunks <= its length.
  void begin_purge(std::uint32_t first, std::uint32_t chunks) noexcept;

  /// A row of adjacent runs.
  struct Row {
    std::uint32_t first = no_chunk;
    std::uint32_t chunks = 0;
  };

  /// Takes up to `reach` clean chunks on each side of the run at `first`, which is being purged,
  /// out of the free runs too. They are several runs if their classes differ. Returns the whole
  /// row.
  Row widen_purge(std::uint32_t first, std::uint32_t reach) noexcept;

  /// Puts the runs of `wide`, from widen_purge(), back as clean ones, all but the one at `first`.
  void narrow_purge(const Row& wide, std::uint32_t first) noexcept;

  /// Ends the purge at `first`. A purged run becomes clean. Otherwise it is dirty again and, with
  /// the dirty runs around it, the youngest.
  void end_purge(std::uint32_t first, bool is_purged, std::uint32_t stamp) noexcept;

  /// True if R1 to R6 hold.
  /// Cost: O(runs).
  bool validate() const noexcept;

 private:
  struct ClassBins {
    RunBins dirty;
    RunBins clean;
  };

  RunBins& bins(RunState state, RunClass run_class) noexcept {
    ClassBins& both = bins_[run_class.number()];
    return state == RunState::Dirty ? both.dirty : both.clean;
  }
  std::uint32_t& count(RunState state) noexcept {
    return counts_[static_cast<std::uint32_t>(state)];
  }

  [[gnu::always_inline]] Placement find_in(const ClassBins& bins, const RunRequest& request,
                                           SearchEffort effort) const noexcept;
  Placement find_around_dirty(const RunBins& dirty, const RunRequest& request) const noexcept;
  Placement find_anywhere(const RunRequest& request) const noexcept;
  std::uint32_t run_with(std::uint32_t chunk, std::uint32_t first) const noexcept;
  bool may_use(const RunTag& tag, RunClass run_class) const noexcept {
    return is_free(tag.state) && run_class.may_use(tag.run_class());
  }
  std::uint32_t free_from(std::uint32_t run, std::uint32_t reach,
                          RunClass run_class) const noexcept;
  std::uint32_t free_until(std::uint32_t run, std::uint32_t reach,
                           RunClass run_class) const noexcept;
  RunState take_free(std::uint32_t run, std::uint32_t first, std::uint32_t end) noexcept;
  void take_for_purge(std::uint32_t run, std::uint32_t first, std::uint32_t chunks) noexcept;
  void write_tags(std::uint32_t first, std::uint32_t chunks, RunState state,
                  RunClass run_class) noexcept;
  void add_free(std::uint32_t first, std::uint32_t chunks, RunState state,
                RunClass run_class) noexcept;
  void remove_free(std::uint32_t first) noexcept;
  std::uint32_t add_dirty(std::uint32_t first, std::uint32_t chunks, RunClass run_class,
                          std::uint32_t stamp) noexcept;
  void add_clean(std::uint32_t first, std::uint32_t chunks, RunClass run_class) noexcept;
  bool can_merge(std::uint32_t chunk, RunState state, RunClass run_class) const noexcept {
    return tags_[chunk].state == state && tags_[chunk].run_class() == run_class;
  }
  void put_back(std::uint32_t first, std::uint32_t chunks, const RunTag& origin) noexcept;
  bool is_older(std::uint32_t run, std::uint32_t other) const noexcept;
  void link_before(std::uint32_t run, std::uint32_t next) noexcept;
  void unlink_age(std::uint32_t run) noexcept;
  bool validate_tiling() const noexcept;
  bool validate_bins(std::uint32_t dirty_runs, std::uint32_t clean_runs) const noexcept;
  bool validate_ages() const noexcept;

  RunTag* tags_ = nullptr;
  std::uint32_t end_ = 0;
  std::uint32_t oldest_ = no_chunk;
  std::uint32_t youngest_ = no_chunk;
  std::uint32_t counts_[run_states] = {};
  ClassBins bins_[Tunables::run_classes];
};

}  // namespace slabmalloc
