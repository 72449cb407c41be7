// SPDX-License-Identifier: MIT
//
// Threads act as CPUs, and signals as interrupts. Objects stay as they were constructed when other
// CPUs free them. A reserve stays available whatever the other CPUs do.
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <thread>
#include <vector>

#include "kernel/hosted_kernel.hpp"
#include "slabmalloc/kernel/object_cache.hpp"
#include "support/frames.hpp"
#include "support/misuse_recorder.hpp"
#include "support/random.hpp"
#include "support/run_threads.hpp"

namespace slabmalloc {
namespace {

using test::FrameSource;
using test::HostedCpu;
using test::PatientKernel;

constexpr std::size_t cpus = 4;

/// An object whose constructed state shows any write to it while it was free.
struct Session {
  static constexpr std::uint64_t free_word = 0x5E5510F4EE5E5510;

  Session() noexcept {
    ++live;
    for (std::uint64_t& word : words) {
      word = free_word;
    }
  }
  ~Session() {
    --live;
    is_sound = is_sound && is_as_constructed();
  }

  bool is_as_constructed() const noexcept {
    for (const std::uint64_t word : words) {
      if (word != free_word) {
        return false;
      }
    }
    return true;
  }
  /// Begins a use: writes `key` to every word.
  void open(std::uint64_t key) noexcept {
    is_sound = is_sound && is_as_constructed();
    for (std::uint64_t& word : words) {
      word = key;
    }
  }
  void close() noexcept {
    const std::uint64_t key = words[0];
    bool is_whole = true;
    for (std::uint64_t& word : words) {
      is_whole = is_whole && word == key;
      word = free_word;
    }
    is_sound = is_sound && is_whole;
  }

  std::uint64_t words[40];

  static inline std::atomic<std::size_t> live = 0;
  static inline std::atomic<bool> is_sound = true;
};

using Cache = ObjectCache<Session, PatientKernel, FrameSource>;

/// Objects in transit from the allocating to the freeing CPU.
class Exchange {
 public:
  explicit Exchange(Cache& cache) : cache_(cache) {}

  /// Swaps a new object with the one at `place`, and frees that one. False if there was no memory.
  bool turn(std::size_t place, std::uint64_t key, Context context) noexcept {
    Session* const object = cache_.allocate(context);
    if (object != nullptr) {
      object->open(key);
    }
    dispose(places_[place % count].exchange(object, std::memory_order_acq_rel));
    return object != nullptr;
  }
  void clear() noexcept {
    for (auto& place : places_) {
      dispose(place.exchange(nullptr, std::memory_order_acq_rel));
    }
  }

 private:
  void dispose(Session* object) noexcept {
    if (object != nullptr) {
      object->close();
      cache_.deallocate(object);
    }
  }

  static constexpr std::size_t count = 512;
  Cache& cache_;
  std::atomic<Session*> places_[count] = {};
};

void mask_interrupts(int how) {
  sigset_t interrupts;
  sigemptyset(&interrupts);
  sigaddset(&interrupts, SIGUSR1);
  pthread_sigmask(how, &interrupts, nullptr);
}

/// A cache that all CPUs use, under a limit that it reaches at times.
class ObjectCacheThreads : public testing::Test {
 protected:
  void SetUp() override {
    HostedCpu::number = 0;
    Session::live = 0;
    Session::is_sound = true;
    frames.set_limit(40 * Cache::page_bytes);
  }
  void TearDown() override {
    HostedCpu::number = 0;
    exchange.clear();
    EXPECT_EQ(cache.statistics().objects_in_use, 0u);
    EXPECT_EQ(cache.validate(), nullptr);
    EXPECT_EQ(cache.destroy(), 0u);
    EXPECT_EQ(frames.live_bytes(), 0u);
    EXPECT_EQ(Session::live, 0u);
    EXPECT_TRUE(Session::is_sound) << "something was written to an object of someone else's";
  }

