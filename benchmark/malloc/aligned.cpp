// SPDX-License-Identifier: MIT
//
// Aligned blocks. Each step replaces a random one of 1000 blocks through posix_memalign or
// aligned_alloc. Blocks are aligned to 16 B to 4 KiB, most often to a cache line, and one to eight
// alignments long.
// Source: vector registers (16 to 64 B), cache lines, pages and direct input and output (4 KiB).
// One of the peers fails at alignments of 256 to 1024 B, so the pattern leaves them out.
#include <array>
#include <cstdint>

#include "replace.hpp"
#include "threads.hpp"

namespace slabmalloc::benchmark {
namespace {

constexpr std::size_t total_replacements = 5'000'000;
constexpr std::size_t blocks_per_thread = 1000;
constexpr std::array<std::size_t, 10> alignments{16, 32, 32, 64, 64, 64, 64, 128, 128, 4096};

void* allocate(std::size_t alignment, std::size_t bytes, bool posix) {
  void* block = nullptr;
  if (!posix) {
    block = std::aligned_alloc(alignment, bytes);
  } else if (posix_memalign(&block, alignment, bytes) != 0) {
    block = nullptr;
  }
  if (reinterpret_cast<std::uintptr_t>(block) % alignment != 0) fail("a block is not aligned");
  return require(block);
}

void* replacement(Random& random, std::size_t step, std::uint64_t serial) {
  const std::size_t alignment = alignments[random.below(alignments.size())];
  const std::size_t bytes = alignment * random.between(1, 8);
  void* block = allocate(alignment, bytes, step % 2 == 0);
  write_block(block, bytes, serial);
  return block;
}

}  // namespace

Result run_aligned(const Job& job) {
  return run_threads(job.threads, [&](unsigned thread) {
    return replace_random(thread, job.share(total_replacements), blocks_per_thread, replacement);
  });
}

}  // namespace slabmalloc::benchmark
