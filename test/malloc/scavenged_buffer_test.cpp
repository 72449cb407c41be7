// SPDX-License-Identifier: MIT
//
// Tests of a RemoteBuffer from which a scavenger takes the frees that its sleeping owner gathered.
#include <gtest/gtest.h>

#include "malloc/asymmetric_lock.hpp"
#include "zone/remote_buffer_fixture.hpp"

namespace slabmalloc {
namespace {

using ScavengedBufferTest = RemoteBufferTest;
using ScavengedBuffer = RemoteBuffer<HardwareAtomics, 4, AsymmetricLock>;

constexpr auto fence = [] { return true; };

TEST_F(ScavengedBufferTest, a_scavenger_takes_all_frees_out) {
  Header* page = add_page();
  ScavengedBuffer buffer;
  EXPECT_FALSE(buffer.holds_some());
  for (const std::uint32_t slot : {1u, 2u, word_bits, 3 * word_bits + 5}) {
    buffer.add(free_of(page, slot), no_limit);
  }
  EXPECT_TRUE(buffer.holds_some());
  const std::uint32_t before = announced(page);
  buffer.take_all(fence).deliver();
  EXPECT_FALSE(buffer.holds_some());
  EXPECT_EQ(buffer.buffered_bytes(), 0u);
  EXPECT_EQ(announced(page), 4u);
  EXPECT_LT(before, 4u);
  EXPECT_FALSE(buffer.merge(page, 3)) << "its word is gathered no more";
  buffer.add(free_of(page, 3), no_limit);
  EXPECT_TRUE(buffer.merge(page, 4)) << "and again, after the scavenge";
  buffer.flush_all();
  EXPECT_EQ(announced(page), 6u);
  EXPECT_EQ(misuse_.take_count(MisuseKind::DoubleFree), 0u);
}

TEST_F(ScavengedBufferTest, delivers_frees_at_once_while_a_scavenger_is_inside) {
  Header* page = add_page();
  ScavengedBuffer buffer;
  buffer.add(free_of(page, 1), no_limit);
  int fences = 0;
  const auto taken = buffer.take_all([&] {
    if (++fences == 1) {
      buffer.add(free_of(page, 2), no_limit);
      EXPECT_EQ(announced(page), 1u);
      EXPECT_TRUE(buffer.merge(page, 3)) << "that is still to be seen by the scavenger";
    } else {
      EXPECT_FALSE(buffer.merge(page, 4)) << "the word's key was taken away";
      buffer.add(free_of(page, 4), no_limit);
    }
    buffer.flush_all();
    EXPECT_EQ(announced(page), static_cast<std::uint32_t>(fences))
        << "the scavenger takes the rest";
    return true;
  });
  EXPECT_EQ(fences, 2);
  EXPECT_EQ(taken.count, 1u);
  taken.deliver();
  EXPECT_EQ(announced(page), 4u);
  buffer.flush_all();
  EXPECT_EQ(announced(page), 4u);
}

TEST_F(ScavengedBufferTest, delivers_frees_that_a_scavenger_leaves) {
  Header* page = add_page();
  for (const bool by_owner : {false, true}) {
    ScavengedBuffer buffer;
    const std::uint32_t before = announced(page);
    const std::uint32_t first = by_owner ? 10 : 20;
    buffer.add(free_of(page, first), no_limit);
    int fences = 0;
    EXPECT_EQ(buffer.take_all([&] { return ++fences == 1; }).count, 0u) << "without a second fence";
    EXPECT_EQ(buffer.take_all([] { return false; }).count, 0u) << "without a fence";
    EXPECT_TRUE(buffer.holds_some());
    EXPECT_EQ(announced(page), before);
    if (by_owner) {
      buffer.flush_all();
    } else {
      buffer.add(free_of(page, first + 1), no_limit);
      buffer.take_all(fence).deliver();
    }
    EXPECT_EQ(announced(page) - before, by_owner ? 1u : 2u);
  }
}

TEST_F(ScavengedBufferTest, the_next_flush_delivers_frees_of_one_that_met_a_scavenger) {
  Header* page = add_page();
  ScavengedBuffer buffer;
  buffer.add(free_of(page, 1), no_limit);
  const auto taken = buffer.take_all([&] {
    buffer.flush_all();
    return false;
  });
  EXPECT_EQ(taken.count, 0u);
  EXPECT_EQ(announced(page), 0u);
  EXPECT_TRUE(buffer.holds_some()) << "so that the next scavenger, or flush, finds it";
  buffer.flush_all();
  EXPECT_EQ(announced(page), 1u);
}

}  // namespace
}  // namespace slabmalloc
