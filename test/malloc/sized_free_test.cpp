// SPDX-License-Identifier: MIT
//
// Frees with a size: it must belong to the class of the block, or be the size of a large one.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <thread>
#include <vector>

#include "malloc/heap.hpp"
#include "malloc/options.hpp"
#include "support/misuse_recorder.hpp"

namespace slabmalloc {
namespace {

using SizeClasses = heap::SizeClasses;
constexpr std::size_t mebibyte = std::size_t{1} << 20;

/// Sizes around each bound of a class, and large ones around bounds of OS pages.
std::vector<std::size_t> sizes_around_bounds() {
  std::vector<std::size_t> sizes = {0, 1};
  for (std::uint32_t index = 0; index < SizeClasses::count; ++index) {
    sizes.push_back(SizeClasses::size_of(index));
    sizes.push_back(SizeClasses::size_of(index) + 1);
  }
  for (const std::size_t bytes : {36 * kibibyte, 64 * kibibyte, mebibyte, 40 * mebibyte}) {
    sizes.insert(sizes.end(), {bytes - 1, bytes, bytes + 1});
  }
  return sizes;
}

/// True if requests of both sizes get blocks of one size.
bool share_blocks(std::size_t one, std::size_t other) {
  const std::uint32_t index = SizeClasses::index_for(one);
  return index == SizeClasses::index_for(other) &&
         (index != SizeClasses::no_class || large_bytes_for(one) == large_bytes_for(other));
}

class SizedFree : public testing::Test {
 protected:
  /// Frees a block, and expects a report or none.
  void deallocate(void* block, std::size_t bytes, bool is_right) {
    const std::size_t usable = heap::usable_bytes(block);
    heap::deallocate_sized<Call::Delete>(block, bytes);
    const std::vector<Misuse> told = misuse_.take();
    ASSERT_EQ(told.size(), is_right ? 0u : 1u);
    if (is_right) {
      return;
    }
    EXPECT_EQ(told[0].kind, MisuseKind::SizeMismatch);
    EXPECT_EQ(told[0].address, block);
    EXPECT_EQ(told[0].block, block);
    EXPECT_EQ(told[0].object_size, usable);
    EXPECT_EQ(told[0].given_size, bytes);
    // The bad call has changed nothing.
    ASSERT_EQ(heap::usable_bytes(block), usable);
    heap::deallocate(block);
    ASSERT_TRUE(misuse_.take().empty());
  }

  test::MisuseRecorder misuse_;
};

TEST_F(SizedFree, accepts_the_sizes_of_the_class_alone) {
  const std::vector<std::size_t> sizes = sizes_around_bounds();
  for (const std::size_t bytes : sizes) {
    for (const std::size_t given : sizes) {
      SCOPED_TRACE(std::to_string(given) + " for " + std::to_string(bytes));
      ASSERT_NO_FATAL_FAILURE(deallocate(heap::allocate(bytes), given, share_blocks(bytes, given)));
    }
    ASSERT_NO_FATAL_FAILURE(deallocate(heap::allocate(bytes), ~std::size_t{0}, false));
  }
}

TEST_F(SizedFree, looks_at_blocks_of_other_threads_too) {
  for (const std::size_t bytes : {64u, 4096u, 30000u, 100000u}) {
    void* const right = heap::allocate(bytes);
    void* const wrong = heap::allocate(bytes);
    std::thread([&] {
      deallocate(right, bytes, true);
      deallocate(wrong, bytes / 2, false);
    }).join();
  }
}

TEST_F(SizedFree, knows_the_class_of_an_aligned_block) {
  for (const std::size_t alignment : {32u, 64u, 4096u, 65536u}) {
    for (std::size_t bytes = 1; bytes < 70000; bytes += bytes / 3 + 1) {
      SCOPED_TRACE(std::to_string(bytes) + " bytes aligned to " + std::to_string(alignment));
      void* const block = heap::allocate_aligned(bytes, alignment);
      heap::deallocate_any_sized(block, 4 * (bytes + alignment), alignment, Call::Delete);
      ASSERT_EQ(misuse_.take_kinds(), std::vector{MisuseKind::SizeMismatch});
      heap::deallocate_any_sized(block, bytes, alignment, Call::Delete);
      ASSERT_TRUE(misuse_.take().empty());
    }
  }
}

TEST_F(SizedFree, leaves_other_misuse_to_the_free) {
  auto* const block = static_cast<char*>(heap::allocate(64));
  heap::deallocate_sized<Call::Delete>(block + 8, 100);
  EXPECT_EQ(misuse_.take_kinds(), std::vector{MisuseKind::MisalignedFree});
  heap::deallocate_sized<Call::Delete>(&misuse_, 100);
  EXPECT_EQ(misuse_.take_kinds(), std::vector{MisuseKind::ForeignPointer});
  heap::deallocate_sized<Call::Delete>(block, 64);
  heap::deallocate_sized<Call::Delete>(block, 100);
  EXPECT_EQ(misuse_.take_kinds(), std::vector{MisuseKind::DoubleFree});
  heap::deallocate_sized<Call::Delete>(nullptr, 100);
}

TEST_F(SizedFree, ignores_sizes_if_the_option_says_so) {
  options.size_check = false;
  for (const std::size_t bytes : {64u, 30000u, 100000u}) {
    deallocate(heap::allocate(bytes), 2 * bytes, true);
  }
  options = Options{};
}

}  // namespace
}  // namespace slabmalloc
