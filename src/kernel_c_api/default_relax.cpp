// SPDX-License-Identifier: MIT
//
// The hook of a kernel that has no slabmalloc_hook_relax(). A file of its own: the linker takes it
// from the archive only if that symbol is missing.
#include "slabmalloc/kernel_hooks.h"

extern "C" void slabmalloc_hook_relax(void) noexcept {}
