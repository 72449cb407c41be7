// SPDX-License-Identifier: MIT
// A storm of threads on a heap in debug mode: no report without a fault, and each double free once.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "kernel/hosted_kernel.hpp"
#include "slabmalloc/kernel.hpp"
#include "support/frames.hpp"
#include "support/misuse_recorder.hpp"
#include "support/pattern.hpp"
#include "support/random.hpp"
#include "support/run_threads.hpp"

namespace slabmalloc {
namespace {

using test::HostedCpu;
using test::Random;

constexpr std::size_t threads = 4;
using Heap = CpuZones<test::PatientKernel, test::FrameSource, DebugKernelConfig>;

struct Block {
  std::size_t bytes;
  std::uint64_t key;

  std::byte* content() { return reinterpret_cast<std::byte*>(this + 1); }
};

TEST(DebugThreads, blocks_go_between_cpus_without_a_report) {
  test::MisuseRecorder misuse;
  test::FrameSource frames;
  Heap heap(frames);
  Random random;
  std::array<std::atomic<Block*>, 256> places{};
  std::array<std::uint64_t, threads> seeds;
  for (std::uint64_t& seed : seeds) {
    seed = random.next();
  }
  const auto drop = [&](Block* block) {
    if (block != nullptr) {
      EXPECT_TRUE(test::holds_pattern(block->content(), block->bytes, block->key));
      heap.deallocate(block, Layout::from_size_align(sizeof(Block) + block->bytes, 8).value());
    }
  };
  test::run_threads(threads, [&](std::size_t thread) {
    HostedCpu::number = static_cast<std::uint32_t>(thread);
    Random own(seeds[thread]);
    for (int turn = 0; turn < 20'000; ++turn) {
      const std::size_t bytes = own.below(own.one_in(50) ? 20000 : 700);
      const auto layout = Layout::from_size_align(sizeof(Block) + bytes, 8).value();
      auto* const block = static_cast<Block*>(heap.allocate(layout).value_or(nullptr));
      ASSERT_NE(block, nullptr);
      block->bytes = bytes;
      block->key = own.next();
      test::fill_pattern(block->content(), bytes, block->key);
      drop(places[own.below(places.size())].exchange(block));
      if (own.one_in(500)) {
        heap.trim();
      }
      if (own.one_in(100)) {
        EXPECT_TRUE(heap.enter_idle());
      }
    }
  });
  HostedCpu::number = 0;
  for (auto& place : places) {
    drop(place.exchange(nullptr));
  }
  heap.drain_and_leave_current();
  EXPECT_EQ(heap.check_blocks(), 0u);
  EXPECT_EQ(heap.validate(), nullptr);
  heap.release_all();
  EXPECT_EQ(frames.live_bytes(), 0u);
}

TEST(DebugThreads, of_several_frees_at_the_same_time_all_but_one_are_reported) {
  test::MisuseRecorder misuse;
  test::FrameSource frames;
  Heap heap(frames);
  const auto layout = Layout::from_size_align(100, 8).value();
  for (int round = 0; round < 300; ++round) {
    HostedCpu::number = 0;
    void* const block = heap.allocate(layout).value();
    test::run_threads(threads, [&](std::size_t thread) {
      HostedCpu::number = static_cast<std::uint32_t>(thread);
      heap.deallocate(block, layout);
    });
    ASSERT_EQ(misuse.take_count(MisuseKind::DoubleFree), threads - 1);
  }
  HostedCpu::number = 0;
  heap.drain_and_leave_current();
  EXPECT_EQ(heap.statistics().zones.used_bytes, 0u);
  heap.release_all();
}

// ---- caches -------------------------------------------------------------------------------------

struct Entry {
  std::uint64_t words[20] = {};
};
using Entries = ObjectCache<Entry, test::PatientKernel, test::FrameSource, DebugCacheOptions>;

TEST(DebugThreads, objects_of_a_cache_go_between_cpus_and_stay_constructed) {
  test::MisuseRecorder misuse;
  test::FrameSource frames;
  Entries entries("entry", frames);
  Random random;
  std::array<std::atomic<Entry*>, 128> places{};
  std::array<std::uint64_t, threads> seeds;
  for (std::uint64_t& seed : seeds) {
    seed = random.next();
  }
  const auto drop = [&](Entry* entry) {
    if (entry != nullptr) {
      for (std::uint64_t& word : entry->words) {
        word = 0;
      }
      entries.deallocate(entry);
    }
  };
  test::run_threads(threads, [&](std::size_t thread) {
    HostedCpu::number = static_cast<std::uint32_t>(thread);
    Random own(seeds[thread]);
    for (int turn = 0; turn < 20'000; ++turn) {
      Entry* const entry = entries.allocate();
      ASSERT_NE(entry, nullptr);
      for (std::uint64_t& word : entry->words) {
        ASSERT_EQ(word, 0u);
        word = own.next();
      }
      drop(places[own.below(places.size())].exchange(entry));
      if (own.one_in(500)) {
        entries.zones().trim();
      }
      if (own.one_in(100)) {
        EXPECT_TRUE(entries.enter_idle());
      }
    }
  });
  HostedCpu::number = 0;
  for (auto& place : places) {
    drop(place.exchange(nullptr));
  }
  EXPECT_EQ(entries.validate(), nullptr);
  EXPECT_EQ(entries.destroy(), 0u);
  EXPECT_EQ(frames.live_bytes(), 0u);
}

TEST(DebugThreads, of_several_frees_of_an_object_at_the_same_time_all_but_one_are_reported) {
  test::MisuseRecorder misuse;
  test::FrameSource frames;
  Entries entries("entry", frames);
  for (int round = 0; round < 300; ++round) {
    HostedCpu::number = 0;
    Entry* const entry = entries.allocate();
    test::run_threads(threads, [&](std::size_t thread) {
      HostedCpu::number = static_cast<std::uint32_t>(thread);
      entries.deallocate(entry);
    });
    ASSERT_EQ(misuse.take_count(MisuseKind::DoubleFree), threads - 1);
  }
  HostedCpu::number = 0;
  EXPECT_EQ(entries.destroy(), 0u);
}

}  // namespace
}  // namespace slabmalloc
