// SPDX-License-Identifier: MIT
//
// Misuse: a client's bad call, and the hook that receives the report. If the hook returns, the bad
// call does nothing: it leaks nothing and corrupts nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "slabmalloc/base/atomics.hpp"

namespace slabmalloc {

enum class MisuseKind : std::uint8_t {
  DoubleFree,      ///< The slot is free already, or was never issued: see Misuse::state.
  MisalignedFree,  ///< The address lies in a page but is not a slot's first byte.
  ForeignPointer,  ///< No object starts at the address, as far as is known.
  SizeMismatch,    ///< The layout belongs to another size class than the object.
  InvalidPage,     ///< The frame for a page is misaligned, null, or in use already.
  Overflow,        ///< Bytes behind a block were written.
  Underflow,       ///< Bytes before a block were written.
  WriteAfterFree,  ///< A block was written after it was freed.
  MismatchedFree,  ///< Another kind of function, or another heap, allocated the block.
  WrongContext,    ///< The caller's context forbids what the call may do.
};

/// The name of `kind` for a message.
constexpr const char* describe(MisuseKind kind) noexcept {
  switch (kind) {
    case MisuseKind::DoubleFree:
      return "double free";
    case MisuseKind::MisalignedFree:
      return "free of an address inside a block";
    case MisuseKind::ForeignPointer:
      return "free of an address that is no block";
    case MisuseKind::SizeMismatch:
      return "free with the wrong size";
    case MisuseKind::InvalidPage:
      return "page that is misaligned or already in use";
    case MisuseKind::Overflow:
      return "write beyond the end of a block";
    case MisuseKind::Underflow:
      return "write before a block";
    case MisuseKind::WriteAfterFree:
      return "write into freed memory";
    case MisuseKind::MismatchedFree:
      return "free by a function of another kind";
    case MisuseKind::WrongContext:
      return "call in a context that forbids it";
  }
  return "misuse";
}

/// What is known of the block that holds the address of a bad call.
enum class BlockState : std::uint8_t {
  Unknown,
  NoBlock,         ///< No block has ever started at the address.
  InUse,           ///< It is allocated.
  Free,            ///< It was freed before, or never allocated.
  Freed,           ///< It was freed before.
  NeverAllocated,  ///< It was not allocated since its page came into use.
};

/// The work that found a bad call.
enum class FoundAt : std::uint8_t {
  Call,      ///< The bad call itself.
  Delivery,  ///< Later: the delivery of frees that a zone had buffered. Any thread may have made
             ///< the bad call.
  Drain,     ///< Later: the drain of frees by other threads, by the owner of the page. As above.
};

/// A call that allocated or freed a block, as a debug mode recorded it.
struct BlockUser {
  const void* caller = nullptr;  ///< Where the call returns to; null if there was no such call.
  std::uint32_t cpu = 0;
  std::uint64_t time = 0;  ///< By the kernel's clock; 0 without one.
};

/// What a debug mode knows of a block beside Misuse.
struct BlockHistory {
  const char* heap = nullptr;  ///< The name of the heap that allocated it; null if none.
  std::size_t size = 0;        ///< Bytes that the client asked for; 0 before the first allocation.
  BlockUser allocated;         ///< The last allocation.
  BlockUser freed;             ///< The last free; without a caller while the block is in use.
  /// Of damage: the byte nearest to the block that was overwritten, counted from its first, and the
  /// value found there. No offset if several bytes of an object changed, nobody knows which.
  static constexpr std::ptrdiff_t no_offset = PTRDIFF_MAX;
  std::ptrdiff_t offset = 0;
  std::uint8_t value = 0;
};

/// One bad call.
struct Misuse {
  MisuseKind kind;
  const void* address;      ///< The address in the call.
  std::size_t object_size;  ///< Bytes of a slot of its page; 0 if it has no page.
  std::size_t slot;         ///< The slot's number in the page, where it is known.
  /// The first byte of the block that holds the address; null if there is none, or none is known.
  const void* block = nullptr;
  BlockState state = BlockState::Unknown;
  FoundAt found_at = FoundAt::Call;
  /// Bytes that the call gave, where they are wrong. Of a block that something wrote beyond: the
  /// bytes asked for, 0 if that is not known.
  std::size_t given_size = 0;
  const char* allocated_by = nullptr;  ///< MismatchedFree: what allocated the block.
  /// What a debug mode knows; null without one. It is valid while the hook runs.
  const BlockHistory* history = nullptr;
};

/// Receives the report of a bad call. If it returns, the bad call is a no-op.
///
/// Thread: the thread that made the bad call, or that found it later, in the same context. That may
/// be an interrupt handler. It may also be the middle of another call, for example of an allocation
/// that drains remote frees. So the handler must return or end the program; it must not jump out.
/// Also:
///   - It must not call into a zone that its context uses. It may call deallocate_remote() for the
///     objects of any zone: the core holds no lock.
///   - It may use the malloc's heap in every way, and may fork: the malloc gives its thread another
///     zone meanwhile.
///   - It must not wait for another thread that allocates while it ends: this thread may hold the
///     mutex of such threads.
using MisuseHandler = void (*)(const Misuse&) noexcept;

namespace detail {

inline void stop_at_misuse(const Misuse&) noexcept { __builtin_trap(); }

/// A processor without atomic exchange is the only one.
using MisuseAtomics = std::conditional_t<has_atomic_exchange, HardwareAtomics, SingleCpuAtomics>;
inline constinit MisuseAtomics::Cell<MisuseHandler> misuse_handler{&stop_at_misuse};

}  // namespace detail

/// Replaces the hook and returns the one before; null restores the default, which traps.
/// Order: release, with the acquire in report_misuse(): the handler sees its own setup.
inline MisuseHandler set_misuse_handler(MisuseHandler handler) noexcept {
  return detail::misuse_handler.exchange(handler != nullptr ? handler : &detail::stop_at_misuse,
                                         Order::acq_rel);
}

/// Reports a bad call to the hook.
[[gnu::cold, gnu::noinline]] inline void report_misuse(const Misuse& misuse) noexcept {
  detail::misuse_handler.load(Order::acquire)(misuse);
}

}  // namespace slabmalloc
