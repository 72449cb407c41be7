// SPDX-License-Identifier: MIT
//
// Compares the process heap with a reference model, by random calls on one and on several threads.
// The tests check contents, and compare statistics with a separate count.
#include <gtest/gtest.h>

#include <cstdint>
#include <iterator>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include "malloc/heap.hpp"
#include "malloc/report.hpp"
#include "support/misuse_recorder.hpp"
#include "support/pattern.hpp"
#include "support/random.hpp"

namespace slabmalloc {
namespace {

using test::Random;

constexpr std::size_t mebibyte = std::size_t{1} << 20;

struct Block {
  std::byte* address;
  std::size_t bytes;
  std::uint64_t key;
};

/// Writes the pattern only at both ends, since a whole large block would take too long.
constexpr std::size_t end_bytes = 256;

void fill(const Block& block) {
  const std::size_t part = block.bytes < end_bytes ? block.bytes : end_bytes;
  test::fill_pattern(block.address, part, block.key);
  test::fill_pattern(block.address + block.bytes - part, part, block.key);
}

bool is_whole(const Block& block) {
  const std::size_t part = block.bytes < end_bytes ? block.bytes : end_bytes;
  // The later part overwrites the earlier one where they overlap.
  const std::size_t head = block.bytes < 2 * part ? block.bytes - part : part;
  return test::holds_pattern(block.address, head, block.key) &&
         test::holds_pattern(block.address + block.bytes - part, part, block.key);
}

std::size_t random_size(Random& random) {
  switch (random.below(20)) {
    case 0:
      return random.below(40 * mebibyte);
    case 1:
      return random.below(512 * kibibyte);
    case 2:
    case 3:
    case 4:
      return random.below(32 * kibibyte);
    default:
      return random.below(600);
  }
}

/// Live blocks by address; checks that no two overlap.
class Model {
 public:
  void add(const Block& block) {
    const auto [place, is_new] = blocks_.emplace(block.address, block);
    ASSERT_TRUE(is_new);
    if (place != blocks_.begin()) {
      const Block& left = std::prev(place)->second;
      ASSERT_LE(left.address + left.bytes, block.address);
    }
    if (const auto right = std::next(place); right != blocks_.end()) {
      ASSERT_LE(block.address + block.bytes, right->first);
    }
  }
  Block take(Random& random) {
    auto place = blocks_.begin();
    std::advance(place, random.below(blocks_.size()));
    const Block block = place->second;
    blocks_.erase(place);
    return block;
  }
  std::size_t size() const { return blocks_.size(); }

