// SPDX-License-Identifier: MIT
//
// A program that replaces a single array operator, and builds it on the malloc's plain one. CMake
// builds it in every form of the malloc, with each of the two operators.
#include <gtest/gtest.h>

#include <cstddef>
#include <new>

namespace {

int calls = 0;
constexpr std::align_val_t wide{256};

}  // namespace

// Not inlined: the compiler would warn of operators that do not match.
#ifdef SLABMALLOC_REPLACE_NEW
[[gnu::noinline]] void* operator new[](std::size_t bytes) {
  ++calls;
  return ::operator new(bytes);
}
[[gnu::noinline]] void* operator new[](std::size_t bytes, std::align_val_t alignment) {
  ++calls;
  return ::operator new(bytes, alignment);
}
#else
[[gnu::noinline]] void operator delete[](void* array) noexcept {
  ++calls;
  ::operator delete(array);
}
[[gnu::noinline]] void operator delete[](void* array, std::align_val_t alignment) noexcept {
  ++calls;
  ::operator delete(array, alignment);
}
#endif

namespace {

TEST(ReplacedOneArrayOperator, suits_the_others_of_the_malloc) {
  calls = 0;
  ::operator delete[](::operator new[](100));
  ::operator delete[](::operator new[](100), std::size_t{100});
  ::operator delete[](::operator new[](100, std::nothrow), std::nothrow);
  ::operator delete[](::operator new[](100, wide), wide);
  ::operator delete[](::operator new[](100, wide), std::size_t{100}, wide);
  ::operator delete[](::operator new[](100, wide, std::nothrow), wide, std::nothrow);
  EXPECT_EQ(calls, 6);
}

}  // namespace
