// SPDX-License-Identifier: MIT
//
// The allocation functions that the GNU C library alone declares, over the process heap.
#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include "libc/libc.hpp"
#include "malloc/front.hpp"
#include "malloc/report.hpp"
#include "os/os.hpp"

namespace front = slabmalloc::front;
using slabmalloc::Call;

// The C library declares these with attributes of its own.
#pragma GCC visibility push(default)
extern "C" {

void* pvalloc(size_t bytes) noexcept {
  const size_t os_page_bytes = slabmalloc::os::interface().os_page_bytes();
  if (bytes > SIZE_MAX - os_page_bytes) {
    errno = ENOMEM;
    return nullptr;
  }
  void* const block = front::allocate_aligned(
      slabmalloc::align_up(bytes == 0 ? 1 : bytes, os_page_bytes), os_page_bytes);
  if (block == nullptr) {
    errno = ENOMEM;
  }
  return block;
}

void cfree(void* block) noexcept { front::deallocate<Call::CFree>(block); }

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

__asm__(SLABMALLOC_LIBC_NAME(pvalloc));
