// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "slabmalloc/slabmalloc.h"

namespace {

/// A pager over the C library that counts its frames, and refuses on demand.
struct CountingPager {
  std::size_t bytes = 0;
  bool refuses = false;

  static void* allocate(void* context, std::size_t bytes, std::size_t alignment) {
    auto* self = static_cast<CountingPager*>(context);
    void* memory = nullptr;
    if (self->refuses || posix_memalign(&memory, alignment, bytes) != 0) {
      return nullptr;
    }
    self->bytes += bytes;
    return memory;
  }
  static void* allocate_frame(void* context, std::size_t bytes) {
    return allocate(context, bytes, bytes);
  }
  static void deallocate_frame(void* context, void* frame, std::size_t bytes) {
    static_cast<CountingPager*>(context)->bytes -= bytes;
    std::free(frame);
  }
  static void deallocate_run(void* context, void* run, std::size_t bytes, std::size_t) {
    deallocate_frame(context, run, bytes);
  }

  slabmalloc_pager functions(bool with_runs) {
    return {this, &allocate_frame, &deallocate_frame, with_runs ? &allocate : nullptr,
            with_runs ? &deallocate_run : nullptr};
  }
};

TEST(CZone, is_refused_without_the_functions_it_needs) {
  CountingPager pager;
  EXPECT_EQ(slabmalloc_zone_create(nullptr), nullptr);
  slabmalloc_pager functions = pager.functions(true);
  functions.deallocate_frame = nullptr;
  EXPECT_EQ(slabmalloc_zone_create(&functions), nullptr);
  functions = pager.functions(true);
  functions.deallocate_run = nullptr;
  EXPECT_EQ(slabmalloc_zone_create(&functions), nullptr);
}

TEST(CZone, gives_every_frame_back_when_it_is_destroyed) {
  CountingPager pager;
  const slabmalloc_pager functions = pager.functions(false);
  slabmalloc_zone* zone = slabmalloc_zone_create(&functions);
  ASSERT_NE(zone, nullptr);
  for (std::size_t bytes = 1; bytes < 100000; bytes += bytes / 2 + 1) {
    void* block = slabmalloc_zone_allocate(zone, bytes, 8);
    ASSERT_NE(block, nullptr);
    std::memset(block, 0x77, bytes);
  }
  EXPECT_GT(pager.bytes, 0u);
  slabmalloc_statistics statistics{};
  slabmalloc_zone_statistics(zone, &statistics);
  EXPECT_EQ(statistics.held_bytes, pager.bytes);
  slabmalloc_zone_destroy(zone);
  EXPECT_EQ(pager.bytes, 0u);
}

TEST(CZone, serves_large_requests_by_runs_where_the_pager_has_them) {
  CountingPager pager;
  slabmalloc_pager functions = pager.functions(false);
  slabmalloc_zone* without = slabmalloc_zone_create(&functions);
  EXPECT_EQ(slabmalloc_zone_allocate(without, 300000, 16), nullptr);
  slabmalloc_zone_destroy(without);
  functions = pager.functions(true);
  slabmalloc_zone* zone = slabmalloc_zone_create(&functions);
  void* block = slabmalloc_zone_allocate(zone, 300000, 16);
  ASSERT_NE(block, nullptr);
  block = slabmalloc_zone_reallocate(zone, block, 300000, 100, 16);
  ASSERT_NE(block, nullptr);
  slabmalloc_zone_deallocate(zone, block, 100, 16);
  slabmalloc_zone_destroy(zone);
  EXPECT_EQ(pager.bytes, 0u);
}

TEST(CZone, exhaustion_is_null_and_passes) {
  CountingPager pager;
  const slabmalloc_pager functions = pager.functions(true);
  slabmalloc_zone* zone = slabmalloc_zone_create(&functions);
  pager.refuses = true;
  EXPECT_EQ(slabmalloc_zone_allocate(zone, 64, 8), nullptr);
  EXPECT_EQ(slabmalloc_zone_allocate_zeroed(zone, 300000, 8), nullptr);
  pager.refuses = false;
  void* block = slabmalloc_zone_allocate(zone, 64, 8);
  EXPECT_NE(block, nullptr);
  slabmalloc_zone_deallocate(zone, block, 64, 8);
  slabmalloc_zone_destroy(zone);
}

TEST(CZone, drains_frees_by_other_threads) {
  CountingPager pager;
  const slabmalloc_pager functions = pager.functions(false);
  slabmalloc_zone* zone = slabmalloc_zone_create(&functions);
  std::vector<void*> blocks;
  for (int count = 0; count < 5000; ++count) {
    blocks.push_back(slabmalloc_zone_allocate(zone, 200, 8));
  }
  std::thread([&] {
    for (void* block : blocks) {
      slabmalloc_zone_deallocate_remote(block, 200, 8);
    }
  }).join();
  slabmalloc_zone_drain(zone);
  slabmalloc_statistics statistics{};
  slabmalloc_zone_statistics(zone, &statistics);
  EXPECT_EQ(statistics.remote_frees, 5000u);
  EXPECT_EQ(statistics.used_bytes, 0u);
  EXPECT_GT(slabmalloc_zone_trim(zone), 0u);
  EXPECT_EQ(pager.bytes, 0u);
  slabmalloc_zone_destroy(zone);
}

}  // namespace
