// SPDX-License-Identifier: MIT
//
// A library whose RUNPATH names the folder of another one, which it opens.
#include <dlfcn.h>

extern "C" void* open_by_runpath(const char* name) {
  // The caller of dlopen() counts, so this must be a call and not a jump.
  void* volatile library = dlopen(name, RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
  return library;
}
