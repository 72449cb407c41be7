// SPDX-License-Identifier: MIT
//
// Hooks: the functions that a kernel supplies to the services, and the context of a call.
//
//   struct MyKernel {                                            // static functions only
//     static constexpr std::uint32_t maximum_cpus = 64;
//     using InterruptState = std::uint64_t;
//     static std::uint32_t cpu() noexcept;                       // 0 … maximum_cpus - 1
//     static InterruptState save_interrupts() noexcept;          // disables them
//     static void restore_interrupts(InterruptState) noexcept;
//     [[noreturn]] static void panic(const char* line) noexcept;
//     static void log(const char* line) noexcept;
//   };
#pragma once

#include <concepts>
#include <cstdint>
#include <type_traits>

#include "slabmalloc/base/atomics.hpp"

namespace slabmalloc {

/// A kernel's hooks. The members:
///   maximum_cpus       CPU numbers are below it, or else panic() is called; arrays have so many
///                      elements
///   cpu()              the number of the CPU that runs the caller; called with interrupts saved
///   save_interrupts()  from here on the caller stays on this CPU and no other thread runs on it,
///                      until restore_interrupts(state) of what was returned; pairs nest. It
///                      disables interrupts, or as little as preemption: handlers that come in
///                      between find out that the CPU's part is in use, and go another way
///                      (cpu_parts.hpp). Where there are no atomics it must disable interrupts
///   panic(line)        does not return; called where an invariant of the services is broken, with
///                      what it says
///   log(line)          prints a line of a report; called by reports alone, in their caller's
///                      context: with a debug mode that is any
/// Optional:
///   relax()            what a CPU does between two looks at a lock: pause, yield, wfe
///   local<slot>(), set_local<slot>(value)
///                      a pointer of the CPU that runs the caller, null at first, such as kernels
///                      keep behind gs, tpidr or tp. A heap that has a slot of its own
///                      (CommonKernelConfig::local_slot) finds its part there, and needs no CPU
///                      number
///   node(cpu)          the number of the CPU's NUMA node, for NodeFrames. With it an allocation
///                      asks the pager before it takes a frame of a CPU on another node
///   wait(condition), wake(), thread()
///                      sleep in place of a spin (waiting.hpp), all three or none. wait() returns
///                      true once condition() does, which it asks at first and after each wake().
///                      It returns false when a time passed that the kernel chooses. wake() must
///                      miss nobody who asked before it. So wait() asks, and goes to sleep, under a
///                      lock that wake() takes. thread() is a number of the running thread, not 0.
///                      A kernel may supply thread() alone. Without it, the number of the CPU
///                      plus 1 stands for the thread
template <class H>
concept KernelHooks = requires(typename H::InterruptState state, const char* line) {
  { H::maximum_cpus } -> std::convertible_to<std::uint32_t>;
  { H::cpu() } noexcept -> std::convertible_to<std::uint32_t>;
  { H::save_interrupts() } noexcept -> std::same_as<typename H::InterruptState>;
  { H::restore_interrupts(state) } noexcept;
  { H::panic(line) } noexcept;
  { H::log(line) } noexcept;
};

/// Stand in for hooks that are none.
struct NoHooks {
  static constexpr std::uint32_t maximum_cpus = 1;
  using InterruptState = bool;
  static std::uint32_t cpu() noexcept { return 0; }
  static InterruptState save_interrupts() noexcept { return false; }
  static void restore_interrupts(InterruptState) noexcept {}
  [[noreturn]] static void panic(const char*) noexcept { __builtin_trap(); }
  static void log(const char*) noexcept {}
};

/// The message for hooks that are none. All services have a static_assert() of the size of this
/// one type, so the compiler prints the message once.
template <class H>
struct HooksMessage {
  static_assert(KernelHooks<H>,
                "hooks are static, noexcept and complete: maximum_cpus, InterruptState, cpu(), "
                "save_interrupts(), restore_interrupts(state), panic(line), log(line)");
};

/// `H`, or after that message NoHooks, so that the compiler adds no other.
template <class H>
using CheckedHooks = std::conditional_t<KernelHooks<H>, H, NoHooks>;

/// Hooks with pointers that each CPU has for itself.
template <class H>
concept LocalHooks = KernelHooks<H> && requires(void* value) {
  { H::template local<0u>() } noexcept -> std::same_as<void*>;
  { H::template set_local<0u>(value) } noexcept;
};

/// Hooks that know the NUMA node of each CPU.
template <class H>
concept NodeHooks = KernelHooks<H> && requires(std::uint32_t cpu) {
  { H::node(cpu) } noexcept -> std::convertible_to<std::uint32_t>;
};

/// What a caller waits for. It takes no lock, and changes nothing.
struct WaitCondition {
  bool (*holds)(const void* argument) noexcept;
  const void* argument;
  /// A word for the hook, not null there: 0 in a caller's first wait, and then as the hook left it.
  /// A hook that stores its deadline here bounds all waits of an allocation together.
  std::uint64_t* deadline = nullptr;

