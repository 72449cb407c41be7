// SPDX-License-Identifier: MIT
//
// The fork handlers.
#include "malloc/fork.hpp"

#include <pthread.h>

#include "malloc/background.hpp"
#include "malloc/options.hpp"
#include "malloc/report.hpp"
#include "malloc/thread_zones.hpp"

namespace slabmalloc {

namespace {

// A library that registered earlier has its fork handlers run on this thread while this thread
// holds the mutexes. Those handlers may allocate.

void prepare_fork() noexcept {
  thread_zones.prepare_fork();
  process_arena.prepare_fork();
  os::this_thread_holds_all = true;
}

void parent_after_fork() noexcept {
  os::this_thread_holds_all = false;
  process_arena.parent_after_fork();
  thread_zones.parent_after_fork();
}

void child_after_fork() noexcept {
  os::this_thread_holds_all = false;
  process_arena.child_after_fork();
  thread_zones.child_after_fork();
  background::child_after_fork();
  if (options.wants_statistics()) {
    start_counting_anew();
  }
}

}  // namespace

namespace detail {

constinit HardwareAtomics::Cell<bool> forks_are_followed{false};

[[gnu::cold]] void register_fork_handlers() noexcept {
  if (!forks_are_followed.exchange(true, Order::relaxed)) {
    pthread_atfork(&prepare_fork, &parent_after_fork, &child_after_fork);
  }
}

}  // namespace detail
}  // namespace slabmalloc
