// SPDX-License-Identifier: MIT
//
// churn/<allocator>/<sizes> keeps 10^6 objects live. Each step frees a random one, allocates
// another in its place and writes its first word. Sizes are 64 B, or random multiples of 16 B to
// 512 B.
#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "best.hpp"
#include "frame_buffer.hpp"
#include "scenarios/random.hpp"

namespace slabmalloc::benchmark_core {
namespace {

using benchmark_support::Best;

constexpr std::size_t object_count = 1'000'000;
constexpr std::size_t most_bytes = 512;

struct Object {
  void* address;
  std::size_t bytes;
};

class Core {
 public:
  Core() : frames_(object_count * most_bytes * 3 / 4), zone_(frames_) {}
  void* allocate(std::size_t bytes) noexcept {
    return zone_.allocate(layout(bytes)).value_or(nullptr);
  }
  void free(void* object, std::size_t bytes) noexcept { zone_.deallocate(object, layout(bytes)); }

 private:
  static Layout layout(std::size_t bytes) noexcept { return *Layout::from_size_align(bytes, 8); }
  FrameBuffer frames_;
  Zone zone_;
};

class Glibc {
 public:
  static void* allocate(std::size_t bytes) noexcept { return std::malloc(bytes); }
  static void free(void* object, std::size_t) noexcept { std::free(object); }
};

template <bool mixed>
std::size_t size_from(std::uint64_t random) noexcept {
  return mixed ? 16 + ((random >> 50) & 31) * 16 : 64;
}

/// Holds 10^6 objects of an allocator and replaces some of them in either of two ways.
template <class Allocator, bool mixed>
class Objects {
 public:
  Objects() : objects_(object_count), picks_(object_count / 2) {
    for (Object& object : objects_) {
      allocate(object);
    }
  }
  Objects(const Objects&) = delete;
  Objects& operator=(const Objects&) = delete;
  ~Objects() {
    for (const Object& object : objects_) {
      allocator_.free(object.address, object.bytes);
    }
  }

  std::size_t replace_one_by_one() noexcept {
    for (std::size_t count = 0; count < picks_.size(); ++count) {
      Object& object = objects_[pick()];
      allocator_.free(object.address, object.bytes);
      allocate(object);
    }
    return picks_.size();
  }

  std::size_t replace_many() noexcept {
    std::size_t freed = 0;
    for (std::size_t& index : picks_) {
      index = pick();
      Object& object = objects_[index];
      if (object.address != nullptr) {
        allocator_.free(object.address, object.bytes);
        object.address = nullptr;
        ++freed;
      }
    }
    for (const std::size_t index : picks_) {
      if (objects_[index].address == nullptr) {
        allocate(objects_[index]);
      }
    }
    return freed;
  }

 private:
  std::size_t pick() noexcept { return random_.below(object_count); }

  void allocate(Object& object) noexcept {
    object.bytes = size_from<mixed>(random_.next());
    object.address = allocator_.allocate(object.bytes);
    *static_cast<std::size_t*>(object.address) = object.bytes;
  }

  Allocator allocator_;
  scenario::Random random_{1};
  std::vector<Object> objects_;
  std::vector<std::size_t> picks_;
};

template <class Allocator, bool mixed>
void half(benchmark::State& state) {
  Objects<Allocator, mixed> objects;
  Best best(state);
  for (auto _ : state) {
    best.measure([&] { return objects.replace_many(); });
  }
}

template <class Allocator, bool mixed>
void one(benchmark::State& state) {
  Objects<Allocator, mixed> objects;
  Best best(state);
  for (auto _ : state) {
    best.measure([&] { return objects.replace_one_by_one(); });
  }
}

BENCHMARK(half<Core, false>)->Name("half/core/64")->UseManualTime();
BENCHMARK(half<Glibc, false>)->Name("half/glibc/64")->UseManualTime();
BENCHMARK(half<Core, true>)->Name("half/core/mixed")->UseManualTime();
BENCHMARK(half<Glibc, true>)->Name("half/glibc/mixed")->UseManualTime();
BENCHMARK(one<Core, false>)->Name("one/core/64")->UseManualTime();
BENCHMARK(one<Glibc, false>)->Name("one/glibc/64")->UseManualTime();
BENCHMARK(one<Core, true>)->Name("one/core/mixed")->UseManualTime();
BENCHMARK(one<Glibc, true>)->Name("one/glibc/mixed")->UseManualTime();

}  // namespace
}  // namespace slabmalloc::benchmark_core
