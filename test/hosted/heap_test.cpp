// SPDX-License-Identifier: MIT
//
// One thread's view of a Heap: its memory, its limit, misuse, and what the system refuses.
#include "slabmalloc/hosted/heap.hpp"

#include <errno.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory_resource>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "hosted/counting_memory.hpp"
#include "slabmalloc/adaptors/heap_resource.hpp"
#include "slabmalloc/adaptors/stl_allocator.hpp"
#include "support/child.hpp"
#include "support/misuse_recorder.hpp"
#include "support/pattern.hpp"

namespace slabmalloc::test {
namespace {

using TestHeap = CountedHeap<4>;
constexpr std::size_t mebibytes = std::size_t{1} << 20;

/// Pages of [address, address + bytes) that have memory. `address` begins a page.
std::size_t resident_bytes(void* address, std::size_t bytes) {
  const std::size_t page = ProcessMemory::page_bytes();
  std::vector<unsigned char> pages((bytes + page - 1) / page);
  EXPECT_EQ(mincore(address, bytes, pages.data()), 0);
  std::size_t resident = 0;
  for (const unsigned char one : pages) {
    resident += (one & 1) != 0 ? page : 0;
  }
  return resident;
}

class HeapTest : public testing::Test {
 protected:
  HeapTest() : before_(CountingMemory::mapped_bytes), heap_(TestHeap::create("test")) {}
  ~HeapTest() override {
    CountingMemory::maps_left = ~std::size_t{0};
    CountingMemory::largest_map = ~std::size_t{0};
    CountingMemory::refuses_drops = false;
    EXPECT_STREQ(heap_ ? heap_->validate() : nullptr, nullptr);
    heap_.reset();
    EXPECT_EQ(CountingMemory::mapped_bytes, before_) << "all memory goes back with the heap";
  }

  void* allocate(std::size_t bytes, std::size_t alignment = 8) {
    return heap_->allocate(layout_of(bytes, alignment)).value_or(nullptr);
  }

