// SPDX-License-Identifier: MIT
//
// CpuZones: what must not wait ends, whatever others do meanwhile, and gets further with each call; what waits for slow
// paths gets its turn.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "kernel/hosted_kernel.hpp"
#include "slabmalloc/kernel/cpu_zones.hpp"
#include "support/frames.hpp"
#include "support/misuse_recorder.hpp"
#include "support/random.hpp"

namespace slabmalloc {
namespace {

using test::FrameSource;
using test::HostedCpu;
using test::OpenKernel;

constexpr Layout small = Layout::of<std::uint64_t[8]>();
constexpr Layout other = Layout::of<std::uint64_t[4]>();
constexpr Layout large = Layout::from_size_align(1024, 8).value_or(small);
constexpr Layout run_layout = Layout::from_size_align(64 * kibibyte, 8).value_or(small);
constexpr std::size_t base_bytes = 4 * kibibyte;

/// Does something on another CPU before each section of the one that is tested.
struct BusyKernel : OpenKernel {
  static inline std::function<void()> elsewhere;

  static InterruptState save_interrupts() noexcept {
    if (HostedCpu::saved == 0 && elsewhere) {
      const std::function<void()> work = std::exchange(elsewhere, nullptr);
      const std::uint32_t here = HostedCpu::number;
      HostedCpu::number = 1;
      work();
      HostedCpu::number = here;
      elsewhere = work;
    }
    return OpenKernel::save_interrupts();
  }
};

/// A pager in which other CPUs are at work too.
struct BusyPager : FrameSource {
  void deallocate_run(void* run, std::size_t bytes, std::size_t alignment) noexcept {
    FrameSource::deallocate_run(run, bytes, alignment);
    ++runs_back;
    if (meanwhile) {
      meanwhile();
    }
  }
  std::function<void()> meanwhile;
  std::size_t runs_back = 0;
};

class CpuZonesProgress : public testing::Test {
 protected:
  using Heap = CpuZones<BusyKernel, BusyPager>;

  void SetUp() override { HostedCpu::number = 0; }
  void TearDown() override {
    BusyKernel::elsewhere = nullptr;
    pager.meanwhile = nullptr;
    EXPECT_EQ(heap.validate(), nullptr);
    heap.release_all();
    EXPECT_EQ(pager.live_bytes(), 0u);
    EXPECT_EQ(heap.statistics().deferred_bytes, 0u);
  }
  void* allocate(Layout layout, Context context) {
    return heap.allocate(layout, context).value_or(nullptr);
  }
  void defer_run() {
    void* const run = heap.allocate(run_layout).value_or(nullptr);
    ASSERT_NE(run, nullptr);
    heap.deallocate(run, run_layout, Context::Interrupt);
  }

  BusyPager pager;
  Heap heap{pager};
};

TEST_F(CpuZonesProgress, runs_that_are_freed_as_fast_as_they_go_back_keep_nobody_from_going_on) {
  for (int count = 0; count < 3; ++count) {
    defer_run();
  }
  // Another CPU allocates and frees one.
  pager.meanwhile = [&] {
    if (pager.runs_back < 1000) {
      defer_run();
    }
  };
  EXPECT_EQ(heap.give_back(), 3 * run_layout.size());
  EXPECT_EQ(pager.runs_back, 3u);
  EXPECT_EQ(heap.statistics().deferred_bytes, 3 * run_layout.size());
}

TEST_F(CpuZonesProgress,
       an_allocation_that_must_not_wait_asks_the_pager_once_whatever_others_take) {
  // Another CPU takes whatever frame it finds in a stash, as soon as it lies there.
  std::vector<void*> stolen;
  BusyKernel::elsewhere = [&] {
    while (pager.calls() < 1000) {
      void* const object = allocate(small, Context::Interrupt);
      if (object == nullptr) {
        break;
      }
      stolen.push_back(object);
    }
  };
  void* const object = allocate(small, Context::MayNotWait);
  BusyKernel::elsewhere = nullptr;
  EXPECT_NE(object, nullptr);
  EXPECT_LE(pager.calls(), KernelConfig::growth_frames);
}

TEST_F(CpuZonesProgress, a_waiting_run_that_a_thread_frees_again_is_reported) {
  test::MisuseRecorder misuse;
  void* const run = allocate(run_layout, Context::MayWait);
  heap.deallocate(run, run_layout, Context::Interrupt);
  heap.deallocate(run, run_layout, Context::MayWait);
  EXPECT_EQ(misuse.take_kinds(), std::vector{MisuseKind::DoubleFree});
  EXPECT_EQ(pager.runs_back, 0u);
}

TEST_F(CpuZonesProgress, a_reserve_is_filled_whatever_others_take) {
  std::vector<void*> stolen;
  BusyKernel::elsewhere = [&] {
    while (pager.calls() < 1000) {
      void* const object = allocate(small, Context::Interrupt);
      if (object == nullptr) {
        break;
      }
      stolen.push_back(object);
    }
  };
  EXPECT_TRUE(heap.keep_for_interrupts(small, 4, Context::MayNotWait));
  BusyKernel::elsewhere = nullptr;
  EXPECT_LE(pager.calls(), KernelConfig::growth_frames);
}

TEST_F(CpuZonesProgress, a_run_in_memory_that_outlived_a_restart_waits_like_any_other) {
  test::MisuseRecorder misuse;
  struct RestartedPager : FrameSource {
    Frame allocate_run(std::size_t, std::size_t) noexcept { return memory.data(); }
    void deallocate_run(void*, std::size_t, std::size_t) noexcept { ++runs_back; }
    alignas(4096) std::array<std::byte, run_layout.size()> memory{};
    std::size_t runs_back = 0;
  };
  const auto restarted = std::make_unique<RestartedPager>();
  for (const std::size_t runs : {1u, 2u}) {
    CpuZones<BusyKernel, RestartedPager> again(*restarted);
    void* const same = again.allocate(run_layout).value_or(nullptr);
    EXPECT_EQ(same, restarted->memory.data());
    again.deallocate(same, run_layout, Context::Interrupt);
    EXPECT_EQ(misuse.take().size(), 0u);
    EXPECT_EQ(again.statistics().deferred_bytes, run_layout.size());
    // The kernel ends here, and the memory stays as it is.
    const auto waiting = restarted->memory;
    again.catch_up();
    EXPECT_EQ(restarted->runs_back, runs);
    restarted->memory = waiting;
  }
}

TEST_F(CpuZonesProgress, the_pager_may_use_the_heap_when_it_takes_a_run_back) {
  std::vector<void*> notes;
  std::vector<void*> runs;
  for (int count = 0; count < 10; ++count) {
    runs.push_back(allocate(run_layout, Context::MayWait));
  }
  pager.meanwhile = [&] {
    if (void* const note = allocate(small, Context::Interrupt)) {
      notes.push_back(note);
    }
    if (!runs.empty()) {
      heap.deallocate(runs.back(), run_layout, Context::Interrupt);
      runs.pop_back();
    }
  };
  heap.deallocate(runs.front(), run_layout, Context::Interrupt);
  runs.erase(runs.begin());
  heap.catch_up();
  EXPECT_EQ(pager.runs_back, 10u);
  EXPECT_EQ(heap.statistics().deferred_bytes, 0u);
  for (void* const note : notes) {
    heap.deallocate(note, small);
  }
}

}  // namespace
}  // namespace slabmalloc
