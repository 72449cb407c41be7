// SPDX-License-Identifier: MIT
//
// A library to be preloaded in front of the malloc that wraps it, as tracers do: each function
// looks up the next one by dlsym(), which itself may allocate and so comes back here.
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
    // What does not exist makes dlsym() allocate a message.
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
