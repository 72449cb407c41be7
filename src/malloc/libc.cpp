// SPDX-License-Identifier: MIT
//
// All allocation functions of the C library, over the process heap. They add errno, checks for
// overflow, and each standard's rules on sizes and alignments.
#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "malloc/front.hpp"
#include "malloc/report.hpp"
#include "os/os.hpp"

namespace front = slabmalloc::front;
namespace heap = slabmalloc::heap;
using slabmalloc::Call;
using slabmalloc::MallocConfig;

namespace {

/// Sets errno if `block` is null, and returns `block`.
[[gnu::always_inline]] inline void* or_enomem(void* block) noexcept {
  if (block == nullptr) [[unlikely]] {
    errno = ENOMEM;
  }
  return block;
}

/// Separate from malloc(), so that its fast path needs no stack frame.
[[gnu::noinline, maybe_unused]] void* allocate_or_enomem(
    size_t bytes, slabmalloc::ArenaClass* size_class) noexcept {
  return or_enomem(heap::allocate_slow(bytes, size_class));
}

void* aligned_or_enomem(size_t alignment, size_t bytes) noexcept {
  return or_enomem(front::allocate_aligned(bytes, alignment));
}

}  // namespace

// The C library declares these with attributes of its own.
#pragma GCC visibility push(default)
extern "C" {

// Both begin at a cache line. The chance of the link placed free 32 or 48 bytes into one, and the
// benchmark row `fragmentation` took 3 to 4 % longer then.
[[gnu::aligned(64)]] void* malloc(size_t bytes) noexcept {
  if constexpr (MallocConfig::hardened) {
    return or_enomem(front::allocate_aligned(bytes, heap::minimum_alignment));
  } else {
    slabmalloc::ArenaClass* const size_class = heap::class_for(bytes);
    void* block = heap::allocate_fast(size_class);
    return block != nullptr ? block : allocate_or_enomem(bytes, size_class);
  }
}

[[gnu::aligned(64)]] void free(void* block) noexcept { front::deallocate<Call::Free>(block); }

void* calloc(size_t count, size_t bytes) noexcept {
  size_t total = 0;
  if (__builtin_mul_overflow(count, bytes, &total)) [[unlikely]] {
    errno = ENOMEM;
    return nullptr;
  }
  return or_enomem(front::allocate_zeroed(total));
}

void* realloc(void* block, size_t bytes) noexcept {
  if (block == nullptr) {
    return malloc(bytes);
  }
  if (bytes == 0) {
    // As the C library does: programs rely on it.
    front::deallocate<Call::ReallocToNothing>(block);
    return nullptr;
  }
  return or_enomem(front::reallocate(block, bytes));
}

void* reallocarray(void* block, size_t count, size_t bytes) noexcept {
  size_t total = 0;
  if (__builtin_mul_overflow(count, bytes, &total)) [[unlikely]] {
    errno = ENOMEM;
    return nullptr;
  }
  return realloc(block, total);
}

int posix_memalign(void** result, size_t alignment, size_t bytes) noexcept {
  if (!slabmalloc::is_power_of_two(alignment) || alignment % sizeof(void*) != 0) {
    return EINVAL;
  }
  void* block = front::allocate_aligned(bytes, alignment);
  if (block == nullptr) {
    return ENOMEM;
  }
  *result = block;
  return 0;
}

void* aligned_alloc(size_t alignment, size_t bytes) noexcept {
  if (!slabmalloc::is_power_of_two(alignment)) {
    errno = EINVAL;
    return nullptr;
  }
  return aligned_or_enomem(alignment, bytes);
}

void* memalign(size_t alignment, size_t bytes) noexcept {
  // A caller may ask for any alignment; the next power of two serves it.
  if (alignment > SIZE_MAX / 2 + 1) {
    errno = EINVAL;
    return nullptr;
  }
  size_t power = heap::minimum_alignment;
  while (power < alignment) {
    power *= 2;
  }
  return aligned_or_enomem(power, bytes);
}

void* valloc(size_t bytes) noexcept {
  return aligned_or_enomem(slabmalloc::os::interface().os_page_bytes(), bytes);
}

void* pvalloc(size_t bytes) noexcept {
  const size_t os_page_bytes = slabmalloc::os::interface().os_page_bytes();
  if (bytes > SIZE_MAX - os_page_bytes) {
    errno = ENOMEM;
    return nullptr;
  }
  return aligned_or_enomem(os_page_bytes,
                           slabmalloc::align_up(bytes == 0 ? 1 : bytes, os_page_bytes));
}

size_t malloc_usable_size(void* block) noexcept {
  return block == nullptr ? 0 : front::usable_bytes(block);
}

void cfree(void* block) noexcept { front::deallocate<Call::CFree>(block); }

/// C23: as free(), for a block whose size and alignment the caller knows.
void free_sized(void* block, size_t bytes) noexcept {
  front::deallocate_sized<Call::FreeSized>(block, bytes);
}
void free_aligned_sized(void* block, size_t alignment, size_t bytes) noexcept {
  if (slabmalloc::is_power_of_two(alignment)) {
    front::deallocate_sized<Call::FreeAlignedSized>(block, bytes, alignment);
  } else {
    front::deallocate<Call::FreeAlignedSized>(block);  // aligned_alloc() gives no such block.
  }
}

int malloc_trim(size_t) noexcept { return front::trim() != 0 ? 1 : 0; }

/// Fails: always, with 0. The parameters describe parts of another malloc: docs/OPTIONS.md has
/// those of this one.
int mallopt(int, int) noexcept { return 0; }

struct mallinfo2 mallinfo2() noexcept {
  const slabmalloc::ProcessStatistics process = slabmalloc::process_statistics();
  struct mallinfo2 info = {};
  info.arena = process.arena.committed_bytes;
  info.hblks = process.arena.large.count;
  info.hblkhd = process.arena.large.bytes;
  info.uordblks = process.live_bytes;
  info.fordblks = process.arena.committed_bytes > process.live_bytes
                      ? process.arena.committed_bytes - process.live_bytes
                      : 0;
  info.keepcost = process.arena.dirty_bytes;
  for (const slabmalloc::ClassStatistics& one : process.classes) {
    info.ordblks += one.slots - one.used;
  }
  return info;
}

struct mallinfo mallinfo() noexcept {
  const struct mallinfo2 wide = mallinfo2();
  // The fields are int, so larger values become INT32_MAX.
  const auto narrow = [](size_t value) {
    return value < INT32_MAX ? static_cast<int>(value) : INT32_MAX;
  };
  struct mallinfo info = {};
  info.ordblks = narrow(wide.ordblks);
  info.arena = narrow(wide.arena);
  info.hblks = narrow(wide.hblks);
  info.hblkhd = narrow(wide.hblkhd);
  info.uordblks = narrow(wide.uordblks);
  info.fordblks = narrow(wide.fordblks);
  info.keepcost = narrow(wide.keepcost);
  return info;
}

void malloc_stats() noexcept { slabmalloc::print_statistics(STDERR_FILENO); }

int malloc_info(int options, FILE* stream) noexcept {
  if (options != 0) {
    errno = EINVAL;
    return -1;
  }
  return slabmalloc::print_xml(stream) ? 0 : -1;
}

}  // extern "C"
#pragma GCC visibility pop

// Names that the GNU C library exports too. Programs that call them free the blocks by free().
#define SLABMALLOC_LIBC_NAME(name) ".globl __libc_" #name "\n.set __libc_" #name ", " #name "\n"
__asm__(SLABMALLOC_LIBC_NAME(malloc) SLABMALLOC_LIBC_NAME(free) SLABMALLOC_LIBC_NAME(calloc)
            SLABMALLOC_LIBC_NAME(realloc) SLABMALLOC_LIBC_NAME(memalign)
                SLABMALLOC_LIBC_NAME(valloc) SLABMALLOC_LIBC_NAME(pvalloc));
#undef SLABMALLOC_LIBC_NAME
