// SPDX-License-Identifier: MIT
//
// Frames from a boot memory map: a kernel's hooks, the frame allocator over the loader's list, and
// a zone over that. A static buffer plays the memory.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "slabmalloc/kernel.hpp"

// ---- the port starts here ----

namespace {

/// One CPU without interrupts. A real kernel reads its CPU's number, and disables and restores
/// them.
struct Kernel {
  static constexpr std::uint32_t maximum_cpus = 1;
  using InterruptState = std::uintptr_t;
  static std::uint32_t cpu() noexcept { return 0; }
  static InterruptState save_interrupts() noexcept { return 0; }
  static void restore_interrupts(InterruptState) noexcept {}
  [[noreturn]] static void panic(const char*) noexcept { std::abort(); }
  static void log(const char* line) noexcept { std::puts(line); }
};

using Frames = slabmalloc::FrameAllocator<Kernel>;

constinit Frames frames;
constinit slabmalloc::PagedZone<Frames, slabmalloc::SmallArenaConfig> zone(frames);

/// The loader's list, without the kernel's image and devices.
bool add_memory(const slabmalloc::MemoryRegion* regions, std::size_t count) {
  return static_cast<bool>(frames.add(regions, count));
}

}  // namespace

// ---- the port ends here ----

alignas(4096) static std::byte memory[slabmalloc::mebibyte];

/// A character for each 16 KiB: hole ( ), free (.), used at least in part (#), meta-data in part
/// (M).
static void print_memory_map() {
  constexpr std::size_t cell = 16 * 1024;
  char picture[sizeof(memory) / cell + 1] = {};
  std::memset(picture, ' ', sizeof(memory) / cell);
  frames.for_each_block([&](void* address, std::size_t bytes, slabmalloc::FrameUse use) {
    const auto first = static_cast<std::size_t>(static_cast<std::byte*>(address) - memory);
    const char mark = use == slabmalloc::FrameUse::Metadata    ? 'M'
                      : use == slabmalloc::FrameUse::Allocated ? '#'
                                                               : '.';
    for (std::size_t offset = first; offset < first + bytes; offset += 4096) {
      char& shown = picture[offset / cell];
      shown = shown == ' ' || mark == 'M' || (mark == '#' && shown == '.') ? mark : shown;
    }
  });
  std::printf("|%s|\n", picture);
}

int main() {
  const auto start = reinterpret_cast<std::uintptr_t>(memory);
  // The list is not sorted, and has a hole for memory that is in use: 512 … 640 KiB.
  const slabmalloc::MemoryRegion regions[] = {{start + 640 * 1024, 384 * 1024},
                                              {start, 512 * 1024}};
  if (!add_memory(regions, 2)) {
    return 1;
  }
  print_memory_map();
  static void* objects[5000];
  const slabmalloc::Layout layout = slabmalloc::Layout::from_size_align(200, 8).value();
  const slabmalloc::Layout large = slabmalloc::Layout::from_size_align(40'000, 64).value();
  void* run = zone.allocate(large).value_or(nullptr);  // Above 2 KiB: frames, through the zone.
  print_memory_map();
  std::size_t count = 0;
  while (count < 5000 && (objects[count] = zone.allocate(layout).value_or(nullptr)) != nullptr) {
    ++count;
  }
  print_memory_map();
  std::printf("a block of 40,000 B and %zu objects of 200 B in 896 KiB\n", count);
  const bool sound = run != nullptr && count > 3800 && frames.validate() == nullptr;
  while (count > 0) {
    zone.deallocate(objects[--count], layout);
  }
  zone.deallocate(run, large);
  zone.trim();
  print_memory_map();
  return sound && frames.statistics().used_bytes == 0 ? 0 : 1;
}
