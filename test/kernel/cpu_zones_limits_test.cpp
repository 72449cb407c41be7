// SPDX-License-Identifier: MIT
//
// Tests of CpuZones: limits, reclaim, reserved frames while other CPUs work, and calls of the
// pager.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <set>
#include <utility>
#include <vector>

#include "kernel/cpu_zones_fixture.hpp"
#include "support/misuse_recorder.hpp"

namespace slabmalloc {
namespace {

using test::base_bytes;
using test::BusyKernel;
using test::CpuZonesTest;
using test::FrameSource;
using test::HostedCpu;
using test::layout_of;
using test::OpenKernel;
using test::small;

TEST_F(CpuZonesTest, the_limit_holds_and_its_callback_may_free_something) {
  static int told;
  static std::vector<void*> held;
  told = 0;
  heap.set_limit(
      4 * base_bytes,
      [](void* argument) noexcept {
        ++told;
        auto& self = *static_cast<Heap*>(argument);
        for (void* object : held) {
          self.deallocate(object, layout_of(128));
        }
        held.clear();
        self.trim();
      },
      &heap);
  while (held.size() < 2 * ObjectPage::geometry(128).slots) {
    held.push_back(allocate(layout_of(128)));
  }
  const std::vector<void*> objects = allocate_all();
  EXPECT_EQ(objects.size(), 4 * ObjectPage::geometry(small.size()).slots);
  EXPECT_EQ(told, 2) << "once to free what was held, once in vain";
  EXPECT_EQ(frames.live_bytes(), 4 * base_bytes);
  EXPECT_EQ(heap.statistics().frame_bytes_high_water, 4 * base_bytes);
  free_all(objects);
}

TEST_F(CpuZonesTest, the_limit_holds_for_runs_and_frames_together) {
  const Layout run_layout = layout_of(100'000);
  heap.set_limit(64 * kibibyte);
  for (const Context context : {Context::MayWait, Context::MayNotWait}) {
    EXPECT_EQ(allocate(run_layout, context), nullptr) << "a run above the limit";
  }
  EXPECT_EQ(frames.calls(), 0u);
  heap.set_limit(100'000 + 2 * base_bytes);
  void* const run = allocate(run_layout);
  ASSERT_NE(run, nullptr);
  std::vector<void*> objects = allocate_all();
  EXPECT_EQ(objects.size(), 2 * ObjectPage::geometry(small.size()).slots);
  EXPECT_EQ(heap.frame_bytes(), frames.live_bytes());
  EXPECT_EQ(heap.statistics().run_bytes, 100'000u);
  EXPECT_EQ(heap.validate(), nullptr);
  heap.deallocate(run, run_layout, Context::Interrupt);
  EXPECT_EQ(heap.frame_bytes(), frames.live_bytes()) << "a run that waits is charged";
  EXPECT_EQ(heap.validate(), nullptr);
  // An allocation that finds no room gives the waiting run back.
  objects.push_back(allocate());
  EXPECT_NE(objects.back(), nullptr);
  EXPECT_EQ(heap.frame_bytes(), frames.live_bytes());
  EXPECT_EQ(heap.statistics().run_bytes, 0u);
  free_all(objects);
  // A run that finds no room gives empty frames back.
  heap.set_limit(100'000);
  void* const next = allocate(run_layout);
  EXPECT_NE(next, nullptr);
  heap.deallocate(next, run_layout);
}

TEST_F(CpuZonesTest, an_allocation_that_may_wait_reclaims_memory_elsewhere) {
  static FrameSource* source;
  static int calls;
  source = &frames;
  calls = 0;
  heap.set_reclaim(
      [](void*, const ReclaimRequest&) noexcept {
        ++calls;
        source->set_exhausted(false);
        return true;
      },
      nullptr);
  frames.set_exhausted(true);
  EXPECT_EQ(allocate(small, Context::MayNotWait), nullptr);
  EXPECT_EQ(allocate(small, Context::Interrupt), nullptr);
  EXPECT_EQ(calls, 0);
  EXPECT_NE(allocate(small, Context::MayWait), nullptr);
  EXPECT_EQ(calls, 1);
}

/// A heap with one reserved frame, and an exhausted pager.
class CpuZonesReservedFrames : public testing::Test {
 protected:
  using Heap = CpuZones<BusyKernel, FrameSource>;

  void SetUp() override {
    HostedCpu::number = 0;
    ASSERT_TRUE(heap.reserve_frames(small, 1));
    frames.set_exhausted(true);
  }
  void TearDown() override { heap.release_all(); }

  test::MisuseRecorder misuse;
  FrameSource frames;
  Heap heap{frames};
};

TEST_F(CpuZonesReservedFrames, are_not_taken_by_other_cpus_on_their_way_back) {
  std::size_t attempts = 0;
  std::size_t taken = 0;
  BusyKernel::elsewhere = [&] {
    ++attempts;
    taken += heap.allocate(small, Context::Interrupt) ? 1u : 0u;
  };
  EXPECT_TRUE(heap.allocate(small, Context::Emergency));
  BusyKernel::elsewhere = nullptr;
  EXPECT_GT(attempts, 2u);
  EXPECT_EQ(taken, 0u);
}

TEST_F(CpuZonesReservedFrames, are_found_while_they_go_back) {
  // These empty frames are on their way back.
  void* const object = heap.allocate(small, Context::Emergency).value();
  heap.deallocate(object, small);
  ASSERT_TRUE(heap.drain_this_cpu());
  std::size_t attempts = 0;
  std::size_t failures = 0;
  BusyKernel::elsewhere = [&] {
    ++attempts;
    void* const found = heap.allocate(small, Context::Emergency).value_or(nullptr);
    failures += found == nullptr ? 1u : 0u;
    heap.deallocate(found, small);
    EXPECT_TRUE(heap.drain_this_cpu());
  };
  HostedCpu::number = 2;
  EXPECT_EQ(heap.give_back(), 0u);
  BusyKernel::elsewhere = nullptr;
  EXPECT_GT(attempts, 1u);
  EXPECT_EQ(failures, 0u);
  EXPECT_EQ(heap.give_back(), 0u) << "it is kept again";
  EXPECT_EQ(heap.statistics().reserved_frame_bytes, base_bytes);
}

/// A pager that needs memory for each frame that it gives, and records its calls.
class AllocatingPager {
 public:
  Frame allocate_frame(std::size_t bytes, Context context) noexcept {
    EXPECT_EQ(HostedCpu::saved, 0u) << "the pager is called with interrupts as the caller had them";
    contexts.insert(context);
    if (void* const note = allocate_note()) {
      notes.push_back(note);
    }
    return frames.allocate_frame(bytes);
  }
  Frame allocate_frame(std::size_t bytes) noexcept {
    ADD_FAILURE() << "a pager that knows contexts is told them";
    return frames.allocate_frame(bytes);
  }
  void deallocate_frame(void* frame, std::size_t bytes) noexcept {
    EXPECT_EQ(HostedCpu::saved, 0u);
    if (!notes.empty()) {
      free_note(notes.back());
      notes.pop_back();
    }
    frames.deallocate_frame(frame, bytes);
  }

  FrameSource frames;
  std::function<void*()> allocate_note;
  std::function<void(void*)> free_note;
  std::vector<void*> notes;
  std::set<Context> contexts;
};

TEST(CpuZonesPager, may_itself_allocate_and_free) {
  HostedCpu::number = 0;
  AllocatingPager pager;
  CpuZones<OpenKernel, AllocatingPager> heap(pager);
  pager.allocate_note = [&] { return heap.allocate(small, Context::Interrupt).value_or(nullptr); };
  pager.free_note = [&](void* note) { heap.deallocate(note, small); };
  ASSERT_TRUE(heap.reserve_for_interrupts(small, KernelConfig::reserve_objects));
  std::vector<void*> objects;
  for (int count = 0; count < 2000; ++count) {
    objects.push_back(
        heap.allocate(small, count / 500 % 2 == 0 ? Context::MayWait : Context::MayNotWait)
            .value_or(nullptr));
    ASSERT_NE(objects.back(), nullptr);
  }
  EXPECT_GT(pager.notes.size(), 10u);
  EXPECT_EQ(pager.contexts, (std::set{Context::MayWait, Context::MayNotWait}));
  for (void* object : objects) {
    heap.deallocate(object, small);
  }
  heap.trim();
  while (!pager.notes.empty()) {
    heap.deallocate(pager.notes.back(), small);
    pager.notes.pop_back();
  }
  heap.trim();
  EXPECT_EQ(heap.validate(), nullptr);
  ASSERT_TRUE(heap.reserve_for_interrupts(small, 0));
  heap.trim();
  EXPECT_EQ(pager.frames.live_bytes(), 0u);
}

/// A pager that gives several frames at once.
struct BatchPager : FrameSource {
  std::size_t allocate_frames(std::size_t bytes, void** list, std::size_t count) noexcept {
    ++batches;
    std::size_t got = 0;
    while (got < count && (list[got] = frame(bytes)) != nullptr) {
      ++got;
    }
    return got;
  }
  std::size_t batches = 0;
};

TEST(CpuZonesPager, is_asked_once_for_several_frames_if_it_can_give_them) {
  HostedCpu::number = 0;
  BatchPager pager;
  CpuZones<OpenKernel, BatchPager> heap(pager);
  pager.set_limit((KernelConfig::growth_frames + 1) * base_bytes);
  std::size_t count = 0;
  while (heap.allocate(small)) {
    ++count;
  }
  EXPECT_EQ(count, (KernelConfig::growth_frames + 1) * ObjectPage::geometry(small.size()).slots);
  EXPECT_EQ(pager.batches, 3u) << "four frames, one, none";
  EXPECT_EQ(heap.validate(), nullptr);
  heap.release_all();
  EXPECT_EQ(pager.live_bytes(), 0u);
}

/// A pager that gives the same frame each time.
struct StuckPager : FrameSource {
  Frame allocate_frame(std::size_t bytes) noexcept {
    if (only == nullptr) {
      only = frame(bytes);
    }
    return only;
  }
  void* only = nullptr;
};

TEST(CpuZonesPager, that_gives_a_frame_several_times_in_a_row_is_reported) {
  HostedCpu::number = 0;
  test::MisuseRecorder misuse;
  StuckPager pager;
  CpuZones<OpenKernel, StuckPager> heap(pager);
  void* const object = heap.allocate(small).value_or(nullptr);
  ASSERT_NE(object, nullptr);
  const std::vector<Misuse> reports = misuse.take();
  ASSERT_EQ(reports.size(), KernelConfig::growth_frames - 1);
  for (const Misuse& report : reports) {
    EXPECT_EQ(report.kind, MisuseKind::InvalidPage);
    EXPECT_EQ(report.address, pager.only);
  }
  EXPECT_EQ(heap.frame_bytes(), base_bytes);
  EXPECT_EQ(heap.validate(), nullptr);
  heap.deallocate(object, small);
  heap.release_all();
  EXPECT_EQ(pager.live_bytes(), 0u);
}

struct OneByOneConfig : KernelConfig {
  static constexpr std::uint32_t growth_frames = 1;
};

TEST(CpuZonesPager, that_gives_a_frame_to_two_cpus_breaks_an_invariant) {
  StuckPager pager;
  CpuZones<OpenKernel, StuckPager, OneByOneConfig> heap(pager);
  for (const std::uint32_t cpu : {0u, 1u}) {
    HostedCpu::number = cpu;
    ASSERT_TRUE(heap.allocate(small));
  }
  EXPECT_STREQ(heap.validate(), "P1: a page's tag is its owner's and shows its list");
  HostedCpu::number = 0;
}

}  // namespace
}  // namespace slabmalloc
