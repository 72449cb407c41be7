// SPDX-License-Identifier: MIT
//
// An NMI comes before each atomic operation of each call in turn. It does everything that an NMI
// may do with a heap.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "kernel/hosted_kernel.hpp"
#include "slabmalloc/kernel/cpu_zones.hpp"
#include "support/frames.hpp"

namespace slabmalloc {
namespace {

/// The time of the NMI and its action.
struct Nmi {
  static inline std::size_t operations = 0;  ///< Operations so far, without those of NMIs.
  static inline std::size_t at = 0;          ///< The NMI comes before this one; 0: never.
  static inline std::function<void()> handler;

  static void count() noexcept {
    if (++operations == at) {
      const std::size_t before = operations;
      handler();
      operations = before;
    }
  }
};

/// The processor's atomics, with a possible NMI before each operation.
struct InterruptedAtomics {
  template <class T>
  class Cell {
   public:
    constexpr Cell() noexcept = default;
    constexpr explicit Cell(T value) noexcept : cell_(value) {}

    T load(Order order) const noexcept { return Nmi::count(), cell_.load(order); }
    void store(T value, Order order) noexcept { Nmi::count(), cell_.store(value, order); }
    void toggle(T mask) noexcept { Nmi::count(), cell_.toggle(mask); }
    T exchange(T value, Order order) noexcept { return Nmi::count(), cell_.exchange(value, order); }
    bool compare_exchange(T& expected, T desired, Order order) noexcept {
      return Nmi::count(), cell_.compare_exchange(expected, desired, order);
    }
    T fetch_add(T value, Order order) noexcept {
      return Nmi::count(), cell_.fetch_add(value, order);
    }
    T fetch_sub(T value, Order order) noexcept {
      return Nmi::count(), cell_.fetch_sub(value, order);
    }
    T fetch_or(T value, Order order) noexcept { return Nmi::count(), cell_.fetch_or(value, order); }

   private:
    HardwareAtomics::Cell<T> cell_;
  };
};

/// No other CPU runs, so a wait for a lock would never end.
struct LonelyKernel : test::OpenKernel {
  static constexpr std::uint32_t maximum_cpus = 2;
  static void relax() noexcept { panic("an NMI waits for a lock of what it interrupted"); }
};

struct Config : GranuleKernelConfig<4 * kibibyte, InterruptedAtomics> {
  static constexpr bool reserved_frames_are_for_all = true;
};
using Heap = CpuZones<LonelyKernel, test::FrameSource, Config>;

constexpr Layout layout = Layout::of<std::uint64_t[8]>();
constexpr Layout run_layout = Layout::of<std::uint64_t[4096]>();

/// The state that a call finds: pages and frame caches of two CPUs, remote frees, reserved frames
/// and reserves.
struct Machine {
  Machine() {
    EXPECT_TRUE(heap.reserve_for_interrupts(layout, 2));
    EXPECT_TRUE(heap.reserve_frames(layout, 1));
    for (std::uint32_t cpu : {0u, 1u}) {
      test::HostedCpu::number = cpu;
      for (int count = 0; count < 100; ++count) {
        objects.push_back(heap.allocate(layout).value());
      }
    }
    for (int count = 0; count < 6; ++count) {
      runs.push_back(heap.allocate(run_layout).value());
    }
    // One run waits to go back.
    heap.deallocate(runs.back(), run_layout, Context::Interrupt);
    runs.pop_back();
    for (int count = 0; count < 80; ++count) {  // CPU 1 frees objects of CPU 0.
      free_one(static_cast<std::size_t>(count));
    }
    test::HostedCpu::number = 0;
  }
  ~Machine() {
    Nmi::at = 0;
    for (std::size_t index = 0; index < objects.size(); ++index) {
      free_one(index);
    }
    for (void* const run : runs) {
      heap.deallocate(run, run_layout);
    }
    heap.drain_and_leave_current();
    EXPECT_EQ(heap.validate(), nullptr);
    heap.release_all();
    EXPECT_EQ(heap.statistics().deferred_bytes, 0u);
    EXPECT_EQ(frames.live_bytes(), 0u);
  }
  void free_one(std::size_t index) {
    heap.deallocate(objects[index], layout);
    objects[index] = nullptr;
  }

  test::FrameSource frames;
  Heap heap{frames};
  std::vector<void*> objects;
  std::vector<void*> runs;
};

/// Makes `call` once for each of its steps, with an NMI before that step.
void interrupt_everywhere(const std::function<void(Machine&)>& call) {
  std::size_t steps = 1;
  for (std::size_t at = 1; at <= steps; ++at) {
    Machine machine;
    Nmi::handler = [&machine] {
      // Frees an object of another CPU and an own one. Then allocates all memory that needs no
      // pager.
      machine.free_one(150);
      machine.free_one(90);
      machine.heap.deallocate(machine.runs.back(), run_layout, Context::Interrupt);
      machine.runs.pop_back();
      void* got[200];
      std::size_t count = 0;
      while (count < 200 &&
             (got[count] = machine.heap.allocate(layout, Context::Interrupt).value_or(nullptr))) {
        ++count;
      }
      while (count > 0) {
        machine.heap.deallocate(got[--count], layout);
      }
    };
    Nmi::operations = 0;
    Nmi::at = at;
    call(machine);
    steps = Nmi::operations;
    Nmi::at = 0;
  }
  EXPECT_GT(steps, 1u);
}

TEST(CpuZonesNmi, may_come_at_each_step_of_an_allocation_and_a_free) {
  interrupt_everywhere([](Machine& machine) {
    void* objects[30];
    for (void*& object : objects) {
      object = machine.heap.allocate(layout, Context::MayWait).value_or(nullptr);
      EXPECT_NE(object, nullptr);
    }
    for (void* object : objects) {
      machine.heap.deallocate(object, layout);
    }
  });
}

TEST(CpuZonesNmi, may_come_while_a_handler_frees_runs) {
  interrupt_everywhere([](Machine& machine) {
    for (int count = 0; count < 2; ++count) {
      void* const run = machine.runs.back();
      machine.runs.pop_back();
      machine.heap.deallocate(run, run_layout, Context::Interrupt);
    }
  });
}

TEST(CpuZonesNmi, may_come_while_memory_is_reserved) {
  interrupt_everywhere([](Machine& machine) {
    EXPECT_TRUE(machine.heap.reserve_frames(layout, 3));
    EXPECT_TRUE(machine.heap.reserve_for_interrupts(layout, 4));
  });
}

TEST(CpuZonesNmi, may_come_while_memory_goes_back) {
  interrupt_everywhere([](Machine& machine) {
    machine.heap.run_deferred();
    machine.heap.trim();
  });
}

}  // namespace
}  // namespace slabmalloc
