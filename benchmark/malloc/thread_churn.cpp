// SPDX-License-Identifier: MIT
//
// Threads that start and end. Each of N chains starts a thread, waits for its end and starts the
// next. A thread makes 1000 objects of 16 to 1024 B, with up to 100 live, frees all and ends.
// Source: servers with one thread a request; W. Gloger's t-test1 does the like.
#include <array>
#include <thread>

#include "block.hpp"
#include "random.hpp"
#include "threads.hpp"

namespace slabmalloc::benchmark {
namespace {

constexpr std::size_t total_threads = 10'000;
constexpr std::size_t objects_per_life = 1000;
constexpr std::size_t objects_alive = 100;

Result live(std::uint64_t seed) {
  Random random(seed);
  Result result{.operations = objects_per_life};
  std::array<void*, objects_alive> objects{};
  for (std::size_t index = 0; index < objects_per_life; ++index) {
    void*& object = objects[random.below(objects_alive)];
    result.checksum += drop_block(object);
    object = make_block(random.between(least_block_bytes, 1024), seed << 12 | index);
  }
  for (void* object : objects) result.checksum += drop_block(object);
  return result;
}

}  // namespace

Result run_thread_churn(const Job& job) {
  const std::size_t lives = job.share(total_threads);
  return run_threads(job.threads, [&](unsigned chain) {
    Result result;
    for (std::size_t number = 0; number < lives; ++number) {
      std::thread([&] { result += live(chain * lives + number); }).join();
    }
    return result;
  });
}

}  // namespace slabmalloc::benchmark
