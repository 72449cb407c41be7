// SPDX-License-Identifier: MIT
//
// Tests of runs of chunks, of which a size class makes its pages.
#include "arena/arena.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "os/faulty_os.hpp"
#include "support/pattern.hpp"

namespace slabmalloc {
namespace {

class ArenaTest : public testing::Test {
 protected:
  test::FaultyOs os_;
  std::unique_ptr<Arena> arena_ = std::make_unique<Arena>();
};

TEST_F(ArenaTest, unused_it_holds_no_address_and_no_memory) {
  int here = 0;
  EXPECT_EQ(arena_->chunk_of(&here), nullptr);
  EXPECT_EQ(arena_->chunk_of(nullptr), nullptr);
  EXPECT_EQ(arena_->committed_chunks(), 0u);
  EXPECT_EQ(arena_->trim(), 0u);
  EXPECT_EQ(arena_->deallocate_large(&here), LargeFree::Foreign);
  EXPECT_EQ(arena_->large_usable_bytes(&here), 0u);
  EXPECT_EQ(arena_->statistics().committed_bytes, 0u);
  EXPECT_EQ(os_.usable_bytes(), 0u);
  EXPECT_TRUE(arena_->validate());
}

TEST_F(ArenaTest, runs_are_aligned_zero_and_writable) {
  for (std::size_t chunks = 1; chunks <= 64; chunks *= 2) {
    const Extent run = arena_->allocate(chunks, chunks * chunk_bytes);
    ASSERT_TRUE(run);
    EXPECT_TRUE(run.zeroed);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(run.address) % (chunks * chunk_bytes), 0u);
    EXPECT_TRUE(test::holds_zeroes(run.address, chunks * chunk_bytes));
    test::fill_pattern(run.address, chunks * chunk_bytes, chunks);
    EXPECT_TRUE(arena_->validate());
  }
}

TEST_F(ArenaTest, every_address_in_a_run_leads_to_its_chunk_and_back) {
  const Extent run = arena_->allocate(3);
  auto* const bytes = static_cast<std::byte*>(run.address);
  Chunk* const first = arena_->chunk_of(bytes);
  ASSERT_NE(first, nullptr);
  for (std::size_t chunk = 0; chunk < 3; ++chunk) {
    std::byte* const start = bytes + chunk * chunk_bytes;
    for (const std::size_t offset : {std::size_t{0}, std::size_t{1}, chunk_bytes - 1}) {
      EXPECT_EQ(arena_->chunk_of(start + offset), first + chunk);
    }
    EXPECT_EQ(arena_->address_of(first + chunk), start);
  }
}

TEST_F(ArenaTest, addresses_beyond_the_committed_chunks_have_no_record) {
  const Extent run = arena_->allocate(1);
  auto* const base = arena_->address_of(arena_->chunk_of(run.address));
  const std::size_t bytes = arena_->committed_chunks() * chunk_bytes;
  EXPECT_NE(arena_->chunk_of(base + bytes - 1), nullptr);
  EXPECT_EQ(arena_->chunk_of(base + bytes), nullptr);
  EXPECT_EQ(arena_->chunk_of(base - 1), nullptr);
}

TEST_F(ArenaTest, records_of_a_returned_run_are_clear) {
  const Extent run = arena_->allocate(4);
  Chunk* const head = arena_->chunk_of(run.address);
  for (std::uint16_t chunk = 0; chunk < 4; ++chunk) {
    head[chunk].info = ChunkInfo::slab_tail(chunk);
    head[chunk].header.tag.store(64, Order::relaxed);
    head[chunk].header.seal.store(9, Order::relaxed);
  }
  arena_->deallocate(run.address, 4);
  EXPECT_TRUE(arena_->validate());
  for (int chunk = 0; chunk < 4; ++chunk) {
    EXPECT_EQ(head[chunk].info.kind, ChunkKind::Unclaimed);
  }
}

TEST_F(ArenaTest, validation_notices_an_owner_left_behind) {
  const Extent run = arena_->allocate(1);
  arena_->deallocate(run.address, 1);
  ASSERT_TRUE(arena_->validate());
  arena_->chunk_of(run.address)->header.tag.store(64, Order::relaxed);
  EXPECT_FALSE(arena_->validate());
}

TEST_F(ArenaTest, returned_memory_is_used_again_before_more_is_committed) {
  std::vector<void*> runs;
  for (int count = 0; count < 100; ++count) {
    runs.push_back(arena_->allocate(1).address);
  }
  const std::size_t committed = arena_->statistics().committed_bytes;
  for (void* const run : runs) {
    arena_->deallocate(run, 1);
  }
  for (int count = 0; count < 25; ++count) {
    EXPECT_TRUE(arena_->allocate(4));
  }
  EXPECT_EQ(arena_->statistics().committed_bytes, committed);
  EXPECT_TRUE(arena_->validate());
}

TEST_F(ArenaTest, gaps_low_in_the_window_are_filled_first) {
  std::vector<void*> runs;
  for (int count = 0; count < 6; ++count) {
    runs.push_back(arena_->allocate(2).address);
  }
  arena_->deallocate(runs[4], 2);
  arena_->deallocate(runs[0], 2);
  arena_->deallocate(runs[2], 2);
  EXPECT_EQ(arena_->allocate(2).address, runs[0]);
  EXPECT_EQ(arena_->allocate(2).address, runs[2]);
  EXPECT_EQ(arena_->allocate(2).address, runs[4]);
}

TEST_F(ArenaTest, memory_that_was_written_is_never_called_zero) {
  const Extent first = arena_->allocate(8);
  test::fill_pattern(first.address, 8 * chunk_bytes, 1);
  arena_->deallocate(first.address, 8);
  const Extent second = arena_->allocate(8);
  EXPECT_EQ(second.address, first.address);
  EXPECT_FALSE(second.zeroed);
}

TEST_F(ArenaTest, impossible_runs_are_refused) {
  EXPECT_FALSE(arena_->allocate(0));
  EXPECT_FALSE(arena_->allocate(~std::size_t{0}));
  EXPECT_FALSE(arena_->allocate(std::size_t{1} << 24));
  EXPECT_TRUE(arena_->allocate(1));
  EXPECT_TRUE(arena_->validate());
}

TEST_F(ArenaTest, works_with_each_size_of_os_page) {
  for (const std::size_t os_page_bytes : {16384u, 65536u}) {
    test::FaultyOs os;
    os.set_os_page_bytes(os_page_bytes);
    Arena arena;
    std::vector<void*> runs;
    for (int count = 0; count < 300; ++count) {
      runs.push_back(arena.allocate(1 + static_cast<std::size_t>(count) % 3).address);
      ASSERT_NE(runs.back(), nullptr);
    }
    const Extent direct = arena.allocate_large(tunables.direct_threshold_bytes, 1 << 20);
    EXPECT_TRUE(direct);
    for (std::size_t count = 0; count < 300; ++count) {
      arena.deallocate(runs[count], 1 + count % 3);
    }
    EXPECT_EQ(arena.deallocate_large(direct.address), LargeFree::Freed);
    EXPECT_TRUE(arena.validate());
    arena.trim();
    EXPECT_EQ(arena.statistics().dirty_bytes, 0u);
    EXPECT_EQ(arena.statistics().committed_bytes, os.usable_bytes());
  }
}

TEST_F(ArenaTest, statistics_follow_allocations_and_frees_of_runs) {
  const Extent run = arena_->allocate(2);
  const Extent large = arena_->allocate_large(1 << 19, 16);
  ArenaStatistics now = arena_->statistics();
  EXPECT_EQ(now.in_use_bytes, 10 * chunk_bytes);
  EXPECT_EQ(now.committed_bytes, os_.usable_bytes());
  EXPECT_EQ(now.large.count, 1u);
  EXPECT_EQ(now.large.bytes, 1u << 19);
  EXPECT_EQ(now.large.allocations, 1u);
  EXPECT_EQ(now.in_use_bytes + now.dirty_bytes + now.clean_bytes + now.metadata_bytes,
            now.committed_bytes);
  arena_->deallocate(run.address, 2);
  arena_->deallocate_large(large.address);
  now = arena_->statistics();
  EXPECT_EQ(now.in_use_bytes, 0u);
  EXPECT_EQ(now.in_use_peak_bytes, 10 * chunk_bytes);
  EXPECT_EQ(now.dirty_bytes, 10 * chunk_bytes);
  EXPECT_EQ(now.large.count, 0u);
  EXPECT_EQ(now.large.bytes, 0u);
  EXPECT_EQ(now.large.frees, 1u);
  EXPECT_EQ(now.committed_peak_bytes, now.committed_bytes);
}

}  // namespace
}  // namespace slabmalloc
