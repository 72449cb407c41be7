// SPDX-License-Identifier: MIT
//
// Tests every replaced function of the C library and every operator against the words of its
// standard. CMake builds the test in every form of the malloc: preloaded, and linked to the shared
// library, the archive and the one object.
#include <errno.h>
#include <gtest/gtest.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <new>
#include <set>
#include <string>
#include <vector>

#include "support/pattern.hpp"

extern "C" {
void cfree(void* block);
void* __libc_malloc(size_t bytes);
void __libc_free(void* block);
void* __libc_calloc(size_t count, size_t bytes);
void* __libc_realloc(void* block, size_t bytes);
void* __libc_memalign(size_t alignment, size_t bytes);
void* __libc_valloc(size_t bytes);
void* __libc_pvalloc(size_t bytes);
void free_sized(void* block, size_t bytes);
void free_aligned_sized(void* block, size_t alignment, size_t bytes);
}
// A preloaded library provides these only when the program runs.
#pragma weak cfree
#pragma weak free_sized
#pragma weak free_aligned_sized

namespace {

using slabmalloc::test::fill_pattern;
using slabmalloc::test::holds_pattern;
using slabmalloc::test::holds_zeroes;

constexpr std::size_t most = std::numeric_limits<std::size_t>::max();
constexpr std::size_t mebibyte = std::size_t{1} << 20;
/// The part of a block that a test fills and checks.
constexpr std::size_t looked_at_bytes = std::size_t{1} << 14;

/// Hides a value from the compiler, which knows malloc, warns, and leaves calls out.
template <class T>
T opaque(T value) {
  asm volatile("" : "+r"(value)::"memory");
  return value;
}

bool is_aligned(const void* block, std::size_t alignment) {
  return reinterpret_cast<std::uintptr_t>(block) % alignment == 0;
}

/// Returns the output of malloc_info().
std::string info() {
  char* text = nullptr;
  size_t bytes = 0;
  FILE* stream = open_memstream(&text, &bytes);
  EXPECT_EQ(malloc_info(0, stream), 0);
  fclose(stream);
  std::string result(text, bytes);
  free(text);
  return result;
}

/// Expects that `block` is usable, and frees it by free().
void expect_usable(void* block, std::size_t bytes) {
  ASSERT_NE(block, nullptr);
  EXPECT_GE(malloc_usable_size(block), bytes);
  fill_pattern(block, std::min(bytes, looked_at_bytes), 1);
  EXPECT_TRUE(holds_pattern(block, std::min(bytes, looked_at_bytes), 1));
  free(block);
}

TEST(Interposition, the_malloc_under_test_is_this_one) {
  EXPECT_NE(info().find("version=\"slabmalloc-"), std::string::npos) << info();
}

TEST(Interposition, malloc_gives_aligned_memory_of_every_size) {
  for (std::size_t bytes = 1; bytes < 100 * mebibyte; bytes = bytes * 2 - bytes / 3 + 1) {
    void* block = malloc(opaque(bytes));
    EXPECT_TRUE(is_aligned(block, alignof(std::max_align_t)));
    expect_usable(block, bytes);
  }
}

TEST(Interposition, malloc_of_no_bytes_gives_unique_addresses) {
  std::set<void*> blocks;
  for (int count = 0; count < 100; ++count) {
    void* block = malloc(opaque(std::size_t{0}));
    ASSERT_NE(block, nullptr);
    EXPECT_TRUE(blocks.insert(block).second);
  }
  std::for_each(blocks.begin(), blocks.end(), free);
}

TEST(Interposition, free_of_null_does_nothing) { free(opaque<void*>(nullptr)); }

TEST(Interposition, free_keeps_errno) {
  for (const std::size_t bytes :
       {std::size_t{10}, std::size_t{100000}, mebibyte, 64 * mebibyte, 256 * mebibyte}) {
    std::vector<void*> blocks;
    for (std::size_t count = 0; count < 200 && count * bytes < 300 * mebibyte; ++count) {
      blocks.push_back(malloc(opaque(bytes)));
    }
    errno = EXDEV;
    for (void* block : blocks) {
      free(block);
    }
    EXPECT_EQ(errno, EXDEV);
  }
}

TEST(Interposition, successful_calls_keep_errno) {
  errno = EXDEV;
  void* blocks[] = {malloc(opaque(std::size_t{10})), malloc(opaque(mebibyte)),
                    malloc(opaque(64 * mebibyte)),   calloc(10, opaque(std::size_t{10})),
                    aligned_alloc(4096, 4096),       realloc(nullptr, opaque(std::size_t{7}))};
  for (void*& block : blocks) {
    block = realloc(block, 70 * mebibyte);
  }
  EXPECT_EQ(errno, EXDEV);
  for (void* block : blocks) {
    free(block);
  }
  malloc_trim(0);
  EXPECT_EQ(errno, EXDEV);
}

TEST(Interposition, failed_calls_set_enomem) {
  void* block = malloc(10);
  memcpy(block, "contents", 9);
  const auto expect_enomem = [](void* result) {
    EXPECT_EQ(result, nullptr);
    EXPECT_EQ(errno, ENOMEM);
    errno = 0;
  };
  errno = 0;
  for (const std::size_t bytes : {most, most - 7, most / 2 + 1, most / 2, std::size_t{1} << 56}) {
    expect_enomem(malloc(opaque(bytes)));
    expect_enomem(calloc(1, opaque(bytes)));
    expect_enomem(realloc(opaque(block), opaque(bytes)));
    expect_enomem(reallocarray(opaque(block), 1, opaque(bytes)));
    expect_enomem(aligned_alloc(64, opaque(bytes)));
    expect_enomem(aligned_alloc(std::size_t{1} << 30, opaque(bytes)));
    expect_enomem(memalign(64, opaque(bytes)));
    expect_enomem(valloc(opaque(bytes)));
    expect_enomem(pvalloc(opaque(bytes)));
  }
  EXPECT_STREQ(static_cast<char*>(block), "contents");
  free(block);
}

TEST(Interposition, products_that_overflow_are_refused) {
  const std::size_t counts[] = {most / 2 + 1, most, (std::size_t{1} << 32) + 1};
  void* block = malloc(10);
  for (const std::size_t count : counts) {
    errno = 0;
    EXPECT_EQ(calloc(opaque(count), std::size_t{1} << 32), nullptr);
    EXPECT_EQ(errno, ENOMEM);
    errno = 0;
    EXPECT_EQ(reallocarray(opaque(block), opaque(count), std::size_t{1} << 32), nullptr);
    EXPECT_EQ(errno, ENOMEM);
  }
  free(block);
}

TEST(Interposition, sizes_up_to_the_address_space_may_be_asked_for) {
  for (int shift = 30; shift < 48; ++shift) {
    // The kernel decides how much to give; given memory must be usable at both ends.
    const std::size_t bytes = std::size_t{1} << shift;
    auto* block = static_cast<char*>(malloc(opaque(bytes)));
    if (block != nullptr) {
      block[0] = block[bytes - 1] = 'x';
      free(block);
    }
  }
  // A refused mapping must not make the window grow instead.
  EXPECT_LT(mallinfo2().arena, std::size_t{4} << 30);
  expect_usable(malloc(10), 10);
}

TEST(Interposition, calloc_gives_zeros) {
  for (int round = 0; round < 3; ++round) {
    for (const std::size_t bytes : {std::size_t{1}, std::size_t{100}, std::size_t{5000},
                                    std::size_t{100000}, mebibyte, 40 * mebibyte}) {
      for (int count = 0; count < 10; ++count) {
        void* block = calloc(opaque(bytes), 1);
        ASSERT_TRUE(holds_zeroes(block, std::min(bytes, looked_at_bytes)));
        memset(block, 0xFF, std::min(bytes, looked_at_bytes));
        free(block);
      }
    }
  }
  void* nothing = calloc(opaque(std::size_t{0}), 10);
  EXPECT_NE(nothing, nullptr);
  free(nothing);
}

TEST(Interposition, realloc_keeps_the_contents) {
  void* block = realloc(nullptr, opaque(std::size_t{10}));
  fill_pattern(block, 10, 9);
  for (const std::size_t bytes : {std::size_t{100}, mebibyte, 100 * mebibyte, 50 * mebibyte,
                                  std::size_t{200000}, std::size_t{3000}, std::size_t{10}}) {
    block = realloc(block, opaque(bytes));
    ASSERT_TRUE(holds_pattern(block, 10, 9));
    static_cast<char*>(block)[bytes - 1] = static_cast<char*>(block)[bytes - 1];
  }
  free(block);
}

TEST(Interposition, realloc_to_no_bytes_frees) {
  const struct mallinfo2 before = mallinfo2();
  for (int count = 0; count < 1000; ++count) {
    void* block = malloc(opaque(std::size_t{10000}));
    EXPECT_EQ(realloc(block, opaque(std::size_t{0})), nullptr);
  }
  EXPECT_LT(mallinfo2().uordblks, before.uordblks + mebibyte);
}

TEST(Interposition, reallocarray_multiplies) {
  void* block = reallocarray(nullptr, opaque(std::size_t{100}), 100);
  expect_usable(block, 10000);
}

TEST(Interposition, posix_memalign_returns_codes_and_touches_nothing_on_failure) {
  void* const untouched = &errno;
  void* result = untouched;
  errno = EXDEV;
  for (const std::size_t alignment :
       {std::size_t{0}, std::size_t{1}, std::size_t{4}, std::size_t{3 * sizeof(void*)}, most}) {
    EXPECT_EQ(posix_memalign(&result, opaque(alignment), 10), EINVAL) << alignment;
    EXPECT_EQ(result, untouched);
  }
  EXPECT_EQ(posix_memalign(&result, 64, opaque(most / 2)), ENOMEM);
  EXPECT_EQ(posix_memalign(&result, opaque(most / 2 + 1), 1), ENOMEM);
  EXPECT_EQ(result, untouched);
  EXPECT_EQ(errno, EXDEV);
  for (std::size_t alignment = sizeof(void*); alignment <= std::size_t{1} << 30; alignment *= 2) {
    ASSERT_EQ(posix_memalign(&result, alignment, opaque(std::size_t{100})), 0);
    EXPECT_TRUE(is_aligned(result, alignment));
    expect_usable(result, 100);
  }
  EXPECT_EQ(posix_memalign(&result, 64, opaque(std::size_t{0})), 0);
  free(result);
}

TEST(Interposition, aligned_alloc_keeps_every_alignment) {
  for (std::size_t alignment = 1; alignment <= std::size_t{1} << 30; alignment *= 2) {
    void* block = aligned_alloc(alignment, opaque(std::size_t{40}));
    EXPECT_TRUE(is_aligned(block, alignment));
    expect_usable(block, 40);
  }
  for (const std::size_t alignment : {std::size_t{0}, std::size_t{3}, most}) {
    errno = 0;
    EXPECT_EQ(aligned_alloc(opaque(alignment), 10), nullptr);
    EXPECT_EQ(errno, EINVAL);
  }
}

TEST(Interposition, memalign_serves_any_alignment) {
  for (const std::size_t alignment : {std::size_t{0}, std::size_t{1}, std::size_t{3},
                                      std::size_t{64}, std::size_t{100}, mebibyte}) {
    void* block = memalign(opaque(alignment), 100);
    EXPECT_TRUE(is_aligned(block, std::max<std::size_t>(alignment & ~(alignment - 1), 16)));
    expect_usable(block, 100);
  }
  errno = 0;
  EXPECT_EQ(memalign(opaque(most), 10), nullptr);
  EXPECT_EQ(errno, EINVAL);
}

TEST(Interposition, valloc_and_pvalloc_give_pages) {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  void* block = valloc(opaque(std::size_t{10}));
  EXPECT_TRUE(is_aligned(block, page));
  expect_usable(block, 10);
  for (const std::size_t bytes : {std::size_t{0}, std::size_t{1}, page, page + 1}) {
    void* whole = pvalloc(opaque(bytes));
    EXPECT_TRUE(is_aligned(whole, page));
    expect_usable(whole, std::max(page, (bytes + page - 1) / page * page));
  }
}

TEST(Interposition, malloc_usable_size_may_be_used_to_the_last_byte) {
  EXPECT_EQ(malloc_usable_size(nullptr), 0u);
  for (std::size_t bytes = 1; bytes < 300000; bytes = bytes * 5 / 4 + 1) {
    void* first = malloc(opaque(bytes));
    void* second = malloc(opaque(bytes));
    fill_pattern(second, malloc_usable_size(second), 2);
    fill_pattern(first, malloc_usable_size(first), 1);
    EXPECT_TRUE(holds_pattern(second, malloc_usable_size(second), 2));
    free(first);
    free(second);
  }
}

TEST(Interposition, sized_and_old_frees_free) {
  ASSERT_NE(&cfree, nullptr);
  ASSERT_NE(&free_sized, nullptr);
  ASSERT_NE(&free_aligned_sized, nullptr);
  const std::size_t before = mallinfo2().uordblks;
  for (int count = 0; count < 1000; ++count) {
    cfree(malloc(opaque(std::size_t{5000})));
    free_sized(malloc(opaque(std::size_t{5000})), 5000);
    free_aligned_sized(aligned_alloc(256, opaque(std::size_t{5120})), 256, 5120);
  }
  free_sized(nullptr, 10);
  free_aligned_sized(nullptr, 16, 10);
  EXPECT_LT(mallinfo2().uordblks, before + mebibyte);
}

TEST(Interposition, names_of_the_gnu_c_library_allocate_too) {
  for (void* block : {__libc_malloc(100), __libc_calloc(10, 10), __libc_memalign(64, 100),
                      __libc_realloc(malloc(100), 5000), __libc_valloc(10), __libc_pvalloc(10)}) {
    ASSERT_NE(block, nullptr);
    fill_pattern(block, malloc_usable_size(block), 3);
    free(block);
  }
  __libc_free(malloc(opaque(std::size_t{10})));
}

// Programs that grow a block of calloc clear it from its old usable size on.
TEST(Interposition, calloc_gives_zeros_up_to_the_usable_size) {
  for (std::size_t bytes = 1; bytes < 300'000; bytes += bytes / 20 + 1) {
    void* used[4];
    for (void*& block : used) {
      block = malloc(opaque(bytes));
      fill_pattern(block, malloc_usable_size(block), 5);
    }
    std::for_each(std::begin(used), std::end(used), free);
    for (void*& block : used) {
      block = calloc(1, opaque(bytes));
      ASSERT_TRUE(holds_zeroes(block, malloc_usable_size(block))) << bytes;
    }
    std::for_each(std::begin(used), std::end(used), free);
  }
}

TEST(Interposition, malloc_trim_says_whether_memory_went_back) {
  std::vector<void*> blocks;
  for (int count = 0; count < 1000; ++count) {
    blocks.push_back(malloc(opaque(std::size_t{4000})));
    memset(blocks.back(), 1, 4000);
  }
  std::for_each(blocks.begin(), blocks.end(), free);
  EXPECT_EQ(malloc_trim(0), 1);
  EXPECT_EQ(malloc_trim(0), 0);
}

TEST(Interposition, mallinfo_counts) {
  const struct mallinfo2 before = mallinfo2();
  void* small = malloc(opaque(std::size_t{20000}));
  void* large = malloc(opaque(50 * mebibyte));
  const struct mallinfo2 after = mallinfo2();
  EXPECT_GE(after.uordblks, before.uordblks + 20000 + 50 * mebibyte);
  EXPECT_EQ(after.hblks, before.hblks + 1);
  EXPECT_EQ(after.hblkhd, before.hblkhd + 50 * mebibyte);
  EXPECT_GE(after.arena, after.uordblks);
  EXPECT_GT(after.ordblks, 0u);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
  const struct mallinfo narrow = mallinfo();
#pragma GCC diagnostic pop
  EXPECT_EQ(static_cast<std::size_t>(narrow.hblkhd), after.hblkhd);
  free(small);
  free(large);
}

TEST(Interposition, malloc_info_is_for_option_0_alone) {
  errno = 0;
  EXPECT_EQ(malloc_info(1, stdout), -1);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_NE(info().find("</malloc>"), std::string::npos);
}

TEST(Interposition, mallopt_refuses_what_it_does_not_do) {
  for (int parameter = -10; parameter <= 10; ++parameter) {
    EXPECT_EQ(mallopt(parameter, 1), 0);
  }
}

TEST(Interposition, malloc_stats_writes_to_stderr) {
  testing::internal::CaptureStderr();
  malloc_stats();
  EXPECT_NE(testing::internal::GetCapturedStderr().find("slabmalloc "), std::string::npos);
}

TEST(Interposition, the_c_librarys_own_allocations_can_be_freed) {
  free(strdup("text"));
  char* line = nullptr;
  size_t bytes = 0;
  FILE* file = fopen("/proc/self/maps", "r");
  while (getline(&line, &bytes, file) > 0) {
  }
  fclose(file);
  free(line);
  free(realpath("/proc/self/..", nullptr));
  char* printed = nullptr;
  ASSERT_EQ(asprintf(&printed, "%d", 7), 1);
  free(printed);
}

// ---- operators ----------------------------------------------------------------------------------

template <class Allocate, class Free>
void expect_pair(std::size_t alignment, Allocate allocate, Free free_block) {
  const std::size_t before = mallinfo2().uordblks;
  for (const std::size_t bytes : {std::size_t{0}, std::size_t{1}, std::size_t{100},
                                  std::size_t{5000}, std::size_t{200000}, 40 * mebibyte}) {
    for (int count = 0; count < 20; ++count) {
      void* block = allocate(opaque(bytes));
      ASSERT_NE(block, nullptr);
      EXPECT_TRUE(is_aligned(block, alignment));
      const std::size_t part = std::min(bytes, looked_at_bytes);
      fill_pattern(block, part, 1);
      EXPECT_TRUE(holds_pattern(block, part, 1));
      EXPECT_GE(malloc_usable_size(block), bytes) << "not from the malloc under test";
      free_block(block, bytes);
    }
  }
  EXPECT_LT(mallinfo2().uordblks, before + mebibyte);
}

constexpr std::align_val_t wide{256};
constexpr auto plain = static_cast<std::size_t>(__STDCPP_DEFAULT_NEW_ALIGNMENT__);

TEST(Operators, plain_new_and_delete) {
  expect_pair(
      plain, [](std::size_t n) { return operator new(n); },
      [](void* p, std::size_t) { operator delete(p); });
  expect_pair(
      plain, [](std::size_t n) { return operator new[](n); },
      [](void* p, std::size_t) { operator delete[](p); });
}

TEST(Operators, sized_delete) {
  expect_pair(
      plain, [](std::size_t n) { return operator new(n); },
      [](void* p, std::size_t n) { operator delete(p, n); });
  expect_pair(
      plain, [](std::size_t n) { return operator new[](n); },
      [](void* p, std::size_t n) { operator delete[](p, n); });
}

TEST(Operators, nothrow_new_and_delete) {
  expect_pair(
      plain, [](std::size_t n) { return operator new(n, std::nothrow); },
      [](void* p, std::size_t) { operator delete(p, std::nothrow); });
  expect_pair(
      plain, [](std::size_t n) { return operator new[](n, std::nothrow); },
      [](void* p, std::size_t) { operator delete[](p, std::nothrow); });
}

TEST(Operators, aligned_new_and_delete) {
  expect_pair(
      256, [](std::size_t n) { return operator new(n, wide); },
      [](void* p, std::size_t) { operator delete(p, wide); });
  expect_pair(
      256, [](std::size_t n) { return operator new[](n, wide); },
      [](void* p, std::size_t) { operator delete[](p, wide); });
}

TEST(Operators, aligned_sized_delete) {
  expect_pair(
      256, [](std::size_t n) { return operator new(n, wide); },
      [](void* p, std::size_t n) { operator delete(p, n, wide); });
  expect_pair(
      256, [](std::size_t n) { return operator new[](n, wide); },
      [](void* p, std::size_t n) { operator delete[](p, n, wide); });
}

TEST(Operators, aligned_nothrow_new_and_delete) {
  expect_pair(
      256, [](std::size_t n) { return operator new(n, wide, std::nothrow); },
      [](void* p, std::size_t) { operator delete(p, wide, std::nothrow); });
  expect_pair(
      256, [](std::size_t n) { return operator new[](n, wide, std::nothrow); },
      [](void* p, std::size_t) { operator delete[](p, wide, std::nothrow); });
}

TEST(Operators, failed_calls_throw_or_return_null) {
  const std::size_t bytes = opaque(most / 2);
  EXPECT_THROW((void)operator new(bytes), std::bad_alloc);
  EXPECT_THROW((void)operator new[](bytes), std::bad_alloc);
  EXPECT_THROW((void)operator new(bytes, wide), std::bad_alloc);
  EXPECT_THROW((void)operator new[](bytes, wide), std::bad_alloc);
  EXPECT_EQ(operator new(bytes, std::nothrow), nullptr);
  EXPECT_EQ(operator new[](bytes, std::nothrow), nullptr);
  EXPECT_EQ(operator new(bytes, wide, std::nothrow), nullptr);
  EXPECT_EQ(operator new[](bytes, wide, std::nothrow), nullptr);
}

int handler_calls = 0;

TEST(Operators, the_new_handler_is_called_until_it_gives_up) {
  handler_calls = 0;
  std::set_new_handler([] {
    if (++handler_calls == 3) {
      std::set_new_handler(nullptr);
    }
  });
  EXPECT_THROW((void)operator new(opaque(most / 2)), std::bad_alloc);
  EXPECT_EQ(handler_calls, 3);
  std::set_new_handler([] {
    std::set_new_handler(nullptr);
    throw std::bad_alloc();
  });
  EXPECT_THROW((void)operator new(opaque(most / 2), wide), std::bad_alloc);
}

TEST(Operators, nothrow_forms_call_the_new_handler_too) {
  const auto give_up_at_the_third_call = [] {
    if (++handler_calls == 3) {
      std::set_new_handler(nullptr);
    }
  };
  const std::size_t bytes = opaque(most / 2);
  for (void* (*allocate)(std::size_t) :
       {+[](std::size_t n) { return operator new(n, std::nothrow); },
        +[](std::size_t n) { return operator new[](n, std::nothrow); },
        +[](std::size_t n) { return operator new(n, wide, std::nothrow); },
        +[](std::size_t n) { return operator new[](n, wide, std::nothrow); }}) {
    handler_calls = 0;
    std::set_new_handler(give_up_at_the_third_call);
    EXPECT_EQ(allocate(bytes), nullptr);
    EXPECT_EQ(handler_calls, 3);
  }
}

TEST(Operators, nothrow_forms_return_null_if_the_handler_throws) {
  std::set_new_handler([] { throw std::bad_alloc(); });
  EXPECT_EQ(operator new(opaque(most / 2), std::nothrow), nullptr);
  EXPECT_EQ(operator new[](opaque(most / 2), wide, std::nothrow), nullptr);
  std::set_new_handler([] { throw 1; });
  EXPECT_EQ(operator new(opaque(most / 2), std::nothrow), nullptr);
  std::set_new_handler(nullptr);
}

struct alignas(1024) Wide {
  char bytes[3000];
};
struct Base {
  virtual ~Base() = default;
  int number = 1;
};
struct Derived : Base {
  char more[500];
};

TEST(Operators, expressions_of_the_language_use_them) {
  for (int count = 0; count < 100; ++count) {
    Wide* wides = opaque(new Wide[3]);
    EXPECT_TRUE(is_aligned(wides, 1024));
    delete[] wides;
    Base* base = opaque(new Derived);
    delete base;
    auto* strings = opaque(new std::string[10]);
    strings[5] = std::string(1000, 'x');
    delete[] strings;
  }
}

}  // namespace
