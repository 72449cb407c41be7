// SPDX-License-Identifier: MIT
//
// dlopen() without RTLD_DEEPBIND. With that flag a plug-in prefers the symbols of its own
// dependencies, so its malloc and free are those of the C library, and each block that crosses its
// border is freed by the wrong malloc.
//
// The shared library alone exports this, under the name dlopen (src/CMakeLists.txt). The compiler
// must make the call of the C library's function a jump: that function takes the library that
// called it, whose RUNPATH counts, from its return address.
#include <dlfcn.h>

#include "malloc/options.hpp"
#include "slabmalloc/base/atomics.hpp"

/// Weak, since programs that are linked statically have none, and never call slabmalloc_dlopen().
extern "C" [[gnu::weak]] void* dlsym(void*, const char*) noexcept;

namespace slabmalloc {

namespace {

using Open = void* (*)(const char*, int);

constinit HardwareAtomics::Cell<Open> next_open;

/// The C library's dlopen().
[[gnu::noinline]] Open find_open() noexcept {
  Open open = next_open.load(Order::relaxed);
  if (open == nullptr) {
    open = reinterpret_cast<Open>(dlsym(RTLD_NEXT, "dlopen"));
    next_open.store(open, Order::relaxed);
  }
  return open;
}

}  // namespace
}  // namespace slabmalloc

extern "C" [[gnu::visibility("default")]] void* slabmalloc_dlopen(const char* file, int mode) {
  const slabmalloc::Open open = slabmalloc::find_open();
  return open(file, slabmalloc::options.deep_bind ? mode : mode & ~RTLD_DEEPBIND);
}
