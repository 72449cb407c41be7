// SPDX-License-Identifier: MIT
#include "slabmalloc/kernel/memory_waiters.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <vector>

#include "kernel/cpu_zones_fixture.hpp"
#include "slabmalloc/kernel/object_cache.hpp"
#include "support/random.hpp"
#include "support/run_threads.hpp"

namespace slabmalloc::test {
namespace {

using Waiters = MemoryWaiters<SleepingKernel, HardwareAtomics>;
using Heap = CpuZones<SleepingKernel, FrameSource>;
using Clock = std::chrono::steady_clock;

/// Sets the deadline of all waits for as long as it lives.
class Deadline {
 public:
  explicit Deadline(std::chrono::milliseconds time) : before_(SleepingKernel::deadline) {
    SleepingKernel::deadline = time;
    SleepingKernel::waits = 0;
  }
  ~Deadline() { SleepingKernel::deadline = before_; }

 private:
  std::chrono::milliseconds before_;
};

/// Waits until a thread sleeps in the wait hook.
void wait_for_sleeper() {
  while (SleepingKernel::waits == 0) {
    std::this_thread::yield();
  }
}

TEST(MemoryWaiters, look_again_after_each_change_until_one_look_finds_memory) {
  const Deadline deadline(std::chrono::minutes(1));
  Waiters waiters;
  EXPECT_FALSE(waiters.has_some());
  waiters.set_enabled(true);
  std::size_t looks = 0;
  std::size_t sleeps = 0;
  EXPECT_TRUE(waiters.wait(
      [&] {
        EXPECT_TRUE(waiters.has_some());
        waiters.note_change();
        return ++looks == 5;
      },
      [&] { ++sleeps; }));
  EXPECT_EQ(looks, 5u);
  EXPECT_EQ(sleeps, 4u);
  EXPECT_FALSE(waiters.has_some());
}

TEST(MemoryWaiters, give_up_at_the_deadline_whatever_changes_meanwhile) {
  const Deadline deadline(std::chrono::milliseconds(30));
  Waiters waiters;
  waiters.set_enabled(true);
  const auto before = Clock::now();
  EXPECT_FALSE(waiters.wait([] { return false; }, [] {}));
  std::atomic<bool> has_ended{false};
  std::thread other([&] {
    while (!has_ended) {
      waiters.note_change();
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  });
  std::size_t looks = 0;
  EXPECT_FALSE(waiters.wait(
      [&] {
        ++looks;
        return false;
      },
      [] {}));
  has_ended = true;
  other.join();
  EXPECT_GE(Clock::now() - before, std::chrono::milliseconds(60));
  EXPECT_LT(looks, Waiters::most_looks);
}

TEST(MemoryWaiters, give_up_after_so_many_looks_without_a_deadline) {
  const Deadline deadline(std::chrono::minutes(1));
  Waiters waiters;
  waiters.set_enabled(true);
  std::size_t looks = 0;
  EXPECT_FALSE(waiters.wait(
      [&] {
        ++looks;
        waiters.wake();
        return false;
      },
      [] {}));
  EXPECT_EQ(looks, Waiters::most_looks);
}

class HeapThatWaits : public testing::Test {
 protected:
  void SetUp() override {
    HostedCpu::number = 0;
    heap.set_limit(limit);
    heap.set_waiting(true);
    while (void* const object = heap.allocate(small, Context::MayNotWait).value_or(nullptr)) {
      objects.push_back(object);
    }
  }
  void TearDown() override {
    HostedCpu::number = 0;
    heap.set_waiting(false);
    for (void* const object : objects) {
      heap.deallocate(object, small);
    }
    heap.drain_and_leave_current();
    EXPECT_EQ(heap.validate(), nullptr);
    heap.release_all();
  }
  /// Allocates `layout` on CPU `cpu`, while CPU 0 does what `act` does. Null after the deadline.
  template <class Act>
  void* allocate_while(std::uint32_t cpu, Layout layout, Act&& act) {
    SleepingKernel::waits = 0;
    has_ended = false;
    void* found = nullptr;
    std::thread waiter([&] {
      HostedCpu::number = cpu;
      found = heap.allocate(layout).value_or(nullptr);
      has_ended = true;
    });
    wait_for_sleeper();
    act();
    waiter.join();
    return found;
  }
  void free_last(std::size_t count = 1) {
    for (; count != 0; --count) {
      heap.deallocate(objects.back(), small);
      objects.pop_back();
    }
  }

  static constexpr std::size_t limit = 4 * base_bytes;
  FrameSource frames;
  Heap heap{frames};
  std::vector<void*> objects;
  std::atomic<bool> has_ended{false};  ///< The allocation of allocate_while().
};

TEST_F(HeapThatWaits, fails_at_the_deadline_and_not_before) {
  const Deadline deadline(std::chrono::milliseconds(50));
  const auto before = Clock::now();
  EXPECT_FALSE(heap.allocate(small));
  EXPECT_GE(Clock::now() - before, std::chrono::milliseconds(50));
  const auto later = Clock::now();
  for (const Context context : {Context::MayNotWait, Context::Interrupt, Context::Emergency}) {
    EXPECT_FALSE(heap.allocate(small, context));
  }
  EXPECT_FALSE(heap.allocate(layout_of(limit + 1))) << "no free can ever suffice";
  EXPECT_LT(Clock::now() - later, std::chrono::milliseconds(50));
  EXPECT_EQ(heap.statistics().sleeps, 1u);
}

TEST_F(HeapThatWaits, wakes_by_each_way_in_which_memory_becomes_free) {
  const Deadline deadline(std::chrono::minutes(1));
  const Layout other = layout_of(128);
  const Layout run = layout_of(limit / 2 + base_bytes);
  const std::size_t slots = KernelConfig::BasePage::geometry(small.size()).slots;
  // A slot of a full page of its own CPU, by a call that takes the part back, and by the fast path.
  objects.push_back(allocate_while(0, small, [&] { free_last(); }));
  EXPECT_NE(objects.back(), nullptr);
  objects.push_back(allocate_while(0, small, [&] {
    EXPECT_TRUE(heap.drain_this_cpu());
    free_last();
  }));
  EXPECT_NE(objects.back(), nullptr);
  // The same, freed by another CPU.
  objects.push_back(allocate_while(0, small, [&] {
    HostedCpu::number = 1;
    free_last();
    HostedCpu::number = 0;
  }));
  EXPECT_NE(objects.back(), nullptr);
  // An empty page, for another size on another CPU: a full one, then the current one.
  void* object = allocate_while(1, other, [&] {
    for (std::size_t count = slots; count != 0; --count) {
      heap.deallocate(objects.front(), small);
      objects.erase(objects.begin());
    }
  });
  EXPECT_NE(object, nullptr);
  void* const more = allocate_while(2, other, [&] {
    free_last(slots);
    EXPECT_TRUE(heap.enter_idle());
  });
  EXPECT_NE(more, nullptr);
  for (const std::uint32_t cpu : {1u, 2u}) {
    HostedCpu::number = cpu;
    heap.deallocate(cpu == 1 ? object : more, other);
    EXPECT_TRUE(heap.enter_idle());
  }
  HostedCpu::number = 0;
  // A run, once frames went back; and after it is freed, in either way.
  object = allocate_while(1, run, [&] {
    free_last(objects.size());
    EXPECT_TRUE(heap.enter_idle());
  });
  EXPECT_NE(object, nullptr);
  for (const Context context : {Context::MayWait, Context::Interrupt}) {
    void* const next = allocate_while(1, run, [&] { heap.deallocate(object, run, context); });
    EXPECT_NE(next, nullptr);
    object = next;
  }
  // A higher limit.
  void* const last = allocate_while(0, run, [&] { heap.set_limit(4 * limit); });
  EXPECT_NE(last, nullptr);
  heap.deallocate(last, run);
  heap.deallocate(object, run);
}

TEST_F(HeapThatWaits, gets_a_page_that_becomes_empty_after_the_first_drain) {
  const Deadline deadline(std::chrono::minutes(1));
  const Layout busy = layout_of(128);
  const Layout last = layout_of(256);
  // CPU 0 has two full pages of small blocks, a full one of busy ones, and one that has free slots.
  HostedCpu::number = 0;
  free_last(objects.size());
  heap.drain_and_leave_current();
  const auto allocate_page = [&](Layout layout) {
    std::vector<void*> blocks(KernelConfig::BasePage::geometry(layout.size()).slots);
    for (void*& block : blocks) {
      block = heap.allocate(layout, Context::MayNotWait).value();
    }
    return blocks;
  };
  objects = allocate_page(small);
  for (void* const object : allocate_page(small)) {
    objects.push_back(object);
  }
  std::vector<void*> blocks = allocate_page(busy);
  void* const block = heap.allocate(last, Context::MayNotWait).value();
  ASSERT_EQ(heap.frame_bytes(), limit);
  // Takes slow paths, and leaves the page in use.
  const auto work = [&] {
    for (int round = 0; round < 400; ++round) {
      for (std::size_t number = 1; number < blocks.size(); ++number) {
        heap.deallocate(blocks[number], busy);
      }
      for (std::size_t number = 1; number < blocks.size(); ++number) {
        blocks[number] = heap.allocate(busy, Context::MayNotWait).value_or(nullptr);
        ASSERT_NE(blocks[number], nullptr);
      }
    }
  };
  void* const found = allocate_while(1, layout_of(32), [&] {
    work();
    heap.deallocate(block, last);  // Its page is empty, and stays the current one.
    while (!has_ended) {
      work();
    }
  });
  EXPECT_NE(found, nullptr);
  HostedCpu::number = 1;
  heap.deallocate(found, layout_of(32));
  EXPECT_TRUE(heap.enter_idle());
  HostedCpu::number = 0;
  for (void* const object : blocks) {
    heap.deallocate(object, busy);
  }
}

/// A pager that refuses each run, once a caller sleeps.
struct RefusingRuns : FrameSource {
  std::atomic<bool> is_asked{false};
  Frame allocate_run(std::size_t, std::size_t) noexcept {
    is_asked = true;
    wait_for_sleeper();
    return {};
  }
};

TEST(HeapThatWaitsForCharges, wakes_when_a_charge_ends_without_memory) {
  const Deadline deadline(std::chrono::minutes(1));
  RefusingRuns frames;
  CpuZones<SleepingKernel, RefusingRuns> heap(frames);
  heap.set_limit(4 * base_bytes);
  heap.set_waiting(true);
  std::thread charger([&] {
    HostedCpu::number = 0;
    EXPECT_FALSE(heap.allocate(layout_of(4 * base_bytes), Context::MayNotWait));
  });
  while (!frames.is_asked) {
    std::this_thread::yield();
  }
  HostedCpu::number = 1;
  void* const found = heap.allocate(small).value_or(nullptr);
  charger.join();
  EXPECT_NE(found, nullptr);
  heap.deallocate(found, small);
  EXPECT_EQ(heap.validate(), nullptr);
  heap.release_all();
  HostedCpu::number = 0;
}

/// A pager that rounds runs up, as FrameAllocator does.
struct RoundingFrames : FrameSource {
  static constexpr std::size_t base_bytes = test::base_bytes;
};

TEST(HeapThatWaitsForRuns, does_not_wait_for_a_run_whose_last_page_is_above_the_limit) {
  const Deadline deadline(std::chrono::minutes(1));
  RoundingFrames frames;
  CpuZones<SleepingKernel, RoundingFrames> heap(frames);
  heap.set_limit(10'000);
  heap.set_waiting(true);
  std::size_t calls = 0;
  heap.set_reclaim(
      [](void* count, const ReclaimRequest&) noexcept {
        ++*static_cast<std::size_t*>(count);
        return true;
      },
      &calls);
  HostedCpu::number = 0;
  EXPECT_FALSE(heap.allocate(layout_of(9'000)));
  EXPECT_EQ(heap.statistics().sleeps, 0u);
  EXPECT_EQ(calls, 1u) << "memory of other heaps does not help";
}

/// A kernel in which a thread that slept runs on CPU 3.
struct MovingKernel : SleepingKernel {
  static bool wait(WaitCondition condition) noexcept {
    const bool holds = SleepingKernel::wait(condition);
    HostedCpu::number = 3;
    return holds;
  }
};

TEST(HeapThatWaitsElsewhere, a_sleeper_leaves_its_memory_to_the_cpu_on_which_it_wakes) {
  const Deadline deadline(std::chrono::minutes(1));
  FrameSource frames;
  CpuZones<MovingKernel, FrameSource> heap(frames);
  heap.set_limit(4 * base_bytes);
  heap.set_waiting(true);
  std::vector<void*> objects;
  void* found = nullptr;
  std::thread waiter([&] {
    HostedCpu::number = 1;
    while (void* const object = heap.allocate(small, Context::MayNotWait).value_or(nullptr)) {
      objects.push_back(object);
    }
    found = heap.allocate(layout_of(128)).value_or(nullptr);
  });
  wait_for_sleeper();
  HostedCpu::number = 0;
  for (void* const object : objects) {
    heap.deallocate(object, small);
  }
  waiter.join();
  EXPECT_NE(found, nullptr);
  heap.deallocate(found, layout_of(128));
  heap.drain_and_leave_current();
  EXPECT_EQ(heap.validate(), nullptr);
  heap.release_all();
}

/// Threads on four CPUs share a few pages. Each allocates, works and frees. A CPU that has nothing
/// to do becomes idle, as in a kernel. No allocation may fail, and no wait may end at its deadline.
TEST(HeapThatWaitsThreads, no_allocation_fails_while_others_free) {
  const Deadline deadline(std::chrono::minutes(1));
  struct Item {
    std::uint64_t words[40] = {};
  };
  constexpr std::size_t cpus = 4;
  FrameSource frames;
  ObjectCache<Item, SleepingKernel, FrameSource> items("item", frames);
  items.set_limit(2 * decltype(items)::objects_per_page);
  items.set_waiting(true);
  Random seeds;
  std::vector<Random> randoms;
  for (std::size_t cpu = 0; cpu < cpus; ++cpu) {
    randoms.push_back(seeds.fork());
  }
  std::atomic<std::size_t> failures = 0;
  run_threads(cpus, [&](std::size_t cpu) {
    HostedCpu::number = static_cast<std::uint32_t>(cpu);
    Random& random = randoms[cpu];
    for (int turn = 0; turn < 2000; ++turn) {
      Item* held[4];
      const std::size_t count = random.between(1, 4);
      for (std::size_t number = 0; number < count; ++number) {
        // One object at a time waits, so that no two callers wait for each other.
        held[number] = items.allocate(number == 0 ? Context::MayWait : Context::MayNotWait);
      }
      failures += held[0] == nullptr ? 1u : 0u;
      if (random.one_in(4)) {
        std::this_thread::yield();
      }
      for (std::size_t number = 0; number < count; ++number) {
        if (held[number] != nullptr) {
          items.deallocate(held[number]);
        }
      }
      if (random.one_in(2)) {
        EXPECT_TRUE(items.enter_idle());
      }
    }
    EXPECT_TRUE(items.enter_idle());
  });
  HostedCpu::number = 0;
  EXPECT_EQ(failures, 0u);
  EXPECT_GT(SleepingKernel::waits, 0u);
  EXPECT_EQ(items.validate(), nullptr);
  EXPECT_EQ(items.destroy(), 0u);
  EXPECT_EQ(frames.live_bytes(), 0u);
}

}  // namespace
}  // namespace slabmalloc::test
