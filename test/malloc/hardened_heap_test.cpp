// SPDX-License-Identifier: MIT
//
// The hardened library's heap, in the test's process, under a hook that returns.
#include "malloc/hardened_heap.hpp"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "malloc/blocks.hpp"
#include "malloc/heap.hpp"
#include "malloc/options.hpp"
#include "malloc/place.hpp"
#include "malloc/quarantine.hpp"
#include "malloc/random.hpp"
#include "malloc/thread_zones.hpp"
#include "slabmalloc/slabmalloc.h"
#include "support/child.hpp"
#include "support/misuse_recorder.hpp"
#include "support/other_thread.hpp"
#include "support/pattern.hpp"
#include "support/random.hpp"

namespace slabmalloc {
namespace {

/// True if `work` ends its process.
template <class Work>
bool traps(Work&& work) {
  return test::status_of_child([&] {
           work();
           return 0;
         }) != 0;
}
void read(const void* address) { (void)*static_cast<const volatile char*>(address); }
void write(void* address) { *static_cast<volatile char*>(address) = 1; }

/// Sizes in slots and beyond.
constexpr std::size_t all_sizes[] = {1,    7,    8,    9,     20,    100,    500,   1000,
                                     4096, 5000, 9000, 32760, 32761, 100000, 262144};
constexpr std::size_t largest_in_slot = heap::max_class_bytes - BlockTrailer::bytes;

/// Without the quarantine, so that a freed slot may be the next one.
class HardenedHeap : public testing::Test {
 protected:
  HardenedHeap() { use_defaults(); }

  static void use_defaults() {
    options = Options{};
    options.quarantine = false;
  }
  static char* allocate(std::size_t bytes, BlockKind kind = BlockKind::Malloc) {
    auto* const block = static_cast<char*>(hardened::allocate(bytes, 16, kind));
    EXPECT_NE(block, nullptr);
    return block;
  }
  static void deallocate(void* block) { hardened::deallocate(block, Call::Free); }

  ~HardenedHeap() override {
    options = Options{};
    if (thread_heap.zone != &empty_zone) {
      EXPECT_EQ(thread_heap.zone->validate(), nullptr);
    }
    EXPECT_TRUE(process_arena.validate());
  }

