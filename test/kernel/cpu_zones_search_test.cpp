// SPDX-License-Identifier: MIT
//
// Compares the result of a search that advances a step with each call with that of a complete
// search.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <utility>
#include <vector>

#include "kernel/hosted_kernel.hpp"
#include "slabmalloc/kernel/cpu_zones.hpp"
#include "support/frames.hpp"
#include "support/random.hpp"

namespace slabmalloc {
namespace {

using test::FrameSource;
using test::HostedCpu;
using test::OpenKernel;

/// A heap at its limit: objects of four CPUs, runs, frees in transit, and an exhausted pager.
struct RandomHeap {
  explicit RandomHeap(std::uint64_t seed) : random(seed) {
    pager.set_limit(1 * mebibyte);
    // Allocates many objects of one size at a time, so that freeing them leaves empty pages.
    std::vector<std::vector<void*>> batches;
    std::vector<Layout> layouts;
    for (std::size_t failures = 0; failures < 20;) {
      HostedCpu::number = random.below(4);
      layouts.push_back(some_layout());
      batches.emplace_back(layouts.back().size() <= 1000 ? 200 : 8);
      const std::size_t got = heap.allocate_many(layouts.back(), batches.back().data(),
                                                 batches.back().size(), Context::MayNotWait);
      failures += got < batches.back().size() ? 1u : 0u;
      batches.back().resize(got);
    }
    for (std::size_t frees = random.between(1, 6); frees != 0; --frees) {
      HostedCpu::number = random.below(4);
      const std::size_t batch = random.below(batches.size());
      heap.deallocate_many(batches[batch].data(), batches[batch].size(), layouts[batch],
                           random.one_in(2) ? Context::Interrupt : Context::MayWait);
      batches[batch].clear();
    }
    HostedCpu::number = 0;
    // Either the pager is exhausted, or the limit forbids another frame.
    random.one_in(2) ? pager.set_limit(pager.live_bytes()) : heap.set_limit(heap.frame_bytes());
  }
  Layout some_layout() {
    const std::size_t bytes[] = {16, 64, 200, 1000, 4000, 8000, 20'000, 100'000};
    return Layout::from_size_align(bytes[random.below(8)], 8).value();
  }
  ~RandomHeap() {
    EXPECT_EQ(heap.validate(), nullptr);
    HostedCpu::number = 0;
  }

  test::Random random;
  FrameSource pager;
  CpuZones<OpenKernel, FrameSource> heap{pager};
};

TEST(CpuZonesSearch, without_waiting_ends_with_the_result_of_one_that_waits) {
  constexpr int most_calls = 500;
  std::size_t found = 0;
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    RandomHeap state(seed);
    for (int request = 0; request < 20; ++request) {
      const Layout wanted = state.some_layout();
      int calls = 1;
      while (!state.heap.allocate(wanted, Context::MayNotWait) && calls < most_calls) {
        ++calls;
      }
      found += calls > 1 && calls < most_calls ? 1u : 0u;
      if (calls == most_calls) {
        EXPECT_FALSE(state.heap.allocate(wanted, Context::MayWait))
            << "seed " << seed << ", " << wanted.size() << " bytes";
      }
    }
  }
  EXPECT_GT(found, 5u);
  std::printf("%zu found\n", found);
}

}  // namespace
}  // namespace slabmalloc
