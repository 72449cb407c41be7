// SPDX-License-Identifier: MIT
#include "malloc/hole_scan.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <mutex>
#include <semaphore>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "malloc/blocks.hpp"
#include "malloc/fork.hpp"
#include "malloc/thread_zones.hpp"
#include "support/child.hpp"
#include "support/pattern.hpp"
#include "support/random.hpp"
#include "support/run_threads.hpp"

namespace slabmalloc {
namespace {

using Classes = MallocConfig::SizeClasses;

/// An operating system with a clock and faults that the test sets, while this lives.
class ScriptedOs {
 public:
  ScriptedOs() : previous_(os::replace_interface(table_)) {
    table_ = os::linux_interface;
    time = os::linux_interface.now_milliseconds();
    table_.now_milliseconds = [] { return time.load(); };
    table_.os_page_bytes = [] { return page_bytes; };
    table_.purge = [](void* address, std::size_t bytes) {
      ++purges;
      return !purge_fails && os::linux_interface.purge(address, bytes);
    };
    page_bytes = os::linux_interface.os_page_bytes();
    purge_fails = false;
    purges = 0;
  }
  ~ScriptedOs() { os::replace_interface(previous_); }

  static inline std::atomic<std::uint64_t> time;
  static inline std::size_t page_bytes;
  static inline std::atomic<bool> purge_fails;
  static inline std::atomic<int> purges;

 private:
  static inline os::Interface table_;
  const os::Interface& previous_;
};

// ---- the units without a live slot -------------------------------------------------------------

/// As units_of_free_slots(), slot by slot and byte by byte.
UnitSet naive_units(std::size_t slot_bytes, std::uint32_t slots, std::uint32_t chunk,
                    const Word* free) {
  std::uint32_t units = (1u << units_per_chunk) - 1;
  for (std::uint32_t slot = 0; slot < slots; ++slot) {
    if (is_set(free[slot / word_bits], slot % word_bits)) {
      continue;
    }
    for (std::size_t byte = slot * slot_bytes; byte < (slot + 1) * slot_bytes; ++byte) {
      if (byte / chunk_bytes == chunk) {
        units &= ~(1u << byte % chunk_bytes / unit_bytes);
      }
    }
  }
  return static_cast<UnitSet>(units);
}

TEST(HoleScan, finds_the_units_without_a_live_slot_in_pages_of_every_class) {
  test::Random random;
  for (std::uint32_t index = 0; index < Classes::count; ++index) {
    const std::size_t bytes = Classes::size_of(index);
    const SlotGeometry geometry = ArenaPage::geometry(bytes);
    const ChunkInfo info = ArenaTable::info_for(geometry, index);
    for (int round = 0; round < 60; ++round) {
      Word free[Chunk::maximum_words] = {};
      const std::uint64_t live_of = std::uint64_t{1} << round % 12;
      for (std::uint32_t slot = 0; slot < geometry.words * word_bits; ++slot) {
        const bool is_free = slot >= geometry.slots || random.below(live_of) != 0;
        free[slot / word_bits] |= Word{is_free} << slot % word_bits;
      }
      for (std::uint32_t chunk = 0; chunk < ArenaPage::frame_bytes(bytes) / chunk_bytes; ++chunk) {
        ASSERT_EQ(units_of_free_slots(info, chunk, free),
                  naive_units(bytes, geometry.slots, chunk, free))
            << bytes << " bytes, chunk " << chunk;
      }
    }
  }
}

TEST(HoleScan, keeps_to_whole_os_pages) {
  const ScriptedOs os;
  for (std::size_t page_bytes = unit_bytes; page_bytes <= 2 * chunk_bytes; page_bytes *= 2) {
    os.page_bytes = page_bytes;
    const std::uint32_t group = static_cast<std::uint32_t>(page_bytes / unit_bytes);
    for (std::uint32_t units = 0; units <= 0xFFFF; ++units) {
      std::uint32_t whole = 0;
      std::uint32_t around = 0;
      for (std::uint32_t first = 0; first < units_per_chunk; first += group) {
        const std::uint32_t all = ((std::uint64_t{1} << group) - 1) << first & 0xFFFF;
        whole |= group <= units_per_chunk && (units & all) == all ? all : 0;
        around |= (units & all) != 0 || group > units_per_chunk ? all : 0;
      }
      ASSERT_EQ(whole_os_pages(static_cast<UnitSet>(units)), whole);
      ASSERT_EQ(os_pages_around(static_cast<UnitSet>(units)), around);
    }
  }
}

// ---- scans of one thread's pages ---------------------------------------------------------------

ThreadZone& own_zone() {
  heap::deallocate(heap::allocate(1));
  return *thread_heap.zone->queue().zone();
}

std::size_t hole_bytes() { return process_arena.statistics().hole_bytes; }

/// Blocks of which one in `part` stays, with its pattern.
class Survivors {
 public:
  Survivors(std::size_t bytes, std::size_t total_bytes, std::size_t part) : bytes_(bytes) {
    std::vector<void*> blocks;
    allocate_many(blocks, bytes, total_bytes);
    for (std::size_t number = 0; number < blocks.size(); ++number) {
      __builtin_memset(blocks[number], 0xFF, bytes);
      if (number % part == 0) {
        test::fill_pattern(blocks[number], bytes, number);
        kept_.push_back({blocks[number], number});
      } else {
        freed_.push_back(blocks[number]);
      }
    }
    blocks = freed_;
    free_all(blocks);
  }
  ~Survivors() {
    for (const auto& [block, key] : kept_) {
      EXPECT_TRUE(test::holds_pattern(block, bytes_, key));
      heap::deallocate(block);
    }
  }
  const std::vector<void*>& freed() const { return freed_; }

