// SPDX-License-Identifier: MIT
//
// Room: the C++ object in an object of kernel.h, which a client may make of zero bytes.
//
//   | room: the C++ object, once it is in use | the client's parameters | is_in_use |
#pragma once

#include <cstddef>
#include <new>

#include "kernel_c_api/hooks.hpp"

namespace slabmalloc {

template <class Holder, class Make>
[[gnu::cold, gnu::noinline]] void bring_into_use(Holder& holder, Make&& make) noexcept {
  use_misuse_hook();
  make(static_cast<void*>(holder.room));
  holder.is_in_use = 1;
}

/// The `T` of `holder`; make(place) makes it in the first call. Thread: as the first call.
template <class T, class Holder, class Make>
[[gnu::always_inline]] inline T& object_of(Holder& holder, Make&& make) noexcept {
  static_assert(sizeof(T) <= sizeof(Holder::room), "kernel.h states too few bytes for its room");
  static_assert(alignof(T) <= alignof(Holder), "kernel.h states a smaller alignment");
  static_assert(offsetof(Holder, room) == 0, "the room begins where the object does");
  if (holder.is_in_use == 0) [[unlikely]] {
    bring_into_use(holder, make);
  }
  return *std::launder(reinterpret_cast<T*>(holder.room));
}
template <class T, class Holder>
[[gnu::always_inline]] inline T& object_of(Holder& holder) noexcept {
  return object_of<T>(holder, [](void* place) noexcept { ::new (place) T(); });
}

}  // namespace slabmalloc
