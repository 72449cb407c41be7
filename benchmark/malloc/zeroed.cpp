// SPDX-License-Identifier: MIT
//
// calloc of 32 B to 256 KiB by a power law. The pattern checks that the memory is zero, writes it,
// and frees it when it draws its place among 1000 again. One block in 256 has 64 to 256 KiB, where
// clearing costs most.
// Source: interpreters, compilers (GCC's xcalloc) and C libraries call calloc for tables.

#include "replace.hpp"
#include "threads.hpp"

namespace slabmalloc::benchmark {
namespace {

constexpr std::size_t total_replacements = 4'000'000;
constexpr std::size_t blocks_per_thread = 1000;
constexpr std::size_t least_bytes = 32;
constexpr unsigned doublings = 11;
constexpr std::size_t table_bytes = 64 * 1024;

/// Checks a word in each cache line and the last one.
void check_zero(const void* block, std::size_t bytes) {
  std::uint64_t sum = load_word(block, bytes - sizeof sum);
  for (std::size_t offset = 0; offset + sizeof sum <= bytes; offset += cache_line_bytes)
    sum |= load_word(block, offset);
  if (sum != 0) fail("calloc returned memory that is not zero");
}

void* replacement(Random& random, std::size_t, std::uint64_t serial) {
  const std::size_t bytes = random.below(256) == 0 ? random.between(table_bytes, 4 * table_bytes)
                                                   : random.power_law(least_bytes, doublings);
  void* block = require(std::calloc(bytes, 1));
  check_zero(block, bytes);
  write_block(block, bytes, serial);
  return block;
}

}  // namespace

Result run_zeroed(const Job& job) {
  return run_threads(job.threads, [&](unsigned thread) {
    return replace_random(thread, job.share(total_replacements), blocks_per_thread, replacement);
  });
}

}  // namespace slabmalloc::benchmark