  test::MisuseRecorder misuse_;
};

TEST_F(HardenedHeap, gives_zeros_and_the_bytes_asked_for) {
  for (const std::size_t bytes : all_sizes) {
    for (int round = 0; round < 100; ++round) {
      char* const block = allocate(bytes);
      const std::size_t usable = hardened::usable_bytes(block);
      ASSERT_TRUE(bytes <= largest_in_slot ? usable == bytes : usable >= bytes) << bytes;
      ASSERT_TRUE(test::holds_zeroes(block, usable)) << bytes;
      std::memset(block, 'x', usable);
      deallocate(block);
    }
  }
}

TEST_F(HardenedHeap, finds_each_byte_written_behind_those_asked_for_and_at_the_slots_end) {
  for (const std::size_t bytes : all_sizes) {
    if (bytes > largest_in_slot) {
      continue;
    }
    const std::size_t capacity =
        heap::SizeClasses::size_of(heap::SizeClasses::index_for(bytes + BlockTrailer::bytes));
    for (std::size_t offset = bytes; offset < capacity; ++offset) {
      if (offset == bytes + 32 && offset + BlockTrailer::bytes < capacity) {
        offset = capacity - BlockTrailer::bytes;
      }
      char* const block = allocate(bytes);
      block[offset] = static_cast<char>(block[offset] ^ 1);
      deallocate(block);
      const std::vector<Misuse> told = misuse_.take();
      ASSERT_EQ(told.size(), 1u) << bytes << " bytes, offset " << offset;
      EXPECT_EQ(told[0].kind, MisuseKind::Overflow);
      EXPECT_EQ(told[0].block, block);
      block[offset] = static_cast<char>(block[offset] ^ 1);
      deallocate(block);
    }
  }
}

/// Where a write into a slot beside a block goes.
struct Beside {
  std::ptrdiff_t slot_bytes;
  std::ptrdiff_t distance;  ///< In slots.
  std::ptrdiff_t offset;    ///< In the slot: in its trailer if it holds a block.
};

TEST_F(HardenedHeap, finds_writes_into_the_slots_beside_a_block) {
  for (const Beside& at :
       {Beside{16, -1, 15}, Beside{16, -2, 8}, Beside{16, 1, 8}, Beside{16, 2, 15},
        Beside{32, -1, 31}, Beside{32, -1, 24}, Beside{32, 1, 24}, Beside{32, 1, 31},
        Beside{4096, -1, 4095}, Beside{4096, 1, 4088}}) {
    SCOPED_TRACE(testing::Message() << at.slot_bytes << ' ' << at.distance << ' ' << at.offset);
    std::vector<char*> blocks;
    for (int count = 0; count < 500; ++count) {
      blocks.push_back(allocate(static_cast<std::size_t>(at.slot_bytes) - BlockTrailer::bytes));
    }
    std::sort(blocks.begin(), blocks.end());
    int found = 0;
    for (std::size_t number = 2; number + 2 < blocks.size(); number += 5) {
      char* const middle = blocks[number];
      char*& beside =
          blocks[static_cast<std::size_t>(static_cast<std::ptrdiff_t>(number) + at.distance)];
      if (beside - middle != at.distance * at.slot_bytes) {
        continue;
      }
      const bool is_free = ++found % 2 == 0;
      if (is_free) {
        deallocate(beside);
      }
      // A free looks at the nearest 32 bytes of a free slot.
      char* const byte = is_free && at.distance > 0 ? beside : beside + at.offset;
      *byte = static_cast<char>(*byte ^ 1);
      deallocate(middle);
      const std::vector<Misuse> told = misuse_.take();
      ASSERT_EQ(told.size(), 1u);
      EXPECT_EQ(told[0].kind, is_free ? MisuseKind::WriteAfterFree : MisuseKind::Overflow);
      EXPECT_EQ(told[0].block, beside);
      if (!is_free) {
        *byte = static_cast<char>(*byte ^ 1);
        deallocate(beside);
      }
      beside = blocks[number] = nullptr;
    }
    EXPECT_GE(found, 20);
    std::for_each(blocks.begin(), blocks.end(), &deallocate);
  }
}

TEST_F(HardenedHeap, finds_writes_after_a_free_when_the_slot_is_used_again) {
  for (const std::size_t bytes : {8u, 100u, 1000u, 9000u}) {
    char* const freed = allocate(bytes);
    deallocate(freed);
    ASSERT_TRUE(test::holds_zeroes(freed, bytes));
    // One byte, or the same ones in each part of the slot.
    for (const bool whole : {false, true}) {
      const std::size_t first = whole ? 0 : bytes / 2;
      std::memset(freed + first, 'x', whole ? heap::place_of(freed).slot_bytes() : 1);
      std::vector<char*> blocks;
      do {
        blocks.push_back(allocate(bytes));
        ASSERT_TRUE(test::holds_zeroes(blocks.back(), bytes));
      } while (blocks.back() != freed);
      const std::vector<Misuse> told = misuse_.take();
      ASSERT_EQ(told.size(), 1u) << bytes;
      EXPECT_EQ(told[0].kind, MisuseKind::WriteAfterFree);
      EXPECT_EQ(told[0].address, freed + first);
      std::for_each(blocks.begin(), blocks.end(), &deallocate);
    }
  }
}

TEST_F(HardenedHeap, accepts_a_free_of_the_same_kind_and_size_alone) {
  const std::map<Call, BlockKind> kinds{{Call::Free, BlockKind::Malloc},
                                        {Call::Delete, BlockKind::New},
                                        {Call::DeleteArray, BlockKind::NewArray}};
  for (const auto& [call, kind] : kinds) {
    for (const auto& [other_call, other_kind] : kinds) {
      char* const block = allocate(100, kind);
      hardened::deallocate(block, other_call);
      if (call != other_call) {
        ASSERT_EQ(misuse_.take_kinds(), std::vector{MisuseKind::MismatchedFree});
        hardened::deallocate(block, call);
      }
      ASSERT_TRUE(misuse_.take().empty());
    }
    for (const std::size_t bytes : {99u, 101u}) {
      char* const block = allocate(100, kind);
      hardened::deallocate(block, call, bytes);
      const std::vector<Misuse> told = misuse_.take();
      ASSERT_EQ(told.size(), 1u);
      EXPECT_EQ(told[0].kind, MisuseKind::SizeMismatch);
      EXPECT_EQ(told[0].object_size, 100u);
      EXPECT_EQ(told[0].given_size, bytes);
      hardened::deallocate(block, call, 100);
    }
  }
  char* const large = allocate(100000);
  hardened::deallocate(large, Call::FreeSized, 50000);
  EXPECT_EQ(misuse_.take_kinds(), std::vector{MisuseKind::SizeMismatch});
  hardened::deallocate(large, Call::FreeSized, 100000);
}

TEST_F(HardenedHeap, finds_double_and_bad_frees) {
  for (const std::size_t bytes : all_sizes) {
    char* const block = allocate(bytes);
    deallocate(block + (bytes + 1) / 2);
    ASSERT_EQ(misuse_.take_kinds(), std::vector{MisuseKind::MisalignedFree}) << bytes;
    deallocate(block);
    deallocate(block);
    ASSERT_EQ(misuse_.take_kinds(), std::vector{MisuseKind::DoubleFree}) << bytes;
    ASSERT_EQ(hardened::usable_bytes(block), 0u);
    ASSERT_EQ(hardened::reallocate(block, 10, 16), nullptr);
    ASSERT_EQ(misuse_.take().size(), 2u);
  }
  deallocate(&misuse_);
  EXPECT_EQ(misuse_.take_kinds(), std::vector{MisuseKind::ForeignPointer});
}

TEST_F(HardenedHeap, blocks_of_no_bytes_trap_and_are_freed_once) {
  char* const block = allocate(0);
  EXPECT_EQ(hardened::usable_bytes(block), 0u);
  EXPECT_TRUE(traps([&] { read(block); }));
  EXPECT_TRUE(traps([&] { write(block); }));
  auto* const grown = static_cast<char*>(hardened::reallocate(block, 10, 16));
  ASSERT_NE(grown, nullptr);
  std::memset(grown, 'x', 10);
  deallocate(grown);
  deallocate(block);
  EXPECT_EQ(misuse_.take_kinds(), std::vector{MisuseKind::DoubleFree});
  options.zero_size_traps = false;
  char* const plain = allocate(0);
  EXPECT_EQ(hardened::usable_bytes(plain), 0u);
  deallocate(plain);
}

TEST_F(HardenedHeap, a_large_block_lies_between_guards_and_its_addresses_rest) {
  for (const std::size_t alignment : {16u, 4096u, 1u << 20}) {
    auto* const block =
        static_cast<char*>(hardened::allocate(100000, alignment, BlockKind::Malloc));
    const std::size_t usable = hardened::usable_bytes(block);
    std::memset(block, 'x', usable);
    for (const std::ptrdiff_t offset : {std::ptrdiff_t{-1}, static_cast<std::ptrdiff_t>(usable)}) {
      EXPECT_TRUE(traps([&] { write(block + offset); })) << offset;
    }
    deallocate(block);
    EXPECT_TRUE(traps([&] { read(block); }));
    std::vector<char*> others;
    for (int count = 0; count < 300; ++count) {
      others.push_back(
          static_cast<char*>(hardened::allocate(100000, alignment, BlockKind::Malloc)));
      EXPECT_NE(others.back(), block);
      deallocate(others.back());
    }
    EXPECT_TRUE(process_arena.validate());
  }
}

TEST_F(HardenedHeap, a_page_of_slots_ends_at_memory_that_traps) {
  char* const block = allocate(500);
  const auto start = reinterpret_cast<std::uintptr_t>(block) / chunk_bytes * chunk_bytes;
  for (const std::uintptr_t address : {start - 1, start + chunk_bytes}) {
    EXPECT_TRUE(traps([&] { read(reinterpret_cast<const void*>(address)); }));
  }
  deallocate(block);
}

TEST_F(HardenedHeap, memory_that_was_in_a_page_traps_as_a_guard) {
  std::vector<char*> blocks;
  for (int count = 0; count < 100; ++count) {
    blocks.push_back(allocate(30000));
  }
  std::for_each(blocks.begin(), blocks.end(), &deallocate);
  blocks.clear();
  std::set<std::uintptr_t> guards;
  for (int count = 0; count < 2000; ++count) {
    blocks.push_back(allocate(500));
    guards.insert(reinterpret_cast<std::uintptr_t>(blocks.back()) / chunk_bytes + 1);
  }
  EXPECT_GE(guards.size(), 10u);
  for (const std::uintptr_t chunk : guards) {
    EXPECT_TRUE(traps([&] { write(reinterpret_cast<void*>(chunk * chunk_bytes)); }));
  }
  std::for_each(blocks.begin(), blocks.end(), &deallocate);
}

TEST_F(HardenedHeap, pages_that_are_soon_used_again_are_not_faulted_in_again) {
  const auto faults_of_a_round = [] {
    struct rusage before = {};
    getrusage(RUSAGE_SELF, &before);
    std::vector<char*> blocks;
    for (int count = 0; count < 20000; ++count) {
      blocks.push_back(allocate(500));
    }
    std::for_each(blocks.begin(), blocks.end(), &deallocate);
    struct rusage after = {};
    getrusage(RUSAGE_SELF, &after);
    return after.ru_minflt - before.ru_minflt;
  };
  EXPECT_GT(faults_of_a_round(), 2000);
  EXPECT_LT(faults_of_a_round(), 500);
}

/// The mappings of this process.
std::ptrdiff_t mappings() {
  std::ifstream maps("/proc/self/maps");
  return std::count(std::istreambuf_iterator<char>(maps), {}, '\n');
}

TEST_F(HardenedHeap, guards_take_a_bounded_number_of_mappings) {
  std::vector<char*> blocks;
  const auto allocate_pages = [&](std::size_t pages) {
    for (std::size_t count = 0; count < pages * chunk_bytes / 4096; ++count) {
      blocks.push_back(allocate(4000));
    }
  };
  const std::ptrdiff_t before = mappings();
  allocate_pages(600);
  EXPECT_GE(mappings() - before, 180) << "a page and a guard";
  tunables.guarded_chunks = 0;
  allocate_pages(3000);
  EXPECT_LT(mappings() - before, 2000) << "the rest of the guarded memory may be used";
  for (char* const block : blocks) {
    deallocate(block);
  }
  tunables = Tunables{};
}

TEST_F(HardenedHeap, the_c_interface_may_resize_to_nothing) {
  void* block = slabmalloc_allocate(100, 16);
  block = slabmalloc_reallocate(block, 100, 0, 16);
  ASSERT_NE(block, nullptr);
  slabmalloc_deallocate(block, 0, 16);
}

TEST_F(HardenedHeap, does_not_issue_slots_in_order) {
  std::vector<char*> blocks;
  int in_order = 0;
  for (int count = 0; count < 2000; ++count) {
    blocks.push_back(allocate(40));
    in_order += count > 0 && blocks[blocks.size() - 1] - blocks[blocks.size() - 2] == 48 ? 1 : 0;
  }
  EXPECT_LT(in_order, 1600);
  EXPECT_EQ(std::set<char*>(blocks.begin(), blocks.end()).size(), blocks.size());
  for (char* const block : blocks) {
    deallocate(block);
  }
}

TEST_F(HardenedHeap, claims_each_slot_of_a_word_first_as_often_as_any_other) {
  constexpr std::size_t slot_bytes = 48;
  std::map<std::uintptr_t, std::vector<std::size_t>>
      words;  // The slots in the order of their issue.
  std::vector<char*> blocks;
  for (int count = 0; count < 40'000; ++count) {
    blocks.push_back(allocate(slot_bytes - 8));
    const auto address = reinterpret_cast<std::uintptr_t>(blocks.back());
    const std::size_t slot = address % chunk_bytes / slot_bytes;
    words[address / chunk_bytes * chunk_bytes + slot / 64].push_back(slot % 64);
  }
  std::size_t full = 0;
  std::size_t first[64] = {};
  for (const auto& [word, slots] : words) {
    if (slots.size() == 64) {
      // A claim's slots are issued in order, so the first claim ends where they go down.
      const auto end = std::is_sorted_until(slots.begin(), slots.end());
      std::for_each(slots.begin(), end, [&first](std::size_t slot) { ++first[slot]; });
      ++full;
    }
  }
  EXPECT_GT(full, 400u);
  for (std::size_t slot = 0; slot < 64; ++slot) {
    EXPECT_GT(first[slot], full / 3) << slot;
    EXPECT_LT(first[slot], full * 2 / 3) << slot;
  }
  for (char* const block : blocks) {
    deallocate(block);
  }
}

TEST_F(HardenedHeap, blocks_keep_their_contents_when_they_are_resized) {
  test::Random random;
  std::map<char*, std::size_t> blocks;
  for (int step = 0; step < 20000; ++step) {
    const auto any = random.below(blocks.size() + 1);
    const std::size_t bytes =
        random.one_in(20) ? random.below(300000) : random.below(random.one_in(4) ? 9000 : 300);
    if (any == blocks.size() || blocks.size() < 50) {
      char* const block = allocate(bytes);
      test::fill_pattern(block, bytes, bytes);
      blocks[block] = bytes;
      continue;
    }
    const auto picked = std::next(blocks.begin(), static_cast<std::ptrdiff_t>(any));
    char* const block = picked->first;
    const std::size_t had = picked->second;
    blocks.erase(picked);
    ASSERT_TRUE(test::holds_pattern(block, had, had));
    if (random.one_in(2)) {
      deallocate(block);
      continue;
    }
    auto* const moved = static_cast<char*>(hardened::reallocate(block, bytes, 16));
    ASSERT_NE(moved, nullptr);
    ASSERT_TRUE(test::holds_pattern(moved, std::min(had, bytes), had));
    test::fill_pattern(moved, bytes, bytes);
    blocks[moved] = bytes;
  }
  for (const auto& [block, bytes] : blocks) {
    deallocate(block);
  }
}

TEST_F(HardenedHeap, threads_free_the_blocks_of_each_other) {
  constexpr int rounds = 50;
  for (int round = 0; round < rounds; ++round) {
    std::vector<char*> blocks[2];
    std::thread other([&] {
      for (int count = 0; count < 500; ++count) {
        blocks[1].push_back(allocate(20 + static_cast<std::size_t>(count) % 50));
      }
    });
    for (int count = 0; count < 500; ++count) {
      blocks[0].push_back(allocate(20 + static_cast<std::size_t>(count) % 50));
    }
    other.join();
    std::thread first([&] { std::for_each(blocks[0].begin(), blocks[0].end(), &deallocate); });
    std::for_each(blocks[1].begin(), blocks[1].end(), &deallocate);
    first.join();
  }
}

TEST_F(HardenedHeap, threads_free_blocks_beside_those_that_others_free) {
  for (int round = 0; round < 100; ++round) {
    std::vector<char*> blocks;
    for (int count = 0; count < 1000; ++count) {
      blocks.push_back(allocate(40));
    }
    std::sort(blocks.begin(), blocks.end());
    const auto free_each_second = [&](std::size_t number) {
      for (; number < blocks.size(); number += 2) {
        deallocate(blocks[number]);
      }
    };
    std::thread other([&] { free_each_second(1); });
    free_each_second(0);
    other.join();
  }
}

TEST_F(HardenedHeap, leaves_out_what_the_options_say) {
  options.canaries = false;
  char* block = allocate(20);
  block[20] = 'x';
  deallocate(block);
  use_defaults();
  options.kind_check = false;
  hardened::deallocate(allocate(20, BlockKind::New), Call::Free);
  use_defaults();
  options.reuse_check = false;
  block = allocate(20);
  deallocate(block);
  block[3] = 'x';
  std::vector<char*> blocks;
  do {
    blocks.push_back(allocate(20));
  } while (blocks.back() != block);
  EXPECT_EQ(block[3], 'x');
  block[3] = 0;
  options.clearing = false;
  block[0] = 'x';
  deallocate(block);
  EXPECT_EQ(block[0], 'x');
  use_defaults();
  block[0] = 0;
}

/// With the quarantine, which is empty at the start and at the end.
class HardenedQuarantine : public HardenedHeap {
 protected:
  HardenedQuarantine() {
    get_own_zone();
    hardened::release_quarantined();
    options.quarantine = true;
  }
  ~HardenedQuarantine() override { hardened::release_quarantined(); }

