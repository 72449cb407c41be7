// SPDX-License-Identifier: MIT
//
// The kernel behind the hooks in hosted tests: threads act as CPUs. It keeps what the hooks got.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "slabmalloc/kernel.h"

namespace slabmalloc::test {

struct HostedHooks {
  static thread_local std::uint32_t cpu;
  static thread_local std::uintptr_t depth;  ///< Of saved interrupts.
  static std::vector<std::string> lines;
  static std::vector<slabmalloc_misuse> misuse;

  /// The only bad call since the last look.
  static slabmalloc_misuse take_misuse() {
    const slabmalloc_misuse last = misuse.size() == 1 ? misuse.front() : slabmalloc_misuse{};
    misuse.clear();
    return last;
  }
};

/// Memory of a machine: aligned to large pages.
class Memory {
 public:
  explicit Memory(std::size_t bytes)
      : bytes_(bytes),
        first_(static_cast<unsigned char*>(std::aligned_alloc(SLABMALLOC_LARGE_PAGE, bytes)),
               &std::free) {}
  slabmalloc_region region() const {
    return {reinterpret_cast<std::uintptr_t>(first_.get()), bytes_};
  }
  unsigned char* at(std::size_t offset) const { return first_.get() + offset; }

 private:
  std::size_t bytes_;
  std::unique_ptr<unsigned char, decltype(&std::free)> first_;
};

/// The bytes of a block, from a number.
inline void fill(void* block, std::size_t bytes, std::size_t number) {
  std::memset(block, static_cast<int>(number * 37 % 251 + 1), bytes);
}
inline bool is_filled(const void* block, std::size_t bytes, std::size_t number) {
  const auto* const first = static_cast<const unsigned char*>(block);
  const auto wanted = static_cast<unsigned char>(number * 37 % 251 + 1);
  return bytes == 0 || (first[0] == wanted && std::memcmp(first, first + 1, bytes - 1) == 0);
}

/// Frames of a machine with `bytes`, and a heap over them.
struct Machine {
  explicit Machine(std::size_t bytes) : memory(bytes) {
    const slabmalloc_region region = memory.region();
    is_sound = slabmalloc_frame_allocator_add(&frames, &region, 1) == SLABMALLOC_OK;
    pager = slabmalloc_frame_allocator_pager(&frames);
  }
  std::size_t used_bytes() { return slabmalloc_frame_allocator_counters(&frames).used_bytes; }

  Memory memory;
  slabmalloc_frame_allocator frames{};
  slabmalloc_kernel_pager pager{};
  bool is_sound = false;
};

/// A heap over the frames of a machine, or over another pager.
struct MachineHeap : Machine {
  explicit MachineHeap(std::size_t bytes) : MachineHeap(bytes, nullptr) {}
  MachineHeap(std::size_t bytes, const slabmalloc_kernel_pager* other)
      : Machine(bytes),
        storage(std::aligned_alloc(SLABMALLOC_CPU_ZONES_ALIGNMENT, slabmalloc_cpu_zones_bytes()),
                &std::free),
        heap(slabmalloc_cpu_zones_create(storage.get(), "heap",
                                         other != nullptr ? other : &pager)) {}

  std::unique_ptr<void, decltype(&std::free)> storage;
  slabmalloc_cpu_zones* heap;
};

}  // namespace slabmalloc::test