  bool operator()() const noexcept { return holds(argument); }
};

/// Hooks by which a caller sleeps.
template <class H>
concept WaitingHooks = KernelHooks<H> && requires(WaitCondition condition) {
  { H::wait(condition) } noexcept -> std::same_as<bool>;
  { H::wake() } noexcept;
  { H::thread() } noexcept -> std::same_as<std::uintptr_t>;
};

/// The ways in which an allocation may get memory, and a free may give a run back. Each context but
/// the last allows less than the one before.
enum class Context : std::uint8_t {
  MayWait,     ///< The pager may wait; searches all memory, and reclaims it from others.
  MayNotWait,  ///< The pager may be called but must not wait; its time apart, the time is bounded.
  Interrupt,   ///< The pager is not called: interrupt handlers, NMIs, the pager itself.
  Emergency,   ///< As Interrupt, plus reserved memory: panic, and frees that need memory.
};

/// Whether a caller may call the pager in that context.
constexpr bool may_call_pager(Context context) noexcept {
  return context == Context::MayWait || context == Context::MayNotWait;
}

/// Whether `Atomics` suffice for the CPUs of `Hooks`: several CPUs need atomic instructions.
template <KernelHooks Hooks, class Atomics>
inline constexpr bool atomics_suffice =
    Hooks::maximum_cpus == 1 || !std::is_same_v<Atomics, SingleCpuAtomics>;

/// As invariant(), by the kernel's own panic().
template <KernelHooks Hooks>
inline void require(bool condition, const char* equation) noexcept {
  if (!condition) [[unlikely]] {
    Hooks::panic(equation);
  }
}

/// What a CPU does between two looks at a word that another CPU will change.
template <KernelHooks Hooks>
[[gnu::always_inline]] inline void relax() noexcept {
  if constexpr (requires { Hooks::relax(); }) {
    Hooks::relax();
  }
}

/// Saves interrupts for as long as it lives.
template <KernelHooks Hooks>
class InterruptGuard {
 public:
  [[gnu::always_inline]] InterruptGuard() noexcept : state_(Hooks::save_interrupts()) {}
  [[gnu::always_inline]] ~InterruptGuard() { Hooks::restore_interrupts(state_); }
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;

 private:
  typename Hooks::InterruptState state_;
};

/// Whether a handler may split a read-modify-write of `Atomics`. A policy over SingleCpuAtomics
/// says so by a specialisation.
template <class Atomics>
inline constexpr bool has_split_updates = std::is_same_v<Atomics, SingleCpuAtomics>;

/// Keeps handlers out of an update that they may split, where there are no atomic operations.
template <KernelHooks Hooks, class Atomics>
class UpdateGuard {
 public:
  [[gnu::always_inline]] UpdateGuard() noexcept {}
  UpdateGuard(const UpdateGuard&) = delete;
  UpdateGuard& operator=(const UpdateGuard&) = delete;

 private:
  struct None {};
  using Guard = std::conditional_t<has_split_updates<Atomics>, InterruptGuard<Hooks>, None>;
  [[no_unique_address, maybe_unused]] Guard guard_;
};

}  // namespace slabmalloc
