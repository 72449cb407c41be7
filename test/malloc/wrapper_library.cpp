// SPDX-License-Identifier: MIT
//
// A library for LD_PRELOAD in front of the malloc, which it wraps as tracers do. Each function
// looks the next one up by dlsym(), which may itself allocate and so calls the wrapper again.
#include <dlfcn.h>
#include <stddef.h>

namespace {

void* (*real_malloc)(size_t) = nullptr;
void (*real_free)(void*) = nullptr;
thread_local int depth = 0;
int calls = 0;

void look_up() {
  if (real_malloc == nullptr) {
    real_free = reinterpret_cast<void (*)(void*)>(dlsym(RTLD_NEXT, "free"));
    real_malloc = reinterpret_cast<void* (*)(size_t)>(dlsym(RTLD_NEXT, "malloc"));
  }
}

}  // namespace

extern "C" {

void* malloc(size_t bytes) {
  look_up();
  ++calls;
  if (depth == 0) {
    // For a missing symbol, dlsym() allocates a message.
    ++depth;
    dlsym(RTLD_NEXT, "slabmalloc_test_no_such_function");
    --depth;
  }
  return real_malloc(bytes);
}

void free(void* block) {
  look_up();
  real_free(block);
}

int wrapped_calls() { return calls; }
}
