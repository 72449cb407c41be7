// SPDX-License-Identifier: MIT
//
// Heaps that make each CPU's part at its first use (part_array.hpp).
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <vector>

#include "kernel/hosted_kernel.hpp"
#include "slabmalloc/kernel/cpu_zones.hpp"
#include "support/frames.hpp"
#include "support/interrupting_atomics.hpp"
#include "support/run_threads.hpp"

namespace slabmalloc::test {
namespace {

constexpr Layout layout = Layout::of<std::uint64_t[8]>();

template <class Hooks, class Atomics = HardwareAtomics>
class LateHeap {
  struct Config : GranuleKernelConfig<4 * kibibyte, Atomics> {
    static constexpr bool makes_parts_late = true;
    static constexpr bool counts_frees = true;
  };

 public:
  using Heap = CpuZones<Hooks, FrameSource, Config>;

  LateHeap() : room_(new Room) {
    std::fill(std::begin(room_->bytes), std::end(room_->bytes), untouched);
    heap_ = ::new (room_->bytes) Heap(frames_);
  }
  ~LateHeap() {
    HostedCpu::number = 0;
    heap_->drain_and_leave_current();
    EXPECT_STREQ(heap_->validate(), nullptr);
    EXPECT_EQ(heap_->statistics().zones.used_bytes, 0u);
    heap_->release_all();
    EXPECT_EQ(frames_.live_bytes(), 0u);
  }
  Heap* operator->() { return heap_; }
  /// True if the part of `cpu` was never written.
  bool is_untouched(std::uint32_t cpu) {
    const auto* const part = reinterpret_cast<const std::byte*>(&heap_->zone_of(cpu));
    return std::count(part, part + sizeof(typename Heap::Part), untouched) ==
           static_cast<std::ptrdiff_t>(sizeof(typename Heap::Part));
  }

 private:
  static constexpr std::byte untouched{0xa5};
  struct Room {
    alignas(Heap) std::byte bytes[sizeof(Heap)];
  };

  FrameSource frames_;
  std::unique_ptr<Room> room_;
  Heap* heap_ = nullptr;
};

TEST(LateParts, are_made_by_their_cpus_and_serve_the_others) {
  LateHeap<OpenKernel> heap;
  HostedCpu::number = 5;
  std::vector<void*> objects;
  for (int count = 0; count < 200; ++count) {
    objects.push_back(heap->allocate(layout).value());
  }
  heap->deallocate(objects.back(), layout);
  objects.pop_back();
  HostedCpu::number = 2;  // Frees as its first call, by the queue of CPU 5.
  for (void* const object : objects) {
    heap->deallocate(object, layout);
  }
  heap->trim();
  heap->drain_later();
  for (const std::uint32_t cpu : {1u, 3u, 4u, 6u, 7u}) {
    EXPECT_TRUE(heap.is_untouched(cpu)) << cpu;
  }
  EXPECT_STREQ(heap->validate(), nullptr);
  HostedCpu::number = 5;
  EXPECT_TRUE(heap->enter_idle());
  HostedCpu::number = 3;
  heap->set_limit(heap->frame_bytes());
  heap->deallocate(heap->allocate(layout).value(), layout);
  EXPECT_FALSE(heap.is_untouched(3));
}

/// An interrupt at each access of the first calls of a CPU frees, and allocates what is there.
TEST(LateParts, an_interrupt_may_come_at_each_step_of_their_making) {
  using Atomics = InterruptingAtomics<HardwareAtomics>;
  bool came = true;
  for (std::size_t access = 1; came; ++access) {
    LateHeap<OpenKernel, Atomics> heap;
    HostedCpu::number = 0;
    void* const first = heap->allocate(layout).value();
    void* const second = heap->allocate(layout).value();
    void* got = nullptr;
    HostedCpu::number = 1;
    Interruption::arm(access, [&] {
      heap->deallocate(first, layout);
      got = heap->allocate(layout, Context::Interrupt).value_or(nullptr);
    });
    heap->deallocate(second, layout);
    void* const own = heap->allocate(layout).value();
    came = Interruption::disarm();
    if (!came) {
      heap->deallocate(first, layout);
    }
    heap->deallocate(own, layout);
    heap->deallocate(got, layout);
  }
}

TEST(LatePartsThreads, are_made_while_others_search_them) {
  LateHeap<PatientKernel> heap;
  run_threads(8, [&](std::size_t thread) {
    HostedCpu::number = static_cast<std::uint32_t>(thread);
    for (int count = 0; count < 2000; ++count) {
      heap->deallocate(heap->allocate(layout).value(), layout);
      if (count % 100 == 0) {
        heap->trim();
      }
    }
    heap->enter_idle();
  });
}

}  // namespace
}  // namespace slabmalloc::test
