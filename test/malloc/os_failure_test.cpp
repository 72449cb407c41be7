// SPDX-License-Identifier: MIT
//
// Tests the process heap on an operating system that refuses calls, by SQLite's method. A scripted
// workload runs with the k-th call refused, for every k, once and from k on. Each run is a process
// of its own, since the heap under test belongs to the process.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "malloc/heap.hpp"
#include "malloc/nothing_lost.hpp"
#include "os/faulty_os.hpp"
#include "support/child.hpp"
#include "support/misuse_recorder.hpp"
#include "support/pattern.hpp"

namespace slabmalloc {
namespace {

using test::FaultyOs;
using test::OsCall;

constexpr std::size_t mebibyte = std::size_t{1} << 20;

/// Runs `work` in a child, whose heap is unused like this process's. True if no check failed there.
bool passes_in_child(const std::function<void()>& work) {
  const auto and_pass = [&work] {
    work();
    return 0;
  };
  return test::status_of_child(and_pass, 60) == 0;
}

struct Block {
  void* address;
  std::size_t bytes;
};

constexpr std::size_t checked_bytes = 128;

/// Makes calls of every kind that can need memory. A refusal must leave all else as it was.
class Workload {
 public:
  /// Returns the number of refusals.
  std::size_t run() {
    for (int round = 0; round < 3; ++round) {
      grow();
      check_all();
      free_every_second();
    }
    check_all();
    return refusals_;
  }

  /// Every call must succeed.
  void run_healed() {
    const std::size_t before = refusals_;
    grow();
    EXPECT_EQ(refusals_, before) << "refused although the operating system gives again";
    check_all();
  }

  void free_all() {
    for (const Block& block : blocks_) {
      heap::deallocate(block.address);
    }
    blocks_.clear();
    test::expect_nothing_lost();
  }

 private:
  void grow() {
    for (const std::size_t bytes : {std::size_t{16}, std::size_t{64}, std::size_t{3000},
                                    10 * kibibyte, std::size_t{100000}}) {
      for (int count = 0; count < 20; ++count) {
        keep(heap::allocate(bytes), bytes);
      }
      keep(heap::allocate_zeroed(bytes), bytes);
    }
    keep(heap::allocate(mebibyte), mebibyte);
    keep(heap::allocate_zeroed(12 * mebibyte), 12 * mebibyte);
    keep(heap::allocate(48 * mebibyte), 48 * mebibyte);
    keep(heap::allocate_aligned(100, 2 * mebibyte), 100);
    keep(heap::allocate_aligned(100, 64 * mebibyte), 100);
    resize(blocks_.size() / 2, 6 * mebibyte);
    resize(blocks_.size() - 1, 9 * mebibyte);
    resize(blocks_.size() - 2, 80 * mebibyte);
    resize(blocks_.size() - 3, 40 * mebibyte);
  }

  void keep(void* address, std::size_t bytes) {
    if (address == nullptr) {
      ++refusals_;
      return;
    }
    const std::size_t part = bytes < checked_bytes ? bytes : checked_bytes;
    test::fill_pattern(address, part, blocks_.size());
    static_cast<char*>(address)[bytes - 1] = 0;
    test::fill_pattern(address, part, reinterpret_cast<std::uintptr_t>(address));
    blocks_.push_back({address, bytes});
  }

  void resize(std::size_t number, std::size_t bytes) {
    if (number >= blocks_.size()) {
      return;
    }
    Block& block = blocks_[number];
    void* moved = heap::reallocate(block.address, bytes);
    if (moved == nullptr) {
      ++refusals_;
      return;
    }
    const std::size_t common = block.bytes < bytes ? block.bytes : bytes;
    EXPECT_TRUE(test::holds_pattern(moved, common < checked_bytes ? common : checked_bytes,
                                    reinterpret_cast<std::uintptr_t>(block.address)));
    block = {moved, bytes};
    test::fill_pattern(moved, bytes < checked_bytes ? bytes : checked_bytes,
                       reinterpret_cast<std::uintptr_t>(moved));
  }

