// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <vector>

#include "slabmalloc/base/misuse.hpp"
#include "slabmalloc/slabmalloc.h"

namespace {

struct Heard {
  slabmalloc_misuse_kind kind;
  const void* address;
};
std::vector<Heard> heard;

void hear(slabmalloc_misuse_kind kind, const void* address) { heard.push_back({kind, address}); }

class CProcessHeap : public ::testing::Test {
 protected:
  void SetUp() override {
    heard.clear();
    slabmalloc_set_misuse_handler(&hear);
  }
  void TearDown() override { slabmalloc_set_misuse_handler(nullptr); }
};

TEST_F(CProcessHeap, blocks_are_aligned_distinct_and_usable_for_every_size_and_alignment) {
  for (std::size_t alignment = 1; alignment <= 65536; alignment *= 4) {
    for (std::size_t bytes : {std::size_t{0}, std::size_t{1}, std::size_t{100}, std::size_t{5000},
                              std::size_t{200000}}) {
      void* block = slabmalloc_allocate(bytes, alignment);
      ASSERT_NE(block, nullptr);
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(block) % alignment, 0u);
      ASSERT_GE(slabmalloc_usable_size(block), bytes);
      std::memset(block, 0x5A, slabmalloc_usable_size(block));
      slabmalloc_deallocate(block, bytes, alignment);
    }
  }
  EXPECT_TRUE(heard.empty());
}

TEST_F(CProcessHeap, refuses_invalid_alignments_and_excessive_sizes) {
  EXPECT_EQ(slabmalloc_allocate(16, 0), nullptr);
  EXPECT_EQ(slabmalloc_allocate(16, 24), nullptr);
  EXPECT_EQ(slabmalloc_allocate_zeroed(16, 3), nullptr);
  EXPECT_EQ(slabmalloc_reallocate(nullptr, 0, 16, 12), nullptr);
  EXPECT_EQ(slabmalloc_allocate(SIZE_MAX - 8, 16), nullptr);
}

TEST_F(CProcessHeap, zeroed_blocks_are_zero_after_their_memory_was_dirty) {
  for (std::size_t bytes : {std::size_t{48}, std::size_t{3000}, std::size_t{300000}}) {
    for (int round = 0; round < 3; ++round) {
      auto* block = static_cast<unsigned char*>(slabmalloc_allocate_zeroed(bytes, 64));
      ASSERT_NE(block, nullptr);
      for (std::size_t index = 0; index < bytes; ++index) {
        ASSERT_EQ(block[index], 0u) << "byte " << index << " of " << bytes;
      }
      std::memset(block, 0xFF, bytes);
      slabmalloc_deallocate(block, bytes, 64);
    }
  }
}

TEST_F(CProcessHeap, reallocation_keeps_contents_and_alignment) {
  for (std::size_t alignment :
       {std::size_t{8}, std::size_t{64}, std::size_t{4096}, std::size_t{1} << 20}) {
    std::size_t bytes = 10;
    auto* block = static_cast<unsigned char*>(slabmalloc_reallocate(nullptr, 0, bytes, alignment));
    ASSERT_NE(block, nullptr);
    std::memset(block, 0x11, bytes);
    for (std::size_t wanted : {std::size_t{11}, std::size_t{700}, std::size_t{690},
                               std::size_t{300000}, std::size_t{5}}) {
      block = static_cast<unsigned char*>(slabmalloc_reallocate(block, bytes, wanted, alignment));
      ASSERT_NE(block, nullptr);
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(block) % alignment, 0u);
      for (std::size_t index = 0; index < (bytes < wanted ? bytes : wanted); ++index) {
        ASSERT_EQ(block[index], 0x11u);
      }
      std::memset(block, 0x11, wanted);
      bytes = wanted;
    }
    slabmalloc_deallocate(block, bytes, alignment);
  }
}

