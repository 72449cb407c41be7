// SPDX-License-Identifier: MIT
//
// Memory that a program fills and empties again and again, with little else live.
// The pattern refilled fills a heap with objects of 100 B, then frees all of them. The heaps of its
// rounds have 1, 4, 16 and 64 MiB.
// The pattern buffer allocates, writes and frees one block of 1, 6, 20, 64 or 240 MiB. Other blocks
// stay live.
// Source: documents that a parser builds and drops; temporaries of numerical and image programs.
#include <array>
#include <vector>

#include "block.hpp"
#include "threads.hpp"

namespace slabmalloc::benchmark {
namespace {

constexpr std::size_t mebibyte = 1024 * 1024;
constexpr std::size_t object_bytes = 100;
/// Of each size of heap or buffer: enough that the program runs for more than a decay interval.
constexpr std::size_t bytes_per_size = 2048 * mebibyte;
constexpr std::array<std::size_t, 4> heap_bytes{mebibyte, 4 * mebibyte, 16 * mebibyte,
                                                64 * mebibyte};
constexpr std::array<std::size_t, 5> buffer_bytes{mebibyte, 6 * mebibyte, 20 * mebibyte,
                                                  64 * mebibyte, 240 * mebibyte};
constexpr std::size_t live_blocks = 4;
constexpr std::size_t live_block_bytes = 40 * mebibyte;

Result refill(unsigned thread, const Job& job) {
  Result result;
  std::uint64_t serial = first_serial(thread);
  std::vector<void*> objects;
  for (const std::size_t bytes : heap_bytes) {
    const std::size_t heap = bytes / job.threads;
    for (std::size_t left = job.share(bytes_per_size); left >= heap; left -= heap) {
      for (std::size_t used = 0; used < heap; used += object_bytes)
        objects.push_back(make_block(object_bytes, serial++));
      result.operations += objects.size();
      for (void* object : objects) result.checksum += drop_block(object);
      objects.clear();
    }
  }
  return result;
}

}  // namespace

Result run_refilled(const Job& job) {
  return run_threads(job.threads, [&](unsigned thread) { return refill(thread, job); });
}

Result run_buffer(const Job& job) {
  Result result;
  std::uint64_t serial = first_serial(0);
  std::array<void*, live_blocks> live{};
  for (void*& block : live) block = make_block(live_block_bytes, serial++);
  for (const std::size_t bytes : buffer_bytes) {
    for (std::size_t left = job.share(4 * bytes_per_size); left >= bytes; left -= bytes) {
      result.checksum += drop_block(make_block(bytes, serial++));
      ++result.operations;
    }
  }
  for (void* block : live) result.checksum += drop_block(block);
  return result;
}

}  // namespace slabmalloc::benchmark
