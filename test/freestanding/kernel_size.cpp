// SPDX-License-Identifier: MIT
//
// All that a kernel with one object cache uses: frames, a heap, the cache, reclaim and the report.
// Each is called once, as a kernel's own functions would. test/freestanding/text_size bounds the
// code. WITHOUT_CACHE leaves the cache out.
#include <cstddef>
#include <cstdint>

#include "slabmalloc/kernel.hpp"

namespace slabmalloc {
namespace {

struct Kernel {
  static constexpr std::uint32_t maximum_cpus = 4;
  using InterruptState = std::uintptr_t;
  static inline volatile std::uintptr_t state = 0;
  static std::uint32_t cpu() noexcept { return static_cast<std::uint32_t>(state); }
  static InterruptState save_interrupts() noexcept { return state; }
  static void restore_interrupts(InterruptState before) noexcept { state = before; }
  [[noreturn]] static void panic(const char*) noexcept { __builtin_trap(); }
  static void log(const char*) noexcept { state = 1; }
};
using Frames = FrameAllocator<Kernel>;

struct Inode {
  Inode() noexcept : number(1) {}
  ~Inode() { number = 0; }
  int number;
  char name[250];
};

constinit Frames frames;
constinit CpuZones<Kernel, Frames> heap(frames);
constinit Reclaimable heap_entry("heap", heap);
constinit Reclaimer<Kernel> reclaimer;
#ifndef WITHOUT_CACHE
constinit ObjectCache<Inode, Kernel, Frames> inodes("inode", frames);
constinit Reclaimable inodes_entry(inodes);
#endif

}  // namespace

bool start(const MemoryRegion* regions, std::size_t count) {
  if (!frames.add(regions, count)) {
    return false;
  }
  reclaimer.add(heap_entry);
  heap.set_reclaim(&reclaimer.reclaim_for, &reclaimer);
#ifndef WITHOUT_CACHE
  reclaimer.add(inodes_entry);
  inodes.set_reclaim(&reclaimer.reclaim_for, &reclaimer);
#endif
  return true;
}
void* allocate(Layout layout, Context context) {
  return heap.allocate(layout, context).value_or(nullptr);
}
void deallocate(void* block, Layout layout) { heap.deallocate(block, layout); }
void deallocate(void* block) { heap.deallocate(block); }
#ifndef WITHOUT_CACHE
void* allocate_inode(Context context) { return inodes.allocate(context); }
void deallocate_inode(void* inode) { inodes.deallocate(static_cast<Inode*>(inode)); }
#endif
void idle() { reclaimer.enter_idle(); }
void report() { log_slabinfo(reclaimer); }

}  // namespace slabmalloc
