// SPDX-License-Identifier: MIT
//
// FrameBuffer is a pager over one mapping. It writes every byte before a measurement starts, so
// that the operating system's page faults do not count as the allocator's cost.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "slabmalloc/slabmalloc.hpp"

namespace slabmalloc::benchmark_core {

/// A bump pager: a returned frame stays unused until reset().
class FrameBuffer {
 public:
  /// Maps and writes `bytes`, in small OS pages on every machine, so that machines compare.
  explicit FrameBuffer(std::size_t bytes) noexcept : bytes_(bytes + 2 * alignment) {
    void* mapping =
        ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapping == MAP_FAILED) {
      std::fprintf(stderr, "cannot map %zu MiB\n", bytes_ / mebibyte);
      std::exit(1);
    }
    ::madvise(mapping, bytes_, MADV_NOHUGEPAGE);
    std::memset(mapping, 1, bytes_);
    mapping_ = static_cast<std::byte*>(mapping);
    reset();
  }
  FrameBuffer(const FrameBuffer&) = delete;
  FrameBuffer& operator=(const FrameBuffer&) = delete;
  ~FrameBuffer() { ::munmap(mapping_, bytes_); }

  /// Takes base frames from the front and large frames from the back.
  Frame allocate_frame(std::size_t bytes) noexcept {
    if (end_ - next_ < bytes) {
      return {};
    }
    if (bytes == ObjectPage::size_bytes) {
      next_ += bytes;
      return reinterpret_cast<void*>(next_ - bytes);
    }
    end_ -= bytes;
    return reinterpret_cast<void*>(end_);
  }
  void deallocate_frame(void*, std::size_t) noexcept {}

  /// Makes all frames available again. Pre: no zone uses one.
  void reset() noexcept {
    next_ = align_up(reinterpret_cast<std::uintptr_t>(mapping_), alignment);
    end_ = align_down(reinterpret_cast<std::uintptr_t>(mapping_) + bytes_, alignment);
  }

  /// The first byte of the first frame.
  std::byte* begin() const noexcept {
    return reinterpret_cast<std::byte*>(
        align_up(reinterpret_cast<std::uintptr_t>(mapping_), alignment));
  }

 private:
  static constexpr std::size_t alignment = 2 * mebibyte;
  std::size_t bytes_;
  std::byte* mapping_;
  std::uintptr_t next_ = 0;
  std::uintptr_t end_ = 0;
};

using Zone = PagedZone<FrameBuffer>;

/// Makes the compiler assume that someone uses `pointer` and may have changed any memory. The
/// pointer stays in its register.
template <class T>
[[gnu::always_inline]] inline void keep(T*& pointer) noexcept {
  asm volatile("" : "+r"(pointer) : : "memory");
}

/// The layout of `bytes` bytes, known at compile time.
template <std::size_t bytes>
inline constexpr Layout layout_of = *Layout::from_size_align(bytes, 8);

}  // namespace slabmalloc::benchmark_core
