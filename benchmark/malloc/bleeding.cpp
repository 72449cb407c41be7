// SPDX-License-Identifier: MIT
//
// Server objects that outlive their threads. Each thread replaces random ones of 2000 objects of 16
// to 1000 B. After a while the thread ends, and its successor frees the objects that it left.
// Source: P. Larson, M. Krishnan, "Memory allocation for long-running server applications", 1998.
#include <thread>
#include <vector>

#include "block.hpp"
#include "random.hpp"
#include "threads.hpp"

namespace slabmalloc::benchmark {
namespace {

constexpr std::size_t total_replacements = 18'000'000;
constexpr std::size_t objects_per_thread = 2000;
constexpr unsigned generations = 12;

struct Chain {
  std::vector<void*> objects = std::vector<void*>(objects_per_thread);
  Result result;
  Random random;
  std::uint64_t serial;

  explicit Chain(unsigned number) : random(number), serial(first_serial(number)) {}

  void replace(std::size_t count) {
    for (std::size_t step = 0; step < count; ++step) {
      void*& object = objects[random.below(objects_per_thread)];
      result.checksum += drop_block(object);
      object = make_block(random.between(least_block_bytes, 1000), serial++);
    }
    result.operations += count;
  }
};

Result run_chain(unsigned number, std::size_t replacements) {
  Chain chain(number);
  for (unsigned generation = 0; generation < generations; ++generation)
    std::thread([&] { chain.replace(replacements / generations); }).join();
  for (void* object : chain.objects) chain.result.checksum += drop_block(object);
  return chain.result;
}

}  // namespace

Result run_bleeding(const Job& job) {
  return run_threads(job.threads, [&](unsigned number) {
    return run_chain(number, job.share(total_replacements));
  });
}

}  // namespace slabmalloc::benchmark
