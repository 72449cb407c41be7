// SPDX-License-Identifier: MIT
//
// The arena's runs: handing out, taking back, growing and purging. Large objects are in large.cpp.
#include "arena/arena.hpp"

#include "os/os.hpp"
#include "slabmalloc/base/assert.hpp"

namespace slabmalloc {
namespace {

/// Chunks purged in one go, and goes per operation, so that no operation is long: 8 MiB in all.
constexpr std::uint32_t purge_step_chunks = 64;
constexpr int purge_steps = 2;

/// More than any window has.
constexpr std::uint32_t most_chunks = std::uint32_t{1} << 24;

std::uint32_t now() noexcept {
  return static_cast<std::uint32_t>(os::interface().now_milliseconds());
}

}  // namespace

constinit Arena process_arena;

Extent Arena::allocate(std::size_t chunks, std::size_t alignment) noexcept {
  const os::Lock lock(mutex_);
  return take_run(chunks, alignment);
}

void Arena::deallocate(void* address, std::size_t chunks) noexcept {
  Chunk* const head = chunk_of(address);
  for (std::size_t chunk = 0; chunk < chunks; ++chunk) {
    head[chunk].clear();
  }
  const os::Lock lock(mutex_);
  const std::uint32_t first = number_of(address);
  invariant(runs_.run_chunks(first) == chunks, "a run goes back whole");
  give_back_run(first);
}

void Arena::decay() noexcept {
  const os::Lock lock(mutex_);
  purge_expired(now());
  note_sizes();
}

std::size_t Arena::trim() noexcept {
  std::size_t released = 0;
  {
    const os::Lock lock(mutex_);
    released = purge_all(now());
    note_sizes();
  }
  return released + direct_.give_back_retired();
}

void Arena::prepare_fork() noexcept {
  mutex_.lock();
  direct_.prepare_fork();
}

void Arena::parent_after_fork() noexcept {
  direct_.parent_after_fork();
  mutex_.unlock();
}

void Arena::child_after_fork() noexcept {
  direct_.child_after_fork();
  mutex_.reinitialise_after_fork();
}

Extent Arena::take_run(std::size_t chunks, std::size_t alignment) noexcept {
  if (chunks == 0 || chunks > most_chunks || alignment > run_alignment_bytes) {
    return {};
  }
  RunRequest request{
      static_cast<std::uint32_t>(chunks),
      static_cast<std::uint32_t>(alignment > chunk_bytes ? alignment / chunk_bytes : 1), phase()};
  const Placement placement = find_or_grow(request);
  const std::uint32_t stamp = now();
  Extent extent;
  if (placement) {
    const std::uint32_t clean_before = runs_.chunks_in(RunState::Clean);
    extent.zeroed = runs_.take(placement, request.chunks) == RunState::Clean;
    extent.address = window_.data() + std::size_t{placement.first} * chunk_bytes;
    in_use_.add(chunks * chunk_bytes);
    note_taken(clean_before, stamp);
  }
  purge_due(stamp);
  note_sizes();
  return extent;
}

Placement Arena::find_or_grow(RunRequest& request) noexcept {
  if (const Placement placement = runs_.find(request, SearchEffort::Bounded)) {
    return placement;
  }
  if (window_.is_bounded()) {
    if (const Placement placement = runs_.find(request, SearchEffort::Exhaustive)) {
      return placement;
    }
  }
  if (const Placement placement = grow_for(request)) {
    return placement;
  }
  return runs_.find(request, SearchEffort::Exhaustive);
}

/// Grows the window until the free runs at its end serve `request`.
Placement Arena::grow_for(RunRequest& request) noexcept {
  for (;;) {
    // The phase is known once the window is open.
    request.phase = phase();
    const std::uint32_t trailing = runs_.trailing_free_run();
    const std::uint32_t start = trailing != no_chunk ? trailing : runs_.end();
    const std::uint64_t first = request.first_from(start);
    const std::uint64_t wanted_end = first + request.chunks;
    if (wanted_end <= runs_.end()) {
      return runs_.placement_at(static_cast<std::uint32_t>(first), trailing);
    }
    // Growth may skip a gap, and the row of runs then starts anew: that is why this is a loop.
    const Growth growth = window_.grow(static_cast<std::uint32_t>(wanted_end - runs_.end()));
    if (!growth) {
      return {};
    }
    adopt(growth);
  }
}

/// Takes over what the window has grown by.
void Arena::adopt(const Growth& growth) noexcept {
  runs_.attach(window_.tags());
  if (growth.skipped != 0) {
    runs_.append(growth.skipped, RunState::Unusable);
  }
  runs_.append(growth.added, RunState::Clean);
  data_base_.store(reinterpret_cast<std::uintptr_t>(window_.data()), Order::relaxed);
  records_.store(window_.records(), Order::relaxed);
  direct_threshold_.store(
      window_.is_bounded() ? bounded_direct_threshold_bytes : direct_threshold_bytes,
      Order::relaxed);
  // Release, with the acquire in view(): who sees the size sees base and records, too.
  window_bytes_.store(std::size_t{runs_.end()} * chunk_bytes, Order::release);
}

void Arena::give_back_run(std::uint32_t first) noexcept {
  const std::uint32_t stamp = now();
  in_use_.subtract(std::size_t{runs_.run_chunks(first)} * chunk_bytes);
  runs_.release(first, stamp);
  purge_due(stamp);
  note_sizes();
}

/// Purges up to `limit_chunks` from the start of a dirty run; returns the bytes. A run that cannot
/// be purged becomes the youngest and stays dirty.
std::size_t Arena::purge_run(std::uint32_t run, std::uint32_t limit_chunks,
                             std::uint32_t now) noexcept {
  const std::uint32_t length = runs_.run_chunks(run);
  const std::uint32_t chunks = length < limit_chunks ? length : limit_chunks;
  const std::size_t bytes = std::size_t{chunks} * chunk_bytes;
  if (!os::interface().purge(window_.data() + std::size_t{run} * chunk_bytes, bytes)) {
    runs_.postpone(run, now);
    return 0;
  }
  runs_.clean(run, chunks);
  purged_bytes_.fetch_add(bytes, Order::relaxed);
  return bytes;
}

/// Tells the allowance that chunks were taken: clean ones too, if there are fewer now than before.
void Arena::note_taken(std::uint32_t clean_before, std::uint32_t now) noexcept {
  const std::size_t faulted = clean_before - runs_.chunks_in(RunState::Clean);
  allowance_.note_taken(std::size_t{runs_.chunks_in(RunState::InUse)} * chunk_bytes,
                        faulted * chunk_bytes, now);
}

std::size_t Arena::dirty_limit_bytes() const noexcept {
  return allowance_.amount(std::size_t{runs_.chunks_in(RunState::InUse)} * chunk_bytes);
}

void Arena::purge_due(std::uint32_t now) noexcept {
  purge_excess(now);
  purge_expired(now);
}

/// Purges the oldest dirty memory above the allowance. Cost: in proportion to what was freed or
/// faulted in just now.
void Arena::purge_excess(std::uint32_t now) noexcept {
  for (;;) {
    const std::size_t limit = dirty_limit_bytes() / chunk_bytes;
    const std::size_t dirty = runs_.chunks_in(RunState::Dirty);
    if (dirty <= limit) {
      return;
    }
    const auto excess = static_cast<std::uint32_t>(dirty - limit);
    const std::uint32_t step = excess > purge_step_chunks ? excess : purge_step_chunks;
    const std::size_t purged = purge_run(runs_.oldest_dirty_run(), step, now);
    if (purged == 0) {
      return;
    }
    allowance_.note_excess(purged, now);
  }
}

void Arena::purge_expired(std::uint32_t now) noexcept {
  for (int step = 0; step < purge_steps; ++step) {
    const std::uint32_t oldest = runs_.oldest_dirty_run();
    if (oldest == no_chunk || now - runs_.stamp_of(oldest) < decay_milliseconds) {
      return;
    }
    const std::size_t purged = purge_run(oldest, purge_step_chunks, now);
    if (purged == 0) {
      return;
    }
    allowance_.note_expired(purged);
  }
}

/// Purges every dirty run that can be; returns the bytes.
std::size_t Arena::purge_all(std::uint32_t now) noexcept {
  std::size_t purged = 0;
  std::uint32_t first_refused = no_chunk;
  for (std::uint32_t run = runs_.oldest_dirty_run(); run != no_chunk && run != first_refused;
       run = runs_.oldest_dirty_run()) {
    const std::size_t bytes = purge_run(run, most_chunks, now);
    if (bytes == 0 && first_refused == no_chunk) {
      first_refused = run;
    }
    purged += bytes;
  }
  return purged;
}

/// The number that chunk 0 has when chunks are counted from address 0.
std::uint64_t Arena::phase() const noexcept {
  return reinterpret_cast<std::uintptr_t>(window_.data()) / chunk_bytes;
}

/// The number of the chunk that starts at `address`. Pre: it lies in the window.
std::uint32_t Arena::number_of(const void* address) const noexcept {
  const std::uintptr_t offset =
      reinterpret_cast<std::uintptr_t>(address) - reinterpret_cast<std::uintptr_t>(window_.data());
  return static_cast<std::uint32_t>(offset / chunk_bytes);
}

}  // namespace slabmalloc
