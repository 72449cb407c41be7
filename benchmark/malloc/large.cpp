// SPDX-License-Identifier: MIT
//
// Large blocks of 128 KiB to 32 MiB, each doubling as likely as the others. Each step replaces a
// random one of twelve blocks and writes all of it. The threads share the twelve; each has at least
// one.
// Source: image, matrix and input buffers; glibc's threshold for mappings moves between these
// sizes.
#include <algorithm>

#include "replace.hpp"
#include "threads.hpp"

namespace slabmalloc::benchmark {
namespace {

constexpr std::size_t total_replacements = 600;
constexpr std::size_t blocks_alive = 12;
constexpr std::size_t least_bytes = 128 * 1024;
constexpr std::size_t doublings = 8;

void* replacement(Random& random, std::size_t, std::uint64_t serial) {
  const std::size_t base = least_bytes << random.below(doublings);
  return make_block(base + random.below(base), serial);
}

}  // namespace

Result run_large(const Job& job) {
  const std::size_t alive = std::max<std::size_t>(1, blocks_alive / job.threads);
  return run_threads(job.threads, [&](unsigned thread) {
    return replace_random(thread, job.share(total_replacements), alive, replacement);
  });
}

}  // namespace slabmalloc::benchmark
