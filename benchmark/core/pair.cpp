// SPDX-License-Identifier: MIT
//
// pair/<allocator>/<bytes> repeats one allocation and its deallocation.
#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdlib>
#include <string>
#include <utility>

#include "frame_buffer.hpp"

namespace slabmalloc::benchmark_core {
namespace {

/// The CSV needs every counter in every row. A pair's time is processor time, in its own column.
void fill_counter(benchmark::State& state) { state.counters["best_ns"] = 0; }

template <std::size_t bytes>
void core_pair(benchmark::State& state) {
  FrameBuffer frames(8 * mebibyte);
  Zone zone(frames);
  for (auto _ : state) {
    void* object = zone.allocate(layout_of<bytes>).value_or(nullptr);
    keep(object);
    zone.deallocate(object, layout_of<bytes>);
  }
  fill_counter(state);
}

template <std::size_t bytes>
void glibc_pair(benchmark::State& state) {
  for (auto _ : state) {
    void* object = std::malloc(bytes);
    keep(object);
    std::free(object);
  }
  fill_counter(state);
}

template <std::size_t... bytes>
bool register_pairs(std::index_sequence<bytes...>) {
  const auto name = [](const char* allocator, std::size_t size) {
    return std::string("pair/") + allocator + "/" + std::to_string(size);
  };
  (benchmark::RegisterBenchmark(name("core", bytes).c_str(), core_pair<bytes>), ...);
  (benchmark::RegisterBenchmark(name("glibc", bytes).c_str(), glibc_pair<bytes>), ...);
  return true;
}

[[maybe_unused]] const bool registered =
    register_pairs(std::index_sequence<8, 16, 64, 256, 512, 1024, 4096>{});

}  // namespace
}  // namespace slabmalloc::benchmark_core
