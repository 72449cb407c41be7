// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <cstdint>
#include <thread>
#include <vector>

#include "slabmalloc/slabmalloc.h"

namespace {

struct Report {
  slabmalloc_misuse_kind kind;
  const void* address;
};
std::vector<Report> reports;
void record(slabmalloc_misuse_kind kind, const void* address) {
  reports.push_back({kind, address});
}

TEST(CHeap, serves_and_frees_on_any_thread_and_ends_with_live_blocks) {
  slabmalloc_heap* const heap = slabmalloc_heap_create("c");
  ASSERT_NE(heap, nullptr);
  EXPECT_STREQ(slabmalloc_heap_name(heap), "c");
  auto* const zeroed =
      static_cast<unsigned char*>(slabmalloc_heap_allocate_zeroed(heap, 100'000, 4096));
  ASSERT_NE(zeroed, nullptr);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(zeroed) % 4096, 0u);
  EXPECT_EQ(zeroed[0] | zeroed[99'999], 0);
  void* block = slabmalloc_heap_allocate(heap, 100, 64);
  EXPECT_GE(slabmalloc_heap_usable_size(heap, block), 100u);
  EXPECT_EQ(slabmalloc_heap_owns(heap, block), 1);
  EXPECT_EQ(slabmalloc_heap_owns(heap, &reports), 0);
  std::thread([&] {
    block = slabmalloc_heap_reallocate(heap, block, 5000, 64);
    slabmalloc_heap_deallocate(heap, zeroed);
    slabmalloc_heap_deallocate_sized(heap, slabmalloc_heap_allocate(heap, 30, 1), 30, 1);
    slabmalloc_heap_enter_idle(heap);
  }).join();
  EXPECT_NE(block, nullptr);
  slabmalloc_statistics now;
  slabmalloc_heap_statistics(heap, &now);
  EXPECT_EQ(now.allocations, 4u);
  EXPECT_EQ(now.frees, 3u);
  EXPECT_GE(now.used_bytes, 5000u);
  EXPECT_GE(now.held_bytes_high_water, 100'000u);
  std::size_t used = 0;
  std::size_t index = 0;
  slabmalloc_class_statistics one;
  for (; slabmalloc_heap_class_statistics(heap, index, &one) != 0; ++index) {
    used += one.size * one.used;
  }
  EXPECT_GT(index, 10u);
  EXPECT_EQ(used, now.used_bytes);
  EXPECT_GT(slabmalloc_heap_trim(heap), 0u);
  slabmalloc_heap_destroy(heap);
  slabmalloc_heap_destroy(nullptr);
}

TEST(CHeap, refuses_what_is_beyond_its_limit_or_no_alignment) {
  slabmalloc_heap* const heap = slabmalloc_heap_create(nullptr);
  slabmalloc_heap_set_limit(heap, 1'000'000);
  slabmalloc_heap_set_kept(heap, 0);
  EXPECT_EQ(slabmalloc_heap_allocate(heap, 1'000'001, 1), nullptr);
  void* const block = slabmalloc_heap_allocate(heap, 900'000, 1);
  EXPECT_NE(block, nullptr);
  EXPECT_EQ(slabmalloc_heap_reallocate(heap, block, 950'000, 1), nullptr);
  EXPECT_EQ(slabmalloc_heap_allocate(heap, 10, 3), nullptr);
  EXPECT_EQ(slabmalloc_heap_allocate_zeroed(heap, SIZE_MAX, 1), nullptr);
  slabmalloc_heap_deallocate(heap, nullptr);
  slabmalloc_heap_destroy(heap);
}

TEST(CHeap, reports_misuse_to_the_handler_of_the_process_heap) {
  slabmalloc_heap* const heap = slabmalloc_heap_create("one");
  slabmalloc_heap* const other = slabmalloc_heap_create("two");
  slabmalloc_set_misuse_handler(&record);
  void* const block = slabmalloc_heap_allocate(heap, 40, 8);
  void* const of_process = slabmalloc_allocate(40, 8);
  slabmalloc_heap_deallocate(other, block);
  slabmalloc_heap_deallocate(heap, of_process);
  slabmalloc_heap_deallocate_sized(heap, block, 100, 8);
  slabmalloc_heap_deallocate(heap, block);
  slabmalloc_heap_deallocate(heap, block);
  slabmalloc_set_misuse_handler(nullptr);
  slabmalloc_deallocate(of_process, 40, 8);
  ASSERT_EQ(reports.size(), 4u);
  EXPECT_EQ(reports[0].kind, SLABMALLOC_FOREIGN_POINTER);
  EXPECT_EQ(reports[1].kind, SLABMALLOC_FOREIGN_POINTER);
  EXPECT_EQ(reports[2].kind, SLABMALLOC_SIZE_MISMATCH);
  EXPECT_EQ(reports[3].kind, SLABMALLOC_DOUBLE_FREE);
  EXPECT_EQ(reports[1].address, of_process);
  slabmalloc_heap_destroy(other);
  slabmalloc_heap_destroy(heap);
}

}  // namespace
