// SPDX-License-Identifier: MIT
//
// Threads act as CPUs: each reads shared objects without a lock, replaces them, and retires those
// that it replaced, under a limit that the heap reaches at times.
#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernel/reading_kernel.hpp"
#include "slabmalloc/kernel/cpu_zones.hpp"
#include "slabmalloc/kernel/retired_objects.hpp"
#include "support/frames.hpp"
#include "support/pattern.hpp"
#include "support/random.hpp"
#include "support/run_threads.hpp"

namespace slabmalloc::test {
namespace {

using Kernel = Reading<PatientKernel>;
using Heap = CpuZones<Kernel, FrameSource>;
using Retired = RetiredObjects<Heap>;

struct Route {
  std::uint32_t key;
  std::byte read[200];
  RetiredLink retired;
};
constexpr RetiredKind route_kind = RetiredKind::of<Route>(offsetof(Route, retired));
constexpr Layout layout = Layout::of<Route>();

class Table {
 public:
  Table(Heap& heap, Retired& retired) : heap_(heap), retired_(retired) {}

  /// Puts a new route in the place of another, and retires that one.
  bool replace(std::size_t place, std::uint32_t key, Context context) noexcept {
    auto* const route = static_cast<Route*>(heap_.allocate(layout, context).value_or(nullptr));
    if (route != nullptr) {
      route->key = key;
      fill_pattern(route->read, sizeof route->read, key);
    }
    Route* const before = places_[place % count].exchange(route);
    if (before == nullptr) {
      return route != nullptr;
    }
    if (key % 3 != 0 || !retired_.retire(before, layout, context)) {
      retired_.retire(before, route_kind, key % 2 == 0 ? Context::Interrupt : context);
    }
    return route != nullptr;
  }
  /// Reads a route in a read section; false if it changed meanwhile.
  bool read(std::size_t reader, std::size_t place) noexcept {
    Readers::open(reader);
    const Route* const route = places_[place % count].load();
    bool is_sound = true;
    for (int look = 0; route != nullptr && is_sound && look < 3; ++look) {
      is_sound = holds_pattern(route->read, sizeof route->read, route->key);
    }
    Readers::close(reader);
    return is_sound;
  }

  static constexpr std::size_t count = 16;

 private:
  Heap& heap_;
  Retired& retired_;
  std::atomic<Route*> places_[count] = {};
};

TEST(RetiredObjectsThreads, readers_never_see_a_retired_object_change) {
  constexpr std::size_t cpus = 4;
  FrameSource frames;
  Heap heap(frames);
  Retired retired(heap);
  heap.set_deferred_work(Retired::step, &retired);
  heap.set_reclaim(Retired::reclaim, &retired);
  heap.set_limit(40 * 4096);
  Table table(heap, retired);
  Random seeds;
  std::vector<Random> randoms;
  for (std::size_t cpu = 0; cpu < cpus; ++cpu) {
    randoms.push_back(seeds.fork());
  }
  std::atomic<std::size_t> changed = 0;
  run_threads(cpus, [&](std::size_t cpu) {
    HostedCpu::number = static_cast<std::uint32_t>(cpu);
    for (int turn = 0; turn < 20'000; ++turn) {
      const std::uint64_t number = randoms[cpu].next();
      if (number % 4 != 0) {
        changed += table.read(cpu, number / 4) ? 0u : 1u;
      } else {
        table.replace(number / 4, static_cast<std::uint32_t>(number >> 32),
                      number % 32 == 0 ? Context::MayWait : Context::MayNotWait);
      }
    }
  });
  EXPECT_EQ(changed, 0u);
  HostedCpu::number = 0;
  heap.set_limit(~std::size_t{0});
  for (std::size_t place = 0; place < Table::count; ++place) {
    table.replace(place, 1, Context::MayNotWait);
  }
  EXPECT_TRUE(retired.drain());
  EXPECT_EQ(retired.validate(), nullptr);
  EXPECT_EQ(heap.validate(), nullptr);
  heap.drain_and_leave_current();
  EXPECT_EQ(heap.statistics().zones.used_bytes, Table::count * Heap::usable_size(layout))
      << "an object was lost";
  heap.release_all();
  EXPECT_EQ(frames.live_bytes(), 0u);
}

}  // namespace
}  // namespace slabmalloc::test
