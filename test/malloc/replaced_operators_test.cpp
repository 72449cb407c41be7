// SPDX-License-Identifier: MIT
//
// A program that replaces only the plain operators new and delete, as the language allows. It runs
// on slabmalloc by preload, and every other form must call its operators.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdlib>
#include <new>

namespace {

/// The program's own memory: slabmalloc must never see its addresses.
struct Pool {
  static constexpr std::size_t capacity = std::size_t{1} << 20;
  alignas(64) static inline std::byte bytes[capacity];
  static inline std::size_t used = 0;
  static inline std::size_t frees = 0;

  static bool holds(const void* address) {
    const auto* byte = static_cast<const std::byte*>(address);
    return byte >= bytes && byte < bytes + capacity;
  }
};

}  // namespace

[[gnu::noinline]] void* operator new(std::size_t size) {
  void* block = Pool::bytes + Pool::used;
  Pool::used += (size + 15) / 16 * 16;
  return Pool::used <= Pool::capacity ? block : throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* block) noexcept {
  if (Pool::holds(block)) {
    ++Pool::frees;
  } else {
    std::abort();
  }
}

namespace {

TEST(ReplacedOperators, every_form_of_new_goes_through_the_replaced_one) {
  void* array = ::operator new[](40);
  void* quiet = ::operator new(40, std::nothrow);
  void* quiet_array = ::operator new[](40, std::nothrow);
  EXPECT_TRUE(Pool::holds(array));
  EXPECT_TRUE(Pool::holds(quiet));
  EXPECT_TRUE(Pool::holds(quiet_array));
}

TEST(ReplacedOperators, nothrow_forms_return_null_if_the_replaced_one_throws) {
  const std::size_t used = Pool::used;
  EXPECT_EQ(::operator new(2 * Pool::capacity, std::nothrow), nullptr);
  EXPECT_EQ(::operator new[](2 * Pool::capacity, std::nothrow), nullptr);
  Pool::used = used;
}

TEST(ReplacedOperators, every_form_of_delete_goes_through_the_replaced_one) {
  const std::size_t before = Pool::frees;
  ::operator delete(::operator new(40), std::size_t{40});
  ::operator delete[](::operator new[](40));
  ::operator delete[](::operator new[](40), std::size_t{40});
  ::operator delete(::operator new(40), std::nothrow);
  ::operator delete[](::operator new[](40), std::nothrow);
  EXPECT_EQ(Pool::frees - before, 5u);
}

TEST(ReplacedOperators, aligned_forms_that_are_not_replaced_stay_with_the_malloc) {
  constexpr std::align_val_t alignment{256};
  void* block = ::operator new(40, alignment);
  void* quiet = ::operator new[](40, alignment, std::nothrow);
  EXPECT_FALSE(Pool::holds(block));
  EXPECT_FALSE(Pool::holds(quiet));
  ::operator delete(block, alignment);
  ::operator delete[](quiet, std::size_t{40}, alignment);
}

}  // namespace
