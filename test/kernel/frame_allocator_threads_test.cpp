// SPDX-License-Identifier: MIT
// Tests of many CPUs that allocate while other threads add and show memory.
#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <vector>

#include "kernel/frame_fixture.hpp"
#include "support/misuse_recorder.hpp"
#include "support/pattern.hpp"
#include "support/random.hpp"
#include "support/run_threads.hpp"

namespace slabmalloc::test {
namespace {

constexpr std::size_t frame = 4 * kibibyte;

struct Run {
  void* address;
  std::size_t bytes;
  std::uint64_t key;
  bool is_run;
};

/// Allocates and frees frames, batches and runs. Checks that only this thread holds them.
void work(Frames& frames, Random random, int steps) {
  std::vector<Run> runs;
  const auto keep = [&](void* address, std::size_t bytes, bool is_run) {
    if (address != nullptr) {
      runs.push_back({address, bytes, random.next(), is_run});
      fill_pattern(address, 64, runs.back().key);
    }
  };
  const auto free_one = [&] {
    const std::size_t index = random.below(runs.size());
    const Run run = runs[index];
    EXPECT_TRUE(holds_pattern(run.address, 64, run.key));
    if (run.is_run) {
      frames.deallocate_run(run.address, run.bytes, 1);
    } else {
      frames.deallocate_frame(run.address, run.bytes);
    }
    runs[index] = runs.back();
    runs.pop_back();
  };
  for (int step = 0; step < steps; ++step) {
    if (runs.size() > 40 || (!runs.empty() && random.one_in(2))) {
      free_one();
    } else if (random.one_in(8)) {
      void* batch[20];
      const std::size_t got = frames.allocate_frames(frame, batch, 20);
      for (std::size_t index = 0; index < got; ++index) {
        keep(batch[index], frame, false);
      }
    } else {
      const std::size_t bytes = random.between(1, 9 * frame);
      keep(frames.allocate_run(bytes, 1).address, bytes, true);
    }
  }
  while (!runs.empty()) {
    free_one();
  }
}

class FrameAllocatorThreads : public testing::Test {
 protected:
  /// 1 MiB of 16.
  void SetUp() override {
    const MemoryRegion region = memory.region(0, mebibyte);
    ASSERT_TRUE(frames.add(&region, 1));
    before = free_blocks(frames);
    for (int thread = 0; thread < 4; ++thread) {
      randoms.push_back(random.fork());
    }
  }
  void TearDown() override { EXPECT_EQ(frames.validate(), nullptr); }

  MisuseRecorder misuse;
  PhysicalMemory memory{16 * mebibyte};
  Frames frames;
  std::vector<std::size_t> before;  ///< Free blocks of each order.
  Random random;
  std::vector<Random> randoms;  ///< One for each thread.
};

TEST_F(FrameAllocatorThreads, share_the_frames_and_give_all_of_them_back) {
  run_threads(4, [&](std::size_t thread) { work(frames, randoms[thread], 4000); });
  EXPECT_EQ(free_blocks(frames), before);
  EXPECT_EQ(frames.statistics().used_bytes, 0u);
  EXPECT_EQ(frames.statistics().allocations, frames.statistics().frees);
}

TEST_F(FrameAllocatorThreads, go_on_while_memory_is_added_and_looked_at) {
  run_threads(4, [&](std::size_t thread) {
    if (thread != 0) {
      work(frames, randoms[thread], 3000);
      return;
    }
    for (std::size_t step = 1; step < 16; ++step) {
      const MemoryRegion more = memory.region(step * mebibyte, mebibyte / 2);
      EXPECT_TRUE(frames.add(&more, 1));
      EXPECT_EQ(frames.validate(), nullptr);
      std::uintptr_t position = 0;
      frames.for_each_block([&](void* address, std::size_t bytes, FrameUse) {
        const auto start = reinterpret_cast<std::uintptr_t>(address);
        EXPECT_LE(position, start) << "blocks ascend";
        position = start + bytes;
      });
    }
  });
  EXPECT_EQ(frames.statistics().used_bytes, 0u);
  EXPECT_EQ(frames.statistics().managed_bytes, mebibyte + 15 * mebibyte / 2);
}

TEST_F(FrameAllocatorThreads, go_on_while_memory_goes_offline_and_comes_back) {
  std::size_t successes = 0;
  run_threads(4, [&](std::size_t thread) {
    if (thread != 0) {
      return work(frames, randoms[thread], 3000);
    }
    for (int step = 0; step < 2000; ++step) {
      const MemoryRegion some = memory.region(randoms[0].below(255) * frame, frame + 1);
      if (frames.offline(some, [](const PagerBlock&) {})) {
        ++successes;
        EXPECT_EQ(frames.statistics().offline_bytes, 2 * frame);
        EXPECT_EQ(frames.allocate_frame_at(reinterpret_cast<void*>(some.address), frame).address,
                  nullptr);
        frames.online(some);
      }
    }
  });
  EXPECT_GT(successes, 0u);
  EXPECT_EQ(free_blocks(frames), before);
}

TEST_F(FrameAllocatorThreads, one_of_two_frees_of_a_frame_is_reported) {
  constexpr std::size_t count = 100;
  std::vector<void*> given(count);
  ASSERT_EQ(frames.allocate_frames(frame, given.data(), count), count);
  run_threads(2, [&](std::size_t) {
    for (void* one : given) {
      frames.deallocate_frame(one, frame);
    }
  });
  EXPECT_EQ(misuse.take_kinds(), std::vector<MisuseKind>(count, MisuseKind::DoubleFree));
  EXPECT_EQ(frames.statistics().used_bytes, 0u);
}

}  // namespace
}  // namespace slabmalloc::test
