// SPDX-License-Identifier: MIT
//
// The kernel's memory: its frames, and the heaps that jobs use.
//
//   machine.memory: EarlyMemory ──► Frames ──► ClosedHeap, OpenHeap ──► jobs
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>

#include "kernel/cpus.hpp"
#include "kernel/end.hpp"
#include "kernel/hooks.hpp"
#include "kernel/jobs.hpp"
#include "kernel/machine.hpp"
#include "kernel/print.hpp"
#include "slabmalloc/kernel.hpp"

namespace boot {

/// Hooks that keep nothing out. With one thread for each CPU, only handlers can come in the middle
/// of a section, and the heap has another path for these.
struct OpenHooks : Hooks {
  struct InterruptState {};
  static InterruptState save_interrupts() noexcept { return {}; }
  static void restore_interrupts(InterruptState) noexcept {}
};

/// All frames of the machine, or of a part of it.
using Frames = slabmalloc::FrameAllocator<Hooks, page_bytes>;

struct ClosedConfig : slabmalloc::GranuleKernelConfig<page_bytes> {
  static constexpr std::uint32_t local_slot = 0;
};
struct OpenConfig : slabmalloc::GranuleKernelConfig<page_bytes> {
  static constexpr std::uint32_t local_slot = 1;
};
using ClosedHeap = slabmalloc::CpuZones<Hooks, Frames, ClosedConfig>;
using OpenHeap = slabmalloc::CpuZones<OpenHooks, Frames, OpenConfig>;

/// Memory for a `T` that is made when a job begins. The old contents do not matter.
template <class T>
class Room {
 public:
  /// Pre: make() was called.
  T& content() noexcept { return *reinterpret_cast<T*>(bytes_); }
  template <class... Arguments>
  T& make(Arguments&&... arguments) noexcept {
    return *::new (static_cast<void*>(bytes_)) T(static_cast<Arguments&&>(arguments)...);
  }

 private:
  alignas(T) std::byte bytes_[sizeof(T)];
};

/// Adds the free memory of the machine, at most `most_bytes` of it.
void find_memory(slabmalloc::EarlyMemory<page_bytes>& early, std::size_t most_bytes) noexcept;

/// Gives the frame allocator `frames` that memory.
/// Fails: ends the kernel if there is not enough for the meta-data.
template <class AnyFrames>
void take_memory(AnyFrames& frames, std::size_t most_bytes = ~std::size_t{0}) noexcept {
  slabmalloc::EarlyMemory<page_bytes> early;
  find_memory(early, most_bytes);
  if (!early.hand_over(frames)) {
    panic("there is too little memory for the frame allocator");
  }
}

/// A heap over a frame allocator of its own.
template <class Heap>
struct KernelMemory {
  explicit KernelMemory(std::size_t most_bytes) noexcept : heap(frames) {
    take_memory(frames, most_bytes);
  }

  typename Heap::Pager frames;
  Heap heap;
};

/// The kernel's memory, made anew, of at most `most_bytes`. Thread: CPU 0, while the others are
/// idle.
template <class Heap>
KernelMemory<Heap>& make_memory(std::size_t most_bytes = ~std::size_t{0}) noexcept {
  static constinit Room<KernelMemory<Heap>> room{};
  run_on_all_cpus([](std::uint32_t) noexcept { set_local<Heap::Config::local_slot>(nullptr); });
  return room.make(most_bytes);
}

/// Checks that no object of the heap is in use, and that all frames are back. Thread: CPU 0.
template <class Heap>
void expect_all_is_back(KernelMemory<Heap>& memory) noexcept {
  static Heap* heap;
  heap = &memory.heap;
  // The first round delivers the remote frees that each CPU buffers; the second drains them.
  for (int round = 0; round < 2; ++round) {
    run_on_all_cpus([](std::uint32_t) noexcept {
      heap->run_deferred();
      expect(heap->drain_this_cpu(), "no CPU is in the middle of a section");
    });
  }
  heap->give_back();
  const slabmalloc::CpuZonesStatistics zones = heap->statistics();
  expect(zones.zones.used_bytes == 0, "no object is left");
  expect(zones.frame_bytes == 0, "the heap gave all frames back");
  expect(heap->validate() == nullptr, "the heap's invariants hold");
  expect(memory.frames.statistics().used_bytes == 0, "every frame is accounted for");
  expect(memory.frames.validate() == nullptr, "the frames' invariants hold");
}

}  // namespace boot
