// SPDX-License-Identifier: MIT
//
// Threads act as CPUs, and signals as interrupts. Every CPU frees every CPU's objects, in handlers
// too.
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <thread>
#include <vector>

#include "kernel/hosted_kernel.hpp"
#include "slabmalloc/kernel/cpu_zones.hpp"
#include "support/frames.hpp"
#include "support/misuse_recorder.hpp"
#include "support/pattern.hpp"
#include "support/random.hpp"
#include "support/run_threads.hpp"

namespace slabmalloc {
namespace {

using test::HostedCpu;

constexpr std::size_t cpus = 4;

/// The first bytes of each object.
struct Head {
  std::uint32_t bytes;
  std::uint32_t key;
};

/// Objects in transit from the allocating to the freeing CPU; each is checked by its pattern.
template <class Heap>
class Exchange {
 public:
  explicit Exchange(Heap& heap) : heap_(heap) {}

  /// Swaps a new object with the one at place `place`, and frees that one. False if there was no
  /// memory.
  bool turn(std::size_t place, std::uint32_t bytes, std::uint32_t key, Context context) noexcept {
    const Layout layout = Layout::from_size_align(bytes, 8).value();
    void* const object = heap_.allocate(layout, context).value_or(nullptr);
    if (object != nullptr) {
      const Head head{bytes, key};
      std::memcpy(object, &head, sizeof head);
      test::fill_pattern(static_cast<Head*>(object) + 1, bytes - sizeof head, key);
    }
    // Runs are freed in either context, since the context decides whether they wait.
    dispose(places_[place % count].exchange(object, std::memory_order_acq_rel),
            key % 2 == 0 ? Context::Interrupt : context);
    return object != nullptr;
  }
  void clear() noexcept {
    for (auto& place : places_) {
      dispose(place.exchange(nullptr, std::memory_order_acq_rel), Context::MayWait);
    }
  }
  std::size_t overwritten() const noexcept { return overwritten_; }

 private:
  void dispose(void* object, Context context) noexcept {
    if (object != nullptr) {
      const Head head = *static_cast<Head*>(object);
      if (!test::holds_pattern(static_cast<Head*>(object) + 1, head.bytes - sizeof head,
                               head.key)) {
        ++overwritten_;
      }
      heap_.deallocate(object, Layout::from_size_align(head.bytes, 8).value(), context);
    }
  }

