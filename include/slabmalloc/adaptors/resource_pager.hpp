// SPDX-License-Identifier: MIT
//
// ResourcePager: frames and runs from any std::pmr::memory_resource, such as a buffer or another
// program part's pool. Hosted C++.
//
//   std::pmr::monotonic_buffer_resource buffer(memory, sizeof(memory),
//                                              std::pmr::null_memory_resource());
//   ResourcePager pager(&buffer);
//   ScopedZone<ResourcePager, PoolConfig> zone(pager);
#pragma once

#include <cstddef>
#include <memory_resource>

#include "slabmalloc/zone/pager.hpp"

namespace slabmalloc {

// Two types, since the linker would take one body for sources with and without exceptions.
#ifdef __cpp_exceptions
inline namespace with_exceptions {
#else
inline namespace without_exceptions {
#endif

/// A RunPager over `upstream`, which gives frames aligned to their size.
/// Thread: as upstream. It catches upstream's exceptions: the zone then says OutOfMemory. Without
/// exceptions in the language, upstream ends the program.
class ResourcePager {
 public:
  /// Pre: `upstream` outlives all frames and runs.
  explicit ResourcePager(
      std::pmr::memory_resource* upstream = std::pmr::get_default_resource()) noexcept
      : upstream_(upstream) {}

  std::pmr::memory_resource* upstream_resource() const noexcept { return upstream_; }

  Frame allocate_frame(std::size_t bytes) noexcept { return allocate_run(bytes, bytes); }
  void deallocate_frame(void* frame, std::size_t bytes) noexcept {
    deallocate_run(frame, bytes, bytes);
  }

  Frame allocate_run(std::size_t bytes, std::size_t alignment) noexcept {
#ifdef __cpp_exceptions
    try {
      return upstream_->allocate(bytes, alignment);
    } catch (...) {
      return {};
    }
#else
    return upstream_->allocate(bytes, alignment);
#endif
  }
  void deallocate_run(void* run, std::size_t bytes, std::size_t alignment) noexcept {
    upstream_->deallocate(run, bytes, alignment);
  }

 private:
  std::pmr::memory_resource* upstream_;
};

static_assert(RunPager<ResourcePager>);

}  // inline namespace

}  // namespace slabmalloc
