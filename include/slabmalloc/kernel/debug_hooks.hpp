// SPDX-License-Identifier: MIT
//
// DebugHooks: the optional hooks that the debug mode of a heap calls. A kernel supplies
// those that it has, beside the hooks of hooks.hpp:
//
//   struct MyKernel {
//     static std::uint64_t now() noexcept;                                // time of each call
//     static bool may_sleep() noexcept;                                   // false: interrupts off
//     static void poison(void* address, std::size_t bytes) noexcept;      // KASAN, KMSAN
//     static void unpoison(void* address, std::size_t bytes) noexcept;
//     static void trace(const slabmalloc::HeapEvent& event) noexcept;     // trace points
//   };
//
// Without a hook its work is absent.
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/base/misuse.hpp"
#include "slabmalloc/kernel/hooks.hpp"

namespace slabmalloc {

/// An event of a heap, for Hooks::trace().
struct HeapEvent {
  enum class Kind : std::uint8_t {
    Allocate,  ///< A block was allocated, or, with a null address, none was found.
    Free,      ///< A client frees a block. It may rest before its memory serves again.
    Grow,      ///< A frame came from the pager. Runs have the first two kinds alone.
    GiveBack,  ///< A frame goes back.
  };

  Kind kind;
  const void* address;
  std::size_t bytes;   ///< Of a block, those that the client asked for.
  Context context;     ///< Of the call; of GiveBack unknown, and MayWait.
  const void* caller;  ///< Address of code in the client; null of Grow and GiveBack.
  const char* heap;    ///< Its name; null if it has none.
};

/// An address in the code of the function that calls this, or that inlines its caller.
[[gnu::noinline]] inline const void* code_address() noexcept {
  __asm__ volatile("");  // Two calls of one function have different results.
  return __builtin_return_address(0);
}

/// The caller at `caller`, at this moment. Thread: any, in any context.
template <KernelHooks Hooks>
BlockUser block_user(const void* caller) noexcept {
  BlockUser user{caller, 0, 0};
  {
    const InterruptGuard<Hooks> interrupts;
    user.cpu = Hooks::cpu();
  }
  if constexpr (requires { Hooks::now(); }) {
    user.time = Hooks::now();
  }
  return user;
}

/// False if the kernel knows that the caller must not wait.
template <KernelHooks Hooks>
bool may_sleep() noexcept {
  if constexpr (requires { Hooks::may_sleep(); }) {
    return Hooks::may_sleep();
  } else {
    return true;
  }
}

/// Tells the kernel's shadow memory that clients may not access these bytes.
template <KernelHooks Hooks>
void poison_shadow([[maybe_unused]] void* address, [[maybe_unused]] std::size_t bytes) noexcept {
  if constexpr (requires { Hooks::poison(address, bytes); }) {
    Hooks::poison(address, bytes);
  }
}
/// Tells it that they may.
template <KernelHooks Hooks>
void unpoison_shadow([[maybe_unused]] void* address, [[maybe_unused]] std::size_t bytes) noexcept {
  if constexpr (requires { Hooks::unpoison(address, bytes); }) {
    Hooks::unpoison(address, bytes);
  }
}

template <KernelHooks Hooks>
void trace_event([[maybe_unused]] const HeapEvent& event) noexcept {
  if constexpr (requires { Hooks::trace(event); }) {
    Hooks::trace(event);
  }
}

}  // namespace slabmalloc
