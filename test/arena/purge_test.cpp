// SPDX-License-Identifier: MIT
//
// Tests of how freed memory goes back to the operating system.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "arena/arena.hpp"
#include "os/faulty_os.hpp"
#include "support/pattern.hpp"

namespace slabmalloc {
namespace {

constexpr std::size_t mebibyte = std::size_t{1} << 20;

/// The number of resident bytes of a range.
std::size_t resident_bytes(void* start, std::size_t bytes) {
  const std::size_t os_page_bytes = os::linux_interface.os_page_bytes();
  std::vector<unsigned char> os_pages(bytes / os_page_bytes);
  EXPECT_EQ(mincore(start, bytes, os_pages.data()), 0);
  const auto in_memory = std::count_if(os_pages.begin(), os_pages.end(),
                                       [](unsigned char flags) { return (flags & 1) != 0; });
  return static_cast<std::size_t>(in_memory) * os_page_bytes;
}

class PurgeTest : public testing::Test {
 protected:
  void* allocate_written(std::size_t chunks) {
    const Extent run = arena_->allocate(chunks);
    EXPECT_TRUE(run);
    test::fill_pattern(run.address, chunks * chunk_bytes, chunks);
    return run.address;
  }
  std::size_t dirty() { return arena_->statistics().dirty_bytes; }

