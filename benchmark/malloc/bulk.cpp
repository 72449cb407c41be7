// SPDX-License-Identifier: MIT
//
// Batches of 5000 objects of 16 to 1000 B; small objects are more frequent.
// The pattern bulk-lifo frees three quarters of a batch at once, youngest first, and the rest six
// batches later.
// The pattern bulk-reversed passes each batch to a neighbouring thread, which frees it, oldest
// first. A single thread frees its own batch, one batch later.
// Source: the access patterns of SmartHeap's sh6bench and sh8bench (MicroQuill).
#include <array>
#include <mutex>
#include <vector>

#include "block.hpp"
#include "random.hpp"
#include "threads.hpp"

namespace slabmalloc::benchmark {
namespace {

constexpr std::size_t total_batches = 4000;
constexpr std::size_t objects_per_batch = 5000;
constexpr std::size_t kept_batches = 6;

using Batch = std::vector<void*>;

/// Half of the objects are below 64 B, a quarter below 256 B.
std::size_t size(Random& random) {
  constexpr std::array<std::size_t, 4> limits{64, 64, 256, 1000};
  return random.between(least_block_bytes, limits[random.below(limits.size())]);
}

void fill(Batch& batch, Random& random, std::uint64_t& serial) {
  for (std::size_t index = 0; index < objects_per_batch; ++index)
    batch.push_back(make_block(size(random), serial++));
}

Result drop_oldest_first(Batch& batch) {
  Result result{.operations = batch.size()};
  for (void* object : batch) result.checksum += drop_block(object);
  batch.clear();
  return result;
}

Result drop_youngest_first(Batch& batch, std::size_t left) {
  Result result{.operations = batch.size() - left};
  while (batch.size() > left) {
    result.checksum += drop_block(batch.back());
    batch.pop_back();
  }
  return result;
}

Result run_lifo(unsigned thread, std::size_t batches) {
  Random random(thread);
  Result result;
  std::uint64_t serial = first_serial(thread);
  std::array<Batch, kept_batches> kept;
  for (std::size_t number = 0; number < batches; ++number) {
    Batch& batch = kept[number % kept_batches];
    result += drop_oldest_first(batch);
    fill(batch, random, serial);
    result += drop_youngest_first(batch, objects_per_batch / 4);
  }
  for (Batch& batch : kept) result += drop_oldest_first(batch);
  return result;
}

/// Hands batches to a thread. At most one batch waits in it.
struct Queue {
  std::mutex mutex;
  Batch batch;

  Batch exchange(Batch other) {
    const std::scoped_lock lock(mutex);
    batch.swap(other);
    return other;
  }
};

Result run_reversed(unsigned thread, std::size_t batches, std::vector<Queue>& queues) {
  Random random(thread);
  Result result;
  std::uint64_t serial = first_serial(thread);
  Queue& neighbour = queues[(thread + 1) % queues.size()];
  for (std::size_t number = 0; number < batches; ++number) {
    Batch batch = queues[thread].exchange({});
    result += drop_oldest_first(batch);
    fill(batch, random, serial);
    // The neighbour did not take the earlier batch, so this thread frees it.
    Batch left = neighbour.exchange(std::move(batch));
    result += drop_oldest_first(left);
  }
  return result;
}

}  // namespace

Result run_bulk_lifo(const Job& job) {
  return run_threads(job.threads,
                     [&](unsigned thread) { return run_lifo(thread, job.share(total_batches)); });
}

Result run_bulk_reversed(const Job& job) {
  std::vector<Queue> queues(job.threads);
  Result result = run_threads(job.threads, [&](unsigned thread) {
    return run_reversed(thread, job.share(total_batches), queues);
  });
  for (Queue& queue : queues) result += drop_oldest_first(queue.batch);
  return result;
}

}  // namespace slabmalloc::benchmark
