// SPDX-License-Identifier: MIT
//
// A kernel with read sections, for tests of what waits for grace periods. Each reader has a number;
// a test opens and closes its sections, or a thread does.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>

#include "kernel/hosted_kernel.hpp"
#include "slabmalloc/kernel/grace_period.hpp"

namespace slabmalloc::test {

/// Read sections and grace periods, by epochs. Each step is sequentially consistent, so either a
/// reader sees what a writer unlinked, or the writer's grace period sees the reader.
struct Readers {
  static constexpr std::size_t count = 8;
  static inline std::atomic<std::uintptr_t> now = 1;
  static inline std::atomic<std::uintptr_t> sections[count] = {};  ///< When they began, or 0.

  static void open(std::size_t reader) noexcept { sections[reader] = now.load(); }
  static void close(std::size_t reader) noexcept { sections[reader] = 0; }
  static bool is_open(std::size_t reader) noexcept { return sections[reader] != 0; }
  static void close_all() noexcept {
    for (auto& section : sections) {
      section = 0;
    }
  }
};

/// `Base` with the hooks for grace periods.
template <class Base>
struct Reading : Base {
  static inline std::function<void()> in_hook;  ///< Called by has_passed(): a handler.

  static std::uintptr_t grace_period_begin() noexcept { return ++Readers::now; }
  static bool has_passed(std::uintptr_t number) noexcept {
    if (in_hook) {
      in_hook();
    }
    for (const auto& section : Readers::sections) {
      const std::uintptr_t began = section;
      if (began != 0 && began < number) {
        return false;
      }
    }
    return true;
  }
};

using ReadingKernel = Reading<OpenKernel>;
static_assert(GraceHooks<ReadingKernel>);

}  // namespace slabmalloc::test
