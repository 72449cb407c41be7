// SPDX-License-Identifier: MIT
#include "slabmalloc/kernel/per_cpu.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "kernel/frame_fixture.hpp"
#include "kernel/hosted_kernel.hpp"
#include "kernel/mapped_fixture.hpp"
#include "support/frames.hpp"
#include "support/interrupting_atomics.hpp"
#include "support/misuse_recorder.hpp"
#include "support/pattern.hpp"
#include "support/random.hpp"
#include "support/run_threads.hpp"

template <>
inline constexpr bool slabmalloc::has_split_updates<
    slabmalloc::test::InterruptingAtomics<slabmalloc::SingleCpuAtomics>> = true;

namespace slabmalloc::test {
namespace {

using Heap = PerCpuHeap<PatientKernel, FrameSource>;
constexpr std::uint32_t cpus = PatientKernel::maximum_cpus;
constexpr Layout small = Layout::of<std::uint64_t[3]>();

/// A test that must end with all memory back.
class PerCpuTest : public testing::Test {
 protected:
  void SetUp() override { HostedCpu::number = 0; }
  void TearDown() override {
    EXPECT_EQ(heap.validate(), nullptr);
    EXPECT_EQ(heap.statistics().used_bytes, 0u);
    heap.trim();
    EXPECT_EQ(heap.validate(), nullptr);
    EXPECT_EQ(heap.frame_bytes(), 0u);
    EXPECT_EQ(frames.live_bytes(), 0u);
  }

