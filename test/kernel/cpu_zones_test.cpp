// SPDX-License-Identifier: MIT
#include "slabmalloc/kernel/cpu_zones.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <set>
#include <utility>
#include <vector>

#include "kernel/hosted_kernel.hpp"
#include "support/frames.hpp"
#include "support/misuse_recorder.hpp"

namespace slabmalloc {
namespace {

using test::FrameSource;
using test::HostedCpu;
using test::OpenKernel;

constexpr Layout small = Layout::of<std::uint64_t[8]>();
constexpr std::size_t base_bytes = 4 * kibibyte;

Layout layout_of(std::size_t size) { return Layout::from_size_align(size, 8).value(); }

/// A test on CPU 0 that ends with nothing lost.
class CpuZonesTest : public testing::Test {
 protected:
  using Heap = CpuZones<OpenKernel, FrameSource>;

  void SetUp() override { on_cpu(0); }
  void TearDown() override {
    drain_all();
    EXPECT_EQ(heap.validate(), nullptr);
    heap.release_all();
    EXPECT_EQ(frames.live_bytes(), 0u);
    EXPECT_EQ(heap.frame_bytes(), 0u);
    on_cpu(0);
  }

  static void on_cpu(std::uint32_t cpu) { HostedCpu::number = cpu; }
  void drain_all() {
    for (std::uint32_t cpu = 0; cpu < OpenKernel::maximum_cpus; ++cpu) {
      on_cpu(cpu);
      EXPECT_TRUE(heap.drain_this_cpu());
    }
  }
  void* allocate(Layout layout = small, Context context = Context::MayNotWait) {
    return heap.allocate(layout, context).value_or(nullptr);
  }
  std::vector<void*> allocate_all(Layout layout = small, Context context = Context::MayNotWait) {
    std::vector<void*> objects;
    while (void* object = allocate(layout, context)) {
      objects.push_back(object);
    }
    return objects;
  }
  void free_all(const std::vector<void*>& objects, Layout layout = small) {
    for (void* object : objects) {
      heap.deallocate(object, layout);
    }
  }

