// SPDX-License-Identifier: MIT
//
// The run map: allocation, merging of freed runs, order of age, and invariants.
#include "arena/run_map.hpp"

namespace slabmalloc {

void RunMap::append(std::uint32_t chunks, RunState state) noexcept {
  const std::uint32_t first = end_;
  end_ += chunks;
  if (state == RunState::Clean) {
    add_clean(first, chunks, RunClass{});
  } else {
    write_tags(first, chunks, state, RunClass{});
    count(state) += chunks;
  }
}

/// Finds chunks in the runs of one class, and in their neighbours that the request may use.
inline Placement RunMap::find_in(const ClassBins& bins, const RunRequest& request,
                                 SearchEffort effort) const noexcept {
  if (const Placement placement = bins.dirty.find(tags_, request, effort)) {
    return placement;
  }
  if (const Placement placement = find_around_dirty(bins.dirty, request)) {
    return placement;
  }
  return bins.clean.find(tags_, request, effort);
}

Placement RunMap::find(const RunRequest& request, SearchEffort effort) const noexcept {
  if (const Placement placement = find_in(bins_[request.run_class.number()], request, effort)) {
    return placement;
  }
  if (request.run_class != RunClass{}) {
    if (const Placement placement = find_in(bins_[RunClass{}.number()], request, effort)) {
      return placement;
    }
  }
  return effort == SearchEffort::Exhaustive ? find_anywhere(request) : Placement{};
}

/// A placement over one of the longest runs in `dirty` and its free neighbours, clean ones
/// included. It is the placement that uses most of the dirty run.
/// Cost: constant.
Placement RunMap::find_around_dirty(const RunBins& dirty,
                                    const RunRequest& request) const noexcept {
  Placement best;
  std::uint64_t most = 0;
  dirty.visit_longest(tags_, [&](std::uint32_t run) {
    const std::uint32_t start = free_from(run, Tunables::search_reach, request.run_class);
    const std::uint32_t end = free_until(run, Tunables::search_reach, request.run_class);
    const std::uint32_t run_end = run + tags_[run].chunks;
    // The end of the run, and before it the rest of the request.
    const std::uint32_t wanted =
        run_end - start > request.chunks ? run_end - request.chunks : start;
    const std::uint64_t first = request.first_from(wanted);
    if (first + request.chunks > end || first >= run_end) {
      return;
    }
    const std::uint64_t used = run_end - (first > run ? first : run);
    if (used > most || (used == most && first < best.first)) {
      most = used;
      best = placement_at(static_cast<std::uint32_t>(first), start);
    }
  });
  return best;
}

/// The lowest placement over free runs of either state that the request may use.
/// Cost: O(runs).
Placement RunMap::find_anywhere(const RunRequest& request) const noexcept {
  for (std::uint32_t run = 0; run < end_; run += tags_[run].chunks) {
    if (!may_use(tags_[run], request.run_class)) {
      continue;
    }
    const std::uint64_t first = request.first_from(run);
    const std::uint32_t end = free_until(run, end_, request.run_class);
    if (first + request.chunks <= end) {
      return placement_at(static_cast<std::uint32_t>(first), run);
    }
    run = run_with(end - 1, run);
  }
  return {};
}

std::uint32_t RunMap::trailing_free_run(RunClass run_class) const noexcept {
  if (end_ == 0 || !may_use(tags_[end_ - 1], run_class)) {
    return no_chunk;
  }
  return free_from(end_ - tags_[end_ - 1].chunks, end_, run_class);
}

RunState RunMap::take(const Placement& placement, std::uint32_t chunks,
                      RunClass run_class) noexcept {
  const std::uint32_t end = placement.first + chunks;
  const RunState state = take_free(placement.run, placement.first, end);
  write_tags(placement.first, chunks, RunState::InUse, run_class);
  count(RunState::InUse) += chunks;
  return state;
}

void RunMap::release(std::uint32_t first, std::uint32_t stamp) noexcept {
  const std::uint32_t chunks = tags_[first].chunks;
  count(RunState::InUse) -= chunks;
  add_dirty(first, chunks, tags_[first].run_class(), stamp);
}

void RunMap::shrink(std::uint32_t first, std::uint32_t chunks, std::uint32_t stamp) noexcept {
  const std::uint32_t excess = tags_[first].chunks - chunks;
  if (excess == 0) {
    return;
  }
  const RunClass run_class = tags_[first].run_class();
  write_tags(first, chunks, RunState::InUse, run_class);
  count(RunState::InUse) -= excess;
  add_dirty(first + chunks, excess, run_class, stamp);
}

bool RunMap::extend(std::uint32_t first, std::uint32_t chunks) noexcept {
  const std::uint32_t old_end = first + tags_[first].chunks;
  const std::uint64_t wanted_end = std::uint64_t{first} + chunks;
  const RunClass run_class = tags_[first].run_class();
  for (std::uint32_t run = old_end; run < wanted_end; run += tags_[run].chunks) {
    if (run >= end_ || !may_use(tags_[run], run_class)) {
      return false;
    }
  }
  const auto new_end = static_cast<std::uint32_t>(wanted_end);
  take_free(old_end, old_end, new_end);
  count(RunState::InUse) += new_end - old_end;
  write_tags(first, chunks, RunState::InUse, run_class);
  return true;
}

std::uint32_t RunMap::run_holding(std::uint32_t chunk) const noexcept { return run_with(chunk, 0); }

void RunMap::begin_purge(std::uint32_t first, std::uint32_t chunks) noexcept {
  take_for_purge(first, first, chunks);
}

RunMap::Row RunMap::widen_purge(std::uint32_t first, std::uint32_t reach) noexcept {
  std::uint32_t start = first;
  std::uint32_t end = first + tags_[first].chunks;
  for (std::uint32_t rest = reach; rest > 0 && start > 0;) {
    const RunTag& last = tags_[start - 1];
    if (last.state != RunState::Clean) {
      break;
    }
    const std::uint32_t part = last.chunks < rest ? last.chunks : rest;
    take_for_purge(start - last.chunks, start - part, part);
    start -= part;
    rest -= part;
  }
  for (std::uint32_t rest = reach; rest > 0 && end < end_;) {
    const RunTag& next = tags_[end];
    if (next.state != RunState::Clean) {
      break;
    }
    const std::uint32_t part = next.chunks < rest ? next.chunks : rest;
    take_for_purge(end, end, part);
    end += part;
    rest -= part;
  }
  return {start, end - start};
}

void RunMap::narrow_purge(const Row& wide, std::uint32_t first) noexcept {
  for (std::uint32_t run = wide.first; run < wide.first + wide.chunks;) {
    const RunTag tag = tags_[run];
    if (run != first) {
      count(RunState::Purging) -= tag.chunks;
      add_clean(run, tag.chunks, tag.run_class());
    }
    run += tag.chunks;
  }
}

void RunMap::end_purge(std::uint32_t first, bool is_purged, std::uint32_t stamp) noexcept {
  const std::uint32_t chunks = tags_[first].chunks;
  const RunClass run_class = tags_[first].run_class();
  count(RunState::Purging) -= chunks;
  if (is_purged) {
    add_clean(first, chunks, run_class);
    return;
  }
  const std::uint32_t run = add_dirty(first, chunks, run_class, stamp);
  unlink_age(run);
  tags_[run].stamp = stamp;
  link_before(run, no_chunk);
}

/// The first chunk of the run that holds `chunk`, searched from the run `first` on.
std::uint32_t RunMap::run_with(std::uint32_t chunk, std::uint32_t first) const noexcept {
  while (first + tags_[first].chunks <= chunk) {
    first += tags_[first].chunks;
  }
  return first;
}

/// The first of at most `reach` adjacent free runs just before `run` that class `run_class` may
/// use; `run` if there is none.
std::uint32_t RunMap::free_from(std::uint32_t run, std::uint32_t reach,
                                RunClass run_class) const noexcept {
  for (; reach > 0 && run > 0 && may_use(tags_[run - 1], run_class); --reach) {
    run -= tags_[run - 1].chunks;
  }
  return run;
}

/// The end of at most `reach` adjacent free runs just after `run` that class `run_class` may use;
/// the run's own end if there is none.
std::uint32_t RunMap::free_until(std::uint32_t run, std::uint32_t reach,
                                 RunClass run_class) const noexcept {
  std::uint32_t end = run + tags_[run].chunks;
  for (; reach > 0 && end < end_ && may_use(tags_[end], run_class); --reach) {
    end += tags_[end].chunks;
  }
  return end;
}

/// Takes the chunks from `first` to `end` out of the free runs that hold them; `run` is the first
/// of those runs. The rest on either side stays free. Returns Clean if all chunks were clean, else
/// Dirty.
RunState RunMap::take_free(std::uint32_t run, std::uint32_t first, std::uint32_t end) noexcept {
  RunState state = RunState::Clean;
  while (run < end) {
    const RunTag origin = tags_[run];
    const std::uint32_t run_end = run + origin.chunks;
    remove_free(run);
    if (first > run) {
      put_back(run, first - run, origin);
    }
    if (run_end > end) {
      put_back(end, run_end - end, origin);
    }
    if (origin.state == RunState::Dirty) {
      state = RunState::Dirty;
    }
    run = run_end;
  }
  return state;
}

/// Takes `chunks` from `first` on out of the free run at `run`, for a purge. They keep its class.
void RunMap::take_for_purge(std::uint32_t run, std::uint32_t first, std::uint32_t chunks) noexcept {
  const RunClass run_class = tags_[run].run_class();
  take_free(run, first, first + chunks);
  write_tags(first, chunks, RunState::Purging, run_class);
  count(RunState::Purging) += chunks;
}

void RunMap::write_tags(std::uint32_t first, std::uint32_t chunks, RunState state,
                        RunClass run_class) noexcept {
  RunTag& last = tags_[first + chunks - 1];
  tags_[first].state = last.state = state;
  tags_[first].chunks = last.chunks = chunks;
  tags_[first].set_run_class(run_class);
  last.set_run_class(run_class);
}

/// Files a run that has no neighbour to merge with.
void RunMap::add_free(std::uint32_t first, std::uint32_t chunks, RunState state,
                      RunClass run_class) noexcept {
  write_tags(first, chunks, state, run_class);
  count(state) += chunks;
  bins(state, run_class).insert(tags_, first);
}

void RunMap::remove_free(std::uint32_t first) noexcept {
  const RunState state = tags_[first].state;
  if (state == RunState::Dirty) {
    unlink_age(first);
  }
  bins(state, tags_[first].run_class()).remove(tags_, first);
  count(state) -= tags_[first].chunks;
}

/// Files a run that was freed at `stamp`, and merges it with its dirty neighbours of the same
/// class. Returns the first chunk of the whole, which is as old as its oldest part. Otherwise small
/// allocations from a run would keep it too young to be purged.
std::uint32_t RunMap::add_dirty(std::uint32_t first, std::uint32_t chunks, RunClass run_class,
                                std::uint32_t stamp) noexcept {
  const bool left = first > 0 && can_merge(first - 1, RunState::Dirty, run_class);
  const bool right = first + chunks < end_ && can_merge(first + chunks, RunState::Dirty, run_class);
  const std::uint32_t left_run = left ? first - tags_[first - 1].chunks : no_chunk;
  const std::uint32_t right_run = right ? first + chunks : no_chunk;
  const bool left_is_older = left && (!right || is_older(left_run, right_run));
  const std::uint32_t older = left_is_older ? left_run : right_run;
  const std::uint32_t younger = left_is_older ? right_run : left_run;

  RunTag origin{.state = RunState::Dirty,
                .age_next = no_chunk,
                .stamp = stamp,
                .class_number = run_class.number()};
  if (younger != no_chunk) {
    chunks += tags_[younger].chunks;
    remove_free(younger);
  }
  if (older != no_chunk) {
    chunks += tags_[older].chunks;
    origin = tags_[older];
    remove_free(older);
  }
  const std::uint32_t whole = left ? left_run : first;
  put_back(whole, chunks, origin);
  return whole;
}

bool RunMap::is_older(std::uint32_t run, std::uint32_t other) const noexcept {
  return static_cast<std::int32_t>(tags_[run].stamp - tags_[other].stamp) < 0;
}

void RunMap::add_clean(std::uint32_t first, std::uint32_t chunks, RunClass run_class) noexcept {
  if (first > 0 && can_merge(first - 1, RunState::Clean, run_class)) {
    const std::uint32_t left_chunks = tags_[first - 1].chunks;
    first -= left_chunks;
    chunks += left_chunks;
    remove_free(first);
  }
  const std::uint32_t right = first + chunks;
  if (right < end_ && can_merge(right, RunState::Clean, run_class)) {
    chunks += tags_[right].chunks;
    remove_free(right);
  }
  add_free(first, chunks, RunState::Clean, run_class);
}

/// Files a free run with the state, the class, the age and the place in the age list of the run
/// with tag `origin`.
void RunMap::put_back(std::uint32_t first, std::uint32_t chunks, const RunTag& origin) noexcept {
  add_free(first, chunks, origin.state, origin.run_class());
  if (origin.state == RunState::Dirty) {
    tags_[first].stamp = origin.stamp;
    // A run from a cache has been unused for longer than runs that were freed meanwhile.
    std::uint32_t next = origin.age_next;
    for (std::uint32_t previous = next == no_chunk ? youngest_ : tags_[next].age_previous;
         previous != no_chunk && is_older(first, previous); previous = tags_[next].age_previous) {
      next = previous;
    }
    link_before(first, next);
  }
}

/// Inserts `run` before `next` in the age list; at its young end if `next` is no_chunk.
void RunMap::link_before(std::uint32_t run, std::uint32_t next) noexcept {
  const std::uint32_t previous = next == no_chunk ? youngest_ : tags_[next].age_previous;
  tags_[run].age_previous = previous;
  tags_[run].age_next = next;
  (previous == no_chunk ? oldest_ : tags_[previous].age_next) = run;
  (next == no_chunk ? youngest_ : tags_[next].age_previous) = run;
}

void RunMap::unlink_age(std::uint32_t run) noexcept {
  const std::uint32_t previous = tags_[run].age_previous;
  const std::uint32_t next = tags_[run].age_next;
  (previous == no_chunk ? oldest_ : tags_[previous].age_next) = next;
  (next == no_chunk ? youngest_ : tags_[next].age_previous) = previous;
}

bool RunMap::validate() const noexcept { return validate_tiling() && validate_ages(); }

/// Checks R1, R2, R4 and R6, then R3.
bool RunMap::validate_tiling() const noexcept {
  std::uint32_t counts[run_states] = {};
  std::uint32_t dirty_runs = 0;
  std::uint32_t clean_runs = 0;
  RunState previous = RunState::None;
  RunClass previous_class;
  std::uint32_t first = 0;
  while (first < end_) {
    const RunTag& tag = tags_[first];
    if (tag.state == RunState::None || tag.chunks == 0 || tag.chunks > end_ - first) {
      return false;  // R1
    }
    const RunTag& last = tags_[first + tag.chunks - 1];
    if (last.state != tag.state || last.chunks != tag.chunks ||
        last.run_class() != tag.run_class()) {
      return false;  // R2
    }
    if (is_free(tag.state) && tag.state == previous && tag.run_class() == previous_class) {
      return false;  // R4
    }
    dirty_runs += tag.state == RunState::Dirty ? 1 : 0;
    clean_runs += tag.state == RunState::Clean ? 1 : 0;
    counts[static_cast<std::uint32_t>(tag.state)] += tag.chunks;
    previous = tag.state;
    previous_class = tag.run_class();
    first += tag.chunks;
  }
  for (std::uint32_t state = 0; state < run_states; ++state) {
    if (counts[state] != counts_[state]) {
      return false;  // R6
    }
  }
  return validate_bins(dirty_runs, clean_runs);
}

/// Checks R3: the bins hold the free runs, which are so many.
bool RunMap::validate_bins(std::uint32_t dirty_runs, std::uint32_t clean_runs) const noexcept {
  std::uint32_t dirty_binned = 0;
  std::uint32_t clean_binned = 0;
  for (std::uint32_t number = 0; number < Tunables::run_classes; ++number) {
    if (!bins_[number].dirty.validate(tags_, RunState::Dirty, number, dirty_binned) ||
        !bins_[number].clean.validate(tags_, RunState::Clean, number, clean_binned)) {
      return false;
    }
  }
  return dirty_binned == dirty_runs && clean_binned == clean_runs;
}

/// Checks R5.
bool RunMap::validate_ages() const noexcept {
  std::uint32_t chunks = 0;
  std::uint32_t previous = no_chunk;
  for (std::uint32_t run = oldest_; run != no_chunk; run = tags_[run].age_next) {
    if (tags_[run].state != RunState::Dirty || tags_[run].age_previous != previous) {
      return false;
    }
    if (previous != no_chunk && is_older(run, previous)) {
      return false;
    }
    chunks += tags_[run].chunks;
    previous = run;
  }
  return youngest_ == previous && chunks == chunks_in(RunState::Dirty);
}

}  // namespace slabmalloc
