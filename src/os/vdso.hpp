// SPDX-License-Identifier: MIT
//
// The kernel maps a small shared library into each process, the vDSO. Its clock_gettime reads the
// time without a system call. The C library's function calls it too, but a preloaded library may
// wrap that one with a function that allocates, while this one holds a lock (system_call.hpp).
#pragma once

namespace slabmalloc::os {

/// The layout of the kernel's timespec: two of its words, whatever the C library's has.
struct KernelTime {
  long seconds;
  long nanoseconds;
};

using ClockGetTime = int (*)(int clock, KernelTime* time);

/// The clock_gettime of the ELF image at `vdso`, the value of AT_SYSINFO_EHDR; null if the image is
/// null or has none.
ClockGetTime find_clock(const void* vdso) noexcept;

}  // namespace slabmalloc::os
