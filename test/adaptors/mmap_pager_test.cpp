// SPDX-License-Identifier: MIT
#include "slabmalloc/adaptors/mmap_pager.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <list>
#include <thread>
#include <vector>

#include "containers.hpp"
#include "slabmalloc/adaptors/stl_allocator.hpp"
#include "support/random.hpp"

namespace slabmalloc::test {
namespace {

using Zone = ScopedZone<MmapPager, PoolConfig>;

constexpr std::size_t os_page_bytes = 4 * kibibyte;

/// True if no byte of the page at `address` is mapped.
bool is_unmapped(void* address) {
  unsigned char resident = 0;
  return ::mincore(address, os_page_bytes, &resident) != 0 && errno == ENOMEM;
}

/// Memory from a pager. Its first and last words hold its number; the rest stays as it came.
struct Block {
  std::uint64_t* words;
  std::size_t bytes, alignment;
  bool is_frame;

  std::size_t last() const { return bytes / sizeof(std::uint64_t) - 1; }
  void write(std::uint64_t number) const { words[0] = words[last()] = number; }
  bool holds(std::uint64_t number) const { return words[0] == number && words[last()] == number; }
};

/// Keeps random frames and runs from a pager, and checks each.
class Client {
 public:
  Client(MmapPager& pager, const Random& random) : pager_(pager), random_(random) {}
  ~Client() {
    while (!blocks_.empty()) {
      free_one();
    }
  }

  void act() {
    if (random_.below(16) < (blocks_.size() < 64 ? 9u : 6u)) {
      allocate_one();
    } else if (!blocks_.empty()) {
      free_one();
    }
  }

 private:
  void allocate_one() {
    Block block{nullptr, std::size_t{1} << (12 + random_.below(10)), 0, random_.below(2) == 0};
    block.alignment = block.bytes;
    if (!block.is_frame) {
      block.bytes = 8 * (1 + random_.below(block.bytes / 8));
      block.alignment = std::size_t{1} << random_.below(18);
    }
    const Frame frame = block.is_frame ? pager_.allocate_frame(block.bytes)
                                       : pager_.allocate_run(block.bytes, block.alignment);
    ASSERT_NE(frame.address, nullptr);
    ASSERT_TRUE(is_aligned(frame.address, block.alignment));
    block.words = static_cast<std::uint64_t*>(frame.address);
    if (frame.zeroed) {
      ASSERT_EQ(std::count(block.words, block.words + block.last() + 1, 0u),
                static_cast<std::ptrdiff_t>(block.last() + 1));
    }
    block.write(numbers_.emplace_back(random_.next()));
    blocks_.push_back(block);
  }
  void free_one() {
    const std::size_t index = random_.below(blocks_.size());
    const Block block = blocks_[index];
    EXPECT_TRUE(block.holds(numbers_[index])) << "another block lies here too";
    blocks_[index] = blocks_.back();
    blocks_.pop_back();
    numbers_[index] = numbers_.back();
    numbers_.pop_back();
    if (block.is_frame) {
      pager_.deallocate_frame(block.words, block.bytes);
    } else {
      pager_.deallocate_run(block.words, block.bytes, block.alignment);
    }
  }

