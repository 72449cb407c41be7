// SPDX-License-Identifier: MIT
//
// Addresses of small blocks keep their size class in the hardened library.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <numeric>
#include <set>
#include <thread>
#include <vector>

#include "malloc/hardened_heap.hpp"
#include "malloc/heap.hpp"
#include "support/child.hpp"
#include "support/random.hpp"

namespace slabmalloc {
namespace {

using SizeClasses = MallocConfig::SizeClasses;

/// The classes that each chunk has served.
/// Thread: any.
class Addresses {
 public:
  /// Notes a block, and whether it lies where slots of its class do.
  void note(const void* block, std::uint32_t index) {
    const auto address = reinterpret_cast<std::uintptr_t>(block);
    const std::size_t size = SizeClasses::size_of(index);
    const std::lock_guard lock(mutex_);
    are_slots_ = are_slots_ && address % ArenaTable::frame_bytes(size) % size == 0;
    classes_of_[address / chunk_bytes].insert(index);
  }
  bool are_slots() const { return are_slots_; }
  std::size_t chunks() const { return classes_of_.size(); }
  /// The chunks that served several classes.
  std::size_t changes() const {
    return static_cast<std::size_t>(
        std::count_if(classes_of_.begin(), classes_of_.end(),
                      [](const auto& chunk) { return chunk.second.size() > 1; }));
  }

 private:
  std::mutex mutex_;
  std::map<std::uintptr_t, std::set<std::uint32_t>> classes_of_;
  bool are_slots_ = true;
};

/// Fills a few pages of each class in random order, frees it all in random order, and gives memory
/// back now and then.
void cycle(test::Random random, Addresses& addresses, int rounds) {
  std::vector<std::uint32_t> order(SizeClasses::count);
  std::iota(order.begin(), order.end(), 0);
  const auto shuffle = [&random](auto& items) {
    for (std::size_t count = items.size(); count > 1; --count) {
      std::swap(items[count - 1], items[random.below(count)]);
    }
  };
  for (int round = 0; round < rounds; ++round) {
    std::vector<void*> blocks;
    shuffle(order);
    for (const std::uint32_t index : order) {
      const std::size_t size = SizeClasses::size_of(index);
      const std::size_t bytes = random.below(3) * ArenaTable::frame_bytes(size);
      for (std::size_t count = bytes / size; count != 0; --count) {
        blocks.push_back(hardened::allocate(size - BlockTrailer::bytes, 16, BlockKind::Malloc));
        ASSERT_NE(blocks.back(), nullptr);
        addresses.note(blocks.back(), index);
      }
      if (random.one_in(8)) {
        shuffle(blocks);
        const std::size_t kept = random.below(blocks.size() + 1);
        std::for_each(blocks.begin() + static_cast<std::ptrdiff_t>(kept), blocks.end(),
                      [](void* block) { hardened::deallocate(block, Call::Free); });
        blocks.resize(kept);
      }
    }
    shuffle(blocks);
    for (void* const block : blocks) {
      hardened::deallocate(block, Call::Free);
    }
    if (random.one_in(4)) {
      heap::trim();
    } else if (random.one_in(4)) {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      process_arena.decay();
    }
  }
}

class HardenedClasses : public testing::Test {
 protected:
  HardenedClasses() { tunables.decay_milliseconds = 2; }
  ~HardenedClasses() override {
    tunables = Tunables{};
    EXPECT_TRUE(process_arena.validate());
  }
};

TEST_F(HardenedClasses, no_chunk_serves_two_size_classes) {
  test::Random random;
  Addresses addresses;
  std::thread other([&addresses, generator = random.fork()] { cycle(generator, addresses, 12); });
  cycle(random.fork(), addresses, 12);
  other.join();
  EXPECT_EQ(addresses.changes(), 0u);
  EXPECT_TRUE(addresses.are_slots());
  EXPECT_GE(addresses.chunks(), 2 * SizeClasses::count);
  EXPECT_EQ(process_arena.statistics().class_changes, 0u);
}

TEST_F(HardenedClasses, chunks_serve_any_size_class_if_the_option_is_off) {
  test::Random random;
  EXPECT_EQ(test::status_of_child([&] {
              tunables.class_addresses = false;
              Addresses addresses;
              cycle(random, addresses, 8);
              return addresses.changes() >= 20 && process_arena.validate() ? 0 : 1;
            }),
            0);
}

}  // namespace
}  // namespace slabmalloc
