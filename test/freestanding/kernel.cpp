// SPDX-License-Identifier: MIT
//
// The kernel services, instantiated for one CPU and for several, as everything.cpp does for the core.
#include "slabmalloc/kernel.hpp"

#include <cstddef>
#include <cstdint>

using namespace slabmalloc;

namespace {

/// A kernel's hooks are its own; here they are never called, only compiled against.
struct Kernel {
  static constexpr std::uint32_t maximum_cpus = 4;
  using InterruptState = std::uintptr_t;
  static inline InterruptState saved = 0;
  static std::uint32_t cpu() noexcept { return static_cast<std::uint32_t>(saved) % maximum_cpus; }
  static InterruptState save_interrupts() noexcept { return saved++; }
  static void restore_interrupts(InterruptState state) noexcept { saved = state; }
  [[noreturn]] static void panic(const char*) noexcept { __builtin_trap(); }
  static void log(const char*) noexcept { ++saved; }
};

template <class Frames>
const char* exercise_frames(Frames& frames, const MemoryRegion* regions, std::size_t count) {
  if (!frames.add(regions, count)) {
    return "refused";
  }
  void* several[8];
  const std::size_t got = frames.allocate_frames(Frames::base_bytes, several, 8);
  for (std::size_t index = 0; index < got; ++index) {
    frames.deallocate_frame(several[index], Frames::base_bytes);
  }
  void* run = frames.allocate_run(count, Frames::base_bytes * 4).address;
  frames.deallocate_run(run, count, Frames::base_bytes * 4);
  frames.for_each_block([](void*, std::size_t bytes, FrameUse) { Kernel::saved += bytes; });
  Kernel::saved += frames.statistics().free_bytes;
  return frames.validate();
}

constinit FrameAllocator<Kernel> frames_of_many_cpus;
constinit FrameAllocator<Kernel, 64 * kibibyte, SingleCpuAtomics> frames_of_one_cpu;

}  // namespace

template class slabmalloc::FrameAllocator<Kernel, 16 * kibibyte>;

/// Keeps all of the above: called by nobody, and external.
const char* exercise_kernel(const MemoryRegion* regions, std::size_t count) {
  const char* broken = exercise_frames(frames_of_many_cpus, regions, count);
  return broken != nullptr ? broken : exercise_frames(frames_of_one_cpu, regions, count);
}
