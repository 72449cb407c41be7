// SPDX-License-Identifier: MIT
//
// Random operations on an arena, compared with a plain map of its blocks. The test writes every
// block in full. So it notices a false claim of zeros, an overlap, or a purge of memory in use.
#include <gtest/gtest.h>

#include <iterator>
#include <map>
#include <memory>

#include "arena/arena.hpp"
#include "os/faulty_os.hpp"
#include "support/random.hpp"

namespace slabmalloc {
namespace {

constexpr std::size_t mebibyte = std::size_t{1} << 20;

/// Writes marks into a block, one in each OS page: enough to show damage, and quick.
constexpr std::size_t mark_distance = 4096;

void write_marks(void* address, std::size_t bytes, std::uint64_t key) {
  auto* const start = static_cast<std::byte*>(address);
  for (std::size_t offset = 0; offset < bytes; offset += mark_distance) {
    *reinterpret_cast<std::uint64_t*>(start + offset) = key + offset;
  }
}

bool has_marks(const void* address, std::size_t bytes, std::uint64_t key) {
  const auto* const start = static_cast<const std::byte*>(address);
  for (std::size_t offset = 0; offset < bytes; offset += mark_distance) {
    if (*reinterpret_cast<const std::uint64_t*>(start + offset) != key + offset) {
      return false;
    }
  }
  return true;
}

bool has_zeros(const void* address, std::size_t bytes) {
  const auto* const start = static_cast<const std::byte*>(address);
  for (std::size_t offset = 0; offset < bytes; offset += mark_distance) {
    if (*reinterpret_cast<const std::uint64_t*>(start + offset) != 0) {
      return false;
    }
  }
  return true;
}

/// The blocks that the arena should hold.
class Checker {
 public:
  Checker(test::FaultyOs& os, test::Random& random) : os_(os), random_(random) {}

  void step() {
    switch (random_.below(16)) {
      case 0:
      case 1:
      case 2:
      case 3:
        return allocate_run();
      case 4:
      case 5:
      case 6:
        return allocate_large();
      case 7:
      case 8:
      case 9:
      case 10:
      case 11:
        return free_one();
      case 12:
      case 13:
        return resize_one();
      case 14:
        return free_wrongly();
      default:
        return pass_time();
    }
  }

  void check() {
    ASSERT_TRUE(arena_->validate());
    const ArenaStatistics now = arena_->statistics();
    ASSERT_EQ(now.in_use_bytes, in_use_bytes_);
    ASSERT_EQ(now.large.bytes, large_bytes_);
    ASSERT_EQ(now.committed_bytes, os_.usable_bytes());
    ASSERT_LE(now.dirty_bytes, now.dirty_limit_bytes);
  }

  void free_all() {
    while (!blocks_.empty()) {
      free_one();
      check();
    }
    arena_->trim();
    EXPECT_EQ(arena_->statistics().dirty_bytes, 0u);
    EXPECT_EQ(arena_->statistics().large.count, 0u);
    EXPECT_EQ(arena_->statistics().large.allocations, arena_->statistics().large.frees);
  }

 private:
  struct Block {
    std::size_t bytes;
    std::uint64_t key;
    bool large;
  };
  using Blocks = std::map<std::byte*, Block>;

  void keep(const Extent& extent, std::size_t bytes, std::size_t alignment, bool large) {
    ASSERT_TRUE(extent);
    auto* const address = static_cast<std::byte*>(extent.address);
    ASSERT_EQ(reinterpret_cast<std::uintptr_t>(address) % alignment, 0u);
    const auto next = blocks_.upper_bound(address);
    ASSERT_TRUE(next == blocks_.end() || address + bytes <= next->first) << "overlap";
    if (next != blocks_.begin()) {
      const auto before = std::prev(next);
      ASSERT_LE(before->first + before->second.bytes, address) << "overlap";
    }
    if (extent.zeroed) {
      ASSERT_TRUE(has_zeros(address, bytes)) << "a false claim of zeros";
    }
    const std::uint64_t key = random_.next() | 1;
    write_marks(address, bytes, key);
    blocks_[address] = {bytes, key, large};
    in_use_bytes_ += taken_bytes(address, bytes);
    large_bytes_ += large ? bytes : 0;
  }

  void forget(Blocks::iterator block) {
    in_use_bytes_ -= taken_bytes(block->first, block->second.bytes);
    large_bytes_ -= block->second.large ? block->second.bytes : 0;
    blocks_.erase(block);
  }

