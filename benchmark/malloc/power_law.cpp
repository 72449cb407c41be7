// SPDX-License-Identifier: MIT
//
// Random sizes by a power law, 16 B to 64 KiB, most of them small. Each thread replaces random ones
// of 5000 blocks. It swaps one in sixteen with a slot of a table that all threads share.
// Source: rpmalloc's benchmark (M. Jansson).
#include <array>
#include <atomic>
#include <vector>

#include "block.hpp"
#include "random.hpp"
#include "threads.hpp"

namespace slabmalloc::benchmark {
namespace {

constexpr std::size_t total_replacements = 16'000'000;
constexpr std::size_t blocks_per_thread = 5000;
constexpr std::size_t mailboxes = 64;
constexpr std::size_t least_bytes = 16;
constexpr unsigned doublings = 12;

using Mail = std::array<std::atomic<void*>, mailboxes>;

Result replace(unsigned thread, std::size_t steps, Mail& mail) {
  Random random(thread);
  Result result;
  std::vector<void*> blocks(blocks_per_thread);
  std::uint64_t serial = first_serial(thread);
  for (std::size_t step = 0; step < steps; ++step) {
    void*& block = blocks[random.below(blocks_per_thread)];
    if (step % 16 == 0) block = mail[random.below(mailboxes)].exchange(block);
    result.checksum += drop_block(block);
    block = make_block(random.power_law(least_bytes, doublings), serial++);
  }
  for (void* block : blocks) result.checksum += drop_block(block);
  result.operations = steps;
  return result;
}

}  // namespace

Result run_power_law(const Job& job) {
  Mail mail{};
  Result result = run_threads(job.threads, [&](unsigned thread) {
    return replace(thread, job.share(total_replacements), mail);
  });
  for (auto& box : mail) result.checksum += drop_block(box.load());
  return result;
}

}  // namespace slabmalloc::benchmark
