// SPDX-License-Identifier: MIT
//
// Tests of large objects, both in runs of chunks and in mappings of their own.
#include <errno.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "arena/arena.hpp"
#include "os/faulty_os.hpp"
#include "slabmalloc/base/bits.hpp"
#include "support/pattern.hpp"

namespace slabmalloc {
namespace {

constexpr std::size_t mebibyte = std::size_t{1} << 20;
constexpr std::size_t gibibyte = std::size_t{1} << 30;
constexpr std::size_t threshold = Tunables{}.direct_threshold_bytes;

class LargeTest : public testing::Test {
 protected:
  std::byte* allocate(std::size_t bytes, std::size_t alignment = 16) {
    const Extent extent = arena_->allocate_large(bytes, alignment);
    return static_cast<std::byte*>(extent.address);
  }
  bool in_window(const void* address) { return arena_->chunk_of(address) != nullptr; }

  test::FaultyOs os_;
  std::unique_ptr<Arena> arena_ = std::make_unique<Arena>();
};

TEST_F(LargeTest, sizes_around_the_threshold_are_served) {
  for (const std::size_t bytes : {std::size_t{0}, std::size_t{1}, chunk_bytes, chunk_bytes + 1,
                                  3 * mebibyte, threshold - 1, threshold, threshold + 1}) {
    std::byte* const object = allocate(bytes);
    ASSERT_NE(object, nullptr) << bytes;
    EXPECT_EQ(in_window(object), bytes < threshold) << bytes;
    EXPECT_GE(arena_->large_usable_bytes(object), bytes);
    EXPECT_TRUE(arena_->validate());
    EXPECT_EQ(arena_->deallocate_large(object), LargeFree::Freed);
    EXPECT_TRUE(arena_->validate());
  }
}

TEST_F(LargeTest, the_tunable_sets_the_threshold_up_to_a_maximum_in_bounded_address_space) {
  for (const bool is_bounded : {false, true}) {
    os_.limit_address_space(is_bounded ? 16 * gibibyte : os::unlimited);
    // The arena reads the bound when its window grows.
    ASSERT_TRUE(arena_->allocate(4096));
    for (const std::size_t wanted : {chunk_bytes, mebibyte, 4 * mebibyte, 64 * mebibyte}) {
      tunables.direct_threshold_bytes = wanted;
      const std::size_t most =
          is_bounded ? Tunables::bounded_direct_threshold_bytes : 64 * mebibyte;
      const std::size_t expected = std::min(wanted, most);
      EXPECT_TRUE(in_window(allocate(expected - 1))) << expected;
      EXPECT_FALSE(in_window(allocate(expected))) << expected;
    }
  }
  tunables = Tunables{};
  EXPECT_TRUE(arena_->validate());
}

TEST_F(LargeTest, alignments_up_to_beyond_a_gibibyte_are_served) {
  for (std::size_t alignment = 1; alignment <= 4 * gibibyte; alignment *= 2) {
    for (const std::size_t bytes : {std::size_t{1}, mebibyte, threshold}) {
      std::byte* const object = allocate(bytes, alignment);
      ASSERT_NE(object, nullptr) << bytes << " at " << alignment;
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(object) % alignment, 0u);
      object[0] = object[bytes - 1] = std::byte{1};
      EXPECT_EQ(arena_->deallocate_large(object), LargeFree::Freed);
    }
  }
  EXPECT_TRUE(arena_->validate());
}

TEST_F(LargeTest, impossible_requests_are_refused_and_change_nothing) {
  const ArenaStatistics before = arena_->statistics();
  for (const std::size_t bytes : {~std::size_t{0}, ~std::size_t{0} - chunk_bytes,
                                  ~std::size_t{0} / 2, ~std::size_t{0} / 2 + 1}) {
    for (std::size_t alignment = 1; alignment != 0; alignment *= 2) {
      EXPECT_EQ(allocate(bytes, alignment), nullptr);
    }
  }
  EXPECT_EQ(arena_->statistics().in_use_bytes, before.in_use_bytes);
  EXPECT_EQ(arena_->statistics().large.count, 0u);
  EXPECT_TRUE(arena_->validate());
}

TEST_F(LargeTest, wrong_frees_are_reported_by_kind_and_change_nothing) {
  std::byte* const run = allocate(mebibyte);
  std::byte* const direct = allocate(threshold);
  const Extent page = arena_->allocate(2);
  auto* const page_start = static_cast<std::byte*>(page.address);
  int here = 0;
  for (std::byte* const inside : {run + 1, run + chunk_bytes, run + mebibyte - 1, direct + 1,
                                  direct + threshold - 1, page_start, page_start + chunk_bytes}) {
    EXPECT_EQ(arena_->classify(inside), LargeFree::Inside);
    EXPECT_EQ(arena_->deallocate_large(inside), LargeFree::Inside);
    EXPECT_EQ(arena_->large_usable_bytes(inside), 0u);
  }
  for (void* const foreign :
       {static_cast<void*>(&here), static_cast<void*>(nullptr), static_cast<void*>(direct - 1),
        static_cast<void*>(direct + threshold), reinterpret_cast<void*>(~std::uintptr_t{0})}) {
    EXPECT_EQ(arena_->classify(foreign), LargeFree::Foreign);
    EXPECT_EQ(arena_->deallocate_large(foreign), LargeFree::Foreign);
    EXPECT_EQ(arena_->large_usable_bytes(foreign), 0u);
  }
  EXPECT_EQ(arena_->classify(run), LargeFree::Freed);
  EXPECT_EQ(arena_->classify(direct), LargeFree::Freed);
  EXPECT_EQ(arena_->statistics().large.count, 2u);
  EXPECT_TRUE(arena_->validate());
}

TEST_F(LargeTest, an_address_that_is_mapped_anew_is_no_longer_called_free) {
  std::byte* const before = allocate(threshold);
  // The next object uses memory that could not be unmapped.
  os_.fail_every(test::OsCall::Unmap);
  EXPECT_EQ(arena_->deallocate_large(before), LargeFree::Freed);
  EXPECT_EQ(arena_->classify(before), LargeFree::AlreadyFree);
  std::byte* const after = allocate(threshold);
  ASSERT_EQ(after, before);
  EXPECT_EQ(arena_->classify(after), LargeFree::Freed);
  EXPECT_EQ(arena_->deallocate_large(after), LargeFree::Freed);
  EXPECT_EQ(arena_->classify(after), LargeFree::AlreadyFree);
}

TEST_F(LargeTest, reports_a_second_free) {
  std::byte* const run = allocate(mebibyte);
  std::byte* const direct = allocate(threshold);
  EXPECT_EQ(arena_->deallocate_large(run), LargeFree::Freed);
  EXPECT_EQ(arena_->deallocate_large(run), LargeFree::AlreadyFree);
  EXPECT_EQ(arena_->deallocate_large(direct), LargeFree::Freed);
  EXPECT_EQ(arena_->deallocate_large(direct), LargeFree::AlreadyFree);
  EXPECT_EQ(arena_->classify(direct), LargeFree::AlreadyFree);
  EXPECT_EQ(arena_->statistics().large.frees, 2u);
  EXPECT_TRUE(arena_->validate());
}

TEST_F(LargeTest, the_tail_of_an_object_on_a_former_page_is_no_page) {
  const Extent page = arena_->allocate(16);
  Chunk* const records = arena_->chunk_of(page.address);
  for (int chunk = 0; chunk < 16; ++chunk) {
    records[chunk].info.kind = ChunkKind::SlabHead;
    records[chunk].header.tag.store(64, Order::relaxed);
  }
  arena_->deallocate(page.address, 16);
  std::byte* const object = allocate(mebibyte);
  ASSERT_EQ(object, page.address);
  for (int chunk = 1; chunk < 16; ++chunk) {
    EXPECT_EQ(records[chunk].info.kind, ChunkKind::Unclaimed);
    EXPECT_EQ(records[chunk].header.tag.load(Order::relaxed), 0u);
  }
}

TEST_F(LargeTest, runs_grow_and_shrink_in_place_where_neighbours_are_free) {
  std::byte* const object = allocate(mebibyte);
  test::fill_pattern(object, mebibyte, 1);
  EXPECT_EQ(arena_->resize_large(object, 3 * mebibyte), object);
  EXPECT_EQ(arena_->large_usable_bytes(object), 3 * mebibyte);
  EXPECT_TRUE(test::holds_pattern(object, mebibyte, 1));
  EXPECT_TRUE(arena_->validate());
  EXPECT_EQ(arena_->resize_large(object, mebibyte / 2), object);
  EXPECT_EQ(arena_->large_usable_bytes(object), mebibyte / 2);
  EXPECT_TRUE(test::holds_pattern(object, mebibyte / 2, 1));
  EXPECT_TRUE(arena_->validate());
  EXPECT_EQ(arena_->statistics().in_use_bytes, mebibyte / 2);
  EXPECT_EQ(arena_->statistics().large.bytes, mebibyte / 2);
}

TEST_F(LargeTest, objects_in_runs_have_the_requested_bytes_rounded_to_the_step) {
  for (std::size_t bytes = 1; bytes < 2 * mebibyte; bytes += bytes / 16 + 997) {
    std::byte* const object = allocate(bytes, bytes % 2 != 0 ? 16 : 2 * chunk_bytes);
    EXPECT_EQ(arena_->large_usable_bytes(object), align_up(bytes, large_step_bytes));
    EXPECT_EQ(arena_->statistics().large.bytes, align_up(bytes, large_step_bytes));
    EXPECT_EQ(arena_->statistics().in_use_bytes, align_up(bytes, chunk_bytes));
    EXPECT_TRUE(arena_->validate());
    EXPECT_EQ(arena_->deallocate_large(object), LargeFree::Freed);
  }
}

TEST_F(LargeTest, runs_resize_in_place_within_their_chunks_beside_chunks_in_use) {
  std::byte* const object = allocate(mebibyte);
  std::byte* const next = allocate(mebibyte);
  ASSERT_EQ(next, object + mebibyte);
  const std::size_t last_chunk = mebibyte - chunk_bytes;
  for (const std::size_t bytes : {mebibyte - 1, last_chunk + 1, mebibyte, last_chunk + 40'000}) {
    EXPECT_EQ(arena_->resize_large(object, bytes), object);
    EXPECT_EQ(arena_->large_usable_bytes(object), align_up(bytes, large_step_bytes));
    EXPECT_EQ(arena_->statistics().large.bytes, mebibyte + align_up(bytes, large_step_bytes));
    EXPECT_EQ(arena_->statistics().in_use_bytes, 2 * mebibyte);
    EXPECT_TRUE(arena_->validate());
  }
}

TEST_F(LargeTest, runs_do_not_grow_over_chunks_in_use) {
  std::byte* const object = allocate(mebibyte);
  std::byte* const next = allocate(mebibyte);
  ASSERT_EQ(next, object + mebibyte);
  EXPECT_EQ(arena_->resize_large(object, 2 * mebibyte), nullptr);
  EXPECT_EQ(arena_->large_usable_bytes(object), mebibyte);
  arena_->deallocate_large(next);
  EXPECT_EQ(arena_->resize_large(object, 2 * mebibyte), object);
  EXPECT_TRUE(arena_->validate());
}

TEST_F(LargeTest, runs_do_not_grow_to_where_mappings_begin) {
  std::byte* const object = allocate(mebibyte);
  EXPECT_EQ(arena_->resize_large(object, threshold), nullptr);
  EXPECT_EQ(arena_->resize_large(object, ~std::size_t{0}), nullptr);
  EXPECT_TRUE(arena_->validate());
}

TEST_F(LargeTest, mappings_grow_and_shrink_keeping_their_contents) {
  std::byte* object = allocate(threshold);
  test::fill_pattern(object, mebibyte, 2);
  object = static_cast<std::byte*>(arena_->resize_large(object, 20 * threshold));
  ASSERT_NE(object, nullptr);
  EXPECT_TRUE(test::holds_pattern(object, mebibyte, 2));
  EXPECT_EQ(arena_->statistics().large.bytes, 20 * threshold);
  EXPECT_EQ(arena_->statistics().in_use_bytes, 20 * threshold);
  EXPECT_EQ(arena_->statistics().in_use_peak_bytes, 20 * threshold);
  EXPECT_EQ(arena_->resize_large(object, ~std::size_t{0} / 2), nullptr);
  object = static_cast<std::byte*>(arena_->resize_large(object, threshold));
  EXPECT_TRUE(test::holds_pattern(object, mebibyte, 2));
  EXPECT_EQ(arena_->statistics().in_use_bytes, threshold);
  EXPECT_TRUE(arena_->validate());
}

TEST_F(LargeTest, runs_stand_in_where_mappings_are_refused) {
  os_.fail_every(test::OsCall::Map);
  std::byte* const object = allocate(3 * threshold, mebibyte);
  ASSERT_NE(object, nullptr);
  EXPECT_TRUE(in_window(object));
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(object) % mebibyte, 0u);
  EXPECT_EQ(arena_->deallocate_large(object), LargeFree::Freed);
  EXPECT_TRUE(arena_->validate());
}

TEST_F(LargeTest, runs_do_not_stand_in_for_more_than_a_gibibyte) {
  os_.fail_every(test::OsCall::Map);
  EXPECT_EQ(allocate(2 * gibibyte), nullptr);
  EXPECT_EQ(arena_->committed_chunks(), 0u);
}

TEST_F(LargeTest, mappings_stand_in_where_growth_is_refused) {
  os_.fail_every(test::OsCall::MapAt);
  std::byte* const object = allocate(mebibyte);
  ASSERT_NE(object, nullptr);
  EXPECT_FALSE(in_window(object));
  EXPECT_EQ(arena_->deallocate_large(object), LargeFree::Freed);
  EXPECT_TRUE(arena_->validate());
}

TEST_F(LargeTest, keeps_errno) {
  errno = 12345;
  EXPECT_EQ(allocate(~std::size_t{0} / 4), nullptr);
  std::byte* const object = allocate(threshold);
  arena_->resize_large(object, ~std::size_t{0} / 4);
  arena_->deallocate_large(object);
  arena_->deallocate_large(object);
  arena_->trim();
  EXPECT_EQ(errno, 12345);
}

TEST_F(LargeTest, have_mappings_of_their_own_where_the_window_cannot_grow) {
  std::vector<std::byte*> objects{allocate(chunk_bytes)};
  const Chunk* const beyond = arena_->chunk_of(objects[0]) + arena_->committed_chunks();
  void* const obstacle =
      reinterpret_cast<void*>(align_up(reinterpret_cast<std::uintptr_t>(beyond), chunk_bytes));
  ASSERT_EQ(
      mmap(obstacle, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0),
      obstacle);
  while (in_window(objects.back())) {
    objects.push_back(allocate(chunk_bytes));
    ASSERT_NE(objects.back(), nullptr);
  }
  EXPECT_FALSE(arena_->allocate(1)) << "what must have a record";
  EXPECT_TRUE(arena_->validate());
  munmap(obstacle, 4096);
  EXPECT_TRUE(arena_->allocate(1));
  for (std::byte* object : objects) {
    EXPECT_EQ(arena_->deallocate_large(object), LargeFree::Freed);
  }
}

}  // namespace
}  // namespace slabmalloc
