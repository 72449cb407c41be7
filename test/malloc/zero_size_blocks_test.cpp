// SPDX-License-Identifier: MIT
#include "malloc/zero_size_blocks.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <set>
#include <thread>
#include <vector>

#include "os/faulty_os.hpp"
#include "support/child.hpp"

namespace slabmalloc {
namespace {

TEST(ZeroSizeBlocks, differ_and_are_aligned) {
  const test::FaultyOs os;
  const auto blocks = std::make_unique<ZeroSizeBlocks>();
  std::set<const void*> seen;
  for (int count = 0; count < 1000; ++count) {
    const void* const block = blocks->allocate();
    ASSERT_NE(block, nullptr);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(block) % ZeroSizeBlocks::distance, 0u);
    EXPECT_TRUE(seen.insert(block).second);
    EXPECT_TRUE(blocks->contains(block));
    EXPECT_TRUE(blocks->is_live(block));
  }
}

TEST(ZeroSizeBlocks, are_freed_once) {
  const test::FaultyOs os;
  const auto blocks = std::make_unique<ZeroSizeBlocks>();
  auto* const block = static_cast<std::byte*>(blocks->allocate());
  EXPECT_FALSE(blocks->deallocate(block + 1)) << "inside";
  EXPECT_FALSE(blocks->deallocate(block + ZeroSizeBlocks::distance)) << "never allocated";
  EXPECT_TRUE(blocks->deallocate(block));
  EXPECT_FALSE(blocks->is_live(block));
  EXPECT_FALSE(blocks->deallocate(block));
}

TEST(ZeroSizeBlocks, use_an_address_again_only_after_many_others) {
  const test::FaultyOs os;
  const auto blocks = std::make_unique<ZeroSizeBlocks>();
  const void* const freed = blocks->allocate();
  ASSERT_TRUE(blocks->deallocate(freed));
  for (int count = 0; count < 100000; ++count) {
    const void* const block = blocks->allocate();
    ASSERT_NE(block, freed);
    ASSERT_TRUE(blocks->deallocate(block));
  }
}

TEST(ZeroSizeBlocks, can_be_neither_read_nor_written) {
  const test::FaultyOs os;
  const auto blocks = std::make_unique<ZeroSizeBlocks>();
  auto* const block = static_cast<volatile char*>(blocks->allocate());
  EXPECT_NE(test::status_of_child([&] {
              (void)block[0];
              return 0;
            }),
            0);
  EXPECT_NE(test::status_of_child([&] {
              block[0] = 1;
              return 0;
            }),
            0);
}

TEST(ZeroSizeBlocks, are_none_without_memory_and_come_when_there_is_some) {
  test::FaultyOs os;
  const auto blocks = std::make_unique<ZeroSizeBlocks>();
  const std::size_t mapped = os.usable_bytes();
  for (std::size_t call = 1; call <= 3; ++call) {
    os.fail_call(call);
    EXPECT_EQ(blocks->allocate(), nullptr);
    EXPECT_FALSE(blocks->contains(&os));
    EXPECT_EQ(os.usable_bytes(), mapped);
  }
  os.heal();
  EXPECT_NE(blocks->allocate(), nullptr);
}

TEST(ZeroSizeBlocks, of_many_threads_differ) {
  const test::FaultyOs os;
  const auto blocks = std::make_unique<ZeroSizeBlocks>();
  constexpr int count = 1000;
  std::vector<std::vector<const void*>> found(4);
  std::vector<std::thread> threads;
  for (auto& mine : found) {
    threads.emplace_back([&] {
      for (int number = 0; number < count; ++number) {
        mine.push_back(blocks->allocate());
        if (number % 3 == 0) {
          EXPECT_TRUE(blocks->deallocate(mine.back()));
        }
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  std::set<const void*> all;
  for (const auto& mine : found) {
    all.insert(mine.begin(), mine.end());
  }
  EXPECT_EQ(all.size(), count * found.size());
}

}  // namespace
}  // namespace slabmalloc
