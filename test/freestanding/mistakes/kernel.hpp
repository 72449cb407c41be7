// SPDX-License-Identifier: MIT
//
// The kernel of the mistakes in this folder. Each file makes one mistake, and the compiler answers
// with the sentence that CMakeLists.txt of the folder above expects.
#pragma once

#include <cstdint>

#include "slabmalloc/kernel.hpp"
#include "slabmalloc/slabmalloc.hpp"

namespace slabmalloc {

struct Kernel {
  static constexpr std::uint32_t maximum_cpus = 4;
  using InterruptState = bool;
  static std::uint32_t cpu() noexcept { return 0; }
  static InterruptState save_interrupts() noexcept { return true; }
  static void restore_interrupts(InterruptState) noexcept {}
  [[noreturn]] static void panic(const char*) noexcept { __builtin_trap(); }
  static void log(const char*) noexcept {}
};

inline constinit FrameAllocator<Kernel> frames;
inline constinit CpuZones<Kernel, FrameAllocator<Kernel>> heap(frames);
inline constinit ObjectCache<int, Kernel, FrameAllocator<Kernel>> cache("int", frames);

}  // namespace slabmalloc
