// SPDX-License-Identifier: MIT
//
// The execution under way: what the scheduler of fibres (explorer.cpp) and the operations on cells
// (cells.cpp) share.
#pragma once

#include <cstddef>
#include <cstdint>

#include "explorer/explorer.hpp"
#include "explorer/memory.hpp"
#include "explorer/race_detector.hpp"
#include "explorer/search.hpp"

namespace slabmalloc::explorer {

/// How an execution ended.
enum class End : std::uint8_t { Complete, Failed, Known, Restart };

/// The number of the explorer's own fibre.
inline constexpr unsigned main_fibre = most_threads;

/// Of the region. The same address in each run: the library hashes addresses.
inline constexpr std::uintptr_t region_address = 0x2000'0000'0000;

extern Memory memory;
extern Search search;
extern RaceDetector races;
extern Bounds bounds;
extern unsigned self;  ///< The fibre that runs.

/// True if an access to `address` is one of a thread of the scenario to the region.
inline bool is_explored(const void* address) noexcept {
  return self != main_fibre &&
         reinterpret_cast<std::uintptr_t>(address) - region_address < region_bytes;
}
inline unsigned offset_of(const void* address) noexcept {
  return static_cast<unsigned>(reinterpret_cast<std::uintptr_t>(address) - region_address);
}

// ---- explorer.cpp -------------------------------------------------------------------------------

/// Returns when the calling thread may take `step`.
void come_to(const Step& step) noexcept;
/// Ends the execution.
[[noreturn]] void leave(End how) noexcept;
[[noreturn]] void fail(const char* what) noexcept;
/// Adds a step to the trace. `cell` is null for a fence.
void note(std::size_t site, const void* cell, std::uint64_t value) noexcept;

// ---- cells.cpp ----------------------------------------------------------------------------------

/// For a new search: no thread has touched a cell.
void forget_sharing() noexcept;
/// For a new execution: no cell has a location, and no thread has looked at one.
void begin_cells() noexcept;
/// The cell at `offset` of the region, if there is one, ends: what comes there is another.
void forget_cell(unsigned offset) noexcept;

}  // namespace slabmalloc::explorer
