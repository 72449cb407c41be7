// SPDX-License-Identifier: MIT
//
// The fork handlers.
#include "malloc/fork.hpp"

#include <pthread.h>

#include "malloc/background.hpp"
#include "malloc/guarded_blocks.hpp"
#include "malloc/guarded_sampling.hpp"
#include "malloc/options.hpp"
#include "malloc/random.hpp"
#include "malloc/report.hpp"
#include "malloc/thread_zones.hpp"

// The lock of the C library's list of streams, where the library exports it. The library takes it
// in fork() too, after the handlers.
extern "C" {
[[gnu::weak]] void _IO_list_lock();
[[gnu::weak]] void _IO_list_unlock();
[[gnu::weak]] void _IO_list_resetlock();
[[gnu::weak]] extern char __libc_single_threaded;
}

namespace slabmalloc {

namespace {

bool has_stream_list() noexcept {
  return _IO_list_lock != nullptr && _IO_list_unlock != nullptr && _IO_list_resetlock != nullptr;
}

constinit thread_local bool was_single_threaded = false;

/// Streams come before this library's mutexes: fflush(NULL) holds the list while it waits for a
/// stream, and getline() holds a stream while it allocates. With the list taken last, as fork()
/// does it, the three would wait for each other.
void lock_streams() noexcept {
  if (has_stream_list()) {
    was_single_threaded = &__libc_single_threaded != nullptr && __libc_single_threaded != 0;
    _IO_list_lock();
  }
}

void unlock_streams() noexcept {
  if (has_stream_list()) {
    _IO_list_unlock();
  }
}

/// fork() has freed the lock in the child, unless the process had a single thread. Of an older C
/// library that is not known; to free it twice does no harm outside of signal handlers.
void unlock_streams_in_child() noexcept {
  if (!has_stream_list()) {
    return;
  }
  if (&__libc_single_threaded == nullptr) {
    _IO_list_resetlock();
  } else if (was_single_threaded) {
    _IO_list_unlock();
  }
}

// A library that registered earlier has its fork handlers run on this thread while this thread
// holds the mutexes. Those handlers may allocate.

void prepare_fork() noexcept {
  lock_streams();
  if (os::this_thread.forks == 0) {
    os::this_thread.forks_inside = holds_heap_mutex();
  }
  thread_zones.prepare_fork();
  process_arena.prepare_fork();
  guarded_blocks.prepare_fork();
  ++os::this_thread.forks;
}

void parent_after_fork() noexcept {
  --os::this_thread.forks;
  guarded_blocks.parent_after_fork();
  process_arena.parent_after_fork();
  thread_zones.parent_after_fork();
  unlock_streams();
}

void child_after_fork() noexcept {
  --os::this_thread.forks;
  guarded_blocks.child_after_fork();
  process_arena.child_after_fork();
  thread_zones.child_after_fork();
  unlock_streams_in_child();
  background::child_after_fork();
  reseed_in_child();
  forget_report_of_parent();
  if (options.wants_statistics()) {
    start_counting_anew();
  }
}

}  // namespace

namespace detail {

constinit HardwareAtomics::Cell<bool> forks_are_followed{false};

[[gnu::cold]] void register_fork_handlers() noexcept {
  if (!forks_are_followed.exchange(true, Order::relaxed)) {
    os::ask_system();
    // It may lack memory. Then a later call tries again.
    if (pthread_atfork(&prepare_fork, &parent_after_fork, &child_after_fork) != 0) {
      forks_are_followed.store(false, Order::relaxed);
    }
  }
}

}  // namespace detail
}  // namespace slabmalloc
