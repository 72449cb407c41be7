// SPDX-License-Identifier: MIT
//
// A library for LD_PRELOAD in front of the malloc. It refuses the first calls of each function of
// the C library that the malloc calls and that may fail.
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include <initializer_list>

namespace {

constexpr int refused_calls = 3;

/// A function, and how often it was called.
struct Wrapped {
  const char* name;
  int calls = 0;
  void* real = nullptr;

  bool refuses() {
    if (real == nullptr) {
      real = dlsym(RTLD_NEXT, name);
    }
    return __atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED) <= refused_calls;
  }
  template <class Function>
  Function* as() const {
    return reinterpret_cast<Function*>(real);
  }
};

Wrapped register_atfork{"__register_atfork"};
Wrapped key_create{"pthread_key_create"};
Wrapped setspecific{"pthread_setspecific"};

}  // namespace

extern "C" {

int accepted_calls_of(const char* name) {
  for (const Wrapped* one : {&register_atfork, &key_create, &setspecific}) {
    if (strcmp(one->name, name) == 0) {
      const int calls = __atomic_load_n(&one->calls, __ATOMIC_RELAXED);
      return calls > refused_calls ? calls - refused_calls : 0;
    }
  }
  return -1;
}

int __register_atfork(void (*prepare)(), void (*parent)(), void (*child)(), void* library) {
  return register_atfork.refuses()
             ? ENOMEM
             : register_atfork.as<int(void (*)(), void (*)(), void (*)(), void*)>()(prepare, parent,
                                                                                    child, library);
}

int pthread_key_create(pthread_key_t* key, void (*destructor)(void*)) {
  return key_create.refuses()
             ? EAGAIN
             : key_create.as<int(pthread_key_t*, void (*)(void*))>()(key, destructor);
}

int pthread_setspecific(pthread_key_t key, const void* value) {
  return setspecific.refuses() ? ENOMEM
                               : setspecific.as<int(pthread_key_t, const void*)>()(key, value);
}
}
