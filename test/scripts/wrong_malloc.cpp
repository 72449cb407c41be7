// SPDX-License-Identifier: MIT
// A wrong malloc: it misaligns aligned blocks, does not zero zeroed blocks, and makes `true` print.
// It enlarges sizes, so that the memory before and behind a block stays intact.
#include <cerrno>
#include <cstddef>
#include <cstdio>
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

[[gnu::destructor]] void print_in_true() {
  if (std::strcmp(program_invocation_short_name, "true") == 0) std::puts("wrong");
}
}
