// SPDX-License-Identifier: MIT
//
// fill/<bytes> fills fresh pages with objects of one size. The time includes setting the pages up
// and calling the pager.
// The benchmarks grow/<objects> and shrink/<objects> grow an empty zone to so many objects of 64 B,
// and free them in the order of their allocation.
//
// The benchmark does not touch the objects: it measures the allocator's own work, with its cache
// and TLB misses. Frames come from memory that was written before. Times are per object.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstddef>
#include <new>

#include "best.hpp"
#include "frame_buffer.hpp"

namespace slabmalloc::benchmark_core {
namespace {

using benchmark_support::Best;

constexpr std::size_t most_objects = 10'000'000;
constexpr std::size_t object_bytes = 64;
constexpr std::size_t objects_per_page = ObjectPage::geometry(object_bytes).slots;

FrameBuffer& shared_frames() {
  static FrameBuffer frames((most_objects / objects_per_page + 1) * ObjectPage::size_bytes);
  return frames;
}

template <std::size_t bytes>
std::size_t allocate_many(Zone& zone, std::size_t objects) {
  for (std::size_t count = 0; count < objects; ++count) {
    void* object = zone.allocate(layout_of<bytes>).value_or(nullptr);
    keep(object);
  }
  return objects;
}

/// Frees the first `objects` objects of 64 B. Pages fill in the order of their frames, and each
/// from its first slot on.
std::size_t free_many(Zone& zone, std::byte* first_frame, std::size_t objects) {
  std::byte* frame = first_frame;
  for (std::size_t rest = objects; rest != 0; frame += ObjectPage::size_bytes) {
    const std::size_t here = std::min(rest, objects_per_page);
    for (std::size_t slot = 0; slot < here; ++slot) {
      void* object = frame + slot * object_bytes;
      keep(object);
      zone.deallocate(object, layout_of<object_bytes>);
    }
    rest -= here;
  }
  return objects;
}

/// A zone without pages, and all frames that it needs.
Zone& empty_zone() {
  alignas(Zone) static std::byte place[sizeof(Zone)];
  shared_frames().reset();
  return *::new (static_cast<void*>(place)) Zone(shared_frames());
}

/// Ends the benchmark if a batch did not do the work that is timed.
void expect_used(benchmark::State& state, const Zone& zone, std::size_t bytes) {
  if (zone.statistics().used_bytes != bytes) {
    state.SkipWithError("the zone does not hold what the batch should have left");
  }
}

template <std::size_t bytes, class Page>
void fill(benchmark::State& state) {
  constexpr std::size_t pages = sizeof(Page) == sizeof(ObjectPage) ? 64 : 2;
  constexpr std::size_t objects = pages * Page::geometry(bytes).slots;
  Best best(state);
  for (auto _ : state) {
    Zone& zone = empty_zone();
    best.measure([&] { return allocate_many<bytes>(zone, objects); });
    expect_used(state, zone, objects * bytes);
  }
}

void grow(benchmark::State& state) {
  const auto objects = static_cast<std::size_t>(state.range(0));
  Best best(state);
  for (auto _ : state) {
    Zone& zone = empty_zone();
    best.measure([&] { return allocate_many<object_bytes>(zone, objects); });
    expect_used(state, zone, objects * object_bytes);
  }
}

void shrink(benchmark::State& state) {
  const auto objects = static_cast<std::size_t>(state.range(0));
  Best best(state);
  for (auto _ : state) {
    Zone& zone = empty_zone();
    allocate_many<object_bytes>(zone, objects);
    best.measure([&] { return free_many(zone, shared_frames().begin(), objects); });
    expect_used(state, zone, 0);
  }
}

BENCHMARK(fill<64, ObjectPage>)->Name("fill/64")->UseManualTime();
BENCHMARK(fill<512, LargeObjectPage>)->Name("fill/512")->UseManualTime();
BENCHMARK(fill<4096, LargeObjectPage>)->Name("fill/4096")->UseManualTime();
BENCHMARK(grow)->Name("grow")->RangeMultiplier(10)->Range(1000, most_objects)->UseManualTime();
BENCHMARK(shrink)->Name("shrink")->RangeMultiplier(10)->Range(1000, most_objects)->UseManualTime();

}  // namespace
}  // namespace slabmalloc::benchmark_core
