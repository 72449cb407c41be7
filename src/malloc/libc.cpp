// SPDX-License-Identifier: MIT
//
// The allocation functions that every C library declares, over the process heap. They add errno,
// checks for overflow, and each standard's rules on sizes and alignments.
#include "libc/libc.hpp"

#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>

#include "malloc/front.hpp"
#include "os/os.hpp"

namespace front = slabmalloc::front;
namespace heap = slabmalloc::heap;
using slabmalloc::Call;
using slabmalloc::CLibrary;
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

// The C library declares these with attributes of its own. They have no `noexcept`, since only some
// C libraries declare them so, and compilers take it over from there.
#pragma GCC visibility push(default)
extern "C" {

// Both begin at a cache line. The chance of the link placed free 32 or 48 bytes into one, and the
// benchmark row `fragmentation` took 3 to 4 % longer then.
[[gnu::aligned(64)]] void* malloc(size_t bytes) {
  if constexpr (MallocConfig::hardened) {
    return or_enomem(front::allocate_aligned(bytes, heap::minimum_alignment));
  } else {
    slabmalloc::ArenaClass* const size_class = heap::class_for(bytes);
    void* block = heap::allocate_fast(size_class);
    return block != nullptr ? block : allocate_or_enomem(bytes, size_class);
  }
}

[[gnu::aligned(64)]] void free(void* block) { front::deallocate<Call::Free>(block); }

void* calloc(size_t count, size_t bytes) {
  size_t total = 0;
  if (__builtin_mul_overflow(count, bytes, &total)) [[unlikely]] {
    errno = ENOMEM;
    return nullptr;
  }
  return or_enomem(front::allocate_zeroed(total));
}

void* realloc(void* block, size_t bytes) {
  if (block == nullptr) {
    return malloc(bytes);
  }
  if (CLibrary::reallocation_to_nothing_frees && bytes == 0) {
    // As the C library does: programs rely on it.
    front::deallocate<Call::ReallocToNothing>(block);
    return nullptr;
  }
  return or_enomem(front::reallocate(block, bytes));
}

void* reallocarray(void* block, size_t count, size_t bytes) {
  size_t total = 0;
  if (__builtin_mul_overflow(count, bytes, &total)) [[unlikely]] {
    errno = ENOMEM;
    return nullptr;
  }
  return realloc(block, total);
}

int posix_memalign(void** result, size_t alignment, size_t bytes) {
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

void* aligned_alloc(size_t alignment, size_t bytes) {
  if (!slabmalloc::is_power_of_two(alignment)) {
    errno = EINVAL;
    return nullptr;
  }
  return aligned_or_enomem(alignment, bytes);
}

void* memalign(size_t alignment, size_t bytes) {
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

void* valloc(size_t bytes) {
  return aligned_or_enomem(slabmalloc::os::interface().os_page_bytes(), bytes);
}

size_t malloc_usable_size(void* block) { return block == nullptr ? 0 : front::usable_bytes(block); }

/// C23: as free(), for a block whose size and alignment the caller knows.
void free_sized(void* block, size_t bytes) {
  front::deallocate_sized<Call::FreeSized>(block, bytes);
}
void free_aligned_sized(void* block, size_t alignment, size_t bytes) {
  if (slabmalloc::is_power_of_two(alignment)) {
    front::deallocate_sized<Call::FreeAlignedSized>(block, bytes, alignment);
  } else {
    front::deallocate<Call::FreeAlignedSized>(block);  // aligned_alloc() gives no such block.
  }
}

}  // extern "C"
#pragma GCC visibility pop

__asm__(SLABMALLOC_LIBC_NAME(malloc) SLABMALLOC_LIBC_NAME(free) SLABMALLOC_LIBC_NAME(calloc)
            SLABMALLOC_LIBC_NAME(realloc) SLABMALLOC_LIBC_NAME(memalign)
                SLABMALLOC_LIBC_NAME(valloc));
