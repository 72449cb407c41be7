// SPDX-License-Identifier: MIT
#include "arena/mapping_cache.hpp"

#include <gtest/gtest.h>

#include <map>

#include "support/random.hpp"

namespace slabmalloc {
namespace {

TEST(MappingCache, serves_from_the_smallest_that_suffices_and_keeps_the_rest) {
  MappingCache cache;
  cache.put({1000, 90, 1});
  cache.put({2000, 50, 2});
  cache.put({3000, 70, 3});
  const CachedMapping taken = cache.take(45);
  EXPECT_EQ(taken.base, 2000u);
  EXPECT_EQ(taken.bytes, 45u);
  EXPECT_EQ(cache.bytes(), 165u);
  EXPECT_EQ(cache.take(5).base, 2045u);
  EXPECT_EQ(cache.take(60).base, 3000u);
  EXPECT_TRUE(cache.validate());
}

TEST(MappingCache, serves_from_the_largest_if_none_suffices) {
  MappingCache cache;
  EXPECT_EQ(cache.take(10).bytes, 0u);
  cache.put({1000, 40, 1});
  cache.put({2000, 50, 2});
  cache.put({3000, 30, 3});
  const CachedMapping taken = cache.take(100);
  EXPECT_EQ(taken.base, 2000u);
  EXPECT_EQ(taken.bytes, 50u);
  EXPECT_EQ(cache.bytes(), 70u);
}

TEST(MappingCache, a_full_cache_evicts_the_oldest_though_the_clock_wraps) {
  MappingCache cache;
  std::uint32_t stamp = ~std::uint32_t{0} - 3;
  for (std::size_t number = 0; number < Tunables::cached_mappings; ++number) {
    EXPECT_EQ(cache.put({1000 * (number + 1), 10, stamp++}).bytes, 0u);
  }
  EXPECT_EQ(cache.put({100, 10, stamp}).base, 1000u);
  std::uint32_t oldest = 0;
  EXPECT_TRUE(cache.find_oldest_stamp(oldest));
  EXPECT_EQ(oldest, ~std::uint32_t{0} - 2);
  EXPECT_EQ(cache.bytes(), 10 * Tunables::cached_mappings);
}

TEST(MappingCache, every_byte_that_goes_in_comes_out_once) {
  test::Random random;
  // True for each cached byte, false for one that the test holds.
  std::map<std::uintptr_t, bool> bytes;
  for (std::uintptr_t byte = 1; byte <= 400; ++byte) {
    bytes[byte] = false;
  }
  MappingCache cache;
  const auto hold = [&](const CachedMapping& mapping) {
    for (std::uintptr_t byte = mapping.base; byte < mapping.end(); ++byte) {
      ASSERT_TRUE(bytes.at(byte)) << byte;
      bytes[byte] = false;
    }
  };
  for (std::uint32_t step = 0; step < 5000; ++step) {
    if (random.one_in(2)) {
      const std::uintptr_t base = random.between(1, 400);
      std::uintptr_t end = base;
      for (const std::uintptr_t most = base + random.between(1, 30);
           end < most && end <= 400 && !bytes[end]; ++end) {
        bytes[end] = true;
      }
      if (end != base) {
        hold(cache.put({base, end - base, step}));
      }
    } else {
      const std::size_t wanted = random.between(1, 40);
      const CachedMapping taken = random.one_in(4) ? cache.remove_oldest() : cache.take(wanted);
      hold(taken);
    }
    std::size_t cached = 0;
    for (const auto& [byte, is_cached] : bytes) {
      cached += is_cached ? 1 : 0;
    }
    ASSERT_EQ(cache.bytes(), cached) << "step " << step;
    ASSERT_TRUE(cache.validate()) << "step " << step;
  }
}

}  // namespace
}  // namespace slabmalloc
