// SPDX-License-Identifier: MIT
//
// Tests of the process heap on one thread: sizes, alignments, zeros, reallocation.
#include "malloc/heap.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <limits>
#include <set>
#include <thread>
#include <vector>

#include "malloc/report.hpp"
#include "os/os.hpp"
#include "support/child.hpp"
#include "support/misuse_recorder.hpp"
#include "support/pattern.hpp"

namespace slabmalloc {
namespace {

using Sizes = heap::SizeClasses;
using test::fill_pattern;
using test::holds_pattern;
using test::holds_zeroes;

constexpr std::size_t mebibyte = std::size_t{1} << 20;

bool is_aligned(const void* block, std::size_t alignment) {
  return reinterpret_cast<std::uintptr_t>(block) % alignment == 0;
}

std::size_t resident_bytes() {
  std::FILE* file = std::fopen("/proc/self/statm", "r");
  std::size_t total = 0;
  std::size_t resident = 0;
  EXPECT_EQ(std::fscanf(file, "%zu %zu", &total, &resident), 2);
  std::fclose(file);
  return resident * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

/// Sizes on both sides of each class and of each kind of memory.
std::vector<std::size_t> edge_sizes() {
  std::vector<std::size_t> sizes{0, 1};
  for (std::uint32_t index = 0; index < Sizes::count; ++index) {
    sizes.push_back(Sizes::size_of(index) - 1);
    sizes.push_back(Sizes::size_of(index));
    sizes.push_back(Sizes::size_of(index) + 1);
  }
  const std::size_t threshold = tunables.direct_threshold_bytes;
  for (const std::size_t bytes : {std::size_t{200000}, 4 * mebibyte, threshold, threshold + 1}) {
    sizes.push_back(bytes - 1);
    sizes.push_back(bytes);
  }
  return sizes;
}

void expect_sound() {
  if (thread_heap.zone != &empty_zone) {
    EXPECT_EQ(thread_heap.zone->validate(), nullptr);
  }
  EXPECT_TRUE(process_arena.validate());
}

/// Large blocks between guards move when they grow, and leave no dirty memory.
class HeapWithoutGuards : public testing::Test {
 protected:
  void SetUp() override {
    if (MallocConfig::hardened) {
      GTEST_SKIP();
    }
  }
};

TEST(Heap, every_size_is_served_aligned_usable_and_apart_from_all_others) {
  const std::vector<std::size_t> sizes = edge_sizes();
  std::vector<void*> blocks;
  for (std::size_t number = 0; number < sizes.size(); ++number) {
    void* block = heap::allocate(sizes[number]);
    ASSERT_NE(block, nullptr) << sizes[number];
    EXPECT_TRUE(is_aligned(block, heap::minimum_alignment)) << sizes[number];
    ASSERT_GE(heap::usable_bytes(block), sizes[number]);
    fill_pattern(block, heap::usable_bytes(block), number);
    blocks.push_back(block);
  }
  for (std::size_t number = 0; number < sizes.size(); ++number) {
    EXPECT_TRUE(holds_pattern(blocks[number], heap::usable_bytes(blocks[number]), number))
        << sizes[number];
    heap::deallocate(blocks[number]);
  }
  expect_sound();
}

TEST(Heap, usable_bytes_are_those_of_the_class) {
  for (std::uint32_t index = 0; index < Sizes::count; ++index) {
    void* block = heap::allocate(Sizes::size_of(index));
    EXPECT_EQ(heap::usable_bytes(block), Sizes::size_of(index));
    heap::deallocate(block);
  }
}

TEST(Heap, blocks_from_1_KiB_to_64_MiB_are_little_larger_than_requested) {
  const std::size_t os_page_bytes = os::interface().os_page_bytes();
  constexpr std::size_t most = 64 * mebibyte;
  double excess = 0;
  double count = 0;
  for (double exact = kibibyte; exact < most; exact *= 1.001) {
    const auto bytes = static_cast<std::size_t>(exact);
    void* block = heap::allocate(bytes);
    const std::size_t usable = heap::usable_bytes(block);
    if (bytes > heap::max_class_bytes) {
      const std::size_t step =
          process_arena.chunk_of(block) != nullptr ? large_step_bytes : os_page_bytes;
      EXPECT_EQ(usable, align_up(bytes, step));
    }
    excess += static_cast<double>(usable) / static_cast<double>(bytes) - 1;
    ++count;
    heap::deallocate(block);
    // The mean from 1 KiB to here. With four classes per doubling a whole doubling has 9.6 %.
    if (bytes >= 2 * kibibyte) {
      ASSERT_LE(excess / count, 0.125) << bytes;
    }
  }
}

TEST_F(HeapWithoutGuards, reallocation_within_the_chunks_of_a_large_block_stays_in_place) {
  auto* const block = static_cast<std::byte*>(heap::allocate(60 * kibibyte));
  fill_pattern(block, 60 * kibibyte, 1);
  for (const std::size_t bytes :
       {40 * kibibyte, std::size_t{33'000}, 64 * kibibyte, 60 * kibibyte}) {
    ASSERT_EQ(heap::reallocate(block, bytes), block);
    EXPECT_EQ(heap::usable_bytes(block), align_up(bytes, large_step_bytes));
  }
  EXPECT_TRUE(holds_pattern(block, 60 * kibibyte, 1)) << "its chunks were never given back";
  heap::deallocate(block);
}

TEST(Heap, blocks_of_no_bytes_are_unique) {
  std::set<void*> blocks;
  for (int count = 0; count < 1000; ++count) {
    void* block = heap::allocate(0);
    ASSERT_NE(block, nullptr);
    EXPECT_TRUE(blocks.insert(block).second);
  }
  for (void* block : blocks) {
    heap::deallocate(block);
  }
}

TEST(Heap, every_alignment_to_1_GiB_is_kept) {
  for (std::size_t alignment = 1; alignment <= std::size_t{1} << 30; alignment *= 2) {
    for (const std::size_t bytes : {std::size_t{0}, std::size_t{1}, std::size_t{24}, alignment - 1,
                                    alignment, alignment + 1, std::size_t{100000}}) {
      void* blocks[3] = {};
      for (void*& block : blocks) {
        block = heap::allocate_aligned(bytes, alignment);
        ASSERT_NE(block, nullptr) << bytes << " at " << alignment;
        EXPECT_TRUE(is_aligned(block, alignment)) << bytes << " at " << alignment;
        EXPECT_GE(heap::usable_bytes(block), bytes);
        fill_pattern(block, bytes < mebibyte ? bytes : mebibyte, alignment);
      }
      for (void* block : blocks) {
        EXPECT_TRUE(holds_pattern(block, bytes < mebibyte ? bytes : mebibyte, alignment));
        heap::deallocate(block);
      }
    }
  }
  expect_sound();
}

TEST(Heap, over_aligned_blocks_can_be_reallocated) {
  for (std::size_t alignment = 32; alignment <= 64 * mebibyte; alignment *= 2) {
    void* block = heap::allocate_aligned(100, alignment);
    ASSERT_NE(block, nullptr);
    fill_pattern(block, 100, alignment);
    for (const std::size_t bytes :
         {std::size_t{5000}, 3 * mebibyte, 40 * mebibyte, std::size_t{150000}, std::size_t{100}}) {
      block = heap::reallocate(block, bytes);
      ASSERT_NE(block, nullptr);
      ASSERT_TRUE(holds_pattern(block, 100, alignment)) << bytes << " at " << alignment;
    }
    heap::deallocate(block);
  }
  expect_sound();
}

TEST(Heap, reallocation_keeps_the_alignment_that_is_asked_for) {
  for (std::size_t alignment = 32; alignment <= 64 * mebibyte; alignment *= 2) {
    void* block = heap::allocate_aligned(100, alignment);
    ASSERT_NE(block, nullptr);
    fill_pattern(block, 100, alignment);
    for (const std::size_t bytes : {std::size_t{5000}, 3 * mebibyte, 40 * mebibyte, 300 * mebibyte,
                                    40 * mebibyte, std::size_t{150000}, std::size_t{100}}) {
      block = heap::reallocate(block, bytes, alignment);
      ASSERT_NE(block, nullptr);
      ASSERT_TRUE(is_aligned(block, alignment)) << bytes << " at " << alignment;
      ASSERT_GE(heap::usable_bytes(block), bytes);
      ASSERT_TRUE(holds_pattern(block, 100, alignment)) << bytes << " at " << alignment;
    }
    heap::deallocate(block);
  }
  expect_sound();
}

TEST(Heap, sizes_that_no_address_space_has_are_refused) {
  constexpr std::size_t most = std::numeric_limits<std::size_t>::max();
  for (const std::size_t bytes : {most, most - 7, most - 4096, most / 2 + 1, most / 2, most / 4}) {
    EXPECT_EQ(heap::allocate(bytes), nullptr) << bytes;
    EXPECT_EQ(heap::allocate_zeroed(bytes), nullptr) << bytes;
    EXPECT_EQ(heap::allocate_aligned(bytes, 4096), nullptr) << bytes;
    EXPECT_EQ(heap::allocate_aligned(bytes, std::size_t{1} << 30), nullptr) << bytes;
  }
  for (std::size_t alignment = std::size_t{1} << 63; alignment >= std::size_t{1} << 48;
       alignment /= 2) {
    EXPECT_EQ(heap::allocate_aligned(1, alignment), nullptr) << alignment;
  }
  void* block = heap::allocate(10);
  EXPECT_EQ(heap::reallocate(block, most), nullptr);
  EXPECT_EQ(heap::reallocate(block, most / 2), nullptr);
  heap::deallocate(block);
  expect_sound();
}

/// True if `bytes` are 0: all of a block below 256 KiB, but only both ends of a larger one.
bool is_zero(const void* block, std::size_t bytes) {
  constexpr std::size_t end_bytes = 128 * kibibyte;
  return bytes <= 2 * end_bytes
             ? holds_zeroes(block, bytes)
             : holds_zeroes(block, end_bytes) &&
                   holds_zeroes(static_cast<const char*>(block) + bytes - end_bytes, end_bytes);
}

TEST(Heap, zeroed_blocks_are_zero_on_reused_memory) {
  for (int round = 0; round < 3; ++round) {
    for (const std::size_t bytes : edge_sizes()) {
      std::vector<void*> blocks;
      const int count = bytes <= 1024 ? 100 : bytes <= 200000 ? 5 : 1;
      for (int number = 0; number < count; ++number) {
        void* block = heap::allocate_zeroed(bytes);
        ASSERT_NE(block, nullptr);
        ASSERT_TRUE(is_zero(block, bytes)) << bytes << " in round " << round;
        __builtin_memset(block, 0xFF, heap::usable_bytes(block));
        blocks.push_back(block);
      }
      for (std::size_t number = 0; number < blocks.size(); number += 2) {
        heap::deallocate(blocks[number]);
      }
      for (std::size_t number = 0; number < blocks.size(); number += 2) {
        blocks[number] = heap::allocate_zeroed(bytes);
        ASSERT_TRUE(is_zero(blocks[number], bytes)) << bytes << " after a free";
        __builtin_memset(blocks[number], 0xFF, bytes);
      }
      for (void* block : blocks) {
        heap::deallocate(block);
      }
    }
    heap::trim();
  }
}

TEST(Heap, zeroed_slots_between_live_ones_are_zero) {
  constexpr std::size_t bytes = 48;
  std::vector<void*> blocks;
  for (int number = 0; number < 5000; ++number) {
    blocks.push_back(number % 2 == 0 ? heap::allocate(bytes) : heap::allocate_zeroed(bytes));
    if (number % 2 != 0) {
      ASSERT_TRUE(holds_zeroes(blocks.back(), bytes));
    }
    __builtin_memset(blocks.back(), 0xFF, bytes);
    if (number % 3 == 0) {
      heap::deallocate(blocks[blocks.size() / 2]);
      blocks[blocks.size() / 2] = heap::allocate_zeroed(bytes);
      ASSERT_TRUE(holds_zeroes(blocks[blocks.size() / 2], bytes));
      __builtin_memset(blocks[blocks.size() / 2], 0xFF, bytes);
    }
  }
  for (void* block : blocks) {
    heap::deallocate(block);
  }
}

TEST(Heap, fresh_memory_is_not_cleared_again) {
  (void)heap::allocate(1);
  for (const std::size_t bytes : {16 * mebibyte, 128 * mebibyte}) {
    const std::size_t before = resident_bytes();
    void* block = heap::allocate_zeroed(bytes);
    ASSERT_NE(block, nullptr);
    EXPECT_LT(resident_bytes(), before + 4 * mebibyte) << bytes;
    heap::deallocate(block);
  }
}

TEST(Heap, many_sparse_blocks_of_zeros_make_little_memory_resident) {
  (void)heap::allocate(1);
  heap::trim();
  constexpr std::size_t bytes = Tunables::touched_zeroed_bytes + 1;
  constexpr std::size_t least_os_page_bytes = 4096;
  const std::size_t before = resident_bytes();
  std::vector<std::byte*> blocks;
  for (int count = 0; count < 200; ++count) {
    blocks.push_back(static_cast<std::byte*>(heap::allocate_zeroed(bytes)));
    blocks.back()[bytes / 2] = std::byte{1};
  }
  EXPECT_LT(resident_bytes(), before + 200 * least_os_page_bytes + 4 * mebibyte);
  for (std::byte* block : blocks) {
    heap::deallocate(block);
  }
}

TEST(Heap, reallocation_within_a_class_stays_in_place) {
  for (std::uint32_t index = 1; index < Sizes::count; ++index) {
    void* block = heap::allocate(Sizes::size_of(index - 1) + 1);
    EXPECT_EQ(heap::reallocate(block, Sizes::size_of(index)), block);
    EXPECT_EQ(heap::reallocate(block, Sizes::size_of(index - 1) + 1), block);
    heap::deallocate(block);
  }
}

TEST_F(HeapWithoutGuards,
       over_aligned_blocks_stay_in_place_where_size_and_alignment_have_the_same_class) {
  for (const std::size_t alignment : {std::size_t{64}, std::size_t{4096}, 256 * kibibyte}) {
    void* block = heap::allocate_aligned(1, alignment);
    EXPECT_EQ(heap::reallocate(block, alignment, alignment), block);
    EXPECT_EQ(heap::reallocate(block, 10, alignment), block);
    heap::deallocate(block);
  }
}

TEST(Heap, reallocation_keeps_the_contents_between_any_two_kinds_of_memory) {
  const std::size_t sizes[] = {
      1,      16,     17,     64,       1000,          8192,          8193,
      100000, 131072, 131073, mebibyte, 31 * mebibyte, 40 * mebibyte, 80 * mebibyte};
  for (const std::size_t from : sizes) {
    for (const std::size_t to : sizes) {
      void* block = heap::allocate(from);
      const std::size_t kept =
          (from < to ? from : to) < mebibyte ? (from < to ? from : to) : mebibyte;
      fill_pattern(block, kept, from);
      static_cast<char*>(block)[(from < to ? from : to) - 1] = 'x';
      void* moved = heap::reallocate(block, to);
      ASSERT_NE(moved, nullptr);
      ASSERT_GE(heap::usable_bytes(moved), to);
      EXPECT_TRUE(holds_pattern(moved, kept - 1, from)) << from << " to " << to;
      EXPECT_EQ(static_cast<char*>(moved)[(from < to ? from : to) - 1], 'x');
      heap::deallocate(moved);
    }
  }
  expect_sound();
}

TEST_F(HeapWithoutGuards, large_blocks_grow_and_shrink_in_place_where_there_is_room) {
  void* block = heap::allocate(mebibyte);
  fill_pattern(block, mebibyte, 1);
  ASSERT_EQ(heap::reallocate(block, 192 * kibibyte), block);
  EXPECT_EQ(heap::usable_bytes(block), 192 * kibibyte);
  // The tail that went back is the room.
  ASSERT_EQ(heap::reallocate(block, mebibyte), block);
  EXPECT_EQ(heap::usable_bytes(block), mebibyte);
  EXPECT_TRUE(holds_pattern(block, 192 * kibibyte, 1));
  heap::deallocate(block);
  expect_sound();
}

TEST_F(HeapWithoutGuards, mapped_blocks_grow_without_copying) {
  void* block = heap::allocate(64 * mebibyte);
  static_cast<char*>(block)[64 * mebibyte - 1] = 'x';
  const std::size_t before = resident_bytes();
  block = heap::reallocate(block, 1024 * mebibyte);
  ASSERT_NE(block, nullptr);
  EXPECT_EQ(static_cast<char*>(block)[64 * mebibyte - 1], 'x');
  EXPECT_LT(resident_bytes(), before + 16 * mebibyte);
  block = heap::reallocate(block, 40 * mebibyte);
  EXPECT_LT(heap::usable_bytes(block), 41 * mebibyte);
  heap::deallocate(block);
  expect_sound();
}

/// Memory behind the window, as it is now, that can be neither read nor written.
class Obstacle {
 public:
  Obstacle() {
    const auto* const data = process_arena.address_of(&process_arena.record(0));
    start_ = const_cast<std::byte*>(data) + process_arena.committed_chunks() * chunk_bytes;
    EXPECT_EQ(
        mmap(start_, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0),
        start_);
  }
  ~Obstacle() { munmap(start_, bytes); }
  Obstacle(const Obstacle&) = delete;
  Obstacle& operator=(const Obstacle&) = delete;
  const std::byte* start() const { return start_; }

 private:
  static constexpr std::size_t bytes = 2 * mebibyte;
  std::byte* start_ = nullptr;
};

TEST_F(HeapWithoutGuards, reallocation_reads_no_more_than_the_old_block_has) {
  for (const std::size_t bytes : {chunk_bytes, 8 * kibibyte}) {
    std::vector<void*> blocks{heap::allocate(bytes)};
    const Obstacle obstacle;
    const std::byte* end = nullptr;
    while (end != obstacle.start()) {
      ASSERT_LT(blocks.size(), 20000u) << "no block ends before the obstacle";
      blocks.push_back(heap::allocate(bytes));
      end = static_cast<std::byte*>(blocks.back()) + bytes;
    }
    fill_pattern(blocks.back(), bytes, 1);
    blocks.back() = heap::reallocate(blocks.back(), mebibyte);
    ASSERT_NE(blocks.back(), nullptr);
    EXPECT_TRUE(holds_pattern(blocks.back(), bytes, 1));
    for (void* const block : blocks) {
      heap::deallocate(block);
    }
  }
}

TEST(Heap, freed_memory_is_used_again) {
  for (const std::size_t bytes :
       {std::size_t{64}, std::size_t{4096}, std::size_t{100000}, mebibyte, 40 * mebibyte}) {
    std::size_t committed = 0;
    for (int round = 0; round < 50; ++round) {
      std::vector<void*> blocks;
      for (std::size_t total = 0; total < 4 * mebibyte; total += bytes) {
        blocks.push_back(heap::allocate(bytes));
      }
      for (void* block : blocks) {
        heap::deallocate(block);
      }
      if (round == 0) {
        committed = process_arena.statistics().committed_bytes;
      }
    }
    EXPECT_LE(process_arena.statistics().committed_bytes, committed + mebibyte) << bytes;
  }
}

TEST_F(HeapWithoutGuards, trim_reports_all_memory_that_went_back_while_it_trimmed_the_zone) {
  // The zone holds an empty page. The next call of the arena purges free memory that is old enough.
  heap::deallocate(heap::allocate(5000));
  heap::deallocate(heap::allocate(mebibyte));
  static os::Interface later = os::linux_interface;
  later.now_milliseconds = [] {
    return os::linux_interface.now_milliseconds() + tunables.decay_milliseconds;
  };
  const os::Interface& before = os::replace_interface(later);
  const std::size_t purged_before = process_arena.purged_bytes();
  const std::size_t told_bytes = heap::trim();
  const std::size_t purged_bytes = process_arena.purged_bytes() - purged_before;
  os::replace_interface(before);
  EXPECT_EQ(told_bytes, purged_bytes);
  EXPECT_GE(told_bytes, mebibyte);
  EXPECT_EQ(heap::trim(), 0u) << "there is nothing left";
}

/// The number of page faults that `work` causes in the calling thread.
template <class Work>
long faults_of(const Work& work) {
  rusage before{};
  rusage after{};
  getrusage(RUSAGE_THREAD, &before);
  work();
  getrusage(RUSAGE_THREAD, &after);
  return after.ru_minflt - before.ru_minflt;
}

TEST(Heap, zeroed_memory_that_is_read_first_is_written_without_a_second_fault) {
  for (const std::size_t bytes :
       {std::size_t{3000}, 40 * kibibyte, 128 * kibibyte, Tunables::touched_zeroed_bytes}) {
    std::vector<void*> blocks(4 * mebibyte / bytes);
    for (void*& block : blocks) {
      block = heap::allocate_zeroed(bytes);
      ASSERT_TRUE(holds_zeroes(block, bytes));
    }
    const long faults = faults_of([&] {
      for (void* block : blocks) {
        __builtin_memset(block, 1, bytes);
      }
    });
    EXPECT_LE(faults, 8) << bytes;
    for (void* block : blocks) {
      heap::deallocate(block);
    }
    (void)heap::trim();
  }
}

TEST(Heap, any_call_may_be_the_first_of_a_thread) {
  void* mine = heap::allocate(100);
  fill_pattern(mine, 100, 1);
  void* of_main[3] = {heap::allocate(100), heap::allocate(mebibyte), heap::allocate(64 * mebibyte)};
  std::thread([] { heap::deallocate(nullptr); }).join();
  std::thread([&] { mine = heap::reallocate(mine, 5000); }).join();
  EXPECT_TRUE(holds_pattern(mine, 100, 1));
  std::thread([&] { EXPECT_GE(heap::usable_bytes(mine), 5000u); }).join();
  for (void* block : of_main) {
    std::thread([&] { heap::deallocate(block); }).join();
  }
  std::thread([] { heap::deallocate(heap::allocate(100 * mebibyte)); }).join();
  std::thread([] { heap::deallocate(heap::allocate_aligned(1, std::size_t{1} << 30)); }).join();
  std::thread([] { heap::deallocate(heap::allocate_zeroed(10)); }).join();
  std::thread([] { EXPECT_EQ(heap::allocate(~std::size_t{0}), nullptr); }).join();
  std::thread([] { heap::trim(); }).join();
  std::thread([] { (void)process_statistics(); }).join();
  heap::deallocate(mine);
}

TEST(Heap, the_rest_of_a_page_after_its_last_slot_is_no_block) {
  test::MisuseRecorder misuse;
  for (std::uint32_t index = 0; index < heap::SizeClasses::count; ++index) {
    const std::size_t size = heap::SizeClasses::size_of(index);
    void* block = heap::allocate(size);
    ASSERT_NE(block, nullptr);
    std::byte* const frame = ArenaTable::frame_of(ArenaTable::head_of(block));
    const std::size_t end = ArenaTable::frame_bytes(size);
    for (std::size_t offset = ArenaPage::geometry(size).slots * size; offset < end; offset += 16) {
      heap::deallocate(frame + offset);
      ASSERT_EQ(misuse.take_kinds(), std::vector{MisuseKind::MisalignedFree})
          << "offset " << offset << " in a page of " << size << " B";
    }
    heap::deallocate(block);
    expect_sound();
  }
}

TEST(Heap, a_process_that_locks_all_its_memory_gives_freed_memory_back) {
  constexpr int skipped = 77;
  const int status = test::status_of_child([] {
    const rlimit unlimited{RLIM_INFINITY, RLIM_INFINITY};
    setrlimit(RLIMIT_MEMLOCK, &unlimited);
    void* const probe = os::interface().map(chunk_bytes);
    if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0 || !os::interface().purge(probe, chunk_bytes)) {
      return skipped;
    }
    std::vector<void*> blocks;
    for (const std::size_t bytes : {std::size_t{500}, std::size_t{20'000}, 3 * mebibyte}) {
      for (std::size_t taken = 0; taken < 48 * mebibyte; taken += bytes) {
        blocks.push_back(heap::allocate(bytes));
        __builtin_memset(blocks.back(), 1, bytes);
      }
    }
    const std::size_t most = resident_bytes();
    for (void* const block : blocks) {
      heap::deallocate(block);
    }
    heap::trim();
    EXPECT_LT(resident_bytes(), most - 136 * mebibyte);
    void* const block = heap::allocate_zeroed(3 * mebibyte);
    EXPECT_TRUE(holds_zeroes(block, 3 * mebibyte));
    expect_sound();
    return 0;
  });
  if (status == skipped) {
    GTEST_SKIP() << "not all memory can be locked here, or this kernel cannot purge it";
  }
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace slabmalloc
