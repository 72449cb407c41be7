// SPDX-License-Identifier: MIT
//
// Call: the function that the program called with a bad pointer, for the report.
//
// Fast paths do not keep it. Each passes its own as a constant to the slow path, which notes it
// with the address before it may report. The report names the call if it is about that address.
#pragma once

#include <cstdint>

namespace slabmalloc {

enum class Call : std::uint8_t {
  Unknown,
  Free,
  Delete,
  DeleteArray,
  Realloc,
  ReallocToNothing,
  UsableSize,
  CFree,
  FreeSized,
  FreeAlignedSized,
  HeapDeallocate,
  HeapReallocate,
  HeapUsableSize,
  ZoneDestroy,
};

/// Its name in a message.
constexpr const char* name_of(Call call) noexcept {
  switch (call) {
    case Call::Unknown:
      break;
    case Call::Free:
      return "free()";
    case Call::Delete:
      return "operator delete";
    case Call::DeleteArray:
      return "operator delete[]";
    case Call::Realloc:
      return "realloc()";
    case Call::ReallocToNothing:
      return "realloc() to 0 bytes";
    case Call::UsableSize:
      return "malloc_usable_size()";
    case Call::CFree:
      return "cfree()";
    case Call::FreeSized:
      return "free_sized()";
    case Call::FreeAlignedSized:
      return "free_aligned_sized()";
    case Call::HeapDeallocate:
      return "slabmalloc_deallocate()";
    case Call::HeapReallocate:
      return "slabmalloc_reallocate()";
    case Call::HeapUsableSize:
      return "slabmalloc_usable_size()";
    case Call::ZoneDestroy:
      return "slabmalloc_zone_destroy()";
  }
  return "a call";
}

/// True if the call only frees.
constexpr bool is_free(Call call) noexcept {
  return call != Call::Realloc && call != Call::UsableSize && call != Call::HeapReallocate &&
         call != Call::HeapUsableSize;
}

/// The latest call of the thread that a slow path noted, and its address.
struct NotedCall {
  const void* address = nullptr;
  Call call = Call::Unknown;
};
[[gnu::visibility("hidden")]] extern constinit thread_local NotedCall noted_call;

/// While it is not Unknown: the call that the thread makes in place of the C library's.
[[gnu::visibility("hidden")]] extern constinit thread_local Call named_call;

/// The call that a report of `call` must name.
inline Call named_or(Call call) noexcept { return named_call != Call::Unknown ? named_call : call; }

/// Names, for a scope, a call that does what one of the C library does.
class NamedCall {
 public:
  explicit NamedCall(Call call) noexcept { named_call = call; }
  ~NamedCall() { named_call = Call::Unknown; }
  NamedCall(const NamedCall&) = delete;
  NamedCall& operator=(const NamedCall&) = delete;
};

}  // namespace slabmalloc
