// SPDX-License-Identifier: MIT
//
// The fork handlers.
#include "malloc/fork.hpp"

#include <pthread.h>

#include "libc/libc.hpp"
#include "malloc/background.hpp"
#include "malloc/guarded_blocks.hpp"
#include "malloc/guarded_sampling.hpp"
#include "malloc/options.hpp"
#include "malloc/random.hpp"
#include "malloc/report.hpp"
#include "malloc/thread_zones.hpp"

namespace slabmalloc {

namespace {

// A library that registered earlier has its fork handlers run on this thread while this thread
// holds the mutexes. Those handlers may allocate.

void prepare_fork() noexcept {
  CLibrary::lock_streams();
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
  CLibrary::unlock_streams();
}

void child_after_fork() noexcept {
  --os::this_thread.forks;
  guarded_blocks.child_after_fork();
  process_arena.child_after_fork();
  thread_zones.child_after_fork();
  CLibrary::unlock_streams_in_child();
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
