// SPDX-License-Identifier: MIT
//
// ProcessorRecord: the data that each CPU has for itself. A register of each CPU leads to its
// record: the gs base, tpidr_el1, tp.
#pragma once

#include <cstdint>

namespace boot {

/// The first instructions of a CPU shift its number by 6 to find its record.
struct alignas(64) ProcessorRecord {
  std::uint64_t number;
  void* local[7];  ///< See slabmalloc::LocalHooks.
};
static_assert(sizeof(ProcessorRecord) == 64);

}  // namespace boot
