// SPDX-License-Identifier: MIT
//
// The hooks of kernel_hooks.h as those of C++, and the values of C as those of C++.
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/base/layout.hpp"
#include "slabmalloc/base/misuse.hpp"
#include "slabmalloc/kernel/hooks.hpp"
#include "slabmalloc/kernel_hooks.h"
#ifdef SLABMALLOC_KERNEL_HOOKS
#include <slabmalloc_kernel_hooks.h>
#endif
#ifndef SLABMALLOC_MAXIMUM_CPUS
#define SLABMALLOC_MAXIMUM_CPUS 64
#endif

namespace slabmalloc {

/// The kernel behind the hooks of C.
struct ClientKernel {
  static constexpr std::uint32_t maximum_cpus = SLABMALLOC_MAXIMUM_CPUS;
  using InterruptState = std::uintptr_t;

  static std::uint32_t cpu() noexcept { return slabmalloc_hook_cpu(); }
  static InterruptState save_interrupts() noexcept { return slabmalloc_hook_save_interrupts(); }
  static void restore_interrupts(InterruptState state) noexcept {
    slabmalloc_hook_restore_interrupts(state);
  }
  [[noreturn]] static void panic(const char* line) noexcept { slabmalloc_hook_panic(line); }
  static void log(const char* line) noexcept { slabmalloc_hook_log(line); }
  static void relax() noexcept { slabmalloc_hook_relax(); }
  static bool wait(WaitCondition condition) noexcept {
    const slabmalloc_wait for_client{condition.holds, condition.argument, condition.deadline};
    return slabmalloc_hook_wait(&for_client);
  }
  static void wake() noexcept { slabmalloc_hook_wake(); }
  static std::uintptr_t thread() noexcept { return slabmalloc_hook_thread(); }
};
static_assert(WaitingHooks<ClientKernel>);

constexpr Context context_of(slabmalloc_context context) noexcept {
  return static_cast<Context>(context);
}
constexpr slabmalloc_context for_client(Context context) noexcept {
  return static_cast<slabmalloc_context>(context);
}
static_assert(context_of(SLABMALLOC_MAY_WAIT) == Context::MayWait &&
              context_of(SLABMALLOC_MAY_NOT_WAIT) == Context::MayNotWait &&
              context_of(SLABMALLOC_INTERRUPT) == Context::Interrupt &&
              context_of(SLABMALLOC_EMERGENCY) == Context::Emergency);

constexpr slabmalloc_error for_client(AllocationError error) noexcept {
  return static_cast<slabmalloc_error>(static_cast<int>(error) + 1);
}
static_assert(for_client(AllocationError::OutOfMemory) == SLABMALLOC_OUT_OF_MEMORY &&
              for_client(AllocationError::InvalidLayout) == SLABMALLOC_INVALID_LAYOUT &&
              for_client(AllocationError::TooMany) == SLABMALLOC_TOO_MANY);

constexpr slabmalloc_error for_client(Result<void> result) noexcept {
  return result ? SLABMALLOC_OK : for_client(result.error());
}

/// The address of `result`, or null after it stored the error, unless `error` is null.
[[gnu::always_inline]] inline void* for_client(Result<void*> result,
                                               slabmalloc_error* error) noexcept {
  if (result) [[likely]] {
    return result.value();
  }
  if (error != nullptr) {
    *error = for_client(result.error());
  }
  return nullptr;
}

/// Calls f(layout) for a layout of `bytes` and `alignment`; if there is none, it is InvalidLayout.
template <class F>
[[gnu::always_inline]] inline auto with_layout(std::size_t bytes, std::size_t alignment,
                                               F&& f) noexcept -> decltype(f(Layout())) {
  const Result<Layout> layout = Layout::from_size_align(bytes, alignment);
  if (!layout) [[unlikely]] {
    return AllocationError::InvalidLayout;
  }
  return f(*layout);
}

/// Leads bad calls to slabmalloc_hook_misuse().
void use_misuse_hook() noexcept;

/// Reports a free of `block` with a layout that there cannot be. Apart, so that frees need no stack
/// for the report.
[[gnu::cold, gnu::noinline]] inline void report_layout(void* block, std::size_t bytes) noexcept {
  if (block != nullptr) {
    use_misuse_hook();
    report_misuse({MisuseKind::SizeMismatch, block, 0, 0, nullptr, BlockState::Unknown,
                   FoundAt::Call, bytes});
  }
}

/// Calls f(layout) for a free of `block`; an impossible layout is misuse.
template <class F>
[[gnu::always_inline]] inline void with_layout_of(void* block, std::size_t bytes,
                                                  std::size_t alignment, F&& f) noexcept {
  const Result<Layout> layout = Layout::from_size_align(bytes, alignment);
  if (!layout) [[unlikely]] {
    return report_layout(block, bytes);
  }
  f(*layout);
}

}  // namespace slabmalloc