  /// The bytes that the arena needs for a block: chunks in the window, OS pages outside.
  std::size_t taken_bytes(std::byte* address, std::size_t bytes) {
    return arena_->chunk_of(address) != nullptr ? align_up(bytes, chunk_bytes) : bytes;
  }

  void allocate_run() {
    const std::size_t chunks = random_.between(1, random_.one_in(8) ? 100 : 8);
    const std::size_t alignment = chunk_bytes << (random_.one_in(3) ? random_.below(5) : 0);
    keep(arena_->allocate(chunks, alignment), chunks * chunk_bytes, alignment, false);
  }

  void allocate_large() {
    const std::size_t bytes = random_.one_in(30) ? random_.between(32, 34) * mebibyte
                                                 : random_.between(0, 3 * mebibyte / 2);
    const std::size_t alignment = std::size_t{1} << random_.below(random_.one_in(8) ? 26 : 17);
    const Extent extent = arena_->allocate_large(bytes, alignment);
    const std::size_t usable = arena_->large_usable_bytes(extent.address);
    ASSERT_GE(usable, bytes);
    keep(extent, usable, alignment, true);
  }

  Blocks::iterator any_block() {
    return std::next(blocks_.begin(), static_cast<std::ptrdiff_t>(random_.below(blocks_.size())));
  }

  void free_one() {
    if (blocks_.empty()) {
      return;
    }
    const auto block = any_block();
    ASSERT_TRUE(has_marks(block->first, block->second.bytes, block->second.key));
    if (block->second.large) {
      ASSERT_EQ(arena_->deallocate_large(block->first), LargeFree::Freed);
    } else {
      arena_->deallocate(block->first, block->second.bytes / chunk_bytes);
    }
    forget(block);
  }

  void resize_one() {
    if (blocks_.empty()) {
      return;
    }
    const auto picked = any_block();
    std::byte* address = picked->first;
    Block block = picked->second;
    if (!block.large) {
      return;
    }
    const std::size_t wanted = random_.between(1, block.bytes * 2);
    auto* const moved = static_cast<std::byte*>(arena_->resize_large(address, wanted));
    if (moved == nullptr) {
      ASSERT_EQ(arena_->large_usable_bytes(address), block.bytes);
      return;
    }
    const std::size_t bytes = arena_->large_usable_bytes(moved);
    ASSERT_GE(bytes, wanted);
    ASSERT_TRUE(has_marks(moved, std::min(bytes, block.bytes), block.key));
    forget(picked);
    keep({moved, false}, bytes, 1, true);
  }

  void free_wrongly() {
    if (blocks_.empty()) {
      return;
    }
    const auto block = any_block();
    std::byte* const inside = block->first + random_.between(1, block->second.bytes - 1);
    ASSERT_EQ(arena_->deallocate_large(inside), LargeFree::Inside);
    if (!block->second.large) {
      ASSERT_EQ(arena_->deallocate_large(block->first), LargeFree::Inside);
    }
  }

  void pass_time() {
    os_.advance_clock(random_.below(200));
    if (random_.one_in(8)) {
      arena_->trim();
      ASSERT_EQ(arena_->statistics().dirty_bytes, 0u);
    } else {
      arena_->decay();
    }
  }

  test::FaultyOs& os_;
  test::Random& random_;
  std::unique_ptr<Arena> arena_ = std::make_unique<Arena>();
  Blocks blocks_;
  std::size_t in_use_bytes_ = 0;
  std::size_t large_bytes_ = 0;
};

void run_random_operations(std::size_t address_space) {
  test::Random random;
  test::FaultyOs os;
  os.limit_address_space(address_space);
  Checker checker(os, random);
  for (int step = 0; step < 2000; ++step) {
    SCOPED_TRACE(step);
    ASSERT_NO_FATAL_FAILURE(checker.step());
    ASSERT_NO_FATAL_FAILURE(checker.check());
    if (step % 1000 == 999) {
      ASSERT_NO_FATAL_FAILURE(checker.free_all());
    }
  }
}

TEST(ArenaRandom, agrees_with_a_plain_map) { run_random_operations(os::unlimited); }

TEST(ArenaRandom, agrees_with_a_plain_map_in_bounded_address_space) {
  run_random_operations(std::size_t{1} << 40);
}

}  // namespace
}  // namespace slabmalloc
