// SPDX-License-Identifier: MIT
//
// The life of the zones: creation, parking, draining, adoption and forks.
#include "malloc/thread_zones.hpp"

#include <errno.h>
#include <pthread.h>

#include <new>

#include "malloc/fork.hpp"
#include "malloc/guarded_sampling.hpp"
#include "malloc/hardened_heap.hpp"
#include "malloc/heap.hpp"
#include "malloc/options.hpp"

namespace slabmalloc {

namespace {

constinit ArenaPager pager;

/// The process's first thread needs no shared zone: there is nobody to share it with.
constinit thread_local bool is_first_thread = false;

/// Allocations of the calling thread that the shared zone served while it had no zone of its own.
constinit thread_local std::uint8_t blocks_without_zone = 0;

/// Counts the calling thread's allocations from the shared zone within a few milliseconds.
class Burst {
 public:
  /// Counts one more of at most `most`; false if all were counted before. Then none is allowed for
  /// `rest` milliseconds.
  bool take_turn(std::uint32_t most, std::uint32_t rest) noexcept {
    const auto now = static_cast<std::uint32_t>(os::interface().now_milliseconds());
    if (now - began_at_ >= milliseconds_) {
      *this = Burst{};
      began_at_ = now;
    }
    if (turns_ < most) {
      ++turns_;
      return true;
    }
    if (!is_rest_) {
      is_rest_ = true;
      began_at_ = now;
      milliseconds_ = rest;
    }
    return false;
  }

  /// Counts more for an allocation that had to wait.
  void note_wait() noexcept { turns_ += Tunables::shared_turns_per_wait; }

 private:
  // Of the burst, or of the rest after it.
  std::uint32_t began_at_ = 0;  ///< Milliseconds.
  std::uint32_t milliseconds_ = Tunables::shared_burst_milliseconds;
  std::uint32_t turns_ = 0;
  bool is_rest_ = false;
};
constinit thread_local Burst burst;

/// The calling thread has parked its zone: it is about to end.
constinit thread_local bool zone_was_parked = false;

/// Counts one more of at most `most`; false if all were counted before.
bool take_turn(std::uint8_t& count, std::uint8_t most) noexcept {
  if (count >= most) {
    return false;
  }
  ++count;
  return true;
}

/// The shared zone's mutex. A wait for it counts in the burst of a thread that has a zone. Others
/// get none for it: such a thread may be about to end.
class CountedMutex {
 public:
  explicit CountedMutex(os::Mutex& mutex) noexcept : mutex_(mutex) {}

  void lock() noexcept {
    if (!mutex_.try_lock()) {
      if (thread_heap.zone != &empty_zone) {
        burst.note_wait();
      }
      mutex_.lock();
    }
  }
  void unlock() noexcept { mutex_.unlock(); }

 private:
  os::Mutex& mutex_;
};

/// Holds the shared zone's mutex for a scope.
/// Pre: the calling thread does not hold it.
class SharedLock {
 public:
  explicit SharedLock(os::Mutex& mutex) noexcept : mutex_(mutex), lock_(mutex_) {}

