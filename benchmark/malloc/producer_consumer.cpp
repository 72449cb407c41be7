// SPDX-License-Identifier: MIT
//
// Asymmetric threads: one half only allocates, the other half only frees. Batches of 100 objects of
// 16 to 512 B pass through a queue of 64 batches. Each batch is a block too.
// Source: C. Lever, D. Boreham, "malloc() performance in a multithreaded Linux environment", 2000.
#include <array>
#include <condition_variable>
#include <deque>
#include <mutex>

#include "block.hpp"
#include "random.hpp"
#include "threads.hpp"

namespace slabmalloc::benchmark {
namespace {

constexpr std::size_t total_batches = 150'000;
constexpr std::size_t objects_per_batch = 100;
constexpr std::size_t queue_batches = 64;
constexpr std::array<std::size_t, 12> sizes{16, 24, 32, 40, 48, 64, 80, 96, 128, 192, 256, 512};

struct Batch {
  std::array<void*, objects_per_batch> objects;
};

/// A bounded queue: producers wait while it is full, consumers while it is empty. `finish` tells
/// the consumers that no more batches come.
class Queue {
 public:
  void put(Batch* batch) {
    std::unique_lock lock(mutex_);
    not_full_.wait(lock, [this] { return batches_.size() < queue_batches; });
    batches_.push_back(batch);
    not_empty_.notify_one();
  }

  /// The next batch, or null after the last.
  Batch* take() {
    std::unique_lock lock(mutex_);
    not_empty_.wait(lock, [this] { return !batches_.empty() || finished_; });
    if (batches_.empty()) return nullptr;
    Batch* batch = batches_.front();
    batches_.pop_front();
    not_full_.notify_one();
    return batch;
  }

  void finish() {
    const std::scoped_lock lock(mutex_);
    finished_ = true;
    not_empty_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable not_full_;
  std::condition_variable not_empty_;
  std::deque<Batch*> batches_;
  bool finished_ = false;
};

Result produce(unsigned number, std::size_t batches, Queue& queue) {
  Random random(number);
  std::uint64_t serial = first_serial(number);
  for (std::size_t index = 0; index < batches; ++index) {
    auto* batch = static_cast<Batch*>(require(std::malloc(sizeof(Batch))));
    for (void*& object : batch->objects)
      object = make_block(sizes[random.below(sizes.size())], serial++);
    queue.put(batch);
  }
  return {};
}

Result consume(Queue& queue) {
  Result result;
  while (Batch* batch = queue.take()) {
    for (void* object : batch->objects) result.checksum += drop_block(object);
    std::free(batch);
    result.operations += objects_per_batch;
  }
  return result;
}

}  // namespace

Result run_producer_consumer(const Job& job) {
  const unsigned producers = job.threads < 2 ? 1 : job.threads / 2;
  const std::size_t batches = Job{producers, job.percent}.share(total_batches);
  Queue queue;
  unsigned running = producers;
  std::mutex mutex;
  return run_threads(producers * 2, [&](unsigned thread) {
    if (thread >= producers) return consume(queue);
    produce(thread, batches, queue);
    const std::scoped_lock lock(mutex);
    if (--running == 0) queue.finish();
    return Result{};
  });
}

}  // namespace slabmalloc::benchmark
