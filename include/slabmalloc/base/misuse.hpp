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
  MismatchedFree,  ///< Another kind of function allocated the block.
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
