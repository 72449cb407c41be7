// SPDX-License-Identifier: MIT
//
// The run map: allocation, merging of freed runs, order of age, and invariants.
#include "arena/run_map.hpp"

namespace slabmalloc {

void RunMap::append(std::uint32_t chunks, RunState state) noexcept {
  const std::uint32_t first = end_;
  end_ += chunks;
  if (state == RunState::Clean) {
    add_clean(first, chunks);
  } else {
    write_tags(first, chunks, state);
    count(state) += chunks;
  }
}

Placement RunMap::find(const RunRequest& request, SearchEffort effort) const noexcept {
  if (const Placement placement = dirty_.find(tags_, request, effort)) {
    return placement;
  }
  if (const Placement placement = find_around_dirty(request)) {
    return placement;
  }
  if (const Placement placement = clean_.find(tags_, request, effort)) {
    return placement;
  }
  return effort == SearchEffort::Exhaustive ? find_anywhere(request) : Placement{};
}

/// A placement over one of the longest dirty runs and its free neighbours, clean ones included. It
/// is the placement that uses most of the dirty run.
/// Cost: constant.
Placement RunMap::find_around_dirty(const RunRequest& request) const noexcept {
  Placement best;
  std::uint64_t most = 0;
  dirty_.visit_longest(tags_, [&](std::uint32_t run) {
    const std::uint32_t start = free_from(run, Tunables::search_reach);
    const std::uint32_t end = free_until(run, Tunables::search_reach);
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

/// The lowest placement over free runs of either state.
/// Cost: O(runs).
Placement RunMap::find_anywhere(const RunRequest& request) const noexcept {
  for (std::uint32_t run = 0; run < end_; run += tags_[run].chunks) {
    if (!is_free(tags_[run].state)) {
      continue;
    }
    const std::uint64_t first = request.first_from(run);
    const std::uint32_t end = free_until(run, end_);
    if (first + request.chunks <= end) {
      return placement_at(static_cast<std::uint32_t>(first), run);
    }
    run = run_with(end - 1, run);
  }
  return {};
}

std::uint32_t RunMap::trailing_free_run() const noexcept {
  if (end_ == 0 || !is_free(tags_[end_ - 1].state)) {
    return no_chunk;
  }
  return free_from(end_ - tags_[end_ - 1].chunks, end_);
}

RunState RunMap::take(const Placement& placement, std::uint32_t chunks) noexcept {
  const std::uint32_t end = placement.first + chunks;
  const RunState state = take_free(placement.run, placement.first, end);
  write_tags(placement.first, chunks, RunState::InUse);
  count(RunState::InUse) += chunks;
  return state;
}

void RunMap::release(std::uint32_t first, std::uint32_t stamp) noexcept {
  const std::uint32_t chunks = tags_[first].chunks;
  count(RunState::InUse) -= chunks;
  add_dirty(first, chunks, stamp);
}

void RunMap::shrink(std::uint32_t first, std::uint32_t chunks, std::uint32_t stamp) noexcept {
  const std::uint32_t excess = tags_[first].chunks - chunks;
  if (excess == 0) {
    return;
  }
  write_tags(first, chunks, RunState::InUse);
  count(RunState::InUse) -= excess;
  add_dirty(first + chunks, excess, stamp);
}

bool RunMap::extend(std::uint32_t first, std::uint32_t chunks) noexcept {
  const std::uint32_t old_end = first + tags_[first].chunks;
  const std::uint64_t wanted_end = std::uint64_t{first} + chunks;
  for (std::uint32_t run = old_end; run < wanted_end; run += tags_[run].chunks) {
    if (run >= end_ || !is_free(tags_[run].state)) {
      return false;
    }
  }
  const auto new_end = static_cast<std::uint32_t>(wanted_end);
  take_free(old_end, old_end, new_end);
  count(RunState::InUse) += new_end - old_end;
  write_tags(first, chunks, RunState::InUse);
  return true;
}

std::uint32_t RunMap::run_holding(std::uint32_t chunk) const noexcept { return run_with(chunk, 0); }

void RunMap::begin_purge(std::uint32_t first, std::uint32_t chunks) noexcept {
  take_free(first, first, first + chunks);
  write_tags(first, chunks, RunState::Purging);
  count(RunState::Purging) += chunks;
}

std::uint32_t RunMap::widen_purge(std::uint32_t first, std::uint32_t reach) noexcept {
  const std::uint32_t purged_end = first + tags_[first].chunks;
  std::uint32_t start = first;
  if (first > 0 && tags_[first - 1].state == RunState::Clean) {
    const std::uint32_t left = tags_[first - 1].chunks;
    start = first - (left < reach ? left : reach);
    take_free(first - left, start, first);
  }
  std::uint32_t end = purged_end;
  if (end < end_ && tags_[end].state == RunState::Clean) {
    const std::uint32_t right = tags_[end].chunks;
    end += right < reach ? right : reach;
    take_free(purged_end, purged_end, end);
  }
  count(RunState::Purging) += (end - start) - (purged_end - first);
  write_tags(start, end - start, RunState::Purging);
  return start;
}

void RunMap::narrow_purge(std::uint32_t wide, std::uint32_t first, std::uint32_t chunks) noexcept {
  const std::uint32_t wide_end = wide + tags_[wide].chunks;
  const std::uint32_t end = first + chunks;
  count(RunState::Purging) -= (wide_end - wide) - chunks;
  write_tags(first, chunks, RunState::Purging);
  if (wide < first) {
    add_clean(wide, first - wide);
  }
  if (end < wide_end) {
    add_clean(end, wide_end - end);
  }
}

void RunMap::end_purge(std::uint32_t first, bool is_purged, std::uint32_t stamp) noexcept {
  const std::uint32_t chunks = tags_[first].chunks;
  count(RunState::Purging) -= chunks;
  if (is_purged) {
    add_clean(first, chunks);
    return;
  }
  const std::uint32_t run = add_dirty(first, chunks, stamp);
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

/// The first of at most `reach` adjacent free runs just before `run`; `run` if there is none.
std::uint32_t RunMap::free_from(std::uint32_t run, std::uint32_t reach) const noexcept {
  for (; reach > 0 && run > 0 && is_free(tags_[run - 1].state); --reach) {
    run -= tags_[run - 1].chunks;
  }
  return run;
}

/// The end of at most `reach` adjacent free runs just after `run`; the run's own end if there is
/// none.
std::uint32_t RunMap::free_until(std::uint32_t run, std::uint32_t reach) const noexcept {
  std::uint32_t end = run + tags_[run].chunks;
  for (; reach > 0 && end < end_ && is_free(tags_[end].state); --reach) {
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

void RunMap::write_tags(std::uint32_t first, std::uint32_t chunks, RunState state) noexcept {
  RunTag& last = tags_[first + chunks - 1];
  tags_[first].state = last.state = state;
  tags_[first].chunks = last.chunks = chunks;
}

/// Files a run that has no neighbour to merge with.
void RunMap::add_free(std::uint32_t first, std::uint32_t chunks, RunState state) noexcept {
  write_tags(first, chunks, state);
  count(state) += chunks;
  bins(state).insert(tags_, first);
}

void RunMap::remove_free(std::uint32_t first) noexcept {
  const RunState state = tags_[first].state;
  if (state == RunState::Dirty) {
    unlink_age(first);
  }
  bins(state).remove(tags_, first);
  count(state) -= tags_[first].chunks;
}

/// Files a run that was freed at `stamp`, and merges it with its dirty neighbours. Returns the
/// first chunk of the whole, which is as old as its oldest part. Otherwise small allocations from a
/// run would keep it too young to be purged.
std::uint32_t RunMap::add_dirty(std::uint32_t first, std::uint32_t chunks,
                                std::uint32_t stamp) noexcept {
  const bool left = first > 0 && tags_[first - 1].state == RunState::Dirty;
  const bool right = first + chunks < end_ && tags_[first + chunks].state == RunState::Dirty;
  const std::uint32_t left_run = left ? first - tags_[first - 1].chunks : no_chunk;
  const std::uint32_t right_run = right ? first + chunks : no_chunk;
  const bool left_is_older = left && (!right || is_older(left_run, right_run));
  const std::uint32_t older = left_is_older ? left_run : right_run;
  const std::uint32_t younger = left_is_older ? right_run : left_run;

  RunTag origin{.state = RunState::Dirty, .age_next = no_chunk, .stamp = stamp};
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

void RunMap::add_clean(std::uint32_t first, std::uint32_t chunks) noexcept {
  if (first > 0 && tags_[first - 1].state == RunState::Clean) {
    const std::uint32_t left_chunks = tags_[first - 1].chunks;
    first -= left_chunks;
    chunks += left_chunks;
    remove_free(first);
  }
  const std::uint32_t right = first + chunks;
  if (right < end_ && tags_[right].state == RunState::Clean) {
    chunks += tags_[right].chunks;
    remove_free(right);
  }
  add_free(first, chunks, RunState::Clean);
}

/// Files a free run with the state, the age and the place in the age list of the run with tag
/// `origin`.
void RunMap::put_back(std::uint32_t first, std::uint32_t chunks, const RunTag& origin) noexcept {
  add_free(first, chunks, origin.state);
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

/// Checks R1, R2, R3, R4 and R6.
bool RunMap::validate_tiling() const noexcept {
  std::uint32_t counts[run_states] = {};
  std::uint32_t dirty_runs = 0;
  std::uint32_t clean_runs = 0;
  RunState previous = RunState::None;
  std::uint32_t first = 0;
  while (first < end_) {
    const RunTag& tag = tags_[first];
    if (tag.state == RunState::None || tag.chunks == 0 || tag.chunks > end_ - first) {
      return false;  // R1
    }
    const RunTag& last = tags_[first + tag.chunks - 1];
    if (last.state != tag.state || last.chunks != tag.chunks) {
      return false;  // R2
    }
    if (is_free(tag.state) && tag.state == previous) {
      return false;  // R4
    }
    dirty_runs += tag.state == RunState::Dirty ? 1 : 0;
    clean_runs += tag.state == RunState::Clean ? 1 : 0;
    counts[static_cast<std::uint32_t>(tag.state)] += tag.chunks;
    previous = tag.state;
    first += tag.chunks;
  }
  for (std::uint32_t state = 0; state < run_states; ++state) {
    if (counts[state] != counts_[state]) {
      return false;  // R6
    }
  }
  std::uint32_t dirty_binned = 0;
  std::uint32_t clean_binned = 0;
  return dirty_.validate(tags_, RunState::Dirty, dirty_binned) && dirty_binned == dirty_runs &&
         clean_.validate(tags_, RunState::Clean, clean_binned) && clean_binned == clean_runs;  // R3
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
