// SPDX-License-Identifier: MIT
//
// The background thread.
#include "malloc/background.hpp"

#include <pthread.h>
#include <signal.h>

#include "malloc/options.hpp"
#include "malloc/thread_zones.hpp"
#include "slabmalloc/base/atomics.hpp"
#include "tunables.hpp"

namespace slabmalloc::background {

namespace {

constinit HardwareAtomics::Cell<bool> is_running{false};

/// One round: what callers do that need memory. Holes wait for their age, as they do there.
void work() noexcept {
  thread_zones.drain_parked();
  thread_zones.scavenge_if_due();
  process_arena.decay();
}

[[noreturn]] void run() noexcept {
  constexpr std::uint32_t longest_pause = 16;
  for (std::uint32_t pause = 1;;) {
    os::interface().sleep(tunables.scavenge_milliseconds * 1000 * pause);
    work();
    const bool is_clean = process_arena.statistics().dirty_bytes == 0;
    pause = is_clean && pause < longest_pause ? pause * 2 : is_clean ? pause : 1;
  }
}

void* start(void*) noexcept {
  pthread_setname_np(pthread_self(), "slabmalloc");
  run();
}

/// Creates the thread with every signal blocked, so that the program's handlers never run on it.
bool create() noexcept {
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_attr_t attributes;
  if (pthread_attr_init(&attributes) != 0) {
    return false;
  }
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_t thread{};
  pthread_sigmask(SIG_SETMASK, &all, &before);
  const bool is_created = pthread_create(&thread, &attributes, &start, nullptr) == 0;
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  pthread_attr_destroy(&attributes);
  return is_created;
}

}  // namespace

void start_if_wanted() noexcept {
  // The exchange selects one thread. pthread_create() allocates, and its slow calls come here too.
  if (options.background_thread && !is_running.load(Order::relaxed) &&
      !is_running.exchange(true, Order::relaxed) && !create()) {
    is_running.store(false, Order::relaxed);
  }
}

void child_after_fork() noexcept { is_running.store(false, Order::relaxed); }

}  // namespace slabmalloc::background
