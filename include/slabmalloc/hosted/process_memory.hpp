// SPDX-License-Identifier: MIT
//
// ProcessMemory: address space of the process, by mmap(), munmap() and madvise().
#pragma once

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include <concepts>
#include <cstddef>

#include "slabmalloc/base/language.hpp"

namespace slabmalloc {

/// The memory calls of an operating system. All keep errno. `bytes` is a multiple of page_bytes().
///   map(bytes)             readable and writable zeros, or null
///   unmap(address, bytes)  gives back a range that map() gave
///   drop(address, bytes)   drops the contents of whole pages: they read as zeros, and take no
///                          memory until they are written. False if that failed
///   page_bytes()           a power of two
template <class M>
concept HeapMemory = requires(void* address, std::size_t bytes) {
  { M::map(bytes) } noexcept -> std::same_as<void*>;
  { M::unmap(address, bytes) } noexcept;
  { M::drop(address, bytes) } noexcept -> std::same_as<bool>;
  { M::page_bytes() } noexcept -> std::same_as<std::size_t>;
};

/// Memory of the process. Thread: any.
struct ProcessMemory {
  static void* map(std::size_t bytes) noexcept {
    const int saved_errno = errno;
    void* const memory =
        ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    errno = saved_errno;
    return memory != MAP_FAILED ? memory : nullptr;
  }
  static void unmap(void* address, std::size_t bytes) noexcept {
    const int saved_errno = errno;
    // The system merges neighbours. So at its limit of mappings it can refuse to unmap one of them.
    if (::munmap(address, bytes) != 0) {
      drop(address, bytes);
    }
    errno = saved_errno;
  }
  static bool drop(void* address, std::size_t bytes) noexcept {
    const int saved_errno = errno;
    const bool has_dropped = ::madvise(address, bytes, MADV_DONTNEED) == 0;
    errno = saved_errno;
    return has_dropped;
  }
  static std::size_t page_bytes() noexcept {
    return static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  }
};
static_assert(HeapMemory<ProcessMemory>);

}  // namespace slabmalloc
