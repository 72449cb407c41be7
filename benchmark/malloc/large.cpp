// SPDX-License-Identifier: MIT
//
// Large blocks, 128 KiB to 32 MiB, each doubling as likely as the others: random ones of twelve
// (shared between the threads, at least one each) are replaced, and written as a whole.
// Source: image, matrix and input buffers; glibc's threshold for mappings moves between these
// sizes.
#include <algorithm>
#include <vector>

#include "block.hpp"
#include "random.hpp"
#include "threads.hpp"

namespace slabmalloc::benchmark {
namespace {

constexpr std::size_t total_replacements = 600;
constexpr std::size_t blocks_alive = 12;
constexpr std::size_t least_bytes = 128 * 1024;
constexpr std::size_t doublings = 8;

Result replace(unsigned thread, std::size_t steps, std::size_t alive) {
  Random random(thread);
  Result result{.operations = steps};
  std::vector<void*> blocks(alive);
  std::uint64_t serial = first_serial(thread);
  for (std::size_t step = 0; step < steps; ++step) {
    void*& block = blocks[random.below(alive)];
    result.checksum += drop_block(block);
    const std::size_t base = least_bytes << random.below(doublings);
    block = make_block(base + random.below(base), serial++);
  }
  for (void* block : blocks) result.checksum += drop_block(block);
  return result;
}

}  // namespace

Result run_large(const Job& job) {
  const std::size_t alive = std::max<std::size_t>(1, blocks_alive / job.threads);
  return run_threads(job.threads, [&](unsigned thread) {
    return replace(thread, job.share(total_replacements), alive);
  });
}

}  // namespace slabmalloc::benchmark