  /// Each CPU makes `turns`; returns the number of failed allocations.
  std::size_t run(int turns) {
    test::Random seeds;
    std::vector<test::Random> randoms;
    for (std::size_t cpu = 0; cpu < cpus; ++cpu) {
      randoms.push_back(seeds.fork());
    }
    std::atomic<std::size_t> failures = 0;
    test::run_threads(cpus, [&](std::size_t cpu) {
      HostedCpu::number = static_cast<std::uint32_t>(cpu);
      mask_interrupts(SIG_UNBLOCK);
      test::Random& random = randoms[cpu];
      for (int turn = 0; turn < turns; ++turn) {
        const Context context = random.one_in(2) ? Context::MayWait : Context::MayNotWait;
        failures += exchange.turn(random.next(), random.next(), context) ? 0u : 1u;
        if (random.one_in(300)) {
          cache.zones().trim();
        }
      }
      cache.zones().drain_this_cpu();
    });
    return failures;
  }

  test::MisuseRecorder misuse;
  FrameSource frames;
  Cache cache{"session", frames};
  Exchange exchange{cache};
};

TEST_F(ObjectCacheThreads, objects_stay_constructed_when_other_cpus_free_them) {
  EXPECT_GT(run(30000), 0u) << "the limit is meant to be reached";
}

/// The interrupt handler: a few allocations and frees.
std::atomic<Exchange*> interrupted = nullptr;
std::atomic<std::size_t> handled = 0;
void handle(int) {
  if (Exchange* const target = interrupted.load()) {
    const std::size_t number = handled.fetch_add(1);
    for (std::size_t call = 0; call < 4; ++call) {
      target->turn((number * 4 + call) * 2654435761u >> 8, number, Context::Interrupt);
    }
  }
}

TEST_F(ObjectCacheThreads, objects_stay_constructed_in_handlers_in_the_middle_of_everything) {
  ASSERT_TRUE(cache.reserve_for_interrupts(4));
  struct sigaction action{};
  action.sa_handler = &handle;
  action.sa_flags = SA_RESTART;
  struct sigaction before{};
  sigaction(SIGUSR1, &action, &before);
  mask_interrupts(SIG_BLOCK);
  interrupted = &exchange;
  std::atomic<bool> ends = false;
  std::thread timer([&ends] {
    while (!ends) {
      kill(getpid(), SIGUSR1);
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
  });
  run(30000);
  ends = true;
  timer.join();
  interrupted = nullptr;
  mask_interrupts(SIG_UNBLOCK);
  sigaction(SIGUSR1, &before, nullptr);
  EXPECT_GT(handled, 0u);
  std::printf("%zu interrupts, %zu calls in the middle of a section\n", handled.load(),
              cache.statistics().nested_calls);
}

TEST_F(ObjectCacheThreads, a_reserve_holds_while_others_free_and_give_back) {
  constexpr std::size_t each = 3 * Cache::objects_per_page + 1;
  for (int round = 0; round < 100; ++round) {
    ASSERT_TRUE(cache.reserve(cpus * each));
    frames.set_exhausted(true);
    std::atomic<std::size_t> failures = 0;
    std::atomic<std::size_t> at_work = cpus;
    test::run_threads(cpus + 1, [&](std::size_t cpu) {
      HostedCpu::number = static_cast<std::uint32_t>(cpu);
      if (cpu == cpus) {
        while (at_work != 0) {
          cache.zones().trim();
        }
        return;
      }
      std::vector<Session*> objects;
      for (std::size_t count = 0; count < each; ++count) {
        Session* const object = cache.allocate();
        failures += object == nullptr ? 1u : 0u;
        objects.push_back(object);
        // A free object may go to any CPU, and stays available to the others.
        if (count % 5 == 4) {
          cache.deallocate_many(objects.data(), objects.size());
          objects.clear();
          cache.zones().trim();
        }
      }
      cache.deallocate_many(objects.data(), objects.size());
      --at_work;
    });
    ASSERT_EQ(failures, 0u) << "in round " << round;
    frames.set_exhausted(false);
  }
  ASSERT_TRUE(cache.reserve(0));
}

}  // namespace
}  // namespace slabmalloc