  MisuseRecorder misuse_;
  std::size_t before_;
  TestHeap::Owner heap_;
};

TEST_F(HeapTest, an_owner_hands_its_heap_on_and_destroys_it_once) {
  const std::size_t before = CountingMemory::mapped_bytes;
  {
    TestHeap::Owner first = TestHeap::create();
    TestHeap* const heap = first.get();
    TestHeap::Owner second(std::move(first));
    EXPECT_FALSE(first);
    EXPECT_EQ(&*second, heap);
    first = TestHeap::create();
    const std::size_t both = CountingMemory::mapped_bytes;
    first = std::move(second);
    EXPECT_EQ(first.get(), heap);
    EXPECT_LT(CountingMemory::mapped_bytes, both) << "the heap before is gone";
    second = TestHeap::Owner(first.release());
    EXPECT_EQ(second->name(), heap->name());
  }
  EXPECT_EQ(CountingMemory::mapped_bytes, before);
}

TEST_F(HeapTest, blocks_of_every_size_and_alignment_lie_apart_and_are_freed_either_way) {
  struct Block {
    void* address;
    std::size_t bytes;
    std::size_t alignment;
  };
  std::vector<Block> blocks;
  std::size_t all_bytes = 0;
  for (std::size_t alignment = 1; alignment <= 4 * mebibytes; alignment *= 8) {
    for (std::size_t bytes = 0; bytes < 3 * mebibytes; bytes = bytes * 5 / 2 + 1) {
      void* const address = allocate(bytes, alignment);
      ASSERT_NE(address, nullptr);
      ASSERT_EQ(reinterpret_cast<std::uintptr_t>(address) % alignment, 0u);
      ASSERT_GE(heap_->usable_size(address), bytes);
      ASSERT_TRUE(heap_->owns(address));
      fill_pattern(address, bytes, blocks.size());
      blocks.push_back({address, bytes, alignment});
      all_bytes += bytes;
    }
  }
  EXPECT_EQ(heap_->statistics().allocations, blocks.size());
  EXPECT_GE(heap_->statistics().used_bytes, all_bytes);
  EXPECT_GE(heap_->statistics().held_bytes, heap_->statistics().used_bytes);
  for (std::size_t key = 0; key < blocks.size(); ++key) {
    const Block& block = blocks[key];
    EXPECT_TRUE(holds_pattern(block.address, block.bytes, key));
    if (key % 2 == 0) {
      heap_->deallocate(block.address);
    } else {
      heap_->deallocate(block.address, layout_of(block.bytes, block.alignment));
    }
  }
  const HeapStatistics after = heap_->statistics();
  EXPECT_EQ(after.used_bytes, 0u);
  EXPECT_EQ(after.frees, blocks.size());
}

TEST_F(HeapTest, live_blocks_end_with_their_heap) {
  // The fixture compares the mapped bytes.
  for (int count = 0; count < 100; ++count) {
    ASSERT_NE(allocate(64), nullptr);
    ASSERT_NE(allocate(100'000), nullptr);
  }
  EXPECT_GT(CountingMemory::mapped_bytes, before_ + 10 * mebibytes);
}

TEST_F(HeapTest, the_limit_is_exact_and_room_returns_with_frees) {
  const std::size_t limit = 4 * mebibytes;
  heap_->set_limit(limit);
  EXPECT_EQ(allocate(limit + 1), nullptr);
  for (int round = 0; round < 3; ++round) {
    void* const whole = allocate(limit);
    ASSERT_NE(whole, nullptr) << "all that was freed is room again";
    EXPECT_EQ(allocate(1), nullptr);
    heap_->deallocate(whole);
    for (const std::size_t bytes : {std::size_t{48}, std::size_t{3000}, std::size_t{60'000}}) {
      std::vector<void*> blocks;
      while (void* const block = allocate(bytes)) {
        blocks.push_back(block);
      }
      const HeapStatistics full = heap_->statistics();
      EXPECT_LE(full.held_bytes, limit);
      EXPECT_GT(full.held_bytes + 64 * 1024, limit);
      for (void* const block : blocks) {
        heap_->deallocate(block);
      }
    }
  }
  EXPECT_EQ(heap_->statistics().held_bytes_high_water, limit);
  EXPECT_EQ(heap_->statistics().failures, 13u);
}

TEST_F(HeapTest, zeroed_blocks_are_zero_on_reused_memory_and_take_none_of_new_memory) {
  constexpr std::size_t bytes = 8 * mebibytes;
  void* const fresh = heap_->allocate_zeroed(layout_of(bytes)).value_or(nullptr);
  ASSERT_NE(fresh, nullptr);
  EXPECT_LE(resident_bytes(fresh, bytes), bytes / 8) << "huge pages may back the first bytes";
  for (const std::size_t size : {std::size_t{40}, std::size_t{5000}, bytes / 2, bytes}) {
    for (int round = 0; round < 2; ++round) {
      void* const block = heap_->allocate_zeroed(layout_of(size)).value_or(nullptr);
      ASSERT_NE(block, nullptr);
      EXPECT_TRUE(holds_zeroes(block, size)) << size;
      fill_pattern(block, size, 1);
      heap_->deallocate(block);
    }
  }
}

TEST_F(HeapTest, free_memory_is_kept_up_to_a_bound_and_goes_back_by_a_trim) {
  heap_->set_kept_bytes(2 * mebibytes);
  std::vector<void*> blocks(16);
  const auto turn_over = [&](std::size_t bytes, bool is_bounded = true) {
    for (void*& block : blocks) {
      ASSERT_NE(block = allocate(bytes), nullptr);
      fill_pattern(block, bytes, 7);
    }
    for (void* const block : blocks) {
      heap_->deallocate(block);
      const HeapStatistics now = heap_->statistics();
      EXPECT_TRUE(!is_bounded || now.kept_bytes <= 2 * mebibytes + now.held_bytes / 4);
    }
  };
  const std::size_t dropped = CountingMemory::dropped_bytes;
  turn_over(mebibytes);
  EXPECT_GT(CountingMemory::dropped_bytes, dropped + 10 * mebibytes);
  EXPECT_GT(heap_->statistics().kept_bytes, 0u);
  EXPECT_GT(heap_->trim(), 0u);
  EXPECT_EQ(heap_->statistics().kept_bytes, 0u);
  EXPECT_EQ(heap_->trim(), 0u);

  heap_->set_kept_bytes(0);
  turn_over(mebibytes / 2);
  EXPECT_EQ(heap_->statistics().kept_bytes, 0u);

  // Memory that the system does not take back is dirty still.
  CountingMemory::refuses_drops = true;
  const std::size_t drops = CountingMemory::drops;
  turn_over(mebibytes / 4 - 5000, false);
  EXPECT_LT(CountingMemory::drops, drops + 40) << "not at each free";
  EXPECT_EQ(heap_->trim(), 0u);
  void* const block = heap_->allocate_zeroed(layout_of(4 * mebibytes)).value_or(nullptr);
  EXPECT_TRUE(holds_zeroes(block, 4 * mebibytes));
}

TEST_F(HeapTest, an_allocation_waits_for_memory_that_is_just_dropped) {
  heap_->set_kept_bytes(0);
  CountingMemory::maps_left = 0;
  constexpr std::size_t bytes = 900'000;
  void* const block = allocate(bytes);
  fill_pattern(block, bytes, 1);
  std::thread other;
  std::atomic<bool> has_begun = false;
  void* got = nullptr;
  CountingMemory::during_drop = [&](std::size_t dropped_bytes) {
    if (dropped_bytes < bytes / 2) {
      return;  // The rest would still serve the other thread.
    }
    CountingMemory::during_drop = nullptr;
    other = std::thread([&] {
      has_begun = true;
      has_begun.notify_one();
      got = allocate(bytes);
    });
    has_begun.wait(false);
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
  };
  heap_->deallocate(block);
  other.join();
  EXPECT_NE(got, nullptr);
  heap_->deallocate(got);
}

TEST_F(HeapTest, reallocation_keeps_contents_across_classes_and_runs) {
  void* block = nullptr;
  std::size_t old_bytes = 0;
  for (const std::size_t bytes : {24u, 700u, 9000u, 2'000'000u, 5000u, 16u}) {
    block = heap_->reallocate(block, layout_of(bytes)).value_or(nullptr);
    ASSERT_NE(block, nullptr);
    EXPECT_TRUE(holds_pattern(block, old_bytes < bytes ? old_bytes : bytes, 3));
    fill_pattern(block, bytes, 3);
    old_bytes = bytes;
  }
  heap_->set_limit(0);
  EXPECT_FALSE(heap_->reallocate(block, layout_of(mebibytes)));
  EXPECT_TRUE(holds_pattern(block, 16, 3)) << "a failure leaves the block";
  heap_->deallocate(block);
}

TEST_F(HeapTest, reports_bad_frees_which_have_no_effect) {
  const TestHeap::Owner other = TestHeap::create();
  int on_stack = 0;
  const auto malloced = std::unique_ptr<void, void (*)(void*)>(std::malloc(100'000), &std::free);
  for (const std::size_t bytes : {std::size_t{64}, std::size_t{3000}, std::size_t{50'000}}) {
    const Layout layout = layout_of(bytes);
    const bool is_run = bytes > TestHeap::MAX_ALLOC_SIZE;
    auto* const block = static_cast<std::byte*>(allocate(bytes));
    // A neighbour keeps the page.
    void* const neighbour = allocate(bytes);
    const auto free_both_ways = [&](TestHeap& heap, void* address, MisuseKind kind) {
      heap.deallocate(address);
      EXPECT_EQ(misuse_.take_kinds(), std::vector{kind}) << bytes;
      heap.deallocate(address, layout);
      EXPECT_EQ(misuse_.take_kinds(), std::vector{kind}) << bytes;
    };
    free_both_ways(*heap_, &on_stack, MisuseKind::ForeignPointer);
    free_both_ways(*heap_, malloced.get(), MisuseKind::ForeignPointer);
    free_both_ways(*heap_, reinterpret_cast<void*>(8), MisuseKind::ForeignPointer);
    free_both_ways(*other, block, MisuseKind::ForeignPointer);
    free_both_ways(*heap_, block + 1, MisuseKind::MisalignedFree);
    heap_->deallocate(block, layout_of(is_run ? 2 * bytes : bytes * 2));
    EXPECT_EQ(misuse_.take_kinds(), std::vector{MisuseKind::SizeMismatch});
    EXPECT_EQ(heap_->usable_size(&on_stack), 0u);
    EXPECT_EQ(misuse_.take_kinds(), std::vector{MisuseKind::ForeignPointer});
    EXPECT_GE(heap_->usable_size(block), bytes) << "the block is still live";
    heap_->deallocate(block);
    free_both_ways(*heap_, block, MisuseKind::DoubleFree);
    heap_->deallocate(neighbour);
  }
  heap_->deallocate(nullptr);
  heap_->deallocate(nullptr, layout_of(8));
  EXPECT_STREQ(other->validate(), nullptr);
}

TEST_F(HeapTest, survives_each_failure_of_the_system) {
  std::size_t failures = 0;
  for (std::size_t maps = 0; maps == 0 || failures != 0; ++maps) {
    CountingMemory::maps_left = maps;
    failures = 0;
    TestHeap::Owner heap = TestHeap::create();
    ASSERT_EQ(heap.get() != nullptr, maps != 0);
    for (const std::size_t bytes : {16u, 600u, 100'000u, 2'000'000u, 8000u, 9'000'000u}) {
      for (std::uint32_t count = 0; heap && count < 5; ++count) {
        void* const block = heap->allocate(layout_of(bytes)).value_or(nullptr);
        failures += block == nullptr ? 1u : 0u;
        if (block != nullptr) {
          fill_pattern(block, bytes, 1);
        }
      }
    }
    failures += heap ? 0u : 1u;
    EXPECT_STREQ(heap ? heap->validate() : nullptr, nullptr);
    CountingMemory::maps_left = ~std::size_t{0};
    EXPECT_TRUE(!heap || heap->allocate(layout_of(20 * mebibytes))) << "a failure is not for ever";
  }
}

TEST_F(HeapTest, maps_less_where_the_system_has_no_large_stretch) {
  CountingMemory::largest_map = 3 * mebibytes;
  std::size_t bytes = 0;
  while (allocate(1'000'000) != nullptr) {
    bytes += 1'000'000;
  }
  EXPECT_EQ(heap_->statistics().mapped_bytes, CountingMemory::mapped_bytes - before_);
  EXPECT_GT(bytes, (TestHeap::Pager::maximum_chunks - 4) * mebibytes) << "64 chunks are the end";
  EXPECT_EQ(allocate(3 * mebibytes), nullptr);
  CountingMemory::largest_map = ~std::size_t{0};
}

TEST_F(HeapTest, uses_most_of_a_limited_address_space) {
  const int status = status_of_child([&] {
    const std::size_t room = 256 * mebibytes;
    unsigned long size = 0;
    if (std::FILE* const statm = std::fopen("/proc/self/statm", "r")) {
      EXPECT_EQ(std::fscanf(statm, "%lu", &size), 1);
      std::fclose(statm);
    }
    const rlimit limit{size * 4096 + room, RLIM_INFINITY};
    EXPECT_EQ(setrlimit(RLIMIT_AS, &limit), 0);
    std::size_t bytes = 0;
    while (allocate(mebibytes) != nullptr) {
      bytes += mebibytes;
    }
    EXPECT_GT(bytes, room / 10 * 9);
    return 0;
  });
  EXPECT_EQ(status, 0);
}

TEST_F(HeapTest, has_a_name_and_figures_of_each_class) {
  EXPECT_STREQ(heap_->name(), "test");
  EXPECT_STREQ(TestHeap::create(nullptr)->name(), "");
  const std::string name(100, 'n');
  EXPECT_EQ(TestHeap::create(name.c_str())->name(), name.substr(0, TestHeap::maximum_name));
  std::vector<void*> blocks(1000);
  for (void*& block : blocks) {
    block = allocate(100);
  }
  heap_->deallocate(blocks[0]);
  std::size_t live = 0;
  for (std::uint32_t index = 0; index < TestHeap::class_count; ++index) {
    const ClassStatistics one = heap_->class_statistics(index);
    EXPECT_EQ(one.used, one.object_size >= 100 && one.object_size < 120 ? 999u : 0u);
    live += one.used;
  }
  EXPECT_EQ(live, 999u);
}

TEST(ProcessMemoryTest, keeps_errno_whatever_the_system_refuses) {
  errno = EDOM;
  EXPECT_EQ(ProcessMemory::map(std::size_t{1} << 62), nullptr);
  EXPECT_FALSE(ProcessMemory::drop(reinterpret_cast<void*>(1), 1));
  ProcessMemory::unmap(reinterpret_cast<void*>(1), 1);
  EXPECT_EQ(errno, EDOM);
}

TEST(HeapContainers, live_in_the_heap_and_leave_nothing_there) {
  const OwnedHeap heap = Heap::create("containers");
  {
    HeapResource resource(*heap);
    std::pmr::map<int, std::pmr::string> texts(&resource);
    std::vector<int, StlAllocator<int, Heap>> numbers(*heap);
    for (int number = 0; number < 5000; ++number) {
      texts.emplace(number, std::string(40, 'a'));
      numbers.push_back(number);
    }
    EXPECT_GT(heap->statistics().used_bytes, 5000u * (40 + sizeof(int)));
    EXPECT_THROW(numbers.reserve(std::size_t{1} << 60), std::bad_alloc);
  }
  EXPECT_EQ(heap->statistics().used_bytes, 0u);
  EXPECT_STREQ(heap->validate(), nullptr);
}

}  // namespace
}  // namespace slabmalloc::test
