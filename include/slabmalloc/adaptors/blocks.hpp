// SPDX-License-Identifier: MIT
//
// Shared code of the adaptors: blocks for hosted C++, with std::bad_alloc on failure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <vector>  // std::allocator without the rest of <memory>

#include "slabmalloc/base/layout.hpp"
#include "slabmalloc/zone/zone_allocator.hpp"

namespace slabmalloc::detail {

/// Fails as std::allocator<Element> does for SIZE_MAX objects: by std::bad_alloc if an object is
/// one byte, by std::bad_array_new_length if it is larger. The standard library throws, not this
/// header. So the same code serves sources with and without exceptions. Where nothing can catch,
/// std::terminate() prints the exception's name.
template <class Element>
[[noreturn]] void throw_as_allocator() {
  // Unused, the compiler may drop the call where the library's own check lets it pass.
  [[maybe_unused]] void* volatile unused = std::allocator<Element>().allocate(SIZE_MAX);
  std::abort();
}

/// The bytes of `count` objects of type `T`.
/// Fails: std::bad_array_new_length above PTRDIFF_MAX.
template <class T>
constexpr std::size_t array_bytes(std::size_t count) {
  if (count > std::size_t{PTRDIFF_MAX} / sizeof(T)) [[unlikely]] {
    throw_as_allocator<char16_t>();
  }
  return count * sizeof(T);
}

/// The value of `block`.
/// Fails: std::bad_alloc if there is none.
inline void* value_or_throw(Result<void*> block) {
  if (!block) [[unlikely]] {
    throw_as_allocator<char>();
  }
  return block.value();
}

/// True if `Zone` knows at compile time in which of its classes it puts one `T`.
template <class Zone, class T>
inline constexpr bool has_class_of_one = [] {
  if constexpr (requires { Zone::class_for(Layout::of<T>()); }) {
    return Zone::class_for(Layout::of<T>()) != Zone::SizeClasses::no_class;
  }
  return false;
}();

/// Allocates a block from `allocator`.
/// Fails: std::bad_alloc.
template <LayoutAllocator Allocator>
void* allocate_block(Allocator& allocator, std::size_t bytes, std::size_t alignment) {
  const Result<Layout> layout = Layout::from_size_align(bytes, alignment);
  return value_or_throw(layout ? allocator.allocate(*layout) : layout.error());
}

/// Frees a block from allocate_block() with the same size and alignment.
template <LayoutAllocator Allocator>
void deallocate_block(Allocator& allocator, void* block, std::size_t bytes,
                      std::size_t alignment) noexcept {
  allocator.deallocate(block, Layout::from_size_align(bytes, alignment).value());
}

/// Allocates a block from the process heap, which std::free() frees.
/// Fails: std::bad_alloc.
inline void* allocate_process_block(std::size_t bytes, std::size_t alignment) {
  // malloc() may return null for 0 bytes.
  std::size_t wanted = bytes != 0 ? bytes : 1;
  void* block = nullptr;
  if (alignment <= alignof(std::max_align_t)) {
    // Some mallocs align no block to more than its size.
    wanted = wanted < alignment ? alignment : wanted;
    block = std::malloc(wanted);
  } else if (Layout::from_size_align(wanted, alignment)) {
    // C11 requires a multiple of the alignment.
    block = std::aligned_alloc(alignment, align_up(wanted, alignment));
  }
  if (block == nullptr) [[unlikely]] {
    throw_as_allocator<char>();
  }
  return block;
}

}  // namespace slabmalloc::detail
