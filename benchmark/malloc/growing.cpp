// SPDX-License-Identifier: MIT
//
// Vectors that grow through realloc, 32 at a time. Each step appends elements of 8 B to a random
// one. A full vector grows by half of its capacity. Final sizes are 64 B to 4 MiB by a power law;
// then a new vector takes its place. One step in eight appends many elements, as a program that
// reads a file.
// Source: std::vector, Python's list and string builders grow by factors; folly's FBVector grows by
// half.
#include <algorithm>
#include <array>
#include <cstdlib>

#include "block.hpp"
#include "random.hpp"
#include "threads.hpp"

namespace slabmalloc::benchmark {
namespace {

constexpr std::size_t total_elements = 200'000'000;
constexpr std::size_t vectors = 32;
constexpr std::size_t least_elements = 8;
constexpr unsigned doublings = 16;
constexpr std::size_t elements_alone = std::size_t{1} << 20;

/// Elements are first, first + 1, …, so the last and a middle one show whether the content moved
/// too.
class Vector {
 public:
  void start(std::uint64_t first, std::size_t final_count) {
    first_ = first;
    final_count_ = final_count;
  }

  [[nodiscard]] bool full_grown() const { return count_ >= final_count_; }

  /// Appends up to `count` elements; returns how many fitted.
  std::size_t append(std::size_t count) {
    const std::size_t old_count = count_;
    for (const std::size_t end = std::min(count_ + count, final_count_); count_ < end; ++count_) {
      if (count_ == capacity_) grow();
      elements_[count_] = first_ + count_;
    }
    return count_ - old_count;
  }

  /// Checks the content and frees it.
  std::uint64_t finish() {
    const std::uint64_t sum = check();
    std::free(elements_);
    *this = {};
    return sum;
  }

 private:
  void grow() {
    capacity_ += capacity_ / 2 + 4;
    void* moved = require(std::realloc(elements_, capacity_ * sizeof *elements_));
    elements_ = static_cast<std::uint64_t*>(moved);
  }

  [[nodiscard]] std::uint64_t check() const {
    if (count_ == 0) return 0;
    for (std::size_t index = 0; index < count_; index = index * 2 + 1)
      if (elements_[index] != first_ + index) fail("realloc lost the content of a block");
    return elements_[count_ - 1] + elements_[count_ / 2];
  }

  std::uint64_t* elements_ = nullptr;
  std::size_t count_ = 0;
  std::size_t capacity_ = 0;
  std::uint64_t first_ = 0;
  std::size_t final_count_ = 0;
};

Result grow(unsigned thread, std::size_t elements) {
  Random random(thread);
  Result result;
  std::array<Vector, vectors> growing;
  while (result.operations < elements) {
    Vector& vector = growing[random.below(vectors)];
    if (vector.full_grown()) {
      result.checksum += vector.finish();
      vector.start(random.next() >> 8, random.power_law(least_elements, doublings));
    }
    const bool alone = random.below(8) == 0;
    result.operations += vector.append(alone ? elements_alone : random.between(1, 200));
  }
  for (Vector& vector : growing) result.checksum += vector.finish();
  return result;
}

}  // namespace

Result run_growing(const Job& job) {
  return run_threads(job.threads,
                     [&](unsigned thread) { return grow(thread, job.share(total_elements)); });
}

}  // namespace slabmalloc::benchmark