 private:
  struct Kept {
    void* block;
    std::uint64_t key;
  };
  std::size_t bytes_;
  std::vector<Kept> kept_;
  std::vector<void*> freed_;
};

/// Blocks whose first byte reads as zero.
std::size_t count_zero(const std::vector<void*>& blocks) {
  std::size_t count = 0;
  for (void* block : blocks) {
    count += *static_cast<volatile unsigned char*>(block) == 0;
  }
  return count;
}

TEST(HoleScan, trim_drops_what_no_live_slot_needs) {
  own_zone();
  for (const std::size_t bytes : {std::size_t{48}, std::size_t{1000}, std::size_t{20'000}}) {
    const std::size_t holes_before = hole_bytes();
    {
      const Survivors survivors(bytes, 8 * chunk_bytes * 8, 200'000 / bytes);
      EXPECT_GT(heap::trim(), 2 * chunk_bytes * 8);
      EXPECT_GT(hole_bytes(), holes_before + 2 * chunk_bytes * 8) << bytes;
      EXPECT_GT(count_zero(survivors.freed()), survivors.freed().size() / 2);
      EXPECT_EQ(thread_heap.zone->validate(), nullptr);
      EXPECT_EQ(heap::trim(), 0u) << "once is enough";
    }
    heap::trim();
    EXPECT_EQ(hole_bytes(), holes_before) << "the pages have gone";
  }
}

TEST(HoleScan, ordinary_calls_drop_within_two_intervals) {
  own_zone();
  const ScriptedOs os;
  const Survivors survivors(1000, 64 * chunk_bytes, 40);
  const auto make_ordinary_calls = [] {
    for (int count = 0; count < 100'000; ++count) {
      void* volatile blocks[2] = {heap::allocate(8000), heap::allocate(8000)};
      heap::deallocate(blocks[0]);
      heap::deallocate(blocks[1]);
    }
  };
  make_ordinary_calls();
  const std::size_t holes_before = hole_bytes();
  for (int interval = 0; interval < 2; ++interval) {
    EXPECT_LT(count_zero(survivors.freed()), survivors.freed().size() / 10) << "too early";
    os.time += tunables.decay_milliseconds;
    make_ordinary_calls();
  }
  EXPECT_GT(hole_bytes(), holes_before + 50 * chunk_bytes);
  EXPECT_GT(count_zero(survivors.freed()), survivors.freed().size() * 8 / 10);
}

TEST(HoleScan, a_claim_ends_a_hole_and_calloc_need_not_clear_it) {
  ThreadZone& zone = own_zone();
  for (const std::size_t bytes : {std::size_t{64}, std::size_t{1024}, std::size_t{24 * 1024}}) {
    const Survivors survivors(bytes, 64 * chunk_bytes, 300'000 / bytes);
    heap::trim();
    const std::size_t holes_before = hole_bytes();
    std::vector<void*> blocks;
    std::size_t known = 0;
    for (std::size_t total = 0; total < 32 * chunk_bytes; total += bytes) {
      blocks.push_back(heap::allocate_zeroed(bytes));
      ASSERT_TRUE(test::holds_zeroes(blocks.back(), bytes));
      known += zone.zone.class_at(Classes::index_for(bytes)).is_zero(blocks.back());
      __builtin_memset(blocks.back(), 0xFF, bytes);
    }
    EXPECT_GT(known, blocks.size() / 3) << bytes;
    EXPECT_LT(hole_bytes(), holes_before - 16 * chunk_bytes);
    EXPECT_EQ(thread_heap.zone->validate(), nullptr);
    // The second time the same memory is not zero.
    free_all(blocks);
    for (std::size_t total = 0; total < 32 * chunk_bytes; total += bytes) {
      blocks.push_back(heap::allocate_zeroed(bytes));
      ASSERT_TRUE(test::holds_zeroes(blocks.back(), bytes));
    }
    free_all(blocks);
  }
}

TEST(HoleScan, a_slot_that_is_handed_off_is_not_taken_for_zero) {
  ThreadZone& zone = own_zone();
  constexpr std::size_t bytes = 512;
  std::vector<void*> blocks;
  {
    const Survivors survivors(bytes, 8 * chunk_bytes, 300);
    heap::trim();
    auto& size_class = zone.zone.class_at(Classes::index_for(bytes));
    do {
      blocks.push_back(heap::allocate_zeroed(bytes));
      __builtin_memset(blocks.back(), 0xFF, bytes);
    } while (!size_class.is_zero(blocks.back()) || blocks.size() < 64);
    for (int count = 0; count < 2000; ++count) {
      void*& block = blocks[static_cast<std::size_t>(count) % 60];
      heap::deallocate(block);
      block = heap::allocate_zeroed(bytes);
      ASSERT_TRUE(test::holds_zeroes(block, bytes));
      __builtin_memset(block, 0xFF, bytes);
    }
  }
  free_all(blocks);
}

TEST(HoleScan, memory_that_cannot_be_dropped_is_no_hole) {
  own_zone();
  const ScriptedOs os;
  const Survivors survivors(1000, 64 * chunk_bytes, 100);
  heap::trim();
  std::vector<void*> blocks;
  allocate_many(blocks, 1000, 64 * chunk_bytes);
  for (void* block : blocks) {
    __builtin_memset(block, 0xFF, 1000);
  }
  free_all(blocks);
  const std::size_t holes_before = hole_bytes();
  os.purge_fails = true;
  heap::trim();
  EXPECT_GT(os.purges, 0);
  EXPECT_EQ(hole_bytes(), holes_before);
  for (int count = 0; count < 1000; ++count) {
    blocks.push_back(heap::allocate_zeroed(1000));
    ASSERT_TRUE(test::holds_zeroes(blocks.back(), 1000));
  }
  os.purge_fails = false;
  free_all(blocks);
  heap::trim();
  EXPECT_GT(hole_bytes(), holes_before);
}

TEST(HoleScan, large_os_pages_go_as_a_whole) {
  own_zone();
  const ScriptedOs os;
  os.page_bytes = 4 * unit_bytes;
  const Survivors survivors(1000, 64 * chunk_bytes, 20);
  heap::trim();
  EXPECT_GT(hole_bytes(), 0u);
  std::vector<void*> blocks;
  for (int count = 0; count < 3000; ++count) {
    blocks.push_back(heap::allocate_zeroed(1000));
    ASSERT_TRUE(test::holds_zeroes(blocks.back(), 1000));
  }
  EXPECT_EQ(thread_heap.zone->validate(), nullptr);
  free_all(blocks);
}

TEST(HoleScan, validate_finds_a_hole_with_a_live_slot) {
  own_zone();
  void* const block = heap::allocate(3000);
  Chunk* const chunk = process_arena.chunk_of(block);
  EXPECT_EQ(thread_heap.zone->validate(), nullptr);
  const Holes holes = chunk->holes();
  chunk->set_holes({0, 0xFFFF});
  const char* const broken = thread_heap.zone->validate();
  ASSERT_NE(broken, nullptr);
  EXPECT_EQ(std::string_view(broken).substr(0, 2), "H1");
  chunk->set_holes(holes);
  heap::deallocate(block);
}

TEST(HoleScan, becomes_rarer_while_the_program_claims_what_it_drops) {
  HoleScan scan;
  const std::uint32_t interval = tunables.decay_milliseconds;
  const auto intervals = [&] {
    std::uint32_t time = 0;
    scan.begin(0, true);
    while (!scan.is_due(time)) {
      ++time;
    }
    EXPECT_FALSE(scan.is_overdue(2 * time - 1));
    EXPECT_TRUE(scan.is_overdue(2 * time));
    return time / interval;
  };
  EXPECT_EQ(intervals(), 1u);
  for (const std::uint32_t expected : {1u, 2u, 4u, 8u, 8u}) {
    scan.note_dropped(100);
    scan.end(expected == 1 ? 0 : 50);
    EXPECT_EQ(intervals(), expected);
  }
  for (const std::uint32_t expected : {4u, 2u, 1u, 1u}) {
    scan.note_dropped(100);
    scan.end(49);
    EXPECT_EQ(intervals(), expected);
  }
}

TEST(HoleScan, a_child_of_a_fork_has_holes_and_goes_on) {
  own_zone();
  follow_forks();
  const Survivors survivors(1000, 64 * chunk_bytes, 100);
  heap::trim();
  std::atomic<bool> is_over{false};
  std::thread other([&] {
    heap::deallocate(heap::allocate(1));
    while (!is_over) {
      thread_zones.drop_all_holes();
    }
  });
  for (int count = 0; count < 20; ++count) {
    const auto work = [] {
      std::vector<void*> blocks;
      for (int number = 0; number < 20'000; ++number) {
        blocks.push_back(heap::allocate_zeroed(1000));
        if (!test::holds_zeroes(blocks.back(), 1000)) {
          return 1;
        }
        __builtin_memset(blocks.back(), 0xFF, 1000);
      }
      free_all(blocks);
      heap::trim();
      return thread_heap.zone->validate() == nullptr ? 0 : 2;
    };
    EXPECT_EQ(test::status_of_child(work, 60), 0);
  }
  is_over = true;
  other.join();
}

// ---- several threads ---------------------------------------------------------------------------

/// Blocks that any thread may free.
class Exchange {
 public:
  struct Block {
    void* address = nullptr;
    std::size_t bytes = 0;
    std::uint64_t key = 0;
  };

  void put(const Block& block) {
    const std::lock_guard lock(mutex_);
    blocks_.push_back(block);
  }
  Block take() {
    const std::lock_guard lock(mutex_);
    if (blocks_.empty()) {
      return {};
    }
    const Block block = blocks_.back();
    blocks_.pop_back();
    return block;
  }

 private:
  std::mutex mutex_;
  std::vector<Block> blocks_;
};

void check_and_free(const Exchange::Block& block) {
  if (block.address != nullptr) {
    ASSERT_TRUE(test::holds_pattern(block.address, block.bytes, block.key)) << block.bytes;
    heap::deallocate(block.address);
  }
}

/// Allocates and frees blocks of changing sizes and passes some on.
void work_with_patterns(test::Random& random, Exchange& exchange) {
  std::vector<Exchange::Block> mine(3000);
  for (std::size_t phase = 0; phase < 20; ++phase) {
    const std::size_t most = std::size_t{16} << random.below(12);
    for (int step = 0; step < 6000; ++step) {
      Exchange::Block& block = mine[random.below(mine.size())];
      random.one_in(8) ? exchange.put(block) : check_and_free(block);
      block = {};
      if (random.one_in(16)) {
        check_and_free(exchange.take());
      }
      if (random.one_in(phase % 4 == 3 ? 20 : 2)) {
        block.bytes = most / 2 + random.below(most / 2) + 1;
        const bool zeroed = random.one_in(2);
        block.address = zeroed ? heap::allocate_zeroed(block.bytes) : heap::allocate(block.bytes);
        ASSERT_TRUE(!zeroed || test::holds_zeroes(block.address, block.bytes)) << block.bytes;
        block.key = random.next();
        test::fill_pattern(block.address, block.bytes, block.key);
      }
    }
  }
  for (const Exchange::Block& block : mine) {
    check_and_free(block);
  }
}

std::atomic<std::size_t> steps_of_scans{0};
constinit thread_local bool meets_owner = false;

void wake_owner() {
  os::linux_interface.wake(reinterpret_cast<const std::uint32_t*>(&scavenger_mutex), 1);
}

/// An operating system for a thread that scans and meets an owner in each step: the step begins
/// when the owner waits for its end. The owner does not run before the thread sleeps, or is in the
/// next step.
os::Interface slow_to_wake() {
  os::Interface table = os::linux_interface;
  table.fence_all_threads = [] {
    ++steps_of_scans;
    if (meets_owner) {
      wake_owner();
    }
    while (meets_owner && !scavenger_mutex.has_waiting()) {
      std::this_thread::yield();
    }
    return os::linux_interface.fence_all_threads();
  };
  table.wake = [](const std::uint32_t* word, std::uint32_t count) {
    if (!meets_owner || static_cast<const void*>(word) != &scavenger_mutex) {
      os::linux_interface.wake(word, count);
    }
  };
  table.sleep = [](std::uint32_t) {
    wake_owner();
    while (scavenger_mutex.has_waiting()) {  // It comes in time, even on a busy machine.
      std::this_thread::yield();
    }
  };
  return table;
}

// Each split takes as long as many drops, so it bounds a step sooner than those do.
TEST(HoleScan, a_step_splits_few_huge_pages) {
  tunables.huge_threshold_bytes = 0;  // The heap asks for huge pages at once.
  ThreadZone& zone = own_zone();
  const Survivors survivors(1000, 64 * mebibyte, 400);  // A few drops in each huge page.
  static std::size_t splits = 0;
  os::Interface table = os::linux_interface;
  table.split_huge_page = [](void*) { ++splits; };
  const os::Interface& previous = os::replace_interface(table);
  std::size_t most = 0;
  std::size_t all = 0;
  for (int scan = 0; scan < 2; ++scan) {
    zone.holes.begin(0, true);
    for (zone.holes.next_chunk = 0; zone.holes.next_chunk != HoleScan::no_scan;) {
      scan_own_pages(zone);
      most = std::max(most, splits);
      all += std::exchange(splits, 0);
    }
  }
  os::replace_interface(previous);
  EXPECT_GT(all, 20u);
  EXPECT_LE(most, 3u);
  tunables = Tunables{};
}

/// Claims a slot at each allocation, until the end. Returns the most steps during one of them.
std::size_t claim_until(const std::atomic<bool>& is_over, std::binary_semaphore& has_begun) {
  get_own_zone();
  has_begun.release();
  std::size_t most = 0;
  while (!is_over) {
    const std::size_t before = steps_of_scans;
    heap::deallocate(heap::allocate(Classes::max_size));
    most = std::max<std::size_t>(most, steps_of_scans - before);
  }
  return most;
}

TEST(HoleScan, an_owner_waits_for_few_steps_of_a_scan) {
  own_zone();
  tunables.scavenge_milliseconds = 60'000;
  const Survivors survivors(1000, 64 * mebibyte, 12);
  static const os::Interface table = slow_to_wake();
  const os::Interface& previous = os::replace_interface(table);
  std::atomic<bool> is_over{false};
  std::size_t most = 0;
  std::binary_semaphore has_begun(0);
  std::thread owner([&] { most = claim_until(is_over, has_begun); });
  has_begun.acquire();
  run_thread([&] {
    meets_owner = true;
    thread_zones.drop_all_holes();
    wake_owner();
  });
  is_over = true;
  owner.join();
  os::replace_interface(previous);
  EXPECT_GT(steps_of_scans, 50u);
  EXPECT_LE(most, 8u);
  tunables = Tunables{};
}

// Every block holds a pattern from its allocation to its free, and those of calloc hold zeroes at
// first, while scans drop whatever they can.
TEST(HoleScan, contents_survive_scans_by_owners_and_by_others) {
  tunables.decay_milliseconds = 1;
  tunables.scavenge_milliseconds = 1;
  test::Random seeds;
  Exchange exchange;
  constexpr std::size_t workers = 3;
  std::vector<test::Random> randoms;
  for (std::size_t thread = 0; thread < workers; ++thread) {
    randoms.push_back(seeds.fork());
  }
  std::atomic<std::size_t> working{workers};
  std::thread scavenger([&] {
    while (working != 0) {
      thread_zones.drop_all_holes();
    }
  });
  test::run_threads(workers, [&](std::size_t thread) {
    work_with_patterns(randoms[thread], exchange);
    thread_heap.zone->drain();
    EXPECT_EQ(thread_heap.zone->validate(), nullptr);
    --working;
  });
  scavenger.join();
  for (Exchange::Block block = exchange.take(); block.bytes != 0; block = exchange.take()) {
    check_and_free(block);
  }
  EXPECT_GT(process_arena.statistics().holes_refaulted_bytes, 0u);
  tunables = Tunables{};
  heap::trim();
}

}  // namespace
}  // namespace slabmalloc
