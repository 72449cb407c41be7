// SPDX-License-Identifier: MIT
//
// A program that replaces the array operators alone, with a header in front of each array, as
// programs do that count their arrays. CMake builds it in every form of the malloc.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdlib>
#include <new>

namespace {

constexpr std::size_t header_bytes = 64;
constexpr std::size_t too_many = 12345678;
int arrays = 0;

// Not inlined: the compiler would warn of a free of an address inside a block.
[[gnu::noinline]] void* new_array(std::size_t bytes, std::size_t alignment) {
  if (bytes == too_many) {
    throw std::bad_alloc();
  }
  ++arrays;
  void* const block = std::aligned_alloc(alignment < header_bytes ? header_bytes : alignment,
                                         bytes + 2 * header_bytes + alignment);
  return static_cast<std::byte*>(block) + (alignment < header_bytes ? header_bytes : alignment);
}

[[gnu::noinline]] void delete_array(void* array, std::size_t alignment) noexcept {
  if (array != nullptr) {
    --arrays;
    std::free(static_cast<std::byte*>(array) -
              (alignment < header_bytes ? header_bytes : alignment));
  }
}

constexpr std::align_val_t wide{256};

}  // namespace

void* operator new[](std::size_t bytes) { return new_array(bytes, 1); }
void* operator new[](std::size_t bytes, std::align_val_t alignment) {
  return new_array(bytes, static_cast<std::size_t>(alignment));
}
void operator delete[](void* array) noexcept { delete_array(array, 1); }
void operator delete[](void* array, std::align_val_t alignment) noexcept {
  delete_array(array, static_cast<std::size_t>(alignment));
}

namespace {

TEST(ReplacedArrays, every_form_goes_through_them) {
  const int before = arrays;
  void* const plain = ::operator new[](100);
  void* const quiet = ::operator new[](100, std::nothrow);
  void* const aligned = ::operator new[](100, wide);
  void* const quiet_aligned = ::operator new[](100, wide, std::nothrow);
  EXPECT_EQ(arrays, before + 4);
  ::operator delete[](plain, std::size_t{100});
  ::operator delete[](quiet, std::nothrow);
  ::operator delete[](aligned, std::size_t{100}, wide);
  ::operator delete[](quiet_aligned, wide, std::nothrow);
  EXPECT_EQ(arrays, before);
}

TEST(ReplacedArrays, nothrow_forms_return_null_if_they_throw) {
  EXPECT_EQ(::operator new[](too_many, std::nothrow), nullptr);
  EXPECT_EQ(::operator new[](too_many, wide, std::nothrow), nullptr);
}

TEST(ReplacedArrays, single_objects_stay_with_the_malloc) {
  const int before = arrays;
  delete new (std::nothrow) int(1);
  delete new int(2);
  ::operator delete(::operator new(too_many), std::nothrow);
  EXPECT_EQ(arrays, before);
}

}  // namespace