  MmapPager& pager_;
  Random random_;
  std::vector<Block> blocks_;
  std::vector<std::uint64_t> numbers_;
};

TEST(MmapPager, blocks_never_overlap_and_all_memory_goes_back) {
  Random random;
  for (const std::size_t kept : {std::size_t{0}, std::size_t{1} << 20, ~std::size_t{0}}) {
    MmapPager pager(kept);
    {
      Client client(pager, random.fork());
      for (int step = 0; step < 1500; ++step) {
        client.act();
        ASSERT_EQ(pager.validate(), nullptr);
        ASSERT_LE(pager.kept_bytes(), pager.mapped_bytes());
      }
    }
    const std::size_t waiting = pager.kept_bytes();
    EXPECT_EQ(pager.trim(), waiting);
    EXPECT_LE(pager.mapped_bytes(), std::size_t{32} << 20) << "the rest of one region";
  }
}

TEST(MmapPager, serves_threads_at_once) {
  MmapPager pager(1 << 20);
  Random random;
  std::vector<std::thread> threads;
  for (int number = 0; number < 3; ++number) {
    threads.emplace_back([&, client_random = random.fork()] {
      Client client(pager, client_random);
      for (int step = 0; step < 1000; ++step) {
        client.act();
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  EXPECT_EQ(pager.validate(), nullptr);
}

TEST(MmapPager, reuses_what_it_keeps_before_it_maps_more) {
  MmapPager pager;
  void* const frame = pager.allocate_frame(64 * kibibyte).address;
  pager.deallocate_frame(frame, 64 * kibibyte);
  const Frame again = pager.allocate_frame(64 * kibibyte);
  EXPECT_EQ(again.address, frame);
  EXPECT_FALSE(again.zeroed);
  pager.deallocate_frame(frame, 64 * kibibyte);

  // A run serves smaller ones, and its parts become one again.
  auto* const run = static_cast<std::byte*>(pager.allocate_run(40 * kibibyte, 8).address);
  pager.deallocate_run(run, 40 * kibibyte, 8);
  const std::size_t mapped = pager.mapped_bytes();
  std::vector<void*> parts;
  for (std::size_t count = 0; count < 10; ++count) {
    parts.push_back(pager.allocate_run(4 * kibibyte, 8).address);
    EXPECT_EQ(parts.back(), run + count * 4 * kibibyte);
  }
  for (const int part : {0, 5, 2, 8, 1, 4, 3, 9, 7, 6}) {
    pager.deallocate_run(parts[static_cast<std::size_t>(part)], 4 * kibibyte, 8);
  }
  EXPECT_EQ(pager.allocate_run(40 * kibibyte, 8).address, run);
  EXPECT_EQ(pager.mapped_bytes(), mapped);
  pager.deallocate_run(run, 40 * kibibyte, 8);
}

TEST(MmapPager, beyond_its_limit_memory_goes_back_at_once_and_the_rest_at_its_end) {
  void* kept = nullptr;
  void* dropped = nullptr;
  {
    MmapPager pager(64 * kibibyte);
    kept = pager.allocate_frame(64 * kibibyte).address;
    dropped = pager.allocate_frame(64 * kibibyte).address;
    void* const run = pager.allocate_run(1, 1).address;
    pager.deallocate_frame(kept, 64 * kibibyte);
    pager.deallocate_frame(dropped, 64 * kibibyte);
    pager.deallocate_run(run, 1, 1);
    EXPECT_TRUE(is_unmapped(dropped));
    EXPECT_TRUE(is_unmapped(run));
    EXPECT_FALSE(is_unmapped(kept));
  }
  EXPECT_TRUE(is_unmapped(kept));
}

TEST(MmapPager, impossible_and_refused_sizes_give_nothing_and_lose_nothing) {
  MmapPager pager;
  for (const std::size_t bytes : {~std::size_t{0}, ~std::size_t{0} - os_page_bytes,
                                  std::size_t{PTRDIFF_MAX}, std::size_t{1} << 60}) {
    EXPECT_EQ(pager.allocate_run(bytes, 8).address, nullptr);
    EXPECT_EQ(pager.allocate_run(bytes, std::size_t{1} << 40).address, nullptr);
  }
  EXPECT_EQ(pager.allocate_frame(std::size_t{1} << 62).address, nullptr);
  EXPECT_EQ(pager.mapped_bytes(), 0u);
  void* const frame = pager.allocate_frame(os_page_bytes).address;
  EXPECT_NE(frame, nullptr);
  pager.deallocate_frame(frame, os_page_bytes);
}

TEST(MmapPager, zones_of_several_threads_share_one) {
  MmapPager pager;
  {
    std::vector<std::thread> threads;
    for (int number = 0; number < 3; ++number) {
      threads.emplace_back([&] {
        Zone zone(pager);
        std::list<std::size_t, StlAllocator<std::size_t, Zone>> list(zone);
        for (std::size_t value = 0; value < 20'000; ++value) {
          list.push_back(value);
        }
        EXPECT_EQ(list.back(), 19'999u);
      });
    }
    for (std::thread& thread : threads) {
      thread.join();
    }
  }
  EXPECT_EQ(pager.validate(), nullptr);
  EXPECT_GE(pager.trim(), 1u);
}

}  // namespace
}  // namespace slabmalloc::test