  static constexpr std::size_t count = 512;
  Heap& heap_;
  std::atomic<void*> places_[count] = {};
  std::atomic<std::size_t> overwritten_ = 0;
};

template <class Heap>
void expect_nothing_lost(Heap& heap, Exchange<Heap>& exchange, test::FrameSource& frames) {
  exchange.clear();
  for (int round = 0; round < 2; ++round) {
    for (std::uint32_t cpu = 0; cpu < Heap::Hooks::maximum_cpus; ++cpu) {
      HostedCpu::number = cpu;
      EXPECT_TRUE(heap.drain_this_cpu());
    }
  }
  HostedCpu::number = 0;
  EXPECT_EQ(exchange.overwritten(), 0u);
  EXPECT_EQ(heap.statistics().zones.used_bytes, 0u);
  EXPECT_EQ(heap.validate(), nullptr);
  heap.give_back();
  EXPECT_EQ(heap.statistics().deferred_bytes, 0u);
  EXPECT_EQ(frames.live_bytes(), 0u);
  EXPECT_EQ(heap.frame_bytes(), 0u);
}

/// The kernel delivers a process's signal to a thread that does not block it.
void mask_interrupts(int how) {
  sigset_t interrupts;
  sigemptyset(&interrupts);
  sigaddset(&interrupts, SIGUSR1);
  pthread_sigmask(how, &interrupts, nullptr);
}

/// Each CPU makes `turns`, under a limit that the heap reaches at times.
template <class Heap>
void exchange_on_all_cpus(Heap& heap, Exchange<Heap>& exchange, int turns,
                          std::atomic<std::size_t>& failures) {
  test::Random seeds;
  std::vector<test::Random> randoms;
  for (std::size_t cpu = 0; cpu < cpus; ++cpu) {
    randoms.push_back(seeds.fork());
  }
  test::run_threads(cpus, [&](std::size_t cpu) {
    HostedCpu::number = static_cast<std::uint32_t>(cpu);
    mask_interrupts(SIG_UNBLOCK);
    test::Random& random = randoms[cpu];
    for (int turn = 0; turn < turns; ++turn) {
      const auto bytes =
          static_cast<std::uint32_t>(random.one_in(16)   ? random.between(300, 8192)
                                     : random.one_in(50) ? random.between(8193, 30'000)
                                                         : random.between(sizeof(Head), 256));
      const Context context = random.one_in(2) ? Context::MayWait : Context::MayNotWait;
      if (!exchange.turn(random.next(), bytes, static_cast<std::uint32_t>(random.next()),
                         context)) {
        ++failures;
      }
      if (random.one_in(500)) {
        heap.trim();
      }
    }
  });
}

TEST(CpuZonesThreads, every_cpu_frees_every_cpus_objects_under_memory_pressure) {
  test::MisuseRecorder misuse;
  test::FrameSource frames;
  CpuZones<test::OpenKernel, test::FrameSource> heap(frames);
  frames.set_limit(1 * mebibyte);
  Exchange exchange(heap);
  std::atomic<std::size_t> failures = 0;
  exchange_on_all_cpus(heap, exchange, 20000, failures);
  EXPECT_GT(failures, 0u) << "the limit is meant to be reached";
  expect_nothing_lost(heap, exchange, frames);
}

TEST(CpuZonesThreads, cpus_that_race_for_the_last_frames_and_runs_stay_below_the_limit) {
  constexpr std::size_t limit = 301 * 1024;  // No multiple of any frame.
  test::FrameSource frames;
  CpuZones<test::OpenKernel, test::FrameSource> heap(frames);
  heap.set_limit(limit);
  Exchange exchange(heap);
  std::atomic<std::size_t> failures = 0;
  exchange_on_all_cpus(heap, exchange, 10000, failures);
  EXPECT_GT(failures, 0u) << "the limit is meant to be reached";
  EXPECT_LE(frames.live_bytes_high_water(), limit);
  EXPECT_LE(heap.frame_bytes_high_water(), limit);
  EXPECT_GT(heap.run_bytes_high_water(), 0u);
  expect_nothing_lost(heap, exchange, frames);
}

// ---- handlers -----------------------------------------------------------------------------------

template <class Kernel>
struct Interrupted {
  using Heap = CpuZones<Kernel, test::FrameSource>;
  static inline std::atomic<Exchange<Heap>*> exchange = nullptr;
  static inline std::atomic<std::size_t> handled = 0;
  static inline std::atomic<std::size_t> refused = 0;

  /// The interrupt handler: a few allocations and frees.
  static void handle(int) {
    Exchange<Heap>* const target = exchange.load();
    if (target == nullptr) {
      return;
    }
    const std::size_t number = handled.fetch_add(1);
    for (std::uint32_t call = 0; call < 4; ++call) {
      const auto key = static_cast<std::uint32_t>(number * 4 + call);
      if (!target->turn(key * 2654435761u >> 8, 64, key, Context::Interrupt)) {
        ++refused;
      }
    }
  }

  static void run() {
    test::MisuseRecorder misuse;
    test::FrameSource frames;
    static Heap* heap;
    Heap here(frames);
    heap = &here;
    const Layout small = Layout::from_size_align(64, 8).value();
    HostedCpu::number = 0;
    ASSERT_TRUE(heap->reserve_for_interrupts(small, 4));
    frames.set_limit(2 * mebibyte);
    Exchange<Heap> places(*heap);
    exchange = &places;
    struct sigaction action{};
    action.sa_handler = &handle;
    action.sa_flags = SA_RESTART;
    struct sigaction before{};
    sigaction(SIGUSR1, &action, &before);

    std::atomic<bool> ends = false;
    mask_interrupts(SIG_BLOCK);
    std::thread timer([&ends] {
      while (!ends) {
        kill(getpid(), SIGUSR1);
        std::this_thread::sleep_for(std::chrono::microseconds(50));
      }
    });
    std::atomic<std::size_t> failures = 0;
    exchange_on_all_cpus(*heap, places, 30000, failures);
    ends = true;
    timer.join();
    exchange = nullptr;
    mask_interrupts(SIG_UNBLOCK);
    sigaction(SIGUSR1, &before, nullptr);

    EXPECT_GT(handled, 0u);
    std::printf(
        "%zu interrupts, %zu allocations and %zu frees of theirs in the middle of a section\n",
        handled.load(), heap->statistics().nested_allocations, heap->statistics().nested_frees);
    HostedCpu::number = 0;
    ASSERT_TRUE(heap->reserve_for_interrupts(small, 0));
    for (std::uint32_t cpu = 0; cpu < Kernel::maximum_cpus; ++cpu) {
      HostedCpu::number = cpu;
      heap->run_deferred();
    }
    expect_nothing_lost(*heap, places, frames);
  }
};

TEST(CpuZonesThreads,
     handlers_that_nothing_keeps_away_allocate_and_free_in_the_middle_of_everything) {
  Interrupted<test::OpenKernel>::run();
}

TEST(CpuZonesThreads, handlers_that_sections_keep_away_allocate_and_free) {
  Interrupted<test::SignalKernel>::run();
}

}  // namespace
}  // namespace slabmalloc