 private:
  CountedMutex mutex_;
  const os::Lock<CountedMutex> lock_;
};

}  // namespace

constinit ScavengerMutex scavenger_mutex;
constinit ThreadZones thread_zones;
constinit ArenaZone empty_zone{EmptyZone{}};
constinit thread_local ThreadHeap thread_heap{empty_zone};

void ThreadZone::follow_sampling() noexcept {
  // Read before the rates: a change in between shows later.
  const std::uint32_t period = sampling.period();
  if (period != sampling_period) [[unlikely]] {
    sampling_period = period;
    heap::draw_samples(zone);
  }
}

ArenaZone* ThreadZones::acquire() noexcept {
  if (zone_was_parked) {
    return nullptr;
  }
  follow_forks();
  if (thread_heap.zone != &empty_zone) {
    return thread_heap.zone;  // follow_forks() allocated.
  }
  ThreadZone* const mine = borrow();
  if (mine == nullptr) {
    return nullptr;
  }
  is_first_thread = threads_.fetch_add(1, Order::relaxed) == 0;
  mine->follow_sampling();
  // From here on the thread has a zone: both functions may allocate.
  thread_heap.serve_from(mine->zone);
  if (has_exit_key()) {
    const int saved_errno = errno;
    pthread_setspecific(exit_key_.load(Order::relaxed), mine);
    errno = saved_errno;
  }
  return &mine->zone;
}

ThreadZone* ThreadZones::borrow() noexcept {
  follow_forks();
  const os::Lock lock(mutex_);
  ThreadZone* const parked = pop_parked();
  return parked != nullptr ? parked : create();
}

/// As take_shared_turn(), for a thread without a zone.
bool ThreadZones::take_turn_without_zone() const noexcept {
  const bool is_zone_parked = parked_count_.load(Order::relaxed) != 0;
  return burst.take_turn(
             is_zone_parked ? Tunables::shared_burst_beside_parked : Tunables::shared_burst, 0) &&
         take_turn(blocks_without_zone, Tunables::shared_blocks_without_zone);
}

bool ThreadZones::take_shared_turn(std::uint32_t index, SharedBlocks which) noexcept {
  if (is_first_thread || zone_was_parked || threads_.load(Order::relaxed) == 0) {
    return false;
  }
  if (thread_heap.zone == &empty_zone && (take_turn_without_zone() || acquire() == nullptr)) {
    return true;
  }
  const std::size_t bytes = MallocConfig::SizeClasses::size_of(index);
  if (which == SharedBlocks::FirstAndLarge && bytes > Tunables::small_shared_bytes) {
    return burst.take_turn(Tunables::shared_burst_of_large, Tunables::shared_rest_milliseconds);
  }
  return take_turn(ThreadZone::of(*thread_heap.zone).shared_blocks[index],
                   Tunables::shared_blocks(bytes));
}

Extent ThreadZones::allocate_shared(std::uint32_t index) noexcept {
  if (shared_mutex_.is_held()) {
    return {};  // In a handler of misuse, without memory for another zone.
  }
  const SharedLock lock(shared_mutex_);
  ThreadZone* const one = shared();
  if (one == nullptr) {
    return {};
  }
  ArenaZone& zone = one->zone;
  if (++shared_requests_ % Tunables::requests_per_drain == 0 && zone.has_remote_frees()) {
    zone.drain_some();
  }
  return allocate_from(zone, index);
}

/// The shared zone; null if memory is exhausted.
/// Pre: the shared zone's mutex is held.
ThreadZone* ThreadZones::shared() noexcept {
  if (shared_ == nullptr) {
    const os::Lock lock(mutex_);
    shared_ = create();
  }
  return shared_;
}

/// Runs at the end of a thread, possibly before other destructors of thread-local data.
void ThreadZones::thread_ends(void* zone) noexcept {
  if constexpr (MallocConfig::hardened) {
    hardened::release_quarantined();
  }
  thread_heap.serve_from(empty_zone);
  zone_was_parked = true;
  thread_zones.park(*static_cast<ThreadZone*>(zone));
}

void ThreadZones::park(ThreadZone& ended) noexcept {
  if constexpr (MallocConfig::hardened) {
    hardened::release_quarantined(ended);
  }
  ended.zone.trim();
  process_arena.clear(large_cache_of(ended.zone));
  ended.holes.leave_to_others();
  const os::Lock lock(mutex_);
  push_parked(ended);
}

void ThreadZones::push_parked(ThreadZone& one) noexcept {
  one.state = ThreadZone::State::Parked;
  one.next_parked = nullptr;
  (last_parked_ != nullptr ? last_parked_->next_parked : first_parked_) = &one;
  last_parked_ = &one;
  parked_count_.fetch_add(1, Order::relaxed);
}

ThreadZone* ThreadZones::pop_parked() noexcept {
  ThreadZone* one = first_parked_;
  if (one != nullptr) {
    first_parked_ = one->next_parked;
    last_parked_ = first_parked_ != nullptr ? last_parked_ : nullptr;
    one->state = ThreadZone::State::Owned;
    parked_count_.fetch_sub(1, Order::relaxed);
  }
  return one;
}

ThreadZone* ThreadZones::create() noexcept {
  if (unused_bytes_ < sizeof(ThreadZone)) {
    const Extent extent = process_arena.allocate(1);
    if (!extent) {
      return nullptr;
    }
    unused_ = static_cast<std::byte*>(extent.address);
    unused_bytes_ = chunk_bytes;
  }
  auto* one = new (static_cast<void*>(unused_)) ThreadZone(pager);
  unused_ += sizeof(ThreadZone);
  unused_bytes_ -= sizeof(ThreadZone);
  one->zone.queue().set_zone(one);
  one->holes.begin(static_cast<std::uint32_t>(os::interface().now_milliseconds()), true);
  invariant(&ThreadZone::of(one->zone) == one, "the zone is the first member of its entry");
  one->next_registered = registered_.load(Order::relaxed);
  // Pairs with the acquire in for_each(): a thread that sees the zone sees it complete.
  registered_.store(one, Order::release);
  return one;
}

/// True if the key exists. Without it, ended threads keep their zones. That wastes memory but is
/// otherwise harmless. Several threads may make a key at the same time; one of these stays.
bool ThreadZones::has_exit_key() noexcept {
  // Pairs with the release below: the key is that of the thread that stored true.
  if (has_exit_key_.load(Order::acquire)) {
    return true;
  }
  pthread_key_t key = 0;
  if (pthread_key_create(&key, &ThreadZones::thread_ends) != 0) {
    return false;
  }
  bool is_extra = false;
  {
    const os::Lock lock(mutex_);
    is_extra = has_exit_key_.load(Order::relaxed);
    if (!is_extra) {
      exit_key_.store(key, Order::relaxed);
      has_exit_key_.store(true, Order::release);
    }
  }
  if (is_extra) {
    pthread_key_delete(key);
  }
  return true;
}

/// Drains the zone that was parked or drained longest ago; returns the bytes returned to the arena.
/// It holds no mutex while it drains, since it may report misuse.
std::size_t ThreadZones::drain_one() noexcept {
  ThreadZone* one = nullptr;
  {
    const os::Lock lock(mutex_);
    one = pop_parked();
  }
  if (one == nullptr) {
    return 0;
  }
  const std::size_t freed_bytes = one->zone.has_remote_frees() ? one->zone.trim() : 0;
  const os::Lock lock(mutex_);
  push_parked(*one);
  return freed_bytes;
}

void ThreadZones::drain_some() noexcept {
  if (requests_.fetch_add(1, Order::relaxed) % Tunables::requests_per_drain != 0) {
    return;
  }
  if (parked_count_.load(Order::relaxed) != 0) {
    drain_one();
  }
  drain_shared();
  scavenge_if_due();
}

bool ThreadZones::drain_all() noexcept {
  deliver_all();
  const bool is_freed = drain_parked();
  drop_all_holes();
  return is_freed;
}

bool ThreadZones::drain_parked() noexcept {
  std::size_t freed_bytes = 0;
  for (std::size_t count = parked_count_.load(Order::relaxed); count != 0; --count) {
    freed_bytes += drain_one();
  }
  return freed_bytes != 0;
}

/// Calls `work(ThreadZone&)` for the zones of other threads.
template <class Work>
void ThreadZones::for_each_other(Work&& work) noexcept {
  for (ThreadZone* one = registered_.load(Order::acquire); one != nullptr;
       one = one->next_registered) {
    if (&one->zone != thread_heap.zone) {
      work(*one);
    }
  }
}

/// Delivers a zone's buffered frees after it has released the scavengers' mutex, since it may
/// report misuse to a handler. A fork in between loses those frees to the child.
void ThreadZones::deliver_for(ThreadZone& one) noexcept {
  if (!options.scavenging || !one.zone.buffered_frees().holds_some()) {
    return;
  }
  ArenaZone::Buffer::BufferedFrees buffered;
  {
    const os::Lock lock(scavenger_mutex);
    buffered = one.zone.buffered_frees().take_all(os::interface().fence_all_threads);
  }
  buffered.deliver();
}

void ThreadZones::deliver_all() noexcept {
  for_each_other([this](ThreadZone& one) noexcept { deliver_for(one); });
}

/// Begins a scan of the pages of other zones: all, or those that are due.
void ThreadZones::begin_scan_of_others(bool all) noexcept {
  if (!options.scavenging) {
    return;
  }
  const auto now = static_cast<std::uint32_t>(os::interface().now_milliseconds());
  const os::Lock lock(scavenger_mutex);
  if (next_chunk_ != HoleScan::no_scan && !all) {
    return;
  }
  bool is_any = false;
  for_each_other([&](ThreadZone& one) noexcept {
    one.is_scanned_by_others = all || one.holes.is_overdue(now);
    if (one.is_scanned_by_others) {
      one.holes.begin(now, false);
      is_any = true;
    }
  });
  next_chunk_ = is_any ? 0 : HoleScan::no_scan;
  others_are_scanned_.store(is_any, Order::relaxed);
}

/// Scans a step of the pages of other zones; true if no scan is under way any more. A zone whose
/// owner is in the middle of a call is not scanned any further.
/// Pre: the scavengers' mutex is held.
bool ThreadZones::scan_others() noexcept {
  if (next_chunk_ == HoleScan::no_scan) {
    return true;
  }
  bool is_any = false;
  for_each_other([&is_any](ThreadZone& one) noexcept {
    one.is_scanned_by_others =
        one.is_scanned_by_others && one.zone.queue().scavenger_lock().announce_scavenger();
    is_any = is_any || one.is_scanned_by_others;
  });
  const bool is_fenced = is_any && os::interface().fence_all_threads();
  for_each_other([&](ThreadZone& one) noexcept {
    one.is_scanned_by_others =
        one.is_scanned_by_others && one.zone.queue().scavenger_lock().admit_scavenger(is_fenced);
  });
  scan_step(next_chunk_, Tunables::scavenger_scan_step, nullptr);
  const bool is_end = next_chunk_ == HoleScan::no_scan;
  others_are_scanned_.store(!is_end, Order::relaxed);
  for_each_other([&](ThreadZone& one) noexcept {
    if (one.is_scanned_by_others) {
      if (is_end) {
        one.holes.end(one.zone.queue().take_refaults());
      }
      one.zone.queue().scavenger_lock().unlock_scavenger();
    }
  });
  return is_end;
}

/// As scan_others(), unless a thread uses the scavengers' mutex or waits for it; true also then. An
/// ordinary call leaves the scan to that thread, or to a later call.
bool ThreadZones::try_scan_others() noexcept {
  if (!scavenger_mutex.try_lock()) {
    return true;
  }
  const bool is_end = scan_others();
  scavenger_mutex.unlock();
  return is_end;
}

void ThreadZones::drop_all_holes() noexcept {
  // The second scan drops what the first has seen.
  for (int scan = 0; scan < 2; ++scan) {
    if (thread_heap.zone != &empty_zone) {
      scan_all_own_pages(*thread_heap.zone->queue().zone());
    }
    begin_scan_of_others(true);
    for (bool is_end = false; !is_end;) {
      scavenger_mutex.let_others_in();
      const os::Lock lock(scavenger_mutex);
      is_end = scan_others();
    }
  }
}

void ThreadZones::scavenge_if_due() noexcept {
  if (others_are_scanned_.load(Order::relaxed)) {
    try_scan_others();
  }
  const auto now = static_cast<std::uint32_t>(os::interface().now_milliseconds());
  std::uint32_t last = scavenged_at_.load(Order::relaxed);
  if (now - last < tunables.scavenge_milliseconds ||
      !scavenged_at_.compare_exchange(last, now, Order::relaxed)) {
    return;
  }
  process_arena.decay();
  deliver_all();
  begin_scan_of_others(false);
  for (int steps = 1; steps < Tunables::steps_per_scavenge && !try_scan_others(); ++steps) {
  }
}

/// Returns the pages of the shared zone that its threads emptied, unless a thread uses it now.
void ThreadZones::drain_shared() noexcept {
  if (!shared_mutex_.try_lock()) {
    return;
  }
  if (shared_ != nullptr && shared_->zone.has_remote_frees()) {
    shared_->zone.trim();
  }
  shared_mutex_.unlock();
}

void ThreadZones::trim_shared() noexcept {
  if (!shared_mutex_.is_held()) {
    const SharedLock lock(shared_mutex_);
    if (shared_ != nullptr) {
      shared_->zone.trim();
    }
  }
}

void ThreadZones::prepare_fork() noexcept {
  shared_mutex_.lock_for_fork();
  scavenger_mutex.lock_for_fork();
  mutex_.lock_for_fork();
}

void ThreadZones::parent_after_fork() noexcept {
  mutex_.unlock_after_fork();
  scavenger_mutex.unlock_after_fork();
  shared_mutex_.unlock_after_fork();
}

void ThreadZones::child_after_fork() noexcept {
  for (ThreadZone* one = registered_.load(Order::relaxed); one != nullptr;
       one = one->next_registered) {
    if (one->state == ThreadZone::State::Owned && &one->zone != thread_heap.zone &&
        one != shared_) {
      one->state = ThreadZone::State::Abandoned;
    }
  }
  mutex_.unlock_in_child();
  scavenger_mutex.unlock_in_child();
  shared_mutex_.unlock_in_child();
}

bool ThreadZones::holds_mutex() const noexcept {
  return shared_mutex_.is_held() || scavenger_mutex.is_held() || mutex_.is_held();
}

OtherZone::OtherZone() noexcept
    : own_(thread_heap.zone), other_(thread_zones.borrow()), own_was_parked_(zone_was_parked) {
  thread_heap.serve_from(other_ != nullptr ? other_->zone : empty_zone);
  zone_was_parked = true;
}

OtherZone::~OtherZone() {
  thread_heap.serve_from(*own_);
  zone_was_parked = own_was_parked_;
  if (other_ != nullptr) {
    thread_zones.park(*other_);
  }
}

}  // namespace slabmalloc
