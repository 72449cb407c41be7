// SPDX-License-Identifier: MIT
//
// Blocks as the workloads use them. A workload writes a block as a real program does, and checks it
// before it frees it.
//
//   | label | … one word in each cache line … | ~label |      label = serial << 28 | bytes
//
// The label alone suffices to check and to count a block, on whichever thread it ends. The label
// does not fit if the allocator issued a block twice, lost its content or cut it short.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace slabmalloc::benchmark {

inline constexpr std::size_t least_block_bytes = 16;
inline constexpr unsigned label_size_bits = 28;
inline constexpr std::size_t cache_line_bytes = 64;

/// Hides `pointer` from the compiler, so that it cannot leave the allocation out.
template <class T>
inline void escape(T*& pointer) {
  asm volatile("" : "+r"(pointer) : : "memory");
}

/// Ends the program because the allocator is at fault.
[[noreturn]] inline void fail(const char* reason) {
  std::fprintf(stderr, "malloc_workloads: %s\n", reason);
  std::abort();
}

inline void store_word(void* block, std::size_t offset, std::uint64_t word) {
  std::memcpy(static_cast<unsigned char*>(block) + offset, &word, sizeof word);
}

inline std::uint64_t load_word(const void* block, std::size_t offset) {
  std::uint64_t word = 0;
  std::memcpy(&word, static_cast<const unsigned char*>(block) + offset, sizeof word);
  return word;
}

/// Writes the whole block, one word in each cache line. Pre: 16 <= bytes < 2^28.
inline void write_block(void* block, std::size_t bytes, std::uint64_t serial) {
  const std::uint64_t label = serial << label_size_bits | bytes;
  store_word(block, 0, label);
  for (std::size_t offset = cache_line_bytes; offset + sizeof label < bytes;
       offset += cache_line_bytes)
    store_word(block, offset, label);
  store_word(block, bytes - sizeof label, ~label);
}

/// The size that write_block recorded in the block.
inline std::size_t block_bytes(const void* block) {
  return load_word(block, 0) & ((std::uint64_t{1} << label_size_bits) - 1);
}

/// The block's part of the checksum. Fails: ends the program if the content changed.
inline std::uint64_t check_block(const void* block) {
  const std::uint64_t label = load_word(block, 0);
  if (load_word(block, block_bytes(block) - sizeof label) != ~label)
    fail("a block does not hold what was written into it");
  return (label ^ label >> 29) * 0xbf58476d1ce4e5b9U;
}

/// `block` itself. Fails: ends the program if it is null.
inline void* require(void* block) {
  if (block == nullptr) fail("out of memory");
  escape(block);
  return block;
}

/// A new block, already written.
inline void* make_block(std::size_t bytes, std::uint64_t serial) {
  void* block = require(std::malloc(bytes));
  write_block(block, bytes, serial);
  return block;
}

/// Checks and frees a block; returns its part of the checksum. A null pointer counts as 0.
inline std::uint64_t drop_block(void* block) {
  if (block == nullptr) return 0;
  const std::uint64_t checksum = check_block(block);
  std::free(block);
  return checksum;
}

/// Serial numbers of different threads do not overlap.
inline std::uint64_t first_serial(unsigned thread) { return std::uint64_t{thread} << 30; }

}  // namespace slabmalloc::benchmark