TEST_F(CProcessHeap, misuse_reaches_the_handler_and_does_nothing) {
  auto* block = static_cast<char*>(slabmalloc_allocate(64, 16));
  slabmalloc_deallocate(block + 1, 64, 16);
  slabmalloc_deallocate(block, 64, 16);
  slabmalloc_deallocate(block, 64, 16);
  int on_stack = 0;
  slabmalloc_deallocate(&on_stack, 4, 4);
  ASSERT_EQ(heard.size(), 3u);
  EXPECT_EQ(heard[0].kind, SLABMALLOC_MISALIGNED_FREE);
  EXPECT_EQ(heard[1].kind, SLABMALLOC_DOUBLE_FREE);
  EXPECT_EQ(heard[1].address, block);
  EXPECT_EQ(heard[2].kind, SLABMALLOC_FOREIGN_POINTER);
  EXPECT_EQ(heard[2].address, &on_stack);
}

TEST_F(CProcessHeap, statistics_follow_allocations_and_frees) {
  slabmalloc_statistics before{};
  slabmalloc_process_statistics(&before);
  std::vector<void*> blocks;
  blocks.reserve(1000);
  for (int count = 0; count < 1000; ++count) {
    blocks.push_back(slabmalloc_allocate(100, 16));
  }
  slabmalloc_statistics full{};
  slabmalloc_process_statistics(&full);
  EXPECT_EQ(full.allocations - before.allocations, 1000u);
  EXPECT_EQ(full.used_bytes - before.used_bytes, 1000u * 112u);
  EXPECT_GE(full.held_bytes, full.used_bytes);
  for (void* block : blocks) {
    slabmalloc_deallocate(block, 100, 16);
  }
  slabmalloc_statistics after{};
  slabmalloc_process_statistics(&after);
  EXPECT_EQ(after.frees - before.frees, 1000u);
  EXPECT_EQ(after.used_bytes, before.used_bytes);
}

TEST_F(CProcessHeap, each_kind_of_misuse_has_a_number_of_its_own) {
  static std::vector<slabmalloc_misuse_kind> told;
  told.clear();
  slabmalloc_set_misuse_handler(
      [](slabmalloc_misuse_kind kind, const void*) { told.push_back(kind); });
  using slabmalloc::MisuseKind;
  for (const MisuseKind kind :
       {MisuseKind::DoubleFree, MisuseKind::MisalignedFree, MisuseKind::ForeignPointer,
        MisuseKind::SizeMismatch, MisuseKind::InvalidPage, MisuseKind::Overflow,
        MisuseKind::Underflow, MisuseKind::WriteAfterFree, MisuseKind::MismatchedFree}) {
    slabmalloc::report_misuse({kind, &told, 0, 0});
  }
  EXPECT_EQ(told, (std::vector{SLABMALLOC_DOUBLE_FREE, SLABMALLOC_MISALIGNED_FREE,
                               SLABMALLOC_FOREIGN_POINTER, SLABMALLOC_SIZE_MISMATCH,
                               SLABMALLOC_INVALID_PAGE, SLABMALLOC_OVERFLOW, SLABMALLOC_UNDERFLOW,
                               SLABMALLOC_WRITE_AFTER_FREE, SLABMALLOC_MISMATCHED_FREE}));
}

TEST_F(CProcessHeap, trim_gives_freed_memory_back) {
  slabmalloc_trim();
  slabmalloc_deallocate(slabmalloc_allocate_zeroed(1 << 20, 16), 1 << 20, 16);
  EXPECT_GE(slabmalloc_trim(), std::size_t{1} << 20);
}

TEST_F(CProcessHeap, version_is_three_numbers) {
  int major = -1;
  int minor = -1;
  int patch = -1;
  EXPECT_EQ(std::sscanf(slabmalloc_version(), "%d.%d.%d", &major, &minor, &patch), 3);
  EXPECT_GE(major + minor + patch, 1);
}

}  // namespace