  void check_all() {
    for (const Block& block : blocks_) {
      const std::size_t part = block.bytes < checked_bytes ? block.bytes : checked_bytes;
      ASSERT_TRUE(
          test::holds_pattern(block.address, part, reinterpret_cast<std::uintptr_t>(block.address)))
          << block.bytes << " bytes at " << block.address;
    }
  }

  void free_every_second() {
    std::vector<Block> kept;
    for (std::size_t number = 0; number < blocks_.size(); ++number) {
      if (number % 2 == 0) {
        heap::deallocate(blocks_[number].address);
      } else {
        kept.push_back(blocks_[number]);
      }
    }
    blocks_ = kept;
  }

  std::vector<Block> blocks_;
  std::size_t refusals_ = 0;
};

/// The number of memory calls of the undisturbed workload.
std::size_t count_calls() {
  int ends[2] = {};
  EXPECT_EQ(pipe(ends), 0);
  EXPECT_TRUE(passes_in_child([&] {
    FaultyOs os;
    os.heal();
    Workload workload;
    EXPECT_EQ(workload.run(), 0u);
    const std::size_t calls = os.calls();
    EXPECT_EQ(write(ends[1], &calls, sizeof calls), static_cast<ssize_t>(sizeof calls));
    workload.run_healed();
    workload.free_all();
  }));
  std::size_t calls = 0;
  EXPECT_EQ(read(ends[0], &calls, sizeof calls), static_cast<ssize_t>(sizeof calls));
  close(ends[0]);
  close(ends[1]);
  return calls;
}

TEST(OsFailure, any_one_call_may_be_refused) {
  const std::size_t calls = count_calls();
  ASSERT_GT(calls, 10u);
  for (std::size_t k = 1; k <= calls; ++k) {
    EXPECT_TRUE(passes_in_child([k] {
      FaultyOs os;
      os.fail_call(k);
      Workload workload;
      workload.run();
      EXPECT_EQ(os.failures(), 1u);
      os.heal();
      workload.run_healed();
      workload.free_all();
    })) << "call "
        << k << " of " << calls;
  }
}

TEST(OsFailure, every_call_from_any_one_on_may_be_refused) {
  const std::size_t calls = count_calls();
  ASSERT_GT(calls, 10u);
  for (std::size_t k = 1; k <= calls; ++k) {
    EXPECT_TRUE(passes_in_child([k] {
      FaultyOs os;
      os.fail_from(k);
      Workload workload;
      workload.run();
      EXPECT_NE(os.failures(), 0u);
      os.heal();
      workload.run_healed();
      workload.free_all();
    })) << "from call "
        << k << " of " << calls;
  }
}

TEST(OsFailure, every_call_of_one_kind_may_be_refused) {
  for (std::size_t kind = 0; kind < static_cast<std::size_t>(OsCall::Count); ++kind) {
    EXPECT_TRUE(passes_in_child([kind] {
      FaultyOs os;
      os.fail_every(static_cast<OsCall>(kind));
      Workload workload;
      workload.run();
      os.heal();
      workload.run_healed();
      workload.free_all();
    })) << "kind "
        << kind;
  }
}

TEST(OsFailure, giving_memory_back_may_fail_without_effect_on_callers) {
  for (const OsCall call : {OsCall::Unmap, OsCall::Purge, OsCall::Remap}) {
    EXPECT_TRUE(passes_in_child([call] {
      FaultyOs os;
      os.fail_every(call);
      Workload workload;
      EXPECT_EQ(workload.run(), 0u);
      workload.free_all();
      EXPECT_EQ(workload.run(), 0u);
      os.heal();
      workload.free_all();
      EXPECT_EQ(process_arena.statistics().dirty_bytes, 0u);
    })) << static_cast<int>(call);
  }
}

TEST(OsFailure, making_a_block_smaller_works_when_memory_is_exhausted) {
  EXPECT_TRUE(passes_in_child([] {
    FaultyOs os;
    test::MisuseRecorder misuse;
    for (const std::size_t bytes : {std::size_t{600}, std::size_t{5000}, 200 * kibibyte}) {
      os.heal();
      void* block = heap::allocate(bytes);
      ASSERT_NE(block, nullptr);
      test::fill_pattern(block, 40, bytes);
      os.fail_every(OsCall::MapAt);
      os.fail_every(OsCall::Map);
      for (const std::size_t each : {mebibyte, std::size_t{65536}, std::size_t{40}}) {
        while (heap::allocate(each) != nullptr) {
        }
      }
      void* smaller = heap::reallocate(block, 40);
      ASSERT_NE(smaller, nullptr) << bytes;
      EXPECT_TRUE(test::holds_pattern(smaller, 40, bytes));
      EXPECT_EQ(heap::reallocate(smaller, 4 * mebibyte), nullptr);
      // It may have kept its size, which then does not count as wrong.
      heap::deallocate_sized<Call::FreeSized>(smaller, 40);
      EXPECT_TRUE(misuse.take().empty());
    }
    os.heal();
    void* const other = heap::allocate(1000);
    heap::deallocate_sized<Call::FreeSized>(other, 2000);
    EXPECT_EQ(misuse.take_kinds(), std::vector{MisuseKind::SizeMismatch});
  }));
}

TEST(OsFailure, memory_that_could_not_be_purged_is_cleared_where_zeros_are_asked_for) {
  EXPECT_TRUE(passes_in_child([] {
    FaultyOs os;
    os.fail_every(OsCall::Purge);
    os.fail_every(OsCall::Unmap);
    for (const std::size_t bytes :
         {std::size_t{64}, std::size_t{5000}, 100 * kibibyte, mebibyte, 40 * mebibyte}) {
      for (int round = 0; round < 4; ++round) {
        void* blocks[20];
        for (void*& block : blocks) {
          block = heap::allocate_zeroed(bytes);
          ASSERT_NE(block, nullptr);
          ASSERT_TRUE(test::holds_zeroes(block, bytes < mebibyte ? bytes : mebibyte));
          __builtin_memset(block, 0xFF, bytes < mebibyte ? bytes : mebibyte);
          if (bytes > 10 * mebibyte) {
            heap::deallocate(block);
            block = nullptr;
          }
        }
        for (void* block : blocks) {
          heap::deallocate(block);
        }
        os.advance_clock(1000);
        heap::trim();
      }
    }
  }));
}

TEST(OsFailure, the_heap_works_where_no_space_is_proposed) {
  EXPECT_TRUE(passes_in_child([] {
    FaultyOs os;
    os.fail_every(OsCall::FindSpace);
    Workload workload;
    EXPECT_EQ(workload.run(), 0u);
    workload.free_all();
  }));
}

TEST(OsFailure, under_strict_overcommit_memory_ends_with_null_and_comes_back) {
  for (const std::size_t limit : {2 * mebibyte, 4 * mebibyte, 16 * mebibyte, 64 * mebibyte}) {
    EXPECT_TRUE(passes_in_child([limit] {
      FaultyOs os;
      os.limit_commit(limit);
      std::vector<void*> blocks;
      std::size_t served_bytes = 0;
      for (const std::size_t bytes : {100 * kibibyte, std::size_t{4096}, std::size_t{64}}) {
        for (;;) {
          void* block = heap::allocate(bytes);
          if (block == nullptr) {
            break;
          }
          test::fill_pattern(block, 64, 1);
          blocks.push_back(block);
          served_bytes += bytes;
          ASSERT_LE(os.usable_bytes(), limit);
        }
      }
      EXPECT_GT(served_bytes, limit / 3);
      for (void* block : blocks) {
        EXPECT_TRUE(test::holds_pattern(block, 64, 1));
        heap::deallocate(block);
      }
      EXPECT_NE(heap::allocate(100 * kibibyte), nullptr);
      EXPECT_EQ(heap::allocate(limit), nullptr);
      os.limit_commit(os::unlimited);
      EXPECT_NE(heap::allocate(limit), nullptr);
    })) << limit;
  }
}

TEST(OsFailure, a_bound_on_the_address_space_leaves_room_for_the_program) {
  EXPECT_TRUE(passes_in_child([] {
    FaultyOs os;
    os.limit_address_space(64 * mebibyte);
    std::vector<void*> blocks;
    while (void* block = heap::allocate(100 * kibibyte)) {
      blocks.push_back(block);
    }
    EXPECT_GT(blocks.size() * 100 * kibibyte, 45 * mebibyte);
    for (void* block : blocks) {
      heap::deallocate(block);
    }
    // Free memory must serve another size.
    blocks.clear();
    while (void* block = heap::allocate(3 * mebibyte)) {
      blocks.push_back(block);
    }
    EXPECT_GT(blocks.size() * 3 * mebibyte, 40 * mebibyte);
    for (void* block : blocks) {
      heap::deallocate(block);
    }
  }));
}

TEST(OsFailure, larger_pages_of_the_operating_system_are_respected) {
  for (const std::size_t os_page_bytes : {16 * kibibyte, 64 * kibibyte}) {
    EXPECT_TRUE(passes_in_child([os_page_bytes] {
      FaultyOs os;
      os.set_os_page_bytes(os_page_bytes);
      Workload workload;
      EXPECT_EQ(workload.run(), 0u);
      workload.free_all();
    })) << os_page_bytes;
  }
}

/// The hardened library keeps no large block that was freed.
class DirtyMemory : public testing::Test {
 protected:
  void SetUp() override {
    if (MallocConfig::hardened) {
      GTEST_SKIP();
    }
  }
};

TEST_F(DirtyMemory, freed_memory_goes_back_after_a_while) {
  EXPECT_TRUE(passes_in_child([] {
    FaultyOs os;
    void* const block = heap::allocate(mebibyte);
    heap::deallocate(block);
    EXPECT_EQ(process_arena.statistics().dirty_bytes, mebibyte);
    os.advance_clock(2 * tunables.decay_milliseconds);
    heap::deallocate(heap::allocate(256 * kibibyte));
    EXPECT_LE(process_arena.statistics().dirty_bytes, mebibyte / 4);
  }));
}

/// Calls only `pair`, an allocation and its free, and expects that older free memory goes back.
/// After `pair`, a cache holds `cached_bytes`.
template <class Pair>
void expect_decay_amid(const Pair& pair, std::size_t cached_bytes) {
  EXPECT_TRUE(passes_in_child([&] {
    const auto come_and_go = [&] {
      for (int number = 0; number < 10000; ++number) {
        pair();
      }
    };
    FaultyOs os;
    come_and_go();
    heap::deallocate(heap::allocate(mebibyte));
    come_and_go();
    EXPECT_EQ(process_arena.statistics().dirty_bytes, mebibyte + cached_bytes);
    os.advance_clock(2 * tunables.decay_milliseconds);
    come_and_go();
    EXPECT_EQ(process_arena.statistics().dirty_bytes, cached_bytes);
  }));
}

TEST_F(DirtyMemory, freed_memory_goes_back_while_small_blocks_alone_come_and_go) {
  expect_decay_amid([] { heap::deallocate(heap::allocate(64)); }, 0);
  expect_decay_amid([] { heap::deallocate(heap::allocate_zeroed(64)); }, 0);
  expect_decay_amid([] { heap::deallocate(heap::allocate_aligned(64, 64)); }, 0);
}

TEST_F(DirtyMemory, freed_memory_goes_back_while_cached_blocks_alone_come_and_go) {
  expect_decay_amid([] { heap::deallocate(heap::allocate(chunk_bytes)); }, chunk_bytes);
}

}  // namespace
}  // namespace slabmalloc
