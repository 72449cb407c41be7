// SPDX-License-Identifier: MIT
//
// Reads the figures of this process without allocating.
#pragma once

#include <cstdint>

namespace slabmalloc::benchmark {

double wall_seconds();

/// Processor time of all threads of this process, including ended ones.
double cpu_seconds();

/// Resident memory now (Rss of /proc/self/smaps_rollup, which is exact).
std::uint64_t resident_bytes();

/// The peak of resident memory (VmHWM of /proc/self/status).
std::uint64_t peak_resident_bytes();

void sleep_milliseconds(unsigned milliseconds);

/// The file that provides `malloc`.
const char* malloc_origin();

}  // namespace slabmalloc::benchmark