 private:
  std::map<std::byte*, Block> blocks_;
};

Block allocate_some(Random& random) {
  const std::size_t bytes = random_size(random) + 1;
  void* address = nullptr;
  switch (random.below(4)) {
    case 0: {
      address = heap::allocate_zeroed(bytes);
      EXPECT_TRUE(test::holds_zeroes(address, bytes < 4096 ? bytes : 4096));
      break;
    }
    case 1: {
      const std::size_t alignment = std::size_t{1} << random.below(random.one_in(20) ? 24 : 13);
      address = heap::allocate_aligned(bytes, alignment);
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(address) % alignment, 0u);
      break;
    }
    default:
      address = heap::allocate(bytes);
  }
  const Block block{static_cast<std::byte*>(address), bytes, random.next()};
  EXPECT_NE(address, nullptr);
  fill(block);
  return block;
}

TEST(HeapModel, random_calls_agree_with_the_reference) {
  const test::MisuseRecorder misuse;
  Random random;
  Model model;
  heap::deallocate(heap::allocate(1));  // The thread has a zone from now on.
  const ProcessStatistics start = process_statistics();
  std::size_t allocations = 0;
  std::size_t frees = 0;
  for (int step = 0; step < 30000; ++step) {
    const bool is_growing = step / 5000 % 2 == 0;
    const std::size_t choice = random.below(10);
    if (model.size() == 0 || choice < (is_growing ? 5u : 3u)) {
      model.add(allocate_some(random));
      ++allocations;
    } else if (choice < 8) {
      const Block block = model.take(random);
      ASSERT_TRUE(is_whole(block));
      heap::deallocate(block.address);
      ++frees;
    } else {
      const Block block = model.take(random);
      ASSERT_TRUE(is_whole(block));
      const std::size_t bytes = random_size(random) + 1;
      auto* moved = static_cast<std::byte*>(heap::reallocate(block.address, bytes));
      ASSERT_NE(moved, nullptr);
      const std::size_t kept = bytes < block.bytes ? bytes : block.bytes;
      const std::size_t head = block.bytes < 2 * end_bytes ? block.bytes / 2 : end_bytes;
      ASSERT_TRUE(test::holds_pattern(moved, kept < head ? kept : head, block.key) ||
                  block.bytes < 2 * end_bytes);
      const Block now{moved, bytes, random.next()};
      fill(now);
      model.add(now);
    }
    if (step % 3000 == 0) {
      ASSERT_EQ(thread_heap.zone->validate(), nullptr);
      ASSERT_TRUE(process_arena.validate());
    }
    if (HasFatalFailure()) {
      return;
    }
  }
  const ProcessStatistics now = process_statistics();
  EXPECT_EQ(now.live_objects - start.live_objects, model.size());
  // A reallocation that moves counts as one more allocation and free.
  EXPECT_EQ((now.allocations - start.allocations) - (now.frees - start.frees), model.size());
  EXPECT_GE(now.allocations - start.allocations, allocations);
  EXPECT_GE(now.frees - start.frees, frees);
  while (model.size() != 0) {
    const Block block = model.take(random);
    ASSERT_TRUE(is_whole(block));
    heap::deallocate(block.address);
  }
  EXPECT_EQ(process_statistics().live_objects, start.live_objects);
}

/// Blocks in transit from one thread to another.
class Exchange {
 public:
  void put(const Block& block) {
    const std::lock_guard lock(mutex_);
    blocks_.push_back(block);
  }
  bool take(Random& random, Block& block) {
    const std::lock_guard lock(mutex_);
    if (blocks_.empty()) {
      return false;
    }
    std::swap(blocks_[random.below(blocks_.size())], blocks_.back());
    block = blocks_.back();
    blocks_.pop_back();
    return true;
  }

 private:
  std::mutex mutex_;
  std::vector<Block> blocks_;
};

TEST(HeapModel, blocks_that_travel_between_threads_stay_whole_and_none_is_lost) {
  const test::MisuseRecorder misuse;
  Random random;
  const std::size_t live_before = process_statistics().live_objects;
  for (int generation = 0; generation < 3; ++generation) {
    Exchange exchange;
    std::vector<std::thread> threads;
    for (int number = 0; number < 4; ++number) {
      threads.emplace_back([&exchange, random = random.fork()]() mutable {
        std::vector<Block> own;
        for (int step = 0; step < 3000; ++step) {
          Block block{};
          const std::size_t choice = random.below(8);
          if (choice < 3) {
            own.push_back(allocate_some(random));
          } else if (choice < 5 && !own.empty()) {
            exchange.put(own.back());
            own.pop_back();
          } else if (choice < 6 && !own.empty()) {
            std::swap(own[random.below(own.size())], own.back());
            ASSERT_TRUE(is_whole(own.back()));
            heap::deallocate(own.back().address);
            own.pop_back();
          } else if (exchange.take(random, block)) {
            ASSERT_TRUE(is_whole(block));
            if (choice == 6) {
              heap::deallocate(block.address);
            } else {
              block.bytes = random_size(random) + 1;
              block.address = static_cast<std::byte*>(heap::reallocate(block.address, block.bytes));
              fill(block);
              own.push_back(block);
            }
          }
        }
        for (const Block& block : own) {
          exchange.put(block);
        }
      });
    }
    for (std::thread& thread : threads) {
      thread.join();
    }
    Block block{};
    while (exchange.take(random, block)) {
      ASSERT_TRUE(is_whole(block));
      heap::deallocate(block.address);
    }
    heap::trim();
    const ProcessStatistics now = process_statistics();
    EXPECT_EQ(now.live_objects, live_before) << generation;
    EXPECT_EQ(now.allocations - now.frees, live_before);
    EXPECT_TRUE(process_arena.validate());
  }
}

}  // namespace
}  // namespace slabmalloc
