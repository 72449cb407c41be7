// SPDX-License-Identifier: MIT
//
// All sources of libslabmalloc_kernel.a. Beside the four functions, they need the hooks alone.
#include "../../src/kernel_c_api/cache.cpp"
#include "../../src/kernel_c_api/cpu_zones.cpp"
#include "../../src/kernel_c_api/default_relax.cpp"
#include "../../src/kernel_c_api/default_waiting.cpp"
#include "../../src/kernel_c_api/early_memory.cpp"
#include "../../src/kernel_c_api/frame_allocator.cpp"
#include "../../src/kernel_c_api/misuse.cpp"
#include "../../src/kernel_c_api/paged_zone.cpp"
#include "../../src/kernel_c_api/sc_allocator.cpp"
#include "../../src/kernel_c_api/zone_allocator.cpp"