  MisuseRecorder misuse;
  FrameSource frames;
  Heap heap{frames};
};

TEST_F(PerCpuTest, each_cpu_has_a_copy_of_its_own) {
  struct Counters {
    std::uint64_t packets;
    std::uint32_t errors = 7;
  };
  const auto counters = heap.allocate<Counters>();
  ASSERT_TRUE(counters);
  for (std::uint32_t cpu = 0; cpu < cpus; ++cpu) {
    HostedCpu::number = cpu;
    EXPECT_EQ(counters.here(), counters.on(cpu));
    EXPECT_EQ(counters.here()->packets, 0u);
    EXPECT_EQ(counters.here()->errors, 7u);
    counters.here()->packets = cpu;
  }
  for (std::uint32_t cpu = 0; cpu < cpus; ++cpu) {
    EXPECT_EQ(counters.on(cpu)->packets, cpu);
  }
  EXPECT_EQ(counters.get(), counters.on(0));
  HostedCpu::number = 0;
  heap.deallocate(counters);
}

TEST_F(PerCpuTest, destroys_each_copy) {
  static std::size_t live;
  struct Counted {
    Counted() noexcept { ++live; }
    ~Counted() { --live; }
    char byte = 0;
  };
  live = 0;
  heap.set_cpus(3);
  const auto object = heap.allocate<Counted>();
  EXPECT_EQ(live, 3u);
  heap.deallocate(object);
  heap.deallocate(PerCpu<Counted, Heap>());
  EXPECT_EQ(live, 0u);
}

// Every size and alignment: the pages of all CPUs, and nothing else, are written.
TEST_F(PerCpuTest, copies_of_all_layouts_are_zero_and_aligned_and_do_not_overlap) {
  heap.set_cpus(3);
  for (std::size_t size = 0; size <= Heap::MAX_ALLOC_SIZE; size += size < 130 ? 1 : 61) {
    for (std::size_t align = 1; align <= Heap::MAX_ALLOC_SIZE; align *= 4) {
      const Layout layout = Layout::from_size_align(size, align).value();
      const auto one = heap.allocate(layout).value();
      const auto other = heap.allocate(layout).value();
      for (std::uint32_t cpu = 0; cpu < 3; ++cpu) {
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(one.on(cpu)) % align, 0u);
        EXPECT_TRUE(holds_zeroes(one.on(cpu), size) && holds_zeroes(other.on(cpu), size));
        fill_pattern(one.on(cpu), size, cpu);
        fill_pattern(other.on(cpu), size, cpu + 10);
      }
      for (std::uint32_t cpu = 0; cpu < 3; ++cpu) {
        EXPECT_TRUE(holds_pattern(one.on(cpu), size, cpu));
        EXPECT_TRUE(holds_pattern(other.on(cpu), size, cpu + 10));
      }
      heap.deallocate(one, layout);
      heap.deallocate(other, layout);
    }
  }
  EXPECT_EQ(frames.live_bytes(), 3 * Heap::stride) << "it keeps one empty page";
  const Layout too_large = Layout::from_size_align(Heap::MAX_ALLOC_SIZE + 1, 1).value();
  EXPECT_EQ(heap.allocate(too_large).error(), AllocationError::InvalidLayout);
}

TEST_F(PerCpuTest, random_objects_keep_their_copies) {
  struct Object {
    Heap::Pointer<void> pointer;
    Layout layout;
    std::uint64_t key;
  };
  Random random;
  std::vector<Object> objects;
  const auto end = [&](std::size_t index) {
    const Object object = objects[index];
    for (std::uint32_t cpu = 0; cpu < cpus; ++cpu) {
      ASSERT_TRUE(holds_pattern(object.pointer.on(cpu), object.layout.size(), object.key + cpu));
    }
    heap.deallocate(object.pointer, object.layout,
                    random.one_in(3) ? Context::Interrupt : Context::MayWait);
    objects[index] = objects.back();
    objects.pop_back();
  };
  for (int step = 0; step < 20'000; ++step) {
    // Now and then nearly all objects go, and then nearly none.
    const bool grows = (step / 1500) % 2 == 0;
    if (!objects.empty() && random.one_in(grows ? 4 : 2)) {
      end(random.below(objects.size()));
      continue;
    }
    frames.set_exhausted(random.one_in(4));
    const Layout layout =
        Layout::from_size_align(random.between(0, Heap::MAX_ALLOC_SIZE), 8).value();
    const Context context = random.one_in(4) ? Context::Interrupt : Context::MayNotWait;
    const std::size_t calls = frames.calls();
    const auto pointer = heap.allocate(layout, context).value_or({});
    EXPECT_TRUE(context == Context::MayNotWait || frames.calls() == calls);
    for (std::uint32_t cpu = 0; pointer && cpu < cpus; ++cpu) {
      ASSERT_TRUE(holds_zeroes(pointer.on(cpu), layout.size()));
    }
    if (pointer) {
      objects.push_back({pointer, layout, random.next()});
      for (std::uint32_t cpu = 0; cpu < cpus; ++cpu) {
        fill_pattern(pointer.on(cpu), layout.size(), objects.back().key + cpu);
      }
    }
    if (step % 500 == 0) {
      ASSERT_EQ(heap.validate(), nullptr);
      ASSERT_EQ(heap.frame_bytes(), frames.live_bytes());
    }
  }
  while (!objects.empty()) {
    end(0);
  }
}

TEST_F(PerCpuTest, an_allocation_that_fails_changes_nothing) {
  std::vector<Heap::Pointer<void>> objects;
  for (std::size_t failing = 1; failing <= 4; ++failing) {
    frames.fail_call(failing);
    for (;;) {
      const auto object = heap.allocate(small);
      if (!object) {
        EXPECT_EQ(object.error(), AllocationError::OutOfMemory);
        break;
      }
      objects.push_back(object.value());
    }
    EXPECT_EQ(heap.validate(), nullptr);
    EXPECT_EQ(heap.frame_bytes(), frames.live_bytes());
    EXPECT_EQ(frames.live_frames(), failing * (failing - 1) / 2);
  }
  EXPECT_FALSE(heap.allocate(small, Context::Interrupt)) << "nothing is free";
  heap.deallocate(objects.back(), small, Context::Interrupt);
  objects.back() = heap.allocate(small, Context::Interrupt).value();
  for (const auto object : objects) {
    heap.deallocate(object, small);
  }
  EXPECT_EQ(frames.live_frames(), 2u) << "the class keeps a page, and the heap another";
}

TEST_F(PerCpuTest, empty_pages_wait_for_a_caller_that_may_call_the_pager) {
  std::vector<Heap::Pointer<void>> objects;
  while (frames.live_frames() < 4) {
    objects.push_back(heap.allocate(small).value());
  }
  for (const auto object : objects) {
    heap.deallocate(object, small, Context::Interrupt);
  }
  EXPECT_EQ(frames.live_frames(), 4u);
  EXPECT_EQ(heap.validate(), nullptr);
  const auto object = heap.allocate(small, Context::Interrupt).value();
  EXPECT_EQ(frames.live_frames(), 4u);
  heap.deallocate(object, small, Context::MayNotWait);
  EXPECT_EQ(frames.live_frames(), 2u);
}

TEST_F(PerCpuTest, reports_each_bad_free) {
  const auto object = heap.allocate(small).value();
  const auto neighbour = heap.allocate(small).value();
  const auto free = [&](void* address, Layout layout = small) {
    heap.deallocate(Heap::Pointer<void>(address), layout);
  };
  for (std::uint32_t cpu = 1; cpu < cpus; ++cpu) {
    free(object.on(cpu));
    EXPECT_EQ(misuse.take_kinds(), std::vector{MisuseKind::ForeignPointer}) << "of CPU " << cpu;
  }
  free(static_cast<std::byte*>(object.get()) + 8);
  EXPECT_EQ(misuse.take_kinds(), std::vector{MisuseKind::MisalignedFree});
  free(object.get(), Layout::of<std::uint64_t[30]>());
  EXPECT_EQ(misuse.take_kinds(), std::vector{MisuseKind::SizeMismatch});
  free(object.get());
  free(object.get());
  EXPECT_EQ(misuse.take_kinds(), std::vector{MisuseKind::DoubleFree});
  free(neighbour.get());
  free(nullptr);
}

/// Gives runs at the places in `memory` that the test chooses.
struct PlacedRuns {
  Frame allocate_frame(std::size_t) noexcept { return {}; }
  void deallocate_frame(void*, std::size_t) noexcept {}
  Frame allocate_run(std::size_t, std::size_t) noexcept { return next; }
  void deallocate_run(void*, std::size_t, std::size_t) noexcept {}
  void* next = nullptr;
};

// The page that was CPU 0's becomes that of another CPU: its old header must not vouch for it.
TEST(PerCpuHeap, reports_a_free_of_a_copy_where_a_page_was_before) {
  MisuseRecorder misuse;
  PhysicalMemory memory(8 * Heap::stride);
  PlacedRuns runs;
  PerCpuHeap<PatientKernel, PlacedRuns> heap(runs);
  heap.set_cpus(2);
  runs.next = memory.at(Heap::stride);
  const auto before = heap.allocate(small).value();
  std::vector<std::byte> page(Heap::stride);
  std::memcpy(page.data(), memory.at(Heap::stride), Heap::stride);
  heap.deallocate(before, small);
  heap.trim();
  // As if the kernel had ended without a trim, and had begun anew.
  std::memcpy(memory.at(Heap::stride), page.data(), Heap::stride);
  runs.next = memory.at(0);
  const auto object = heap.allocate(small).value();
  EXPECT_EQ(object.on(1), before.get());
  heap.deallocate(decltype(object)(object.on(1)), small);
  EXPECT_EQ(misuse.take_kinds(), std::vector{MisuseKind::ForeignPointer});
  heap.deallocate(object, small);
  heap.trim();
  EXPECT_EQ(heap.frame_bytes(), 0u);
}

// Over a pager that unmaps, the page of a second free may be there no more.
TEST(PerCpuHeap, reports_bad_frees_where_nothing_is_mapped) {
  MisuseRecorder misuse;
  MemoryFileMap map(mebibyte, 4 * mebibyte);
  CheckedFrames frames(map);
  MappedRuns<PatientKernel, CheckedFrames, MemoryFileMap> mapped(frames, map);
  mapped.set_range(map.range());
  using Pager = FallbackRuns<CheckedFrames, decltype(mapped)>;
  Pager pager(frames, mapped, 0);
  PerCpuHeap<PatientKernel, Pager> heap(pager);
  struct Counted {
    ~Counted() { byte = 0; }
    char byte = 1;
  };
  const auto object = heap.allocate<Counted>();
  ASSERT_TRUE(mapped.owns(object.get()));
  heap.deallocate(object);
  heap.trim();
  for (const Context context : {Context::MayWait, Context::Interrupt}) {
    heap.deallocate(object, context);
    EXPECT_EQ(misuse.take_kinds(), std::vector{MisuseKind::DoubleFree});
    for (std::uint32_t cpu = 0; cpu <= cpus; ++cpu) {
      heap.deallocate(decltype(heap)::Pointer<void>(object.on(cpu)), Layout::of<Counted>(),
                      context);
      EXPECT_EQ(misuse.take_kinds(), std::vector{MisuseKind::DoubleFree});
    }
    mapped.flush();
  }
  const std::uintptr_t guard = map.range().address;
  for (const std::uintptr_t address : {guard, std::uintptr_t{64}, ~std::uintptr_t{63}}) {
    heap.deallocate(decltype(heap)::Pointer<void>(reinterpret_cast<void*>(address)), small);
    EXPECT_EQ(misuse.take_kinds(), std::vector{MisuseKind::ForeignPointer}) << address;
  }
  const auto again = heap.allocate<Counted>();
  heap.deallocate(decltype(again)(again.on(1)));
  EXPECT_EQ(misuse.take_kinds(), std::vector{MisuseKind::ForeignPointer});
  EXPECT_EQ(again.on(1)->byte, 1) << "not destroyed";
  // A header would lie behind this run.
  PerCpuHeap<PatientKernel, Pager, PerCpuConfig<16 * kibibyte>> wide(pager);
  void* const other = pager.allocate_run(8, wide.stride).address;
  wide.deallocate(decltype(wide)::Pointer<void>(other), small);
  EXPECT_EQ(misuse.take_kinds(), std::vector{MisuseKind::ForeignPointer}) << "a smaller run";
  pager.deallocate_run(other, 8, wide.stride);
  heap.deallocate(again);
  heap.trim();
  EXPECT_EQ(heap.validate(), nullptr);
  mapped.release();
  EXPECT_EQ(frames.used_bytes(), 0u);
}

TEST(PerCpuInterrupts, come_at_any_access_without_atomics) {
  using Plain = InterruptingAtomics<SingleCpuAtomics>;
  std::size_t interrupts = 0;
  for (bool came = true; came && !testing::Test::HasFailure(); ++interrupts) {
    FrameSource frames;
    PerCpuHeap<SingleKernel, FrameSource, PerCpuConfig<4 * kibibyte, Plain>> heap(frames);
    PerCpu<std::uint64_t, decltype(heap)> kept;
    Interruption::arm(
        interrupts + 1, [&] { kept = heap.allocate<std::uint64_t>(Context::MayNotWait); },
        [] { return HostedCpu::saved != 0; });
    heap.deallocate(heap.allocate<std::uint64_t>(), Context::Interrupt);
    heap.trim();
    came = Interruption::disarm();
    ASSERT_EQ(heap.validate(), nullptr) << "access " << interrupts + 1;
    ASSERT_EQ(heap.frame_bytes(), frames.live_bytes());
    heap.deallocate(kept);
    heap.trim();
    ASSERT_EQ(heap.frame_bytes(), 0u);
  }
  EXPECT_GT(interrupts, 10u);
}

TEST(PerCpuThreads, cpus_count_and_allocate_at_the_same_time) {
  MisuseRecorder misuse;
  PhysicalMemory memory(mebibyte);
  Frames frames;
  const MemoryRegion region = memory.region(0, mebibyte);
  ASSERT_TRUE(frames.add(&region, 1));
  PerCpuHeap<PatientKernel, Frames> heap(frames);
  constexpr std::uint32_t threads = 4;
  constexpr int steps = 2'000;
  heap.set_cpus(threads);
  const auto counter = heap.allocate<std::uint64_t>();
  std::vector<Random> randoms;
  Random random;
  for (std::uint32_t thread = 0; thread < threads; ++thread) {
    randoms.push_back(random.fork());
  }
  run_threads(threads, [&](std::size_t thread) {
    HostedCpu::number = static_cast<std::uint32_t>(thread);
    Random& mine = randoms[thread];
    std::array<PerCpuHeap<PatientKernel, Frames>::Pointer<void>, 60> objects{};
    const auto layout_at = [](std::size_t index) {
      return Layout::from_size_align(16 * (index + 1), 8).value();
    };
    for (int step = 0; step < steps; ++step) {
      *counter.here() += 1;
      const std::size_t index = mine.below(objects.size());
      const Layout layout = layout_at(index);
      for (std::uint32_t cpu = 0; objects[index] && cpu < threads; ++cpu) {
        EXPECT_TRUE(holds_pattern(objects[index].on(cpu), layout.size(), thread));
      }
      heap.deallocate(objects[index], layout);
      objects[index] = heap.allocate(layout).value_or({});
      for (std::uint32_t cpu = 0; objects[index] && cpu < threads; ++cpu) {
        fill_pattern(objects[index].on(cpu), layout.size(), thread);
      }
    }
    for (std::size_t index = 0; index < objects.size(); ++index) {
      heap.deallocate(objects[index], layout_at(index));
    }
  });
  std::uint64_t sum = 0;
  for (std::uint32_t cpu = 0; cpu < threads; ++cpu) {
    sum += *counter.on(cpu);
  }
  EXPECT_EQ(sum, threads * std::uint64_t{steps});
  heap.deallocate(counter);
  EXPECT_EQ(heap.validate(), nullptr);
  heap.trim();
  EXPECT_EQ(frames.statistics().used_bytes, 0u);
}

}  // namespace
}  // namespace slabmalloc::test
