// SPDX-License-Identifier: MIT
//
// Job `exhaustion` measures how much of an arena of 1 MiB clients get before the first OutOfMemory.
// It frees nothing. The meta-data of frames and pages comes out of the arena.
// benchmark/core/arena_use.cpp compares configurations.
#include <cstddef>
#include <cstdint>

#include "kernel/heap.hpp"
#include "kernel/jobs.hpp"
#include "kernel/objects.hpp"

namespace boot {
namespace {

constexpr std::size_t arena_bytes = std::size_t{1} << 20;
constexpr std::uint64_t seeds = 32;

/// A small machine: pages of 4 KiB whatever the MMU has, and the configuration for arenas.
using ArenaFrames = slabmalloc::FrameAllocator<Hooks, 4096>;
using ArenaHeap = slabmalloc::CpuZones<Hooks, ArenaFrames, slabmalloc::SmallArenaKernelConfig<>>;
struct Arena {
  Arena() noexcept : heap(frames) {}
  ArenaFrames frames;
  ArenaHeap heap;
};

std::uint32_t draw_64(Random&) noexcept { return 64; }
std::uint32_t draw_even(Random& random) noexcept { return 16 + random.below(2033); }
std::uint32_t draw_power(Random& random) noexcept { return 16u << random.below(8); }
/// The logarithms of the sizes are evenly spread, so each doubling has as many sizes as any other.
/// Eight straight pieces for each doubling approximate the curve.
std::uint32_t draw_logarithm(Random& random) noexcept {
  constexpr std::uint32_t eighths[] = {2048, 2233, 2435, 2656, 2896, 3158, 3444, 3756, 4096};
  const std::uint32_t doubling = random.below(7);
  const std::uint32_t eighth = random.below(8);
  const std::uint32_t width = eighths[eighth + 1] - eighths[eighth];
  return (eighths[eighth] + random.below(width)) >> (7 - doubling);
}

/// The first region with room for an arena at a multiple of 64 KiB.
std::uintptr_t find_arena() noexcept {
  std::uintptr_t found = 0;
  for_each_free([&](Region region) {
    const std::uintptr_t start = (region.start + 0xffff) & ~std::uintptr_t{0xffff};
    if (found == 0 && start + arena_bytes <= region.end()) {
      found = start;
    }
  });
  if (found == 0) {
    panic("no region has room for an arena of 1 MiB");
  }
  return found;
}

/// The bytes requested before an allocation failed.
std::size_t fill(std::uint32_t (*draw)(Random&) noexcept, Random random) noexcept {
  static constinit Room<Arena> room{};
  Arena& arena = room.make();
  const slabmalloc::MemoryRegion region{find_arena(), arena_bytes};
  expect(static_cast<bool>(arena.frames.add(&region, 1)), "the arena is taken in");
  for (std::size_t requested = 0;;) {
    const std::uint32_t size = draw(random);
    const auto layout = slabmalloc::Layout::from_size_align(size, 8).value();
    if (!arena.heap.allocate(layout, slabmalloc::Context::MayWait)) {
      expect(arena.heap.validate() == nullptr, "the heap's invariants hold");
      return requested;
    }
    requested += size;
  }
}

/// Prints the mean and the least use of all seeds in tenths of a percent; returns the mean.
std::uint64_t try_load(Text name, std::uint32_t (*draw)(Random&) noexcept) noexcept {
  std::uint64_t sum = 0;
  std::uint64_t least = arena_bytes;
  for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
    const std::uint64_t used = fill(draw, Random(seed));
    sum += used;
    least = used < least ? used : least;
  }
  const std::uint64_t mean_tenths = sum * 1000 / seeds / arena_bytes;
  const std::uint64_t least_tenths = least * 1000 / arena_bytes;
  print_line("  ", column(34, name), column(6, mean_tenths / 10), ".", mean_tenths % 10,
             column(8, least_tenths / 10), ".", least_tenths % 10);
  return mean_tenths;
}

}  // namespace

void exhaustion_job() {
  print_line("  % of 1 MiB that was got            mean     least");
  const std::uint64_t of_64 = try_load("objects of 64 B", draw_64);
  const std::uint64_t even = try_load("16 to 2048 B, evenly", draw_even);
  const std::uint64_t logarithm = try_load("16 to 2048 B, more small ones", draw_logarithm);
  const std::uint64_t powers = try_load("powers of two from 16 to 2048 B", draw_power);
  expect(of_64 >= 900, "90 % of an arena can be used for 64 B");
  expect(even >= 850 && logarithm >= 850 && powers >= 850,
         "85 % of an arena can be used for mixed sizes");
}

}  // namespace boot
