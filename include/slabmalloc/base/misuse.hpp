// SPDX-License-Identifier: MIT
//
// Misuse: what a client did wrong, and the one hook that hears of it. A bad call is reported, and
// if the hook returns the call has done nothing: it leaks nothing and corrupts nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "slabmalloc/base/atomics.hpp"

namespace slabmalloc {

enum class MisuseKind : std::uint8_t {
  DoubleFree,      ///< The slot is free already.
  MisalignedFree,  ///< The address lies in a page but is no slot's first byte.
  ForeignPointer,  ///< The address was never given out by this library.
  SizeMismatch,    ///< The layout belongs to another size class than the object.
  InvalidPage,     ///< A frame that is misaligned, null, or in use already was given as a page.
};

/// The name of `kind`, in words for a message.
constexpr const char* describe(MisuseKind kind) noexcept {
  switch (kind) {
    case MisuseKind::DoubleFree:
      return "double free";
    case MisuseKind::MisalignedFree:
      return "free of an address inside a block";
    case MisuseKind::ForeignPointer:
      return "free of an address that was never allocated";
    case MisuseKind::SizeMismatch:
      return "free with the wrong size";
    case MisuseKind::InvalidPage:
      return "page that is misaligned or already in use";
  }
  return "misuse";
}

/// One bad call.
struct Misuse {
  MisuseKind kind;
  const void* address;      ///< The address that was passed in.
  std::size_t object_size;  ///< Bytes of the slots of its page; 0 if it has none.
  std::size_t slot;         ///< The slot's number in the page, where that is known.
};

/// Hears of a bad call. It may return; then the bad call is a no-op.
/// Thread: called by whoever made the bad call, or found it later, in its context (an interrupt handler, if that
/// is where the call was made) and possibly in the middle of another call, an allocation that takes in what
/// others freed, say. So it must return or end the program, not jump out, and
///   - it must not call into a zone that its context uses; deallocate_remote() may be called for any zone's
///     objects. No lock of the core's is held.
///   - The malloc's heap it may use in every way, and it may fork: its thread has another zone meanwhile. But it must
///     not wait for another thread that allocates while it ends: the mutex of such threads may be held.
using MisuseHandler = void (*)(const Misuse&) noexcept;

namespace detail {

inline void stop_at_misuse(const Misuse&) noexcept { __builtin_trap(); }

/// A processor that cannot exchange a word at one go is the only one.
using MisuseAtomics = std::conditional_t<has_atomic_exchange, HardwareAtomics, SingleCpuAtomics>;
inline constinit MisuseAtomics::Cell<MisuseHandler> misuse_handler{&stop_at_misuse};

}  // namespace detail

/// Replaces the hook and returns the one before; a null pointer restores the default, which traps.
/// Order: release, with the acquire in report_misuse: the handler sees what was set up for it.
inline MisuseHandler set_misuse_handler(MisuseHandler handler) noexcept {
  return detail::misuse_handler.exchange(handler != nullptr ? handler : &detail::stop_at_misuse,
                                         Order::acq_rel);
}

/// Tells the hook of a bad call.
[[gnu::cold, gnu::noinline]] inline void report_misuse(const Misuse& misuse) noexcept {
  detail::misuse_handler.load(Order::acquire)(misuse);
}

}  // namespace slabmalloc
