// SPDX-License-Identifier: MIT
//
// The functions that -fsanitize=thread makes a compiler call, of code that is compiled with it and
// linked without: each plain access goes to the explorer.
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "explorer/explorer.hpp"

namespace {

void read(const void* address, std::size_t bytes) noexcept {
  slabmalloc::explorer::plain_access(address, bytes, false);
}
void write(const void* address, std::size_t bytes) noexcept {
  slabmalloc::explorer::plain_access(address, bytes, true);
}

}  // namespace

// The compilers know these names.
// NOLINTBEGIN(bugprone-reserved-identifier, readability-identifier-naming)
extern "C" {
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void** address, void*) { write(address, sizeof(*address)); }
void __tsan_vptr_read(void** address) { read(address, sizeof(*address)); }
void __tsan_read1(void* address) { read(address, 1); }
void __tsan_read2(void* address) { read(address, 2); }
void __tsan_read4(void* address) { read(address, 4); }
void __tsan_read8(void* address) { read(address, 8); }
void __tsan_read16(void* address) { read(address, 16); }
void __tsan_write1(void* address) { write(address, 1); }
void __tsan_write2(void* address) { write(address, 2); }
void __tsan_write4(void* address) { write(address, 4); }
void __tsan_write8(void* address) { write(address, 8); }
void __tsan_write16(void* address) { write(address, 16); }
void __tsan_unaligned_read2(void* address) { read(address, 2); }
void __tsan_unaligned_read4(void* address) { read(address, 4); }
void __tsan_unaligned_read8(void* address) { read(address, 8); }
void __tsan_unaligned_read16(void* address) { read(address, 16); }
void __tsan_unaligned_write2(void* address) { write(address, 2); }
void __tsan_unaligned_write4(void* address) { write(address, 4); }
void __tsan_unaligned_write8(void* address) { write(address, 8); }
void __tsan_unaligned_write16(void* address) { write(address, 16); }
void __tsan_read_range(void* address, std::size_t bytes) { read(address, bytes); }
void __tsan_write_range(void* address, std::size_t bytes) { write(address, bytes); }
void __tsan_atomic_signal_fence(int) {}
// Of the misuse handler, which is in no region.
std::uint64_t __tsan_atomic64_load(const volatile std::uint64_t* cell, int) {
  return __atomic_load_n(cell, __ATOMIC_SEQ_CST);
}
std::uint64_t __tsan_atomic64_exchange(volatile std::uint64_t* cell, std::uint64_t value, int) {
  return __atomic_exchange_n(cell, value, __ATOMIC_SEQ_CST);
}
void* __tsan_memcpy(void* to, const void* from, std::size_t bytes) {
  read(from, bytes);
  write(to, bytes);
  return std::memcpy(to, from, bytes);
}
void* __tsan_memmove(void* to, const void* from, std::size_t bytes) {
  read(from, bytes);
  write(to, bytes);
  return std::memmove(to, from, bytes);
}
void* __tsan_memset(void* to, int value, std::size_t bytes) {
  write(to, bytes);
  return std::memset(to, value, bytes);
}
}
// NOLINTEND(bugprone-reserved-identifier, readability-identifier-naming)
