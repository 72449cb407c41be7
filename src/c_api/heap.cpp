// SPDX-License-Identifier: MIT
//
// Heaps of their own, as slabmalloc.h declares them: Heap over the memory of os.
#include "slabmalloc/hosted/heap.hpp"

#include <cstddef>

#include "os/os.hpp"
#include "slabmalloc/slabmalloc.h"

namespace {

using slabmalloc::Layout;
using slabmalloc::Result;

/// A test may make each call fail.
struct OsMemory {
  static void* map(std::size_t bytes) noexcept { return slabmalloc::os::interface().map(bytes); }
  static void unmap(void* address, std::size_t bytes) noexcept {
    if (!slabmalloc::os::interface().unmap(address, bytes)) {
      drop(address, bytes);
    }
  }
  static bool drop(void* address, std::size_t bytes) noexcept {
    return slabmalloc::os::interface().purge(address, bytes);
  }
  static std::size_t page_bytes() noexcept { return slabmalloc::os::interface().os_page_bytes(); }
};

using Heap = slabmalloc::BasicHeap<16, OsMemory>;

Heap* heap_of(slabmalloc_heap* heap) noexcept { return reinterpret_cast<Heap*>(heap); }
const Heap* heap_of(const slabmalloc_heap* heap) noexcept {
  return reinterpret_cast<const Heap*>(heap);
}

}  // namespace

#pragma GCC visibility push(default)
extern "C" {

slabmalloc_heap* slabmalloc_heap_create(const char* name) {
  return reinterpret_cast<slabmalloc_heap*>(Heap::create(name).release());
}

void slabmalloc_heap_destroy(slabmalloc_heap* heap) {
  if (heap != nullptr) {
    heap_of(heap)->destroy();
  }
}

const char* slabmalloc_heap_name(const slabmalloc_heap* heap) { return heap_of(heap)->name(); }

void* slabmalloc_heap_allocate(slabmalloc_heap* heap, size_t bytes, size_t alignment) {
  const Result<Layout> layout = Layout::from_size_align(bytes, alignment);
  return layout ? heap_of(heap)->allocate(*layout).value_or(nullptr) : nullptr;
}

void* slabmalloc_heap_allocate_zeroed(slabmalloc_heap* heap, size_t bytes, size_t alignment) {
  const Result<Layout> layout = Layout::from_size_align(bytes, alignment);
  return layout ? heap_of(heap)->allocate_zeroed(*layout).value_or(nullptr) : nullptr;
}

void* slabmalloc_heap_reallocate(slabmalloc_heap* heap, void* block, size_t new_bytes,
                                 size_t alignment) {
  const Result<Layout> layout = Layout::from_size_align(new_bytes, alignment);
  return layout ? heap_of(heap)->reallocate(block, *layout).value_or(nullptr) : nullptr;
}

void slabmalloc_heap_deallocate(slabmalloc_heap* heap, void* block) {
  heap_of(heap)->deallocate(block);
}

void slabmalloc_heap_deallocate_sized(slabmalloc_heap* heap, void* block, size_t bytes,
                                      size_t alignment) {
  const Result<Layout> layout = Layout::from_size_align(bytes, alignment);
  if (layout) {
    heap_of(heap)->deallocate(block, *layout);
  } else if (block != nullptr) {
    slabmalloc::report_misuse({slabmalloc::MisuseKind::SizeMismatch, block, 0, 0, nullptr,
                               slabmalloc::BlockState::Unknown, slabmalloc::FoundAt::Call, bytes});
  }
}

size_t slabmalloc_heap_usable_size(slabmalloc_heap* heap, void* block) {
  return heap_of(heap)->usable_size(block);
}

int slabmalloc_heap_owns(const slabmalloc_heap* heap, const void* address) {
  return heap_of(heap)->owns(address) ? 1 : 0;
}

void slabmalloc_heap_set_limit(slabmalloc_heap* heap, size_t bytes) {
  heap_of(heap)->set_limit(bytes);
}

void slabmalloc_heap_set_kept(slabmalloc_heap* heap, size_t bytes) {
  heap_of(heap)->set_kept_bytes(bytes);
}

size_t slabmalloc_heap_trim(slabmalloc_heap* heap) { return heap_of(heap)->trim(); }

void slabmalloc_heap_enter_idle(slabmalloc_heap* heap) { heap_of(heap)->enter_idle(); }

void slabmalloc_heap_statistics(const slabmalloc_heap* heap, slabmalloc_statistics* result) {
  const slabmalloc::HeapStatistics now = heap_of(heap)->statistics();
  *result = {now.used_bytes,  now.held_bytes, now.held_bytes_high_water,
             now.allocations, now.frees,      now.remote_frees};
}

int slabmalloc_heap_class_statistics(const slabmalloc_heap* heap, size_t index,
                                     slabmalloc_class_statistics* result) {
  if (index >= Heap::class_count) {
    return 0;
  }
  const slabmalloc::ClassStatistics one =
      heap_of(heap)->class_statistics(static_cast<std::uint32_t>(index));
  *result = {one.object_size, one.used, one.allocations, one.frees, one.pages, one.page_bytes};
  return 1;
}

}  // extern "C"
#pragma GCC visibility pop
