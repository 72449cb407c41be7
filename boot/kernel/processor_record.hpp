// SPDX-License-Identifier: MIT
//
// ProcessorRecord: what each CPU has for itself. A register of each CPU leads to its own: the gs base, tpidr_el1, tp.
#pragma once

#include <cstdint>

namespace boot {

/// The first instructions of a CPU find its record by shifting its number by 6.
struct alignas(64) ProcessorRecord {
  std::uint64_t number;
  void* local[7];  ///< See slabmalloc::LocalHooks.
};
static_assert(sizeof(ProcessorRecord) == 64);

}  // namespace boot
