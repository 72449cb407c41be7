// SPDX-License-Identifier: MIT
#include "slabmalloc/kernel/frame_reserve.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <set>
#include <vector>

#include "kernel/hosted_kernel.hpp"
#include "slabmalloc/kernel/kernel_config.hpp"
#include "support/frames.hpp"

namespace slabmalloc::test {
namespace {

using Reserve = FrameReserve<OpenKernel, KernelConfig::Pages, HardwareAtomics>;
using Caches = Reserve::Caches;
constexpr std::size_t base_bytes = Caches::base_bytes;
constexpr std::size_t middle_bytes = Caches::sizes.at[1];

class FrameReserveTest : public testing::Test {
 protected:
  void TearDown() override {
    EXPECT_EQ(reserve.validate(), nullptr);
    EXPECT_EQ(cache.validate(), nullptr);
  }
  void* frame(std::size_t bytes = base_bytes) { return frames.frame(bytes); }

  FrameSource frames;
  Caches cache;
  Reserve reserve;
};

TEST_F(FrameReserveTest, holds_as_many_as_are_wanted_of_each_size) {
  EXPECT_FALSE(reserve.refill(frame(), base_bytes)) << "none is wanted";
  reserve.want(base_bytes, 2);
  reserve.want(middle_bytes, 1);
  EXPECT_TRUE(reserve.is_short(base_bytes));
  EXPECT_TRUE(reserve.refill(frame(), base_bytes));
  EXPECT_TRUE(reserve.is_short_now(base_bytes));
  EXPECT_TRUE(reserve.refill(frame(), base_bytes));
  EXPECT_FALSE(reserve.is_short(base_bytes));
  EXPECT_FALSE(reserve.is_short_now(base_bytes));
  EXPECT_FALSE(reserve.refill(frame(), base_bytes));
  EXPECT_TRUE(reserve.refill(frame(middle_bytes), middle_bytes));
  EXPECT_EQ(reserve.bytes(), 2 * base_bytes + middle_bytes);
}

TEST_F(FrameReserveTest, gives_up_what_is_wanted_no_more) {
  reserve.want(base_bytes, 3);
  std::set<void*> all;
  for (int count = 0; count < 3; ++count) {
    void* const one = frame();
    EXPECT_TRUE(reserve.refill(one, base_bytes));
    all.insert(one);
  }
  EXPECT_EQ(reserve.take_excess(base_bytes), nullptr);
  reserve.want(base_bytes, 1);
  EXPECT_EQ(all.erase(reserve.take_excess(base_bytes)), 1u);
  EXPECT_EQ(all.erase(reserve.take_excess(base_bytes)), 1u);
  EXPECT_EQ(reserve.take_excess(base_bytes), nullptr);
  EXPECT_EQ(all.erase(reserve.take(base_bytes)), 1u);
  EXPECT_EQ(reserve.take(base_bytes), nullptr);
  EXPECT_TRUE(reserve.is_short(base_bytes));
}

TEST_F(FrameReserveTest, takes_from_a_frame_cache_what_is_missing_and_passes_the_rest_on) {
  std::vector<void*> list = {frame(), frame()};
  cache.push(list.data(), 2, base_bytes);
  reserve.want(base_bytes, 1);
  void* passed = nullptr;
  EXPECT_TRUE(reserve.refill_or_take(cache, base_bytes, passed));
  EXPECT_EQ(passed, nullptr);
  EXPECT_EQ(reserve.bytes(), base_bytes);
  EXPECT_TRUE(reserve.refill_or_take(cache, base_bytes, passed));
  EXPECT_EQ(passed, list[0]) << "last in, first out";
  EXPECT_EQ(cache.bytes(), 0u);
  EXPECT_FALSE(reserve.refill_or_take(cache, base_bytes, passed));
}

TEST(FrameCaches, that_lost_a_frame_break_their_invariant) {
  FrameSource frames;
  Caches cache;
  for (const std::size_t bytes : Caches::sizes) {
    cache.push(frames.frame(bytes), bytes);
    cache.push(frames.frame(bytes), bytes);
  }
  EXPECT_EQ(cache.bytes(), 2 * base_bytes + 2 * middle_bytes);
  EXPECT_EQ(cache.validate(), nullptr);
  void* const top = cache.pop(middle_bytes);
  cache.push(top, middle_bytes);
  // A write into the header of a free frame.
  KernelConfig::MiddlePage::header_of(top)->next = nullptr;
  EXPECT_STREQ(cache.validate(), "K3: the size of a frame cache = frames linked in it");
  KernelConfig::MiddlePage::header_of(top)->next = KernelConfig::MiddlePage::header_of(top);
  EXPECT_STREQ(cache.validate(), "K3: the size of a frame cache = frames linked in it");
}

}  // namespace
}  // namespace slabmalloc::test