  test::FaultyOs os_;
  std::unique_ptr<Arena> arena_ = std::make_unique<Arena>();
};

TEST_F(PurgeTest, trim_gives_memory_back) {
  void* const run = allocate_written(16);
  EXPECT_EQ(resident_bytes(run, 16 * chunk_bytes), 16 * chunk_bytes);
  arena_->deallocate(run, 16);
  EXPECT_EQ(resident_bytes(run, 16 * chunk_bytes), 16 * chunk_bytes);
  EXPECT_EQ(arena_->trim(), 16 * chunk_bytes);
  EXPECT_EQ(resident_bytes(run, 16 * chunk_bytes), 0u);
  EXPECT_EQ(arena_->statistics().purged_bytes, 16 * chunk_bytes);
  EXPECT_EQ(arena_->trim(), 0u);
  EXPECT_EQ(arena_->statistics().purges, 1u);
  EXPECT_TRUE(arena_->validate());
}

TEST_F(PurgeTest, records_of_purged_chunks_go_back_too) {
  constexpr std::size_t count = 64;
  std::vector<void*> runs;
  for (std::size_t number = 0; number < count; ++number) {
    runs.push_back(allocate_written(1));
    arena_->chunk_of(runs.back())->bitmaps[0].store(number, Order::relaxed);
  }
  Chunk* const records = arena_->chunk_of(runs[0]);
  EXPECT_EQ(resident_bytes(records, count * sizeof(Chunk)), count * sizeof(Chunk));
  constexpr std::size_t kept = count / 2;
  // Runs of one chunk: only with the clean ones around them do their records fill OS pages.
  for (std::size_t number = 0; number < count; ++number) {
    if (number != kept) {
      arena_->deallocate(runs[number], 1);
      EXPECT_EQ(arena_->trim(), chunk_bytes);
    }
  }
  EXPECT_EQ(resident_bytes(records, count * sizeof(Chunk)), os_.os_page_bytes());
  EXPECT_EQ(records[kept].bitmaps[0].load(Order::relaxed), kept);
  EXPECT_TRUE(arena_->validate());
}

TEST_F(PurgeTest, memory_reused_after_a_purge_is_zero_and_reported_zero) {
  void* const run = allocate_written(64);
  arena_->deallocate(run, 64);
  arena_->trim();
  const Extent again = arena_->allocate(64);
  EXPECT_EQ(again.address, run);
  EXPECT_TRUE(again.zeroed);
  EXPECT_TRUE(test::holds_zeroes(again.address, 64 * chunk_bytes));
}

TEST_F(PurgeTest, freed_memory_stays_for_reuse_until_it_has_decayed) {
  void* const run = allocate_written(4);
  allocate_written(1);
  void* const other = allocate_written(1);
  arena_->deallocate(run, 4);
  os_.advance_clock(tunables.decay_milliseconds / 4);
  arena_->decay();
  EXPECT_EQ(dirty(), 4 * chunk_bytes);
  os_.advance_clock(tunables.decay_milliseconds);
  // Any operation reads the clock.
  arena_->deallocate(other, 1);
  EXPECT_EQ(dirty(), chunk_bytes);
  EXPECT_TRUE(arena_->validate());
}

TEST_F(PurgeTest, the_tunable_sets_the_decay_time) {
  for (const std::uint32_t milliseconds : {0u, 40u, 4000u}) {
    tunables.decay_milliseconds = milliseconds;
    os_.advance_clock(10 * milliseconds);
    void* const run = allocate_written(4);
    allocate_written(1);
    arena_->deallocate(run, 4);
    if (milliseconds != 0) {
      os_.advance_clock(milliseconds / 4);
      arena_->decay();
      EXPECT_EQ(dirty(), 4 * chunk_bytes);
      os_.advance_clock(milliseconds);
      arena_->decay();
    }
    EXPECT_EQ(dirty(), 0u) << milliseconds;
  }
  tunables = Tunables{};
}

TEST_F(PurgeTest, pieces_that_come_and_go_do_not_keep_a_run_from_decaying) {
  void* const run = allocate_written(32);
  allocate_written(1);
  arena_->deallocate(run, 32);
  for (int round = 0; round < 130; ++round) {
    os_.advance_clock(10);
    const Extent piece = arena_->allocate(1);
    arena_->deallocate(piece.address, 1);
    EXPECT_TRUE(arena_->validate());
  }
  EXPECT_LE(dirty(), chunk_bytes);
}

TEST_F(PurgeTest, the_oldest_goes_first) {
  std::vector<void*> runs;
  for (int count = 0; count < 8; ++count) {
    runs.push_back(allocate_written(1));
  }
  arena_->deallocate(runs[5], 1);
  os_.advance_clock(tunables.decay_milliseconds);
  arena_->deallocate(runs[1], 1);
  os_.advance_clock(tunables.decay_milliseconds / 4);
  arena_->decay();
  EXPECT_EQ(resident_bytes(runs[5], chunk_bytes), 0u);
  EXPECT_EQ(resident_bytes(runs[1], chunk_bytes), chunk_bytes);
}

TEST_F(PurgeTest, a_freed_mapping_and_freed_runs_go_by_age) {
  void* const run = allocate_written(1024);
  allocate_written(1);
  const Extent object = arena_->allocate_large(64 * mebibyte, 16);
  arena_->deallocate_large(object.address);
  os_.advance_clock(10);
  arena_->deallocate(run, 1024);
  EXPECT_EQ(dirty(), 128 * mebibyte);
  // Half of all has decayed before the decay time has passed: that is the mapping.
  std::size_t usable = os_.usable_bytes();
  while (dirty() > 64 * mebibyte) {
    os_.advance_clock(10);
    arena_->decay();
    usable -= os_.usable_bytes() < usable ? usable - os_.usable_bytes() : 0;
  }
  EXPECT_EQ(resident_bytes(run, 1024 * chunk_bytes), dirty());
  os_.advance_clock(tunables.decay_milliseconds);
  arena_->decay();
  EXPECT_EQ(dirty(), 0u);
  EXPECT_EQ(resident_bytes(run, 1024 * chunk_bytes), 0u);
  EXPECT_TRUE(arena_->validate());
}

TEST_F(PurgeTest, fragments_beyond_the_dirty_limit_go_at_once) {
  std::vector<void*> runs;
  for (int count = 0; count < 4000; ++count) {
    runs.push_back(allocate_written(1));
  }
  for (std::size_t count = 0; count < runs.size(); count += 2) {
    arena_->deallocate(runs[count], 1);
  }
  EXPECT_EQ(dirty(), 2000 * chunk_bytes) << "the recent peak is not exceeded";
  const std::size_t most = 4000 * chunk_bytes * 65 / 64 + mebibyte;
  for (int count = 0; count < 1000; ++count) {
    // No fragment has room for these.
    allocate_written(2);
    const ArenaStatistics now = arena_->statistics();
    ASSERT_LE(now.dirty_bytes, now.dirty_limit_bytes);
    ASSERT_LE(now.in_use_bytes + now.dirty_bytes, most);
  }
  EXPECT_TRUE(arena_->validate());
}

TEST_F(PurgeTest, small_rests_of_mappings_do_not_use_up_the_purge_of_what_is_too_much) {
  constexpr std::size_t mapped = 32 * mebibyte;
  arena_->deallocate_large(arena_->allocate_large(mapped + os_.os_page_bytes(), 1).address);
  // The new object leaves an OS page of the freed mapping: the oldest dirty memory, and little.
  EXPECT_TRUE(arena_->allocate_large(mapped, 1, nullptr, Contents::Any));
  EXPECT_EQ(dirty(), os_.os_page_bytes());
  os_.advance_clock(1);
  std::vector<void*> runs;
  for (int number = 0; number < 200; ++number) {
    runs.push_back(allocate_written(1));
  }
  for (std::size_t number = 0; number < runs.size(); number += 2) {
    arena_->deallocate(runs[number], 1);
  }
  allocate_written(120);
  EXPECT_LE(dirty(), arena_->statistics().dirty_limit_bytes);
  EXPECT_TRUE(arena_->validate());
}

TEST_F(PurgeTest, a_heap_that_is_filled_and_emptied_again_and_again_is_not_purged) {
  for (int round = 0; round < 100; ++round) {
    std::vector<void*> runs;
    for (int count = 0; count < 480; ++count) {
      runs.push_back(arena_->allocate(1).address);
    }
    os_.advance_clock(50);
    for (void* const run : runs) {
      arena_->deallocate(run, 1);
    }
    os_.advance_clock(100);
  }
  EXPECT_EQ(arena_->statistics().purged_bytes, 0u);
  EXPECT_EQ(dirty(), 480 * chunk_bytes);
}

TEST_F(PurgeTest, a_large_buffer_that_is_used_again_and_again_keeps_its_memory) {
  for (const std::size_t bytes : {8 * mebibyte, 40 * mebibyte, 200 * mebibyte}) {
    for (int round = 0; round < 20; ++round) {
      const Extent buffer = arena_->allocate_large(bytes, 16);
      ASSERT_TRUE(buffer);
      ASSERT_EQ(buffer.zeroed, round == 0) << bytes;
      arena_->deallocate_large(buffer.address);
      os_.advance_clock(100);
    }
    arena_->trim();
    EXPECT_EQ(dirty(), 0u);
  }
}

TEST_F(PurgeTest, objects_that_grow_in_place_keep_their_memory) {
  const Extent object = arena_->allocate_large(chunk_bytes, 16);
  for (int round = 0; round < 20; ++round) {
    ASSERT_EQ(arena_->resize_large(object.address, 4 * mebibyte), object.address);
    ASSERT_EQ(arena_->resize_large(object.address, chunk_bytes), object.address);
  }
  EXPECT_EQ(arena_->statistics().purged_bytes, 0u);
  EXPECT_TRUE(arena_->validate());
}

TEST_F(PurgeTest, memory_replaced_at_the_peak_is_not_faulted_in_again) {
  std::vector<void*> runs;
  for (int count = 0; count < 64; ++count) {
    runs.push_back(arena_->allocate(16).address);
  }
  std::size_t purged_at_first = 0;
  for (std::size_t step = 0; step < 400; ++step) {
    // Frees half of all runs, then allocates them again.
    for (std::size_t run = step % 2; run < runs.size(); run += 2) {
      arena_->deallocate(runs[run], 16);
    }
    for (std::size_t run = step % 2; run < runs.size(); run += 2) {
      runs[run] = arena_->allocate(16).address;
    }
    if (step == 20) {
      purged_at_first = arena_->statistics().purged_bytes;
    }
  }
  EXPECT_EQ(arena_->statistics().purged_bytes, purged_at_first);
  EXPECT_TRUE(arena_->validate());
}

TEST_F(PurgeTest, one_operation_purges_a_bounded_amount_of_what_has_decayed) {
  const Extent run = arena_->allocate(4096);
  arena_->deallocate(run.address, 4096);
  os_.advance_clock(2 * tunables.decay_milliseconds);
  ASSERT_EQ(dirty(), 256 * mebibyte);
  for (std::size_t before = dirty(); before > 2 * chunk_bytes; before = dirty()) {
    const Extent piece = arena_->allocate(1);
    EXPECT_LT(dirty(), before);
    EXPECT_LE(before - dirty(), 64 * mebibyte + chunk_bytes);
    arena_->deallocate(piece.address, 1);
    EXPECT_TRUE(arena_->validate());
  }
}

TEST_F(PurgeTest, a_purge_ends_while_others_go_on_freeing) {
  tunables.decay_milliseconds = 0;
  std::vector<void*> runs;
  for (int count = 0; count < 200; ++count) {
    runs.push_back(arena_->allocate(256).address);
  }
  const auto free_one = [&] {
    if (!runs.empty()) {
      void* const run = runs.back();
      runs.pop_back();
      arena_->deallocate(run, 256);
    }
  };
  os_.before_each_purge(free_one);
  free_one();
  EXPECT_LE(runs.size(), 198u) << "some of what others leave is done for them";
  EXPECT_GE(runs.size(), 140u);
  os_.before_each_purge([] {});
  arena_->decay();
  EXPECT_EQ(dirty(), 0u) << "the next operation continues";
  tunables = Tunables{};
  EXPECT_TRUE(arena_->validate());
}

TEST_F(PurgeTest, memory_freed_during_a_purge_of_everything_is_examined_afterwards) {
  std::vector<void*> runs;
  for (int count = 0; count < 20; ++count) {
    runs.push_back(arena_->allocate(256).address);
  }
  arena_->deallocate(runs.back(), 256);
  runs.pop_back();
  os_.before_each_purge([&] {
    for (void* const run : runs) {
      arena_->deallocate(run, 256);
    }
    runs.clear();
  });
  arena_->trim();
  EXPECT_TRUE(runs.empty());
  EXPECT_LE(dirty(), arena_->statistics().dirty_limit_bytes);
  EXPECT_TRUE(arena_->validate());
}

TEST_F(PurgeTest, memory_that_cannot_be_purged_stays_dirty_and_is_retried) {
  void* const run = allocate_written(8);
  void* const separator = allocate_written(1);
  void* const other = allocate_written(4);
  allocate_written(1);
  arena_->deallocate(run, 8);
  arena_->deallocate(other, 4);
  os_.fail_every(test::OsCall::Purge);
  EXPECT_EQ(arena_->trim(), 0u);
  EXPECT_EQ(dirty(), 12 * chunk_bytes);
  EXPECT_TRUE(arena_->validate());
  const Extent again = arena_->allocate(8);
  EXPECT_FALSE(again.zeroed);
  arena_->deallocate(again.address, 8);
  os_.heal();
  os_.fail_call(1);
  EXPECT_NE(arena_->trim(), 0u) << "one refusal does not keep the others";
  EXPECT_TRUE(arena_->validate());
  EXPECT_NE(arena_->trim(), 0u);
  EXPECT_EQ(dirty(), 0u);
  arena_->deallocate(separator, 1);
}

TEST_F(PurgeTest, locked_memory_goes_back_if_the_system_can_drop_it) {
  void* const run = allocate_written(2);
  if (mlock(run, 2 * chunk_bytes) != 0) {
    GTEST_SKIP() << "memory cannot be locked here";
  }
  const bool can = os::linux_interface.purge(run, chunk_bytes);
  arena_->deallocate(run, 2);
  EXPECT_EQ(arena_->trim(), can ? 2 * chunk_bytes : 0u);
  EXPECT_EQ(dirty(), can ? 0u : 2 * chunk_bytes);
  EXPECT_EQ(resident_bytes(run, 2 * chunk_bytes), dirty());
  munlock(run, 2 * chunk_bytes);
  arena_->trim();
  EXPECT_EQ(dirty(), 0u);
}

TEST_F(PurgeTest, a_mapping_that_nobody_needs_goes_back) {
  const std::size_t before = os_.usable_bytes();
  const Extent object = arena_->allocate_large(100 * mebibyte, 16);
  EXPECT_GE(os_.usable_bytes() - before, 100 * mebibyte);
  arena_->deallocate_large(object.address);
  EXPECT_EQ(dirty(), 100 * mebibyte);
  os_.advance_clock(2 * tunables.decay_milliseconds);
  arena_->decay();
  EXPECT_EQ(dirty(), 0u);
  EXPECT_LE(os_.usable_bytes() - before, 4096u);
  EXPECT_GE(arena_->statistics().purged_bytes, 100 * mebibyte);
}

TEST_F(PurgeTest, zeros_come_from_a_fresh_mapping) {
  const Extent object = arena_->allocate_large(100 * mebibyte, 16);
  *static_cast<char*>(object.address) = 1;
  arena_->deallocate_large(object.address);
  const Extent zeros = arena_->allocate_large(100 * mebibyte, 16, nullptr, Contents::Zeros);
  EXPECT_TRUE(zeros.zeroed);
  EXPECT_EQ(*static_cast<char*>(zeros.address), 0);
  EXPECT_LE(dirty(), 100 * mebibyte * 65 / 64 + mebibyte) << "the recent peak counts";
  EXPECT_TRUE(arena_->validate());
}

TEST_F(PurgeTest, cached_mappings_serve_other_requests_before_memory_is_exhausted) {
  const Extent object = arena_->allocate_large(100 * mebibyte, 16);
  os_.limit_commit(os_.usable_bytes() + 8 * mebibyte);
  arena_->deallocate_large(object.address);
  EXPECT_TRUE(arena_->allocate(1024)) << "64 MiB";
  arena_->trim();
  EXPECT_TRUE(arena_->validate());
}

}  // namespace
}  // namespace slabmalloc
