// SPDX-License-Identifier: MIT
//
// The back trace at the end of a report of misuse.
#pragma once

#include <cstdint>

#include "malloc/call_stack.hpp"

namespace slabmalloc {

/// Writes the calls of `stack` as write_back_trace() does. It allocates nothing.
void write_call_stack(int descriptor, const char* title, const CallStack& stack) noexcept;

/// What becomes of the faults of a walk over a damaged stack.
enum class Faults : std::uint8_t {
  Handled,  ///< They end the process by SIGABRT, and so do those of other threads meanwhile.
  Blocked,  ///< The caller, a handler of faults, has blocked them: the system ends the process.
};

/// Writes the calls that led here, one a line, without those of this library if it is one of its
/// own. Writes nothing where the C library has no backtrace(). It may allocate and load libgcc, and
/// a damaged stack may end the process.
/// Pre: the calling thread's zone may be used, and the thread holds no mutex of the heap.
void write_back_trace(int descriptor, const char* title, Faults faults = Faults::Handled) noexcept;

}  // namespace slabmalloc
