// SPDX-License-Identifier: MIT
//
// Purges of the arena: decayed memory, memory beyond the dirty limit, and in trim() all dirty
// memory.
//
//     mutex held            choose, take out of the run map      put back, choose the next, …
//     purger's mutex held   '--------- the system call ---------'
#include "arena/arena.hpp"
#include "os/os.hpp"

namespace slabmalloc {
namespace {

constexpr std::size_t purge_step_bytes = Tunables::purge_step_chunks * chunk_bytes;

constexpr std::size_t lesser(std::size_t one, std::size_t other) noexcept {
  return one < other ? one : other;
}

/// True if `stamp` is older than `other`.
constexpr bool is_before(std::uint32_t stamp, std::uint32_t other) noexcept {
  return static_cast<std::int32_t>(stamp - other) < 0;
}

/// Takes a step; false if none is left.
bool take_step(std::uint32_t& steps_left) noexcept {
  if (steps_left == 0) {
    return false;
  }
  --steps_left;
  return true;
}

}  // namespace

void Arena::decay() noexcept {
  change([]() noexcept {}, PurgeBudget{.decayed_steps = ~std::uint32_t{0}});
}

std::size_t Arena::trim() noexcept {
  const std::size_t purged_bytes = purge_everything();
  // Threads that freed memory meanwhile left its purge to this thread.
  decay();
  return purged_bytes;
}

bool Arena::drop_hole(std::byte* start, std::size_t bytes, std::uint32_t& splits) noexcept {
  splits += prepare_purge(start, bytes);
  const bool is_purged = purge_memory(start, bytes);
  if (is_purged) {
    counts_.hole_bytes.add(bytes);
    counts_.holes_dropped_bytes.add(bytes);
  }
  return is_purged;
}

/// Notes the amounts at the end of an operation, or of a purge.
void Arena::note_amounts(std::uint32_t time) noexcept {
  const std::size_t in_use = std::size_t{runs_.chunks_in(RunState::InUse)} * chunk_bytes;
  decay_.note(in_use + direct_.bytes(), dirty_bytes(), time, tunables.decay_milliseconds);
  note_sizes();
}

/// The dirty memory, with what is being purged.
std::size_t Arena::dirty_bytes() const noexcept {
  const std::size_t chunks =
      std::size_t{runs_.chunks_in(RunState::Dirty)} + runs_.chunks_in(RunState::Purging);
  return chunks * chunk_bytes + direct_.cached_bytes();
}

/// The dirty bytes beyond the dirty limit, or beyond what fits below the memory limits.
std::size_t Arena::excess_bytes() const noexcept {
  const std::size_t fitting = limited_dirty_bytes(decay_.limit());
  const std::size_t dirty = dirty_bytes();
  return dirty > fitting ? dirty - fitting : 0;
}

/// Ends an operation. If a purge is due and no other thread is purging, this thread becomes the
/// purger. The caller carries out the returned purge after it has unlocked the mutex.
Arena::Purge Arena::begin_due_purge(PurgeBudget& budget) noexcept {
  const std::uint32_t time = now();
  if (time - caches_checked_at_ >= tunables.decay_milliseconds) {
    caches_checked_at_ = time;
    clear_large_caches(true);
  }
  clear_caches_if_limited();
  note_amounts(time);
  budget.own_bytes = excess_bytes();
  Purge purge;
  if ((budget.own_bytes != 0 || decay_.due() != 0) && purger_mutex_.try_lock()) {
    const std::size_t usual = decay_.limit();
    const bool is_limited = budget.own_bytes != 0 && limited_dirty_bytes(usual) < usual;
    purge = choose_due(budget);
    if (!purge.is_chosen()) {
      purger_mutex_.unlock();
    } else if (is_limited) {
      counts_.limit_purges.add(1);
    }
  }
  return purge;
}

/// Carries out a purge and those that become due meanwhile. It stops when none is due, or when it
/// has done enough for other threads. It stops with the mutex held, so that every later free sees
/// it.
/// Cost: O(memory that was due at its start), and a few more runs.
void Arena::carry_out(Purge purge, PurgeBudget& budget) noexcept {
  while (purge.is_chosen()) {
    const std::size_t purged = purge_chosen(purge);
    const os::Lock lock(mutex_);
    end_purge(purge, purged);
    budget.own_bytes -= lesser(budget.own_bytes, purged);
    purge = purged != 0 ? choose_due(budget) : Purge{};
    if (!purge.is_chosen()) {
      purger_mutex_.unlock();
    }
  }
}

/// Chooses dirty memory beyond the dirty limit, or decayed memory. None if there is none, or if
/// the budget is spent.
Arena::Purge Arena::choose_due(PurgeBudget& budget) noexcept {
  if (const std::size_t excess = excess_bytes(); excess != 0) {
    if (budget.own_bytes == 0 && !take_step(budget.others_steps)) {
      return {};
    }
    return choose_oldest(excess > purge_step_bytes ? excess : purge_step_bytes);
  }
  const std::size_t due = decay_.due();
  return due != 0 && take_step(budget.decayed_steps) ? choose_oldest(lesser(due, purge_step_bytes))
                                                     : Purge{};
}

/// Chooses at most `most_bytes`, rounded up to a chunk, of the oldest dirty memory, and takes
/// chunks out of the run map. None if nothing is dirty.
Arena::Purge Arena::choose_oldest(std::size_t most_bytes) noexcept {
  Purge purge;
  const std::size_t most_chunks = (most_bytes + chunk_bytes - 1) / chunk_bytes;
  const std::uint32_t run = runs_.oldest_dirty_run();
  std::uint32_t stamp = 0;
  if (most_chunks != 0 && direct_.find_oldest(stamp) &&
      (run == no_chunk || is_before(stamp, runs_.stamp_of(run)))) {
    purge.mapping_bytes = most_chunks * chunk_bytes;
  } else if (most_chunks != 0 && run != no_chunk) {
    const std::uint32_t length = runs_.run_chunks(run);
    purge.run = run;
    purge.chunks = length < most_chunks ? length : static_cast<std::uint32_t>(most_chunks);
    runs_.begin_purge(purge.run, purge.chunks);
    const std::size_t around = (os::interface().os_page_bytes() - 1) / sizeof(Chunk) + 1;
    purge.wide = runs_.widen_purge(purge.run, static_cast<std::uint32_t>(around));
  }
  return purge;
}

/// Purges what was chosen; returns the bytes, or 0 if the system refuses.
std::size_t Arena::purge_chosen(const Purge& purge) noexcept {
  if (purge.mapping_bytes != 0) {
    const std::size_t unmapped = direct_.unmap_oldest(purge.mapping_bytes);
    counts_.purged_bytes.add(unmapped);
    counts_.purges.add(1);
    return unmapped;
  }
  const std::size_t bytes = std::size_t{purge.chunks} * chunk_bytes;
  std::byte* const start = reinterpret_cast<std::byte*>(data_base_.load(Order::relaxed)) +
                           std::size_t{purge.run} * chunk_bytes;
  prepare_purge(start, bytes);
  const bool forbids = has_guards(purge.run) && purge_memory(start, bytes, true);
  for (std::uint32_t chunk = 0; forbids && chunk < purge.chunks; ++chunk) {
    own_record(purge.run + chunk).note_access(false);
  }
  purge_records(purge);
  return forbids || purge_memory(start, bytes) ? bytes : 0;
}

/// Gives back the OS pages that hold nothing but records of free chunks: those that are purged, and
/// clean ones around them. These records are clear, and are so as zeros too. If the system refuses,
/// they stay as they are.
void Arena::purge_records(const Purge& purge) noexcept {
  const std::size_t os_page_bytes = os::interface().os_page_bytes();
  const auto record_at = [this](std::uint32_t chunk) noexcept {
    return reinterpret_cast<std::uintptr_t>(records_.load(Order::relaxed) + chunk);
  };
  const std::uintptr_t start = align_up(record_at(purge.wide.first), os_page_bytes);
  const std::uintptr_t end =
      align_down(record_at(purge.wide.first + purge.wide.chunks), os_page_bytes);
  if (start < end) {
    os::interface().purge(reinterpret_cast<void*>(start), end - start);
  }
}

/// As HugePages::prepare_purge().
std::uint32_t Arena::prepare_purge(std::byte* start, std::size_t bytes) noexcept {
  const auto address = reinterpret_cast<std::uintptr_t>(start);
  return huge_pages_.prepare_purge(address, address + bytes);
}

/// Makes the system call, and counts it if it succeeds. With `forbids`, the memory becomes
/// inaccessible.
bool Arena::purge_memory(std::byte* start, std::size_t bytes, bool forbids) noexcept {
  const os::Interface& os = os::interface();
  const bool is_purged = forbids ? os.forbid_access(start, bytes) : os.purge(start, bytes);
  if (is_purged) {
    counts_.purged_bytes.add(bytes);
    counts_.purges.add(1);
  }
  return is_purged;
}

/// Notes what was purged, and puts chunks back, purged or not.
void Arena::end_purge(const Purge& purge, std::size_t purged) noexcept {
  const std::uint32_t time = now();
  if (purge.run != no_chunk) {
    runs_.narrow_purge(purge.wide, purge.run);
    runs_.end_purge(purge.run, purged != 0, time);
  }
  if (purged != 0) {
    decay_.note_purged(purged);
  } else {
    decay_.postpone();
  }
  note_amounts(time);
}

/// Purges as many bytes as are dirty at its start, the oldest first; returns the purged bytes.
std::size_t Arena::purge_everything() noexcept {
  const os::Lock purger(purger_mutex_);
  std::size_t all = direct_.trim();
  counts_.purged_bytes.add(all);
  std::size_t left = 0;
  Purge purge;
  {
    const os::Lock lock(mutex_);
    clear_large_caches(false);
    decay_.note_purged(all);
    note_amounts(now());
    left = std::size_t{runs_.chunks_in(RunState::Dirty)} * chunk_bytes;
    purge = choose_oldest(left);
  }
  while (purge.is_chosen()) {
    left -= lesser(left, purge.bytes());
    const std::size_t purged = purge_chosen(purge);
    all += purged;
    const os::Lock lock(mutex_);
    end_purge(purge, purged);
    purge = choose_oldest(left);
  }
  return all;
}

}  // namespace slabmalloc
