// SPDX-License-Identifier: MIT
//
// Misuse of the process heap under a hook that returns: the call must change nothing.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "malloc/heap.hpp"
#include "support/misuse_recorder.hpp"
#include "support/pattern.hpp"

namespace slabmalloc {
namespace {

using test::fill_pattern;
using test::holds_pattern;

constexpr std::size_t mebibyte = std::size_t{1} << 20;

class HeapMisuse : public testing::TestWithParam<std::size_t> {
 protected:
  /// Allocates so much that a freed block would have been issued twice.
  void expect_no_block_has_two_owners() {
    std::set<void*> blocks;
    for (int count = 0; count < 200; ++count) {
      void* block = heap::allocate(bytes_);
      EXPECT_TRUE(blocks.insert(block).second);
    }
    for (void* block : blocks) {
      heap::deallocate(block);
    }
    if (thread_heap.zone != &empty_zone) {
      EXPECT_EQ(thread_heap.zone->validate(), nullptr);
    }
    EXPECT_TRUE(process_arena.validate());
  }

  const std::size_t bytes_ = GetParam();
  test::MisuseRecorder misuse_;
};

INSTANTIATE_TEST_SUITE_P(Sizes, HeapMisuse,
                         testing::Values(64, 4096, 96 * kibibyte, 256 * kibibyte, 64 * mebibyte),
                         [](const auto& size) { return "of_" + std::to_string(size.param); });

TEST_P(HeapMisuse, a_second_free_is_reported_and_changes_nothing) {
  void* before = heap::allocate(bytes_);
  void* block = heap::allocate(bytes_);
  heap::deallocate(block);
  heap::deallocate(block);
  const std::vector<Misuse> told = misuse_.take();
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(told[0].address, block);
  EXPECT_EQ(told[0].kind, MisuseKind::DoubleFree);
  heap::deallocate(before);
  expect_no_block_has_two_owners();
}

TEST_P(HeapMisuse, a_second_free_after_other_frees_is_reported_and_changes_nothing) {
  void* first = heap::allocate(bytes_);
  void* second = heap::allocate(bytes_);
  void* third = heap::allocate(bytes_);
  heap::deallocate(first);
  heap::deallocate(second);
  heap::deallocate(first);
  EXPECT_EQ(misuse_.take().size(), 1u);
  heap::deallocate(third);
  EXPECT_TRUE(misuse_.take().empty());
  expect_no_block_has_two_owners();
}

TEST_P(HeapMisuse, addresses_inside_a_block_are_reported_and_change_nothing) {
  auto* block = static_cast<char*>(heap::allocate(bytes_));
  const std::size_t usable_bytes = heap::usable_bytes(block);
  fill_pattern(block, 64, 7);
  for (const std::size_t offset : {std::size_t{1}, std::size_t{8}, bytes_ / 2, bytes_ - 1}) {
    heap::deallocate(block + offset);
    const std::vector<Misuse> told = misuse_.take();
    ASSERT_EQ(told.size(), 1u) << offset;
    EXPECT_EQ(told[0].kind, MisuseKind::MisalignedFree) << offset;
    EXPECT_EQ(told[0].address, block + offset);
    EXPECT_EQ(told[0].block, block);
    EXPECT_EQ(told[0].object_size, usable_bytes);
    EXPECT_EQ(told[0].state, BlockState::InUse);
    EXPECT_EQ(heap::usable_bytes(block + offset), 0u);
    EXPECT_EQ(misuse_.take_count(MisuseKind::MisalignedFree), 1u);
    EXPECT_EQ(heap::reallocate(block + offset, 100), nullptr);
    EXPECT_EQ(misuse_.take_count(MisuseKind::MisalignedFree), 1u);
  }
  EXPECT_TRUE(holds_pattern(block, 64, 7));
  heap::deallocate(block);
  expect_no_block_has_two_owners();
}

TEST_P(HeapMisuse, freed_blocks_have_no_size_and_cannot_be_reallocated) {
  void* before = heap::allocate(bytes_);
  void* block = heap::allocate(bytes_);
  heap::deallocate(block);
  EXPECT_EQ(heap::usable_bytes(block), 0u);
  EXPECT_EQ(misuse_.take().size(), 1u);
  EXPECT_EQ(heap::reallocate(block, 10), nullptr);
  EXPECT_EQ(misuse_.take().size(), 1u);
  heap::deallocate(before);
  expect_no_block_has_two_owners();
}

TEST_P(HeapMisuse, blocks_that_another_thread_freed_have_no_size_and_cannot_be_reallocated) {
  void* before = heap::allocate(bytes_);
  void* block = heap::allocate(bytes_);
  std::thread([&] { heap::deallocate(block); }).join();
  EXPECT_EQ(heap::usable_bytes(block), 0u);
  EXPECT_EQ(misuse_.take_count(MisuseKind::DoubleFree), 1u);
  EXPECT_EQ(heap::reallocate(block, 10), nullptr);
  EXPECT_EQ(misuse_.take_count(MisuseKind::DoubleFree), 1u);
  heap::deallocate(before);
  expect_no_block_has_two_owners();
}

TEST_P(HeapMisuse, addresses_never_issued_are_reported_and_change_nothing) {
  void* block = heap::allocate(bytes_);
  static char of_the_program[64];
  char of_the_stack[64];
  const auto far = reinterpret_cast<void*>(std::uintptr_t{0x7fff'ffff'f000});
  const auto top = reinterpret_cast<void*>(~std::uintptr_t{0});
  const auto low = reinterpret_cast<void*>(std::uintptr_t{16});
  for (void* foreign : {static_cast<void*>(of_the_program), static_cast<void*>(of_the_stack), far,
                        top, low, reinterpret_cast<void*>(&heap::trim)}) {
    heap::deallocate(foreign);
    EXPECT_EQ(misuse_.take_count(MisuseKind::ForeignPointer), 1u) << foreign;
    EXPECT_EQ(heap::usable_bytes(foreign), 0u);
    EXPECT_EQ(misuse_.take_count(MisuseKind::ForeignPointer), 1u) << foreign;
  }
  heap::deallocate(block);
  expect_no_block_has_two_owners();
}

TEST_P(HeapMisuse, one_of_two_frees_by_two_threads_is_reported) {
  void* before = heap::allocate(bytes_);
  for (int round = 0; round < 20; ++round) {
    void* block = heap::allocate(bytes_);
    std::thread first([&] { heap::deallocate(block); });
    std::thread second([&] { heap::deallocate(block); });
    first.join();
    second.join();
    EXPECT_EQ(misuse_.take().size(), 1u) << round;
  }
  heap::deallocate(before);
  heap::trim();
  expect_no_block_has_two_owners();
}

TEST(MisuseOfOneBlock, behind_the_last_block_of_a_page_is_in_no_block) {
  test::MisuseRecorder misuse;
  auto* const block = static_cast<char*>(heap::allocate(48));
  const auto address = reinterpret_cast<std::uintptr_t>(block) | (chunk_bytes - 1);
  heap::deallocate(reinterpret_cast<void*>(address));
  const std::vector<Misuse> told = misuse.take();
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(told[0].kind, MisuseKind::MisalignedFree);
  EXPECT_EQ(told[0].block, nullptr);
  EXPECT_EQ(told[0].state, BlockState::Unknown);
  heap::deallocate(block);
}

TEST(MisuseOfOneBlock, is_noted_with_the_call_that_got_it) {
  test::MisuseRecorder misuse;
  void* const keep = heap::allocate(64);
  void* const block = heap::allocate(64);
  heap::deallocate(block);
  const auto expect_noted = [&](Call call) {
    EXPECT_EQ(misuse.take().size(), 1u) << name_of(call);
    EXPECT_EQ(noted_call.address, block);
    EXPECT_STREQ(name_of(noted_call.call), name_of(call));
  };
  heap::deallocate<Call::Delete>(block);
  expect_noted(Call::Delete);
  EXPECT_EQ(heap::usable_bytes(block), 0u);
  expect_noted(Call::UsableSize);
  EXPECT_EQ(heap::reallocate(block, 10), nullptr);
  expect_noted(Call::Realloc);
  {
    const NamedCall named(Call::HeapReallocate);
    EXPECT_EQ(heap::reallocate(block, 10), nullptr);
    expect_noted(Call::HeapReallocate);
  }
  EXPECT_EQ(heap::reallocate(block, 10), nullptr);
  expect_noted(Call::Realloc);
  std::thread([&] { heap::deallocate<Call::FreeSized>(block); }).join();
  heap::deallocate(keep);
  heap::trim();
  const std::vector<Misuse> told = misuse.take();
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(told[0].found_at, FoundAt::Call);
}

}  // namespace
}  // namespace slabmalloc
