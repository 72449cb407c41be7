// SPDX-License-Identifier: MIT
//
// The fixture of frame allocator tests: memory at a known alignment, and an allocator's visible
// state.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernel/hosted_kernel.hpp"
#include "slabmalloc/kernel.hpp"

namespace slabmalloc::test {

using Frames = FrameAllocator<PatientKernel>;

/// Zeroed memory, aligned to a power of two. The system backs only touched pages.
class PhysicalMemory {
 public:
  explicit PhysicalMemory(std::size_t bytes, std::size_t alignment = 2 * mebibyte)
      : bytes_(bytes + alignment),
        mapping_(::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)) {
    EXPECT_NE(mapping_, MAP_FAILED);
    address_ = align_up(reinterpret_cast<std::uintptr_t>(mapping_), alignment);
  }
  PhysicalMemory(const PhysicalMemory&) = delete;
  PhysicalMemory& operator=(const PhysicalMemory&) = delete;
  ~PhysicalMemory() { ::munmap(mapping_, bytes_); }

  MemoryRegion region(std::size_t offset, std::size_t bytes) const {
    return {address_ + offset, bytes};
  }
  std::byte* at(std::size_t offset) const {
    return reinterpret_cast<std::byte*>(address_) + offset;
  }
  std::size_t offset_of(const void* address) const {
    return reinterpret_cast<std::uintptr_t>(address) - address_;
  }

 private:
  std::size_t bytes_;
  void* mapping_;
  std::uintptr_t address_ = 0;
};

/// The free blocks of each order.
template <class Allocator>
std::vector<std::size_t> free_blocks(const Allocator& frames) {
  const FrameStatistics statistics = frames.statistics();
  return {std::begin(statistics.free_blocks), std::end(statistics.free_blocks)};
}

/// Allocates all free base frames; returns them sorted.
template <class Allocator>
std::vector<std::byte*> drain(Allocator& frames) {
  std::vector<std::byte*> result;
  while (void* frame = frames.allocate_frame(Allocator::base_bytes).address) {
    result.push_back(static_cast<std::byte*>(frame));
  }
  std::sort(result.begin(), result.end());
  return result;
}

}  // namespace slabmalloc::test
