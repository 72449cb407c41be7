// SPDX-License-Identifier: MIT
//
// operator new and delete of a kernel, over CpuZones. A delete with a size takes the short way. One
// without asks the frame allocator where the block lies. Here a static buffer is the memory.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <new>

#include "slabmalloc/kernel.hpp"

namespace {

struct Kernel {
  static constexpr std::uint32_t maximum_cpus = 1;
  using InterruptState = bool;
  static std::uint32_t cpu() noexcept { return 0; }
  static InterruptState save_interrupts() noexcept { return true; }
  static void restore_interrupts(InterruptState) noexcept {}
  [[noreturn]] static void panic(const char* line) noexcept {
    std::puts(line);
    std::abort();
  }
  static void log(const char* line) noexcept { std::puts(line); }
};

using slabmalloc::Context;
using slabmalloc::Layout;
using Frames = slabmalloc::FrameAllocator<Kernel>;
using Heap = slabmalloc::CpuZones<Kernel, Frames>;

constinit Frames frames;
constinit Heap heap(frames);

// ---- the operators start here ----

constexpr std::size_t usual_alignment = __STDCPP_DEFAULT_NEW_ALIGNMENT__;

void* try_new(std::size_t size, std::size_t align, Context context) noexcept {
  const slabmalloc::Result<Layout> layout = Layout::from_size_align(size, align);
  return layout ? heap.allocate(*layout, context).value_or(nullptr) : nullptr;
}
void* new_or_panic(std::size_t size, std::size_t align) noexcept {
  void* const block = try_new(size, align, Context::MayWait);
  if (block == nullptr) {
    Kernel::panic("out of memory");
  }
  return block;
}
void delete_sized(void* block, std::size_t size, std::size_t align) noexcept {
  heap.deallocate(block, Layout::from_size_align(size, align).value());
}

}  // namespace

// `new (Context::Interrupt) T`: null, and no T, if there is no memory.
void* operator new(std::size_t size, Context context) noexcept {
  return try_new(size, usual_alignment, context);
}
void* operator new(std::size_t size, std::align_val_t align, Context context) noexcept {
  return try_new(size, static_cast<std::size_t>(align), context);
}
void* operator new(std::size_t size) { return new_or_panic(size, usual_alignment); }
void* operator new(std::size_t size, std::align_val_t align) {
  return new_or_panic(size, static_cast<std::size_t>(align));
}
void operator delete(void* block) noexcept { heap.deallocate(block); }
void operator delete(void* block, std::align_val_t) noexcept { heap.deallocate(block); }
void operator delete(void* block, std::size_t size) noexcept {
  delete_sized(block, size, usual_alignment);
}
void operator delete(void* block, std::size_t size, std::align_val_t align) noexcept {
  delete_sized(block, size, static_cast<std::size_t>(align));
}
void* operator new[](std::size_t size) { return new_or_panic(size, usual_alignment); }
void* operator new[](std::size_t size, std::align_val_t align) {
  return new_or_panic(size, static_cast<std::size_t>(align));
}
void operator delete[](void* block) noexcept { heap.deallocate(block); }
void operator delete[](void* block, std::align_val_t) noexcept { heap.deallocate(block); }
void operator delete[](void* block, std::size_t) noexcept { heap.deallocate(block); }
void operator delete[](void* block, std::size_t, std::align_val_t) noexcept {
  heap.deallocate(block);
}

// ---- the operators end here ----

static std::size_t alive = 0;

struct Device {
  Device() noexcept { ++alive; }
  virtual ~Device() { --alive; }
};
struct Big : Device {
  std::byte bytes[100'000];
};
struct alignas(128) Disk : Device {
  std::byte sectors[512];
};

int main() {
  alignas(4096) static std::byte memory[4 * slabmalloc::mebibyte];
  const slabmalloc::MemoryRegion region{reinterpret_cast<std::uintptr_t>(memory), sizeof memory};
  if (!frames.add(&region, 1)) {
    return 1;
  }
  Device* const device = new Disk;
  Device* const other = new (Context::MayNotWait) Device;
  Device* const refused = new (Context::Interrupt) Big;
  auto* const disks = new Disk[40];
  std::byte* const large = new std::byte[100'000];
  const bool is_aligned = reinterpret_cast<std::uintptr_t>(disks) % alignof(Disk) == 0;
  const bool is_sound = other != nullptr && refused == nullptr && alive == 42 && is_aligned &&
                        heap.usable_size(large) >= 100'000;
  delete device;
  delete other;
  delete[] disks;
  delete[] large;
  ::operator delete(::operator new(40));      // Without a size.
  ::operator delete(::operator new(40), 40);  // With the size.
  heap.drain_and_leave_current();
  const std::size_t in_use = heap.statistics().zones.used_bytes;
  heap.release_all();
  const std::size_t lost = frames.statistics().used_bytes;
  std::printf("%zu objects alive, %zu bytes in use, %zu bytes lost\n", alive, in_use, lost);
  return is_sound && alive == 0 && in_use == 0 && lost == 0 ? 0 : 1;
}
