// SPDX-License-Identifier: MIT
// A malloc that is wrong: aligned blocks are not aligned, and zeroed blocks not zero. Sizes are
// made larger, so that what lies in front of a block and behind it stays intact.
#include <cstddef>
#include <cstring>

extern "C" {
void* __libc_malloc(std::size_t bytes);
void* __libc_memalign(std::size_t alignment, std::size_t bytes);

void* malloc(std::size_t bytes) { return __libc_malloc(bytes); }

void* calloc(std::size_t count, std::size_t bytes) {
  void* block = __libc_malloc(count * bytes);
  if (block != nullptr) std::memset(block, bytes == 1 ? 1 : 0, count * bytes);
  return block;
}

int posix_memalign(void** block, std::size_t alignment, std::size_t bytes) {
  *block = static_cast<char*>(__libc_memalign(alignment, bytes + alignment)) + alignment / 2;
  return 0;
}
}
