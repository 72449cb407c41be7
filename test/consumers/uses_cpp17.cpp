// SPDX-License-Identifier: MIT
//
// Exits with 0 if the C interface gives a block. Compiles as C++17 alone.
#include <slabmalloc/slabmalloc.h>

static_assert(__cplusplus == 201703L, "this project has asked for C++17");

int main() {
  void* const block = slabmalloc_allocate(100, 64);
  const bool works = block != nullptr && slabmalloc_usable_size(block) >= 100;
  slabmalloc_deallocate(block, 100, 64);
  return works ? 0 : 1;
}