  FrameSource frames;
  Heap heap{frames};
};

TEST_F(CpuZonesTest, each_cpu_allocates_from_pages_of_its_own) {
  void* const first = allocate();
  on_cpu(1);
  void* const second = allocate();
  ASSERT_NE(first, nullptr);
  ASSERT_NE(second, nullptr);
  EXPECT_NE(reinterpret_cast<std::uintptr_t>(first) / base_bytes,
            reinterpret_cast<std::uintptr_t>(second) / base_bytes);
  heap.deallocate(first, small);
  heap.deallocate(second, small);
}

TEST_F(CpuZonesTest, what_another_cpu_frees_serves_its_owner_again) {
  frames.set_limit(4 * base_bytes);
  const std::vector<void*> objects = allocate_all();
  on_cpu(3);
  free_all(objects);
  ASSERT_TRUE(heap.drain_this_cpu());
  on_cpu(0);
  const std::vector<void*> again = allocate_all();
  EXPECT_EQ(std::set(again.begin(), again.end()), std::set(objects.begin(), objects.end()));
  free_all(again);
}

TEST_F(CpuZonesTest, frames_are_asked_for_several_at_once) {
  ASSERT_NE(allocate(), nullptr);
  EXPECT_EQ(frames.calls(), KernelConfig::growth_frames);
  const std::size_t slots = ObjectPage::geometry(small.size()).slots;
  for (std::size_t count = 1; count < slots * KernelConfig::growth_frames; ++count) {
    ASSERT_NE(allocate(), nullptr);
  }
  EXPECT_EQ(heap.statistics().growths, 1u);
}

TEST_F(CpuZonesTest, empty_pages_of_other_classes_and_cpus_come_before_new_frames) {
  frames.set_limit(2 * base_bytes);
  const std::vector<void*> objects = allocate_all();
  frames.set_exhausted(true);
  free_all(objects);
  // Of two empty pages one is the class's, the other lies in the stash.
  const Layout other = layout_of(128);
  void* const same_cpu = allocate(other);
  EXPECT_NE(same_cpu, nullptr);
  heap.deallocate(same_cpu, other);
  ASSERT_TRUE(heap.drain_this_cpu());
  on_cpu(5);
  const std::vector<void*> elsewhere = allocate_all(other);
  EXPECT_EQ(elsewhere.size(), 2 * ObjectPage::geometry(other.size()).slots);
  free_all(elsewhere, other);
}

TEST_F(CpuZonesTest, frames_of_one_kind_are_made_into_those_of_another_by_the_pager) {
  frames.set_limit(64 * kibibyte);
  const std::vector<void*> objects = allocate_all();
  EXPECT_EQ(frames.live_bytes(), 64 * kibibyte);
  free_all(objects);
  const Layout middle = layout_of(4096);
  void* const object = allocate(middle);
  EXPECT_NE(object, nullptr);
  heap.deallocate(object, middle);
}

TEST_F(CpuZonesTest, exhaustion_is_a_value_and_loses_nothing) {
  frames.set_limit(16 * base_bytes);
  const std::vector<void*> objects = allocate_all();
  EXPECT_EQ(objects.size(), 16 * ObjectPage::geometry(small.size()).slots);
  EXPECT_EQ(heap.allocate(small).error(), AllocationError::OutOfMemory);
  EXPECT_GE(heap.statistics().failures, 2u);
  free_all(objects);
  const std::vector<void*> again = allocate_all();
  EXPECT_EQ(again.size(), objects.size());
  free_all(again);
}

TEST_F(CpuZonesTest, large_requests_are_runs_of_the_pager) {
  const Layout run = layout_of(3 * mebibyte);
  void* const object = allocate(run);
  ASSERT_NE(object, nullptr);
  EXPECT_EQ(frames.live_bytes(), 3 * mebibyte);
  EXPECT_EQ(heap.allocate(run, Context::Interrupt).error(), AllocationError::OutOfMemory);
  heap.deallocate(object, run);
  EXPECT_EQ(frames.live_bytes(), 0u);
}

TEST_F(CpuZonesTest, zeroed_blocks_are_zero_where_others_were_before) {
  auto* const bytes = static_cast<unsigned char*>(allocate());
  std::fill_n(bytes, small.size(), static_cast<unsigned char>(0xEE));
  heap.deallocate(bytes, small);
  for (int count = 0; count < 100; ++count) {
    const auto* zeroed = static_cast<unsigned char*>(heap.allocate_zeroed(small).value());
    EXPECT_TRUE(std::all_of(zeroed, zeroed + small.size(), [](auto byte) { return byte == 0; }));
  }
}

TEST_F(CpuZonesTest, many_objects_come_and_go_by_one_call) {
  std::vector<void*> objects(1000);
  EXPECT_EQ(heap.allocate_many(small, objects.data(), objects.size()), objects.size());
  EXPECT_EQ(std::set(objects.begin(), objects.end()).size(), objects.size());
  heap.deallocate_many(objects.data(), objects.size(), small);
  EXPECT_EQ(heap.statistics().zones.used_bytes, 0u);
  frames.set_limit(frames.live_bytes());
  objects.resize(10000);
  const std::size_t count = heap.allocate_many(small, objects.data(), objects.size());
  EXPECT_LT(count, objects.size());
  EXPECT_EQ(count, frames.live_bytes() / base_bytes * ObjectPage::geometry(small.size()).slots);
  heap.deallocate_many(objects.data(), count, small);
}

TEST_F(CpuZonesTest, surplus_goes_back_to_the_pager_when_it_may_be_called) {
  std::vector<void*> objects(5000);
  ASSERT_EQ(heap.allocate_many(small, objects.data(), objects.size()), objects.size());
  const std::size_t most = frames.live_bytes();
  heap.deallocate_many(objects.data(), objects.size(), small);
  EXPECT_EQ(frames.live_bytes(), most) << "a free calls no pager";
  (void)allocate(layout_of(128));
  EXPECT_EQ(frames.live_bytes(), most - 2 * base_bytes) << "two at once";
  heap.catch_up();
  EXPECT_EQ(frames.live_bytes(), (KernelConfig::stash_frames + 2) * base_bytes);
}

TEST_F(CpuZonesTest, misuse_is_reported_and_does_nothing) {
  test::MisuseRecorder misuse;
  void* const object = allocate();
  heap.deallocate(object, small);
  heap.deallocate(object, small);
  EXPECT_EQ(misuse.take_kinds(), std::vector{MisuseKind::DoubleFree});
  void* const other = allocate();
  heap.deallocate(static_cast<std::byte*>(other) + 8, small);
  EXPECT_EQ(misuse.take_kinds(), std::vector{MisuseKind::MisalignedFree});
  heap.deallocate(other, layout_of(200));
  EXPECT_EQ(misuse.take_kinds(), std::vector{MisuseKind::SizeMismatch});
  heap.deallocate(other, small);
  heap.deallocate(nullptr, small);
}

// ---- contexts
// ----------------------------------------------------------------------------------------

TEST_F(CpuZonesTest, handlers_do_not_call_the_pager) {
  EXPECT_EQ(allocate(small, Context::Interrupt), nullptr);
  EXPECT_EQ(frames.calls(), 0u);
  void* const object = allocate();
  const std::size_t calls = frames.calls();
  const std::vector<void*> objects = allocate_all(small, Context::Interrupt);
  EXPECT_FALSE(objects.empty());
  EXPECT_EQ(frames.calls(), calls);
  free_all(objects);
  heap.deallocate(object, small);
}

TEST_F(CpuZonesTest, handlers_have_a_reserve_that_is_refilled_later) {
  ASSERT_TRUE(heap.keep_for_interrupts(small, 3));
  const std::vector<void*> rest = allocate_all(small, Context::Interrupt);
  frames.set_exhausted(true);
  EXPECT_EQ(allocate(small, Context::Interrupt), nullptr);
  free_all(rest);
  std::vector<void*> objects = allocate_all();
  EXPECT_EQ(objects.size(), rest.size() - 3) << "slow paths filled the reserve";
  EXPECT_EQ(allocate_all(small, Context::Interrupt).size(), 3u);
  free_all({objects.end() - 3, objects.end()});
  heap.catch_up();
  EXPECT_EQ(allocate_all(small, Context::Interrupt).size(), 3u);
}

TEST_F(CpuZonesTest, a_reserve_is_given_up_when_nothing_is_to_be_kept) {
  ASSERT_TRUE(heap.keep_for_interrupts(small, 4));
  EXPECT_EQ(heap.statistics().zones.used_bytes, 4 * small.size());
  ASSERT_TRUE(heap.keep_for_interrupts(small, 0));
  EXPECT_EQ(heap.statistics().zones.used_bytes, 0u);
  EXPECT_EQ(heap.keep_for_interrupts(small, KernelConfig::reserve_objects + 1).error(),
            AllocationError::InvalidLayout);
  EXPECT_EQ(heap.keep_for_interrupts(layout_of(1 * mebibyte), 1).error(),
            AllocationError::InvalidLayout);
}

/// Runs `work` in the middle of a section: the misuse hook is called there.
void in_a_section(auto& heap, const std::function<void()>& work) {
  static const std::function<void()>* job;
  job = &work;
  const MisuseHandler before = set_misuse_handler([](const Misuse&) noexcept { (*job)(); });
  void* const object = heap.allocate(small).value();
  heap.deallocate(object, small);
  heap.deallocate(object, small);
  set_misuse_handler(before);
}

TEST_F(CpuZonesTest, in_the_middle_of_a_free_handlers_free_by_the_remote_path) {
  void* const object = allocate();
  in_a_section(heap, [&] {
    heap.deallocate(object, small);
    EXPECT_FALSE(heap.drain_this_cpu());
    EXPECT_EQ(heap.give_back(), 0u);
  });
  EXPECT_EQ(heap.statistics().nested_frees, 1u);
  ASSERT_TRUE(heap.drain_this_cpu());
  EXPECT_EQ(heap.statistics().zones.used_bytes, 0u);
}

TEST_F(CpuZonesTest, in_the_middle_of_a_free_handlers_allocate_from_the_reserve_alone) {
  ASSERT_TRUE(heap.keep_for_interrupts(small, 2));
  std::vector<void*> objects;
  in_a_section(heap, [&] {
    for (int call = 0; call < 3; ++call) {
      // What the caller says it may do does not matter there.
      objects.push_back(heap.allocate(small, Context::MayWait).value_or(nullptr));
    }
  });
  EXPECT_NE(objects[0], nullptr);
  EXPECT_NE(objects[1], nullptr);
  EXPECT_EQ(objects[2], nullptr);
  EXPECT_EQ(heap.statistics().nested_allocations, 3u);
  heap.deallocate(objects[0], small);
  heap.deallocate(objects[1], small);
}

TEST_F(CpuZonesTest, in_the_middle_of_a_free_an_emergency_takes_other_cpus_reserves) {
  on_cpu(2);
  ASSERT_TRUE(heap.keep_for_interrupts(small, 1));
  on_cpu(0);
  void* object = nullptr;
  in_a_section(heap, [&] {
    EXPECT_TRUE(heap.allocate(small, Context::Interrupt)) << "its own";
    EXPECT_FALSE(heap.allocate(small, Context::Interrupt));
    object = heap.allocate(small, Context::Emergency).value_or(nullptr);
  });
  EXPECT_NE(object, nullptr);
  heap.deallocate(object, small);
}

TEST_F(CpuZonesTest, a_drain_that_found_the_part_occupied_is_done_by_the_next_slow_path) {
  const std::vector<void*> objects = {allocate(), allocate()};
  on_cpu(1);
  free_all(objects);
  ASSERT_TRUE(heap.drain_this_cpu());
  on_cpu(0);
  in_a_section(heap, [&] { EXPECT_FALSE(heap.drain_this_cpu()); });
  EXPECT_EQ(heap.statistics().zones.used_bytes, 2 * small.size());
  (void)allocate(layout_of(256));
  EXPECT_EQ(heap.statistics().zones.used_bytes, 256u);
}

TEST_F(CpuZonesTest, kept_frames_are_for_emergencies_and_refilled_before_frames_go_back) {
  ASSERT_TRUE(heap.keep_frames(small, 2));
  EXPECT_EQ(heap.statistics().kept_bytes, 2 * base_bytes);
  frames.set_limit(6 * base_bytes);
  std::vector<void*> objects = allocate_all();
  const std::size_t slots = ObjectPage::geometry(small.size()).slots;
  EXPECT_EQ(objects.size(), 4 * slots);
  EXPECT_EQ(allocate(small, Context::MayWait), nullptr);
  const std::vector<void*> saved = allocate_all(small, Context::Emergency);
  EXPECT_EQ(saved.size(), 2 * slots);
  EXPECT_EQ(heap.statistics().kept_bytes, 0u);
  free_all(objects);
  free_all(saved);
  heap.trim();
  EXPECT_EQ(heap.statistics().kept_bytes, 2 * base_bytes);
  EXPECT_EQ(frames.live_bytes(), 2 * base_bytes);
  ASSERT_TRUE(heap.keep_frames(small, 0));
  heap.trim();
  EXPECT_EQ(frames.live_bytes(), 0u);
}

TEST_F(CpuZonesTest, an_emergency_calls_no_pager_which_panic_may_have_interrupted) {
  ASSERT_TRUE(heap.keep_frames(small, 1));
  const std::size_t calls = frames.calls();
  const std::vector<void*> objects = allocate_all(small, Context::Emergency);
  EXPECT_EQ(objects.size(), ObjectPage::geometry(small.size()).slots);
  EXPECT_EQ(heap.allocate(layout_of(1 * mebibyte), Context::Emergency).error(),
            AllocationError::OutOfMemory);
  EXPECT_EQ(frames.calls(), calls);
  // An allocation that may call it makes good what was used.
  const std::vector<void*> others = {allocate(layout_of(128))};
  EXPECT_EQ(heap.statistics().kept_bytes, base_bytes);
  free_all(objects);
  free_all(others, layout_of(128));
}

TEST_F(CpuZonesTest, frames_that_cannot_be_kept_are_told) {
  frames.set_limit(3 * base_bytes);
  EXPECT_EQ(heap.keep_frames(small, 4).error(), AllocationError::OutOfMemory);
  EXPECT_EQ(heap.keep_frames(layout_of(1 * mebibyte), 1).error(), AllocationError::InvalidLayout);
  EXPECT_EQ(heap.statistics().kept_bytes, 3 * base_bytes);
}

// ---- limits and reclaim
// ----------------------------------------------------------------------------------

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

TEST_F(CpuZonesTest, who_may_wait_has_memory_reclaimed_elsewhere) {
  static FrameSource* source;
  static int calls;
  source = &frames;
  calls = 0;
  heap.set_reclaim(
      [](void*) noexcept {
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

/// A kernel in which another CPU does something before each section of the one that is tested.
struct BusyKernel : OpenKernel {
  static inline std::function<void()> elsewhere;

  static InterruptState save_interrupts() noexcept {
    if (HostedCpu::saved == 0 && elsewhere) {
      const std::function<void()> work = std::exchange(elsewhere, nullptr);
      const std::uint32_t here = HostedCpu::number;
      work();
      HostedCpu::number = here;
      elsewhere = work;
    }
    return OpenKernel::save_interrupts();
  }
};

/// A heap with one kept frame, and nothing else to be had.
class CpuZonesKeptFrames : public testing::Test {
 protected:
  using Heap = CpuZones<BusyKernel, FrameSource>;

  void SetUp() override {
    HostedCpu::number = 0;
    ASSERT_TRUE(heap.keep_frames(small, 1));
    frames.set_exhausted(true);
  }
  void TearDown() override { heap.release_all(); }

  test::MisuseRecorder misuse;
  FrameSource frames;
  Heap heap{frames};
};

TEST_F(CpuZonesKeptFrames, are_not_taken_by_others_on_their_way) {
  std::size_t attempts = 0;
  std::size_t taken = 0;
  BusyKernel::elsewhere = [&] {
    HostedCpu::number = 1;
    ++attempts;
    taken += heap.allocate(small, Context::Interrupt) ? 1u : 0u;
  };
  EXPECT_TRUE(heap.allocate(small, Context::Emergency));
  BusyKernel::elsewhere = nullptr;
  EXPECT_GT(attempts, 2u);
  EXPECT_EQ(taken, 0u);
}

TEST_F(CpuZonesKeptFrames, are_found_while_they_go_back) {
  // Where empty frames lie whose return is under way.
  void* const object = heap.allocate(small, Context::Emergency).value();
  heap.deallocate(object, small);
  ASSERT_TRUE(heap.drain_this_cpu());
  std::size_t attempts = 0;
  std::size_t failures = 0;
  BusyKernel::elsewhere = [&] {
    HostedCpu::number = 1;
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
  EXPECT_EQ(heap.statistics().kept_bytes, base_bytes);
}

/// A pager that needs memory for each frame it gives, and sees how it is called.
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
  ASSERT_TRUE(heap.keep_for_interrupts(small, KernelConfig::reserve_objects));
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
  ASSERT_TRUE(heap.keep_for_interrupts(small, 0));
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

/// The last of CPUs that are counted from 1: the first word behind the doors is the first zone's owner, null in kernels.
TEST(CpuZonesHooks, that_number_a_cpu_too_many_end_at_its_first_call) {
  HostedCpu::number = 0;
  FrameSource frames;
  CpuZones<OpenKernel, FrameSource> heap(frames);
  void* const object = heap.allocate(small).value_or(nullptr);
  HostedCpu::number = OpenKernel::maximum_cpus;
  const char* const line = "cpu\\(\\) < maximum_cpus";
  EXPECT_DEATH((void)heap.allocate(small), line);
  EXPECT_DEATH(heap.deallocate(object, small), line);
  EXPECT_DEATH((void)heap.drain_this_cpu(), line);
  EXPECT_DEATH(heap.catch_up(), line);
  HostedCpu::number = 0;
  heap.deallocate(object, small);
  heap.release_all();
}

/// SmallArenaKernelConfig has two kinds of pages of 4 KiB.
TEST(CpuZonesOfASmallArena, count_frames_of_one_size_once_whatever_kinds_have_it) {
  HostedCpu::number = 0;
  FrameSource frames;
  CpuZones<OpenKernel, FrameSource, SmallArenaKernelConfig<>> heap(frames);
  ASSERT_TRUE(heap.keep_frames(layout_of(16), 2));
  for (const std::size_t size : {16u, 800u, 1000u, 1600u, 2048u}) {
    heap.deallocate(heap.allocate(layout_of(size)).value(), layout_of(size));
  }
  EXPECT_EQ(heap.statistics().kept_bytes, 2 * base_bytes);
  EXPECT_EQ(heap.validate(), nullptr);
  ASSERT_TRUE(heap.drain_this_cpu());
  EXPECT_EQ(heap.validate(), nullptr);
  heap.release_all();
  EXPECT_EQ(frames.live_bytes(), 0u);
}

/// The same with no atomic instruction, for one CPU.
TEST(CpuZonesOfOneCpu, need_no_atomics) {
  HostedCpu::number = 0;
  FrameSource frames;
  using Config = GranuleKernelConfig<4 * kibibyte, SingleCpuAtomics>;
  CpuZones<test::SingleKernel, FrameSource, Config> heap(frames);
  ASSERT_TRUE(heap.keep_for_interrupts(small, 2));
  std::vector<void*> objects(1000);
  ASSERT_EQ(heap.allocate_many(small, objects.data(), objects.size()), objects.size());
  heap.deallocate_many(objects.data(), objects.size(), small);
  EXPECT_EQ(heap.validate(), nullptr);
  heap.release_all();
  EXPECT_EQ(frames.live_bytes(), 0u);
}

}  // namespace
}  // namespace slabmalloc
