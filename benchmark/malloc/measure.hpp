// SPDX-License-Identifier: MIT
//
// What a process says of itself, read without allocating.
#pragma once

#include <cstdint>

namespace slabmalloc::benchmark {

double wall_seconds();

/// Processor time of all threads of this process, those that ended included.
double cpu_seconds();

/// Memory now in use (Rss of /proc/self/smaps_rollup, which is exact).
std::uint64_t resident_bytes();

/// The most that ever was (VmHWM of /proc/self/status).
std::uint64_t peak_resident_bytes();

void sleep_milliseconds(unsigned milliseconds);

/// The file that `malloc` comes from.
const char* malloc_origin();

}  // namespace slabmalloc::benchmark
