// SPDX-License-Identifier: MIT
//
// A malloc and its free, repeated, of one size or of random sizes of 16 B to 1 KiB. This measures
// the fast paths and nothing else. The pattern writes only the first word of each block.
// Source: the shortest lifetime there is, as of a temporary std::string.
#include <array>

#include "block.hpp"
#include "random.hpp"
#include "threads.hpp"

namespace slabmalloc::benchmark {
namespace {

constexpr std::size_t total_pairs = 60'000'000;
constexpr std::size_t mixed_sizes = 1024;

std::uint64_t pair(std::size_t bytes, std::uint64_t word) {
  void* block = require(std::malloc(bytes));
  store_word(block, 0, word);
  escape(block);
  const std::uint64_t read = load_word(block, 0);
  std::free(block);
  return read;
}

Result run_one_size(const Job& job, std::size_t bytes) {
  const std::size_t pairs = job.share(total_pairs);
  return run_threads(job.threads, [&](unsigned) {
    Result result{.operations = pairs};
    for (std::size_t index = 0; index < pairs; ++index) result.checksum += pair(bytes, index);
    return result;
  });
}

}  // namespace

Result run_pair_16(const Job& job) { return run_one_size(job, 16); }
Result run_pair_64(const Job& job) { return run_one_size(job, 64); }
Result run_pair_512(const Job& job) { return run_one_size(job, 512); }
Result run_pair_4096(const Job& job) { return run_one_size(job, 4096); }

Result run_pair_mixed(const Job& job) {
  const std::size_t pairs = job.share(total_pairs);
  return run_threads(job.threads, [&](unsigned thread) {
    Random random(thread);
    std::array<std::uint16_t, mixed_sizes> sizes{};
    for (std::uint16_t& size : sizes) size = static_cast<std::uint16_t>(random.between(16, 1024));
    Result result{.operations = pairs};
    for (std::size_t index = 0; index < pairs; ++index)
      result.checksum += pair(sizes[index % mixed_sizes], index);
    return result;
  });
}

}  // namespace slabmalloc::benchmark
