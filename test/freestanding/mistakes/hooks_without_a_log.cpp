// SPDX-License-Identifier: MIT
#include "freestanding/mistakes/kernel.hpp"

namespace slabmalloc {

struct QuietKernel {
  static constexpr std::uint32_t maximum_cpus = 4;
  using InterruptState = bool;
  static std::uint32_t cpu() noexcept { return 0; }
  static InterruptState save_interrupts() noexcept { return true; }
  static void restore_interrupts(InterruptState) noexcept {}
  [[noreturn]] static void panic(const char*) noexcept { __builtin_trap(); }
};

constinit FrameAllocator<QuietKernel> quiet_frames;
constinit CpuZones<QuietKernel, FrameAllocator<QuietKernel>> quiet_heap(quiet_frames);
constinit ObjectCache<int, QuietKernel, FrameAllocator<QuietKernel>> quiet_cache("int",
                                                                                 quiet_frames);
constinit Reclaimer<QuietKernel> quiet_reclaimer;

}  // namespace slabmalloc
