// SPDX-License-Identifier: MIT
//
// Runs of the arena: allocation, deallocation and growth. purge.cpp has the purges, large.cpp the
// large objects.
#include "arena/arena.hpp"

#include "arena/memory_limit.hpp"
#include "os/os.hpp"
#include "slabmalloc/base/assert.hpp"

namespace slabmalloc {
namespace {

/// The chunks of the largest window.
constexpr std::size_t most_chunks = Tunables::largest_window_bytes / chunk_bytes;

}  // namespace

constinit Arena process_arena;

std::uint32_t Arena::now() noexcept {
  return static_cast<std::uint32_t>(os::interface().now_milliseconds());
}

Extent Arena::allocate(std::size_t chunks, std::size_t alignment, RunClass run_class) noexcept {
  Extent extent = allocate_run(chunks + guard_chunks, alignment, run_class);
  if (!extent) {
    note_if_refused((chunks + guard_chunks) * MemoryLimit::counted_chunk_bytes);
  } else if (Tunables::hardened && !make_accessible_at_last(extent, chunks)) {
    change([&]() noexcept { release_run(number_of(extent.address), now()); });
    extent = {};
  }
  return extent;
}

/// As make_accessible(). If the system refuses, it first gets back what free runs have of memory
/// and mappings: most of these runs may be of other classes.
bool Arena::make_accessible_at_last(Extent& extent, std::size_t chunks) noexcept {
  if (make_accessible(extent, chunks)) {
    return true;
  }
  trim();
  return make_accessible(extent, chunks);
}

/// True if memory near chunk `number` is inaccessible unless a run is there.
bool Arena::has_guards(std::uint32_t number) noexcept {
  return Tunables::hardened && tunables.guards && number < tunables.guarded_chunks;
}

/// Makes the first `chunks` of a run of the hardened library accessible, and its guard not.
/// Fails: false; the system refuses.
bool Arena::make_accessible(Extent& extent, std::size_t chunks) noexcept {
  auto* const start = static_cast<std::byte*>(extent.address);
  Chunk* const head = chunk_of(start);
  bool is_accessible = true;
  for (std::size_t chunk = 0; chunk < chunks; ++chunk) {
    is_accessible = is_accessible && head[chunk].is_accessible();
  }
  if (!is_accessible) {
    extent.zeroed = true;
    if (!os::interface().permit_access(start, chunks * chunk_bytes)) {
      return false;
    }
  }
  if (has_guards(number_of(start)) && head[chunks].is_accessible() &&
      os::interface().forbid_access(start + chunks * chunk_bytes, chunk_bytes)) {
    head[chunks].note_access(false);
  }
  return true;
}

Extent Arena::allocate_run(std::size_t chunks, std::size_t alignment, RunClass run_class) noexcept {
  Extent extent;
  change([&]() noexcept { extent = take_run(chunks, alignment, run_class); });
  return extent ? extent : allocate_at_last(chunks, alignment, run_class);
}

/// Retries a refused request. Runs that another thread was purging are free now, and cached objects
/// are freed here.
Extent Arena::allocate_at_last(std::size_t chunks, std::size_t alignment,
                               RunClass run_class) noexcept {
  Extent extent;
  {
    const os::Lock no_purge(purger_mutex_);
    const os::Lock lock(mutex_);
    clear_large_caches(false);
    decay_.note_purged(direct_.trim());
    extent = take_run(chunks, alignment, run_class);
    note_sizes();
  }
  // Threads that freed memory meanwhile left its purge to this thread.
  decay();
  return extent;
}

void Arena::deallocate(void* address, std::size_t chunks) noexcept {
  Chunk* const head = chunk_of(address);
  for (std::size_t chunk = 0; chunk < chunks; ++chunk) {
    head[chunk].clear();
    if (Tunables::hardened) {
      head[chunk].note_access(true);
    }
  }
  change([&]() noexcept {
    const std::uint32_t first = number_of(address);
    invariant(runs_.run_chunks(first) == chunks + guard_chunks, "a run goes back whole");
    release_run(first, now());
  });
}

void Arena::prepare_fork() noexcept {
  // Wait for a purge in progress: the child would wait for its end forever.
  purger_mutex_.lock_for_fork();
  mutex_.lock_for_fork();
  direct_.prepare_fork();
}

void Arena::parent_after_fork() noexcept {
  direct_.parent_after_fork();
  mutex_.unlock_after_fork();
  purger_mutex_.unlock_after_fork();
}

void Arena::child_after_fork() noexcept {
  direct_.child_after_fork();
  mutex_.unlock_in_child();
  purger_mutex_.unlock_in_child();
}

bool Arena::holds_mutex() const noexcept {
  return purger_mutex_.is_held() || mutex_.is_held() || direct_.holds_mutex();
}

Extent Arena::take_run(std::size_t chunks, std::size_t alignment, RunClass run_class) noexcept {
  if (chunks == 0 || chunks > most_chunks || alignment > Tunables::run_alignment_bytes ||
      !admits_chunks(chunks)) {
    return {};
  }
  RunRequest request{
      static_cast<std::uint32_t>(chunks),
      static_cast<std::uint32_t>(alignment > chunk_bytes ? alignment / chunk_bytes : 1), phase(),
      run_class};
  const Placement placement = find_or_grow(request);
  Extent extent;
  if (placement) {
    extent.zeroed = runs_.take(placement, request.chunks, run_class) == RunState::Clean;
    extent.address = window_.data() + std::size_t{placement.first} * chunk_bytes;
    in_use_.add(chunks * chunk_bytes);
  }
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
    clear_large_caches(false);
    if (const Placement placement = find_at_last(request)) {
      return placement;
    }
  }
  if (const Placement placement = grow_for(request)) {
    return placement;
  }
  return find_at_last(request);
}

