// SPDX-License-Identifier: MIT
//
// A kernel of one CPU: no part of this may need an atomic instruction.
#include <cstddef>
#include <cstdint>

#include "slabmalloc/kernel.hpp"

using namespace slabmalloc;

namespace {

struct Kernel {
  static constexpr std::uint32_t maximum_cpus = 1;
  using InterruptState = std::uintptr_t;
  static inline InterruptState saved = 0;
  static std::uint32_t cpu() noexcept { return 0; }
  static InterruptState save_interrupts() noexcept { return saved++; }
  static void restore_interrupts(InterruptState state) noexcept { saved = state; }
  [[noreturn]] static void panic(const char*) noexcept { __builtin_trap(); }
  static void log(const char*) noexcept { ++saved; }
};

struct Thing {
  std::uint64_t words[9] = {};
};

using Atomics = SingleCpuAtomics;
using Frames = FrameAllocator<Kernel, 4 * kibibyte, Atomics>;
constinit Frames frames;
constinit CpuZones<Kernel, Frames, GranuleKernelConfig<4 * kibibyte, Atomics>> heap(frames);
constinit ObjectCache<Thing, Kernel, Frames, GranuleCacheOptions<4 * kibibyte, Atomics>> things(
    "thing", frames);
constinit Reclaimable heap_entry("heap", heap);
constinit Reclaimable things_entry(things);
constinit Reclaimer<Kernel, Atomics> reclaimer;

}  // namespace

/// Keeps all of the above in the object: external, and never called.
const char* run_one_cpu(const MemoryRegion* regions, std::size_t count, Layout layout) {
  set_misuse_handler([](const Misuse& misuse) noexcept { Kernel::saved += misuse.slot; });
  if (!frames.add(regions, count) || !heap.reserve_for_interrupts(layout, 2) ||
      !things.reserve(count)) {
    return "refused";
  }
  reclaimer.add(heap_entry);
  reclaimer.add(things_entry);
  void* const object = heap.allocate(layout, Context::MayWait).value_or(nullptr);
  Thing* const thing = things.allocate(Context::Interrupt);
  heap.deallocate(object, layout);
  things.deallocate(thing);
  heap.drain_this_cpu();
  reclaimer.trim();
  log_slabinfo(reclaimer);
  heap.release_all();
  Kernel::saved += things.destroy();
  return heap.validate();
}
