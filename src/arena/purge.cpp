// SPDX-License-Identifier: MIT
//
// Purges of the arena: memory beyond the dirty limit, expired memory, and in trim() all dirty
// memory.
//
//     mutex held            choose, take out of the run map      put back, choose the next, …
//     purger's mutex held   '--------- the system call ---------'
#include "arena/arena.hpp"
#include "os/os.hpp"

namespace slabmalloc {
namespace {

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
  change([]() noexcept {});
}

std::size_t Arena::trim() noexcept {
  const std::size_t purged_bytes = purge_everything() + direct_.give_back_retired();
  // Threads that freed memory meanwhile left its purge to this thread.
  decay();
  return purged_bytes;
}

void Arena::purge_part(std::byte* start, std::size_t bytes) noexcept {
  const std::size_t unit = os::interface().os_page_bytes();
  const auto begin = reinterpret_cast<std::uintptr_t>(start);
  const std::uintptr_t first = align_up(begin, unit);
  const std::uintptr_t end = align_down(begin + bytes, unit);
  if (first < end) {
    purge_memory(start + (first - begin), end - first);
  }
}

std::size_t Arena::dirty_limit_bytes() const noexcept {
  return dirty_limit_.amount(std::size_t{runs_.chunks_in(RunState::InUse)} * chunk_bytes);
}

/// Dirty chunks beyond the dirty limit.
std::size_t Arena::excess_chunks() const noexcept {
  const std::size_t limit = dirty_limit_bytes() / chunk_bytes;
  const std::size_t dirty = runs_.chunks_in(RunState::Dirty);
  return dirty > limit ? dirty - limit : 0;
}

/// Ends an operation. If a purge is due and no other thread is purging, this thread becomes the
/// purger. The caller carries out the returned purge after it has unlocked the mutex.
Arena::Purge Arena::begin_due_purge() noexcept {
  if (const std::uint32_t time = now(); time - caches_checked_at_ >= tunables.decay_milliseconds) {
    caches_checked_at_ = time;
    clear_large_caches(true);
  }
  Purge purge{.own_chunks_left = excess_chunks(),
              .others_steps_left = Tunables::purge_steps_for_others,
              .expired_steps_left = Tunables::purge_steps};
  if (choose_due(purge)) {
    if (purger_mutex_.try_lock()) {
      runs_.begin_purge(purge.run, purge.chunks);
    } else {
      purge = {};
    }
  }
  note_sizes();
  return purge;
}

/// Carries out a purge and those that become due meanwhile. It stops when none is due, or when it
/// has done enough for other threads. It stops with the mutex held, so that every later free sees
/// it.
/// Cost: O(memory that was due at its start), and a few more runs.
void Arena::carry_out(Purge& purge) noexcept {
  while (purge.run != no_chunk) {
    const bool is_purged = purge_chunks(purge);
    const os::Lock lock(mutex_);
    end_purge(purge, is_purged);
    if (is_purged && choose_due(purge)) {
      runs_.begin_purge(purge.run, purge.chunks);
    } else {
      purge.run = no_chunk;
      purger_mutex_.unlock();
    }
  }
}

/// Chooses dirty memory beyond the dirty limit, or expired memory. False if there is none, or if
/// enough was chosen before.
bool Arena::choose_due(Purge& purge) const noexcept {
  purge.run = runs_.oldest_dirty_run();
  if (purge.run == no_chunk) {
    return false;
  }
  const std::size_t excess = excess_chunks();
  std::size_t most = Tunables::purge_step_chunks;
  bool is_due = false;
  if (excess != 0) {
    purge.reason = Purge::Reason::Excess;
    most = excess > most ? excess : most;
    is_due = purge.own_chunks_left != 0 || take_step(purge.others_steps_left);
  } else if (now() - runs_.stamp_of(purge.run) >= tunables.decay_milliseconds) {
    purge.reason = Purge::Reason::Expired;
    is_due = take_step(purge.expired_steps_left);
  }
  if (!is_due) {
    purge.run = no_chunk;
    return false;
  }
  const std::uint32_t length = runs_.run_chunks(purge.run);
  purge.chunks = length < most ? length : static_cast<std::uint32_t>(most);
  purge.own_chunks_left -=
      purge.chunks < purge.own_chunks_left ? purge.chunks : purge.own_chunks_left;
  return true;
}

/// Purges chunks that are out of the run map.
bool Arena::purge_chunks(const Purge& purge) noexcept {
  return purge_memory(reinterpret_cast<std::byte*>(data_base_.load(Order::relaxed)) +
                          std::size_t{purge.run} * chunk_bytes,
                      std::size_t{purge.chunks} * chunk_bytes);
}

/// Makes the system call, and counts it if it succeeds.
bool Arena::purge_memory(std::byte* start, std::size_t bytes) noexcept {
  const bool is_purged = os::interface().purge(start, bytes);
  if (is_purged) {
    counts_.purged_bytes.add(bytes);
    counts_.purges.add(1);
  }
  return is_purged;
}

/// Puts the chunks back, purged or not, and notes the purge in the dirty limit.
void Arena::end_purge(const Purge& purge, bool is_purged) noexcept {
  runs_.end_purge(purge.run, is_purged, now());
  note_sizes();
  if (!is_purged) {
    return;
  }
  const std::size_t bytes = std::size_t{purge.chunks} * chunk_bytes;
  if (purge.reason == Purge::Reason::Excess) {
    dirty_limit_.note_excess(bytes, now());
  } else if (purge.reason == Purge::Reason::Expired) {
    dirty_limit_.note_expired(bytes);
  }
}

/// Purges as many bytes as are dirty at its start, the oldest first; returns the purged bytes.
std::size_t Arena::purge_everything() noexcept {
  const os::Lock purger(purger_mutex_);
  {
    const os::Lock lock(mutex_);
    clear_large_caches(false);
    note_sizes();
  }
  std::size_t left = counts_.dirty_bytes.get() / chunk_bytes;
  std::size_t purged_chunks = 0;
  Purge purge;
  while (begin_oldest_purge(purge, left)) {
    left -= purge.chunks;
    const bool is_purged = purge_chunks(purge);
    purged_chunks += is_purged ? purge.chunks : 0;
    const os::Lock lock(mutex_);
    end_purge(purge, is_purged);
  }
  return purged_chunks * chunk_bytes;
}

/// Chooses at most `most` chunks of the oldest dirty run; false if there is none.
bool Arena::begin_oldest_purge(Purge& purge, std::size_t most) noexcept {
  const os::Lock lock(mutex_);
  purge.run = runs_.oldest_dirty_run();
  if (purge.run == no_chunk || most == 0) {
    return false;
  }
  const std::uint32_t length = runs_.run_chunks(purge.run);
  purge.chunks = length < most ? length : static_cast<std::uint32_t>(most);
  runs_.begin_purge(purge.run, purge.chunks);
  return true;
}

}  // namespace slabmalloc