/// Searches every free run, and at last those of other classes: a program that goes on is worth
/// more than addresses that keep their class.
Placement Arena::find_at_last(const RunRequest& request) noexcept {
  Placement placement = runs_.find(request, SearchEffort::Exhaustive);
  if (Tunables::hardened && !placement) {
    placement = runs_.find_of_any_class(request);
    counts_.class_changes.add(placement ? 1 : 0);
  }
  return placement;
}

/// Grows the window until the free runs at its end serve `request`.
Placement Arena::grow_for(RunRequest& request) noexcept {
  for (;;) {
    // The phase is known once the window is open.
    request.phase = phase();
    const std::uint32_t trailing = runs_.trailing_free_run(request.run_class);
    const std::uint32_t start = trailing != no_chunk ? trailing : runs_.end();
    const std::uint64_t first = request.first_from(start);
    const std::uint64_t wanted_end = first + request.chunks;
    if (wanted_end <= runs_.end()) {
      return runs_.placement_at(static_cast<std::uint32_t>(first), trailing);
    }
    // Growth may skip a gap and start a new row of runs. So this is a loop.
    const Growth growth = window_.grow(static_cast<std::uint32_t>(wanted_end - runs_.end()));
    if (!growth) {
      return {};
    }
    adopt(growth);
  }
}

/// Adds the chunks of `growth` to the run map.
void Arena::adopt(const Growth& growth) noexcept {
  runs_.attach(window_.tags());
  if (growth.skipped != 0) {
    runs_.append(growth.skipped, RunState::Unusable);
  }
  runs_.append(growth.added, RunState::Clean);
  const auto end =
      reinterpret_cast<std::uintptr_t>(window_.data()) + std::size_t{runs_.end()} * chunk_bytes;
  if (has_guards(runs_.end() - 1)) {
    const std::size_t bytes = std::size_t{growth.added} * chunk_bytes;
    os::interface().forbid_access(reinterpret_cast<void*>(end - bytes), bytes);
  }
  huge_pages_.note_growth(end - std::size_t{growth.added} * chunk_bytes, end);
  data_base_.store(reinterpret_cast<std::uintptr_t>(window_.data()), Order::relaxed);
  records_.store(window_.records(), Order::relaxed);
  is_bounded_.store(window_.is_bounded(), Order::relaxed);
  // Release, with the acquire in view(): a thread that sees the size also sees base and records.
  window_bytes_.store(std::size_t{runs_.end()} * chunk_bytes, Order::release);
}

/// Frees the run in use at `first`, unused since `free_since`.
void Arena::release_run(std::uint32_t first, std::uint32_t free_since) noexcept {
  in_use_.subtract(std::size_t{runs_.run_chunks(first)} * chunk_bytes);
  runs_.release(first, free_since);
}

/// Resizes the run in use at `first` to `chunks`; false if it cannot grow that far in place.
bool Arena::resize_run(std::uint32_t first, std::uint32_t chunks) noexcept {
  if (chunks <= runs_.run_chunks(first)) {
    runs_.shrink(first, chunks, now());
    return true;
  }
  return admits_chunks(chunks - runs_.run_chunks(first)) && runs_.extend(first, chunks);
}

/// The number of chunk 0 when chunks are counted from address 0.
std::uint64_t Arena::phase() const noexcept {
  return reinterpret_cast<std::uintptr_t>(window_.data()) / chunk_bytes;
}

/// The number of the chunk that starts at `address`.
/// Pre: it lies in the window.
std::uint32_t Arena::number_of(const void* address) const noexcept {
  const std::uintptr_t offset =
      reinterpret_cast<std::uintptr_t>(address) - reinterpret_cast<std::uintptr_t>(window_.data());
  return static_cast<std::uint32_t>(offset / chunk_bytes);
}

}  // namespace slabmalloc
