// SPDX-License-Identifier: MIT
//
// Forks while another thread is stopped at each of its steps: before and after each call that it
// makes of the operating system, from the first call of the process on. The heap asks for the time
// or the size of an OS page with each of its mutexes held, so there is a step for every mutex.
//
//   worker                                   forking thread
//   makes calls; stops at step n    ───────► fork()
//     with a mutex held:                       waits for the mutex
//     goes on to the end of its call ◄───────
//     with none: stays where it is             goes on
//   waits                                    tests the child
//
// Each step is tested in a process of its own, whose heap is fresh. Of the steps with the same call
// stack, only the first is tested, unless the environment variable SLABMALLOC_TEST_ALL_STEPS is
// set.
#include <execinfo.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <new>
#include <semaphore>
#include <set>
#include <thread>
#include <type_traits>
#include <vector>

#include "malloc/blocks.hpp"
#include "malloc/guarded_sampling.hpp"
#include "malloc/heap.hpp"
#include "os/os.hpp"
#include "support/child.hpp"

namespace slabmalloc {
namespace {

constexpr std::size_t mebibyte = std::size_t{1} << 20;
#if defined(__SANITIZE_THREAD__)
constexpr bool may_start_threads = false;
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
constexpr bool may_start_threads = false;
#else
constexpr bool may_start_threads = true;
#endif
#else
constexpr bool may_start_threads = true;
#endif

// ---- the steps of the worker --------------------------------------------------------------------

/// The worker's state, which it and the forking thread change in turn.
enum State : std::uint32_t { Running, Stopped, GoingOn, Waiting, Ended };

std::atomic<std::uint32_t> state{Running};
std::size_t steps = 0;
std::size_t last_step = 0;
/// Called at each step, if it is not null.
void (*at_step)() = nullptr;
thread_local bool is_worker = false;
/// The mutex that the forking thread had to wait for.
thread_local std::uintptr_t waited_for = 0;
thread_local bool is_forking = false;

void wait_while(std::uint32_t value) {
  while (state.load() == value) {
    state.wait(value);
  }
}
void enter(std::uint32_t value) {
  state.store(value);
  state.notify_all();
}

/// Counts a step of the worker, and stops it at the last one until the forking thread waits for it.
void step() {
  if (!is_worker) {
    return;
  }
  if (++steps == last_step) {
    enter(Stopped);
    wait_while(Stopped);
  }
  if (at_step != nullptr) {
    at_step();
  }
}

/// A call of the system between two steps.
template <auto Member>
struct Stepped;
template <class Result, class... Arguments, Result (*os::Interface::*Member)(Arguments...)>
struct Stepped<Member> {
  static Result call(Arguments... arguments) {
    step();
    if constexpr (std::is_void_v<Result>) {
      (os::linux_interface.*Member)(arguments...);
      step();
    } else {
      const Result result = (os::linux_interface.*Member)(arguments...);
      step();
      return result;
    }
  }
};
template <auto... Members>
void replace_calls(os::Interface& table) {
  ((table.*Members = &Stepped<Members>::call), ...);
}

void wait_for_mutex(const std::uint32_t* word, std::uint32_t expected) {
  if (is_forking && waited_for == 0) {
    waited_for = reinterpret_cast<std::uintptr_t>(word);
    std::uint32_t stopped = Stopped;
    if (state.compare_exchange_strong(stopped, GoingOn)) {
      state.notify_all();
    }
  }
  os::linux_interface.wait(word, expected);
}

void install_steps() {
  using os::Interface;
  static Interface table = os::linux_interface;
  replace_calls<&Interface::find_space, &Interface::is_empty, &Interface::map_at, &Interface::map,
                &Interface::unmap, &Interface::purge, &Interface::forbid_access,
                &Interface::permit_access, &Interface::resident_bytes, &Interface::remap,
                &Interface::name, &Interface::os_page_bytes, &Interface::address_space_limit,
                &Interface::fence_all_threads, &Interface::random_bits, &Interface::wake>(table);
  // The clock stands still, so that each run makes the same calls.
  table.now_milliseconds = [] {
    step();
    return std::uint64_t{1000};
  };
  table.wait = &wait_for_mutex;
  os::replace_interface(table);
}

// ---- the calls of the worker --------------------------------------------------------------------

constexpr std::size_t most_blocks = 400;
/// The worker's live blocks. Those that a call of its is about are not among them.
std::atomic<void*> blocks[most_blocks] = {};

/// Waits between two calls if it was stopped in the one before.
void end_call() {
  std::uint32_t going_on = GoingOn;
  if (state.compare_exchange_strong(going_on, Waiting)) {
    state.notify_all();
    wait_while(Waiting);
  }
}

void allocate(std::size_t number, std::size_t bytes, std::size_t alignment = 16) {
  void* const block =
      alignment == 16 ? heap::allocate(bytes) : heap::allocate_aligned(bytes, alignment);
  if (block != nullptr && bytes < mebibyte) {
    *static_cast<char*>(block) = 'x';
  }
  blocks[number] = block;
  end_call();
}
void deallocate(std::size_t number) {
  heap::deallocate(blocks[number].exchange(nullptr));
  end_call();
}
void reallocate(std::size_t number, std::size_t bytes) {
  blocks[number] = heap::reallocate(blocks[number].exchange(nullptr), bytes);
  end_call();
}

/// Makes calls that take every mutex and every kind of memory.
void work() {
  for (std::size_t number = 0; number < 100; ++number) {
    allocate(number, 16 + number * 50 % 9000);
  }
  allocate(100, 100'000);
  allocate(101, 300'000);
  allocate(102, 40 * mebibyte);
  allocate(103, 100, 8 * mebibyte);
  reallocate(101, 200'000);
  reallocate(101, 36 * mebibyte);
  reallocate(102, 80 * mebibyte);
  for (std::size_t number = 0; number < 102; number += 2) {
    deallocate(number);
  }
  deallocate(102);
  heap::trim();
  end_call();
  blocks[104] = heap::allocate_zeroed(200'000);
  end_call();
  allocate(105, 34 * mebibyte);
  // Guarded blocks: one stays live.
  blocks[106] = heap::guard(100, 16);
  end_call();
  blocks[107] = heap::guard(3000, 16);
  end_call();
  deallocate(106);
}

// ---- the child ----------------------------------------------------------------------------------

int allocate_and_free() {
  for (const std::size_t bytes :
       {std::size_t{16}, std::size_t{3000}, std::size_t{100'000}, mebibyte, 40 * mebibyte}) {
    void* some[4];
    for (void*& block : some) {
      block = heap::allocate(bytes);
      if (block == nullptr) {
        return 1;
      }
      if (bytes < mebibyte) {
        *static_cast<char*>(block) = 'x';
      }
    }
    for (void* block : some) {
      heap::deallocate(block);
    }
  }
  void* const guarded = heap::guard(100, 16);
  if (guarded == nullptr) {
    return 1;
  }
  heap::deallocate(guarded);
  return 0;
}

/// Uses and frees all that the child has got. `is_call_over`: the worker was between two calls.
int use_heap_in_child(bool is_call_over) {
  for (const std::atomic<void*>& block : blocks) {
    heap::deallocate(block);
  }
  if (allocate_and_free() != 0) {
    return 2;
  }
  heap::trim();
  // An unfinished call holds memory that the child never gets back, and that it counts.
  if (is_call_over && !process_arena.validate()) {
    return 3;
  }
  if (may_start_threads) {
    int status = 0;
    std::thread([&status] { status = allocate_and_free(); }).join();
    if (status != 0) {
      return 4;
    }
  }
  return test::status_of_child([] { return allocate_and_free(); }) == 0 ? 0 : 5;
}

// ---- the search ---------------------------------------------------------------------------------

/// What the processes of a search tell the test, in memory that they share.
struct Findings {
  static constexpr std::size_t most_steps = 8192;

  std::size_t steps = 0;
  bool is_chosen[most_steps + 1] = {};  ///< By the number of a step.
  std::uintptr_t mutexes[16] = {};      ///< Those that a fork waited for.

  void note(std::uintptr_t mutex) {
    for (std::uintptr_t& one : mutexes) {
      if (one == 0 || one == mutex) {
        one = mutex;
        return;
      }
    }
  }
  std::size_t mutex_count() const {
    return static_cast<std::size_t>(std::find(std::begin(mutexes), std::end(mutexes), 0u) -
                                    std::begin(mutexes));
  }
};
Findings* findings = nullptr;

/// Chooses the current step if it is the first one with its call stack.
void choose_new_stack() {
  constexpr int most_frames = 8;
  static std::set<std::vector<void*>> known;
  std::vector<void*> stack(most_frames);
  stack.resize(static_cast<std::size_t>(backtrace(stack.data(), most_frames)));
  const bool is_new = known.insert(stack).second;
  ASSERT_LE(steps, Findings::most_steps);
  findings->steps = steps;
  findings->is_chosen[steps] = is_new || std::getenv("SLABMALLOC_TEST_ALL_STEPS") != nullptr;
}

class ForkAtEachStep : public testing::Test {
 protected:
  ForkAtEachStep() {
    findings = new (mmap(nullptr, sizeof(Findings), PROT_READ | PROT_WRITE,
                         MAP_SHARED | MAP_ANONYMOUS, -1, 0)) Findings;
  }
  ~ForkAtEachStep() override { munmap(findings, sizeof(Findings)); }

  /// Runs `prepare` and the worker, then forks with a worker stopped at each chosen step in turn.
  template <class Prepare>
  void search(const Prepare& prepare) {
    const auto start = [&prepare] {
      install_steps();
      prepare();
    };
    ASSERT_EQ(test::status_of_child([&] {
                start();
                at_step = &choose_new_stack;
                std::thread(&run_worker).join();
                return 0;
              }),
              0);
    std::size_t tested = 0;
    for (std::size_t number = 1; number <= findings->steps; ++number) {
      if (findings->is_chosen[number]) {
        ASSERT_EQ(test::status_of_child([&] {
                    start();
                    return fork_at(number);
                  }),
                  0)
            << "step " << number;
        ++tested;
      }
    }
    std::printf("%zu of %zu steps, %zu mutexes\n", tested, findings->steps,
                findings->mutex_count());
    EXPECT_GT(tested, 50u);
  }

 private:
  static void run_worker() {
    is_worker = true;
    work();
    is_worker = false;
    enter(Ended);
  }

  static int fork_at(std::size_t number) {
    last_step = number;
    std::thread worker(&run_worker);
    wait_while(Running);
    EXPECT_EQ(state, Stopped);
    is_forking = true;
    const int status = test::status_of_child([] {
      is_forking = false;
      return use_heap_in_child(state == Waiting);
    });
    is_forking = false;
    if (waited_for != 0) {
      findings->note(waited_for);
    }
    std::uint32_t seen = state;
    while (seen != Ended && !state.compare_exchange_weak(seen, Running)) {
    }
    state.notify_all();
    worker.join();
    return status != 0 ? status : allocate_and_free();
  }
};

TEST_F(ForkAtEachStep, of_the_first_calls_of_a_process) {
  search([] {});
}

TEST_F(ForkAtEachStep, waits_for_each_mutex_that_another_thread_holds) {
  // The forking thread has a zone, so the worker uses the shared zone first. It has freed blocks of
  // a thread that sleeps, and buffers these frees, which the worker delivers.
  search([] {
    get_own_zone();
    std::vector<void*> of_another;
    std::binary_semaphore sleeps{0};
    std::thread([&] {
      allocate_many(of_another, 64, 64 * 1024);
      sleeps.release();
      for (;;) {
        pause();
      }
    }).detach();
    sleeps.acquire();
    for (std::size_t number = 0; number < of_another.size() / 2; ++number) {
      heap::deallocate(of_another[number]);
    }
  });
  // Those of the shared zone, scavengers, registry, purger, arena, direct map, and guarded blocks.
  EXPECT_EQ(findings->mutex_count(), 7u);
}

}  // namespace
}  // namespace slabmalloc
