// SPDX-License-Identifier: MIT
//
// A heap in phases. A phase allocates 48 MiB of objects of about one size, then frees a random four
// fifths of them. The next phase fills the room with another size. Peak memory shows the holes that
// the next phase cannot use.
// Source: M. Robson, "Worst case fragmentation of first fit and best fit storage allocation
// strategies", 1977; P. Wilson et al., "Dynamic storage allocation: a survey", 1995, on phases.
#include <array>
#include <vector>

#include "block.hpp"
#include "random.hpp"
#include "threads.hpp"

namespace slabmalloc::benchmark {
namespace {

constexpr std::size_t total_bytes = 48 * 1024 * 1024;
constexpr std::array<std::size_t, 10> sizes{32, 48, 104, 200, 72, 400, 1100, 160, 3000, 9000};

class Heap {
 public:
  Heap(unsigned thread, std::size_t capacity)
      : random_(thread), serial_(first_serial(thread)), capacity_(capacity) {}

  /// Fills up with objects of `bytes` to 1.25 times `bytes`.
  void fill(std::size_t bytes) {
    while (used_ < capacity_) {
      const std::size_t size = bytes + random_.below(bytes / 4);
      objects_.push_back(make_block(size, serial_++));
      used_ += size;
      ++result_.operations;
    }
  }

  /// Frees random objects until `left` bytes are live.
  void thin_out(std::size_t left) {
    while (used_ > left) {
      void*& object = objects_[random_.below(objects_.size())];
      used_ -= block_bytes(object);
      result_.checksum += drop_block(object);
      object = objects_.back();
      objects_.pop_back();
    }
  }

  [[nodiscard]] Result result() const { return result_; }

 private:
  Random random_;
  Result result_;
  std::vector<void*> objects_;
  std::uint64_t serial_;
  std::size_t capacity_;
  std::size_t used_ = 0;
};

}  // namespace

Result run_fragmentation(const Job& job) {
  const std::size_t capacity = job.share(total_bytes);
  return run_threads(job.threads, [&](unsigned thread) {
    Heap heap(thread, capacity);
    for (const std::size_t bytes : sizes) {
      heap.fill(bytes);
      heap.thin_out(capacity / 5);
    }
    heap.thin_out(0);
    return heap.result();
  });
}

}  // namespace slabmalloc::benchmark