  /// A block of `bytes` that rests.
  static char* resting(std::size_t bytes) {
    char* const block = allocate(bytes);
    deallocate(block);
    return block;
  }
  /// True if the slot of `block` is free.
  static bool is_free(const void* block) { return !heap::place_of(block).is_live(); }
};

constexpr std::size_t quarantined_sizes[] = {8, 100, 1000, 9000, largest_in_slot};

TEST_F(HardenedQuarantine, frees_a_slot_after_a_random_number_of_frees) {
  for (const auto& [bytes, places] :
       {std::pair{100u, Quarantine::small_places}, std::pair{4000u, Quarantine::large_places}}) {
    constexpr int trials = 2000;
    double sum = 0;
    for (int trial = 0; trial < trials; ++trial) {
      const char* const block = resting(bytes);
      int frees = 0;
      for (; !is_free(block); ++frees) {
        ASSERT_NE(resting(bytes), block) << "it was issued while it rested";
      }
      sum += frees;
    }
    // Geometric: mean and deviation are about the number of places.
    const auto mean = static_cast<double>(places);
    EXPECT_NEAR(sum / trials, mean, 5 * mean / std::sqrt(trials)) << bytes;
  }
}

TEST_F(HardenedQuarantine, a_resting_block_is_a_freed_one_for_every_call) {
  for (const bool kind_check : {true, false}) {
    options.kind_check = kind_check;
    for (const std::size_t bytes : quarantined_sizes) {
      char* const block = resting(bytes);
      for (const Call call : {Call::Free, Call::Delete, Call::DeleteArray}) {
        hardened::deallocate(block, call);
        const std::vector<Misuse> told = misuse_.take();
        ASSERT_EQ(told.size(), 1u) << bytes;
        EXPECT_EQ(told[0].kind, MisuseKind::DoubleFree);
        EXPECT_EQ(told[0].state, BlockState::Freed);
        EXPECT_EQ(told[0].block, block);
      }
      EXPECT_EQ(hardened::usable_bytes(block), 0u);
      EXPECT_EQ(hardened::reallocate(block, 10, 16), nullptr);
      EXPECT_EQ(misuse_.take_kinds(),
                (std::vector{MisuseKind::DoubleFree, MisuseKind::DoubleFree}));
      ASSERT_FALSE(is_free(block));
      std::thread([block] { deallocate(block); }).join();
      EXPECT_EQ(misuse_.take_kinds(), std::vector{MisuseKind::DoubleFree});
    }
  }
}

TEST_F(HardenedQuarantine, finds_writes_into_a_resting_block) {
  for (const std::size_t bytes : quarantined_sizes) {
    char* block = resting(bytes);
    ASSERT_TRUE(test::holds_zeroes(block, bytes));
    const std::size_t capacity = heap::place_of(block).slot_bytes();
    block[capacity - 3] = static_cast<char>(block[capacity - 3] ^ 1);
    hardened::release_quarantined();
    std::vector<Misuse> told = misuse_.take();
    ASSERT_EQ(told.size(), 1u) << "in the trailer, " << bytes;
    EXPECT_EQ(told[0].kind, MisuseKind::WriteAfterFree);
    EXPECT_EQ(told[0].block, block);
    ASSERT_TRUE(is_free(block));

    block = resting(bytes);
    block[bytes / 2] = 'x';
    hardened::release_quarantined();
    told = misuse_.take();
    ASSERT_EQ(told.size(), 1u) << "before it, " << bytes;
    EXPECT_EQ(told[0].kind, MisuseKind::WriteAfterFree);
    EXPECT_EQ(told[0].address, block + bytes / 2);
    ASSERT_TRUE(is_free(block));

    // A block that left because of other frees is looked at when its slot is issued.
    block = resting(bytes);
    block[bytes / 2] = 'x';
    while (!is_free(block)) {
      resting(bytes);
    }
    EXPECT_TRUE(misuse_.take().empty());
    options.quarantine = false;
    std::vector<char*> blocks;
    do {
      blocks.push_back(allocate(bytes));
    } while (blocks.back() != block);
    told = misuse_.take();
    ASSERT_EQ(told.size(), 1u) << bytes;
    EXPECT_EQ(told[0].address, block + bytes / 2);
    std::for_each(blocks.begin(), blocks.end(), &deallocate);
    options.quarantine = true;
  }
}

TEST_F(HardenedQuarantine, lets_go_on_trim_at_the_end_of_a_thread_and_when_memory_is_exhausted) {
  const void* block = resting(100);
  slabmalloc_trim();
  EXPECT_TRUE(is_free(block));

  std::thread([&block] {
    get_own_zone();
    block = resting(100);
  }).join();
  EXPECT_TRUE(is_free(block));

  // All memory is in use, but that of one block, which rests.
  std::vector<char*> blocks;
  tunables.hard_limit_bytes = in_use_bytes() + (std::size_t{8} << 20);
  while (char* const one = static_cast<char*>(hardened::allocate(9000, 16, BlockKind::Malloc))) {
    blocks.push_back(one);
  }
  char* const last = blocks.back();
  deallocate(last);
  ASSERT_FALSE(is_free(last));
  EXPECT_EQ(hardened::allocate(9000, 16, BlockKind::Malloc), last);
  std::for_each(blocks.begin(), blocks.end(), &deallocate);
  tunables = Tunables{};
}

TEST_F(HardenedQuarantine, a_block_that_two_threads_freed_at_once_stays_with_its_new_client) {
  for (const bool is_issued : {false, true}) {
    char* const block = resting(100);
    test::OtherThread other;
    other.run([block] {
      get_own_zone();
      // It had looked at the block before the first free.
      ThreadZone::of(*thread_heap.zone).quarantine.exchange(block, 112, 0);
    });
    hardened::release_quarantined();
    ASSERT_TRUE(is_free(block));
    options.quarantine = false;
    std::vector<char*> blocks;
    while (is_issued && (blocks.empty() || blocks.back() != block)) {
      blocks.push_back(allocate(100));
      std::memset(blocks.back(), 'x', 100);
    }
    other.run([] { hardened::release_quarantined(); });
    const std::vector<Misuse> told = misuse_.take();
    ASSERT_EQ(told.size(), 1u);
    EXPECT_EQ(told[0].kind, MisuseKind::DoubleFree);
    EXPECT_EQ(told[0].address, block);
    for (char* const one : blocks) {
      EXPECT_EQ(std::count(one, one + 100, 'x'), 100);
      deallocate(one);
    }
    options.quarantine = true;
  }
}

TEST_F(HardenedQuarantine, a_thread_that_only_frees_lets_blocks_rest_soon) {
  std::vector<char*> blocks;
  for (std::uint32_t count = 0; count < Tunables::frees_before_zone + 1; ++count) {
    blocks.push_back(allocate(100));
  }
  std::thread([&] {
    std::for_each(blocks.begin(), blocks.end(), &deallocate);
    EXPECT_NE(thread_heap.zone, &empty_zone);
    EXPECT_FALSE(is_free(blocks.back()));
  }).join();
}

TEST_F(HardenedQuarantine, stays_when_a_request_fails_that_it_could_not_serve) {
  const void* const block = resting(100);
  EXPECT_EQ(hardened::allocate(~std::size_t{0} / 2, 16, BlockKind::Malloc), nullptr);
  EXPECT_FALSE(is_free(block));
}

TEST_F(HardenedQuarantine, children_of_a_fork_draw_other_random_numbers) {
  thread_random_bits();
  std::set<int> drawn;
  for (int child = 0; child < 16; ++child) {
    drawn.insert(
        test::status_of_child([] { return static_cast<int>(thread_random_bits() >> 57); }));
  }
  EXPECT_GT(drawn.size(), 4u);
}

}  // namespace
}  // namespace slabmalloc
