// SPDX-License-Identifier: MIT
#include "slabmalloc/base/atomics.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <thread>
#include <vector>

#include "support/counting_atomics.hpp"

namespace slabmalloc {
namespace {

template <class Atomics>
class AtomicsTest : public testing::Test {};

using Policies = testing::Types<HardwareAtomics, SingleCpuAtomics, test::CountingAtomics>;
TYPED_TEST_SUITE(AtomicsTest, Policies);

TYPED_TEST(AtomicsTest, a_cell_starts_with_zero_or_with_what_it_is_given) {
  const typename TypeParam::template Cell<std::uint32_t> zero;
  const typename TypeParam::template Cell<std::uint32_t> seven(7);
  EXPECT_EQ(zero.load(Order::relaxed), 0u);
  EXPECT_EQ(seven.load(Order::acquire), 7u);
}

TYPED_TEST(AtomicsTest, a_load_returns_the_stored_value) {
  typename TypeParam::template Cell<std::uintptr_t> cell;
  cell.store(~std::uintptr_t{0}, Order::release);
  EXPECT_EQ(cell.load(Order::acquire), ~std::uintptr_t{0});
}

TYPED_TEST(AtomicsTest, updates_return_the_value_before) {
  typename TypeParam::template Cell<std::uint32_t> cell(10);
  EXPECT_EQ(cell.exchange(20, Order::acq_rel), 10u);
  EXPECT_EQ(cell.fetch_add(5, Order::acq_rel), 20u);
  EXPECT_EQ(cell.fetch_sub(1, Order::relaxed), 25u);
  EXPECT_EQ(cell.fetch_or(0x107, Order::release), 24u);
  EXPECT_EQ(cell.load(Order::relaxed), 0x11Fu);
}

TYPED_TEST(AtomicsTest, counts_wrap_around) {
  typename TypeParam::template Cell<std::uint32_t> cell;
  EXPECT_EQ(cell.fetch_sub(1, Order::relaxed), 0u);
  EXPECT_EQ(cell.fetch_add(2, Order::relaxed), ~std::uint32_t{0});
  EXPECT_EQ(cell.load(Order::relaxed), 1u);
}

TYPED_TEST(AtomicsTest, compare_exchange_writes_only_over_the_expected_value) {
  int first = 0;
  int second = 0;
  typename TypeParam::template Cell<int*> cell(&first);
  int* expected = &second;
  EXPECT_FALSE(cell.compare_exchange(expected, nullptr, Order::acq_rel));
  EXPECT_EQ(expected, &first);
  EXPECT_EQ(cell.load(Order::relaxed), &first);
  while (!cell.compare_exchange(expected, &second, Order::acq_rel)) {
    ASSERT_EQ(expected, &first) << "a weak exchange may fail, but tells what it found";
  }
  EXPECT_EQ(cell.load(Order::relaxed), &second);
}

TEST(HardwareAtomics, no_update_by_several_threads_is_lost) {
  constexpr std::uint32_t per_thread = 20'000;
  constexpr std::uint32_t thread_count = 3;
  HardwareAtomics::Cell<std::uint32_t> sum;
  HardwareAtomics::Cell<std::uintptr_t> bits;
  std::vector<std::thread> threads;
  for (std::uint32_t thread = 0; thread < thread_count; ++thread) {
    threads.emplace_back([&, thread] {
      for (std::uint32_t round = 0; round < per_thread; ++round) {
        sum.fetch_add(1, Order::relaxed);
        bits.fetch_or(std::uintptr_t{1} << (8 * thread + round % 8), Order::relaxed);
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  EXPECT_EQ(sum.load(Order::relaxed), per_thread * thread_count);
  EXPECT_EQ(bits.load(Order::relaxed), std::uintptr_t{0xFFFFFF});
}

TEST(HardwareAtomics, a_release_publishes_earlier_writes) {
  constexpr std::size_t rounds = 2'000;
  std::size_t plain = 0;
  HardwareAtomics::Cell<std::size_t> turn;
  std::thread writer([&] {
    for (std::size_t round = 0; round < rounds; ++round) {
      while (turn.load(Order::acquire) != 2 * round) {
        std::this_thread::yield();
      }
      plain = round;
      turn.store(2 * round + 1, Order::release);
    }
  });
  for (std::size_t round = 0; round < rounds; ++round) {
    while (turn.load(Order::acquire) != 2 * round + 1) {
      std::this_thread::yield();
    }
    ASSERT_EQ(plain, round);
    turn.store(2 * round + 2, Order::release);
  }
  writer.join();
}

TEST(HardwareAtomics, cells_are_as_small_as_their_values) {
  static_assert(sizeof(HardwareAtomics::Cell<std::uint32_t>) == 4);
  static_assert(sizeof(HardwareAtomics::Cell<void*>) == sizeof(void*));
  static_assert(sizeof(SingleCpuAtomics::Cell<std::uint32_t>) == 4);
}

TEST(CountingAtomics, every_operation_counts_once) {
  test::CountingAtomics::Cell<std::uint32_t> cell;
  const std::size_t before = test::CountingAtomics::operations();
  cell.store(1, Order::relaxed);
  (void)cell.load(Order::relaxed);
  cell.fetch_or(2, Order::relaxed);
  EXPECT_EQ(test::CountingAtomics::operations() - before, 3u);
}

}  // namespace
}  // namespace slabmalloc
