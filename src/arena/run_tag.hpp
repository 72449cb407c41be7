// SPDX-License-Identifier: MIT
//
// RunTag: one chunk's part in the bookkeeping of runs. A run is a row of adjacent chunks that are
// handed out, or free, together. Its first and its last chunk's tags are kept (Knuth's boundary
// tags, The Art of Computer Programming 1, 2.5, algorithm C); what those between say means nothing:
//
//     tags  | {InUse,3} | ? | {InUse,3} | {Dirty,1} | {Clean,2} | {Clean,2} | …
//           '---- run of 3 chunks ------'  run of 1   '-- run of 2 chunks --'
//
// Tags are an array of their own, apart from the chunk records: they are written under the arena's
// mutex and nowhere else, whereas a record belongs to whoever holds the chunk. They are also dense,
// so that keeping a run costs 32 bytes of memory and no OS page of records.
#pragma once

#include <cstdint>

namespace slabmalloc {

/// What the chunks of a run are. 0 is what a fresh tag says.
enum class RunState : std::uint32_t {
  None = 0,
  InUse,     ///< Handed out.
  Unusable,  ///< Not this arena's memory: a gap that something else is mapped in.
  Dirty,     ///< Free, backed by memory, contents unknown.
  Clean,     ///< Free, every byte known to be zero, not backed by memory.
  Purging,   ///< Was Dirty, is being purged now, and can be neither used nor merged meanwhile.
};

constexpr bool is_free(RunState state) noexcept {
  return state == RunState::Dirty || state == RunState::Clean;
}

inline constexpr std::uint32_t run_states = 6;

/// "No chunk" in links.
inline constexpr std::uint32_t no_chunk = ~std::uint32_t{0};

/// The tag of the first or last chunk of a run. Links and stamp are kept in the first chunk's
/// alone.
struct RunTag {
  RunState state = RunState::None;
  std::uint32_t chunks = 0;        ///< Length of the run.
  std::uint32_t bin_next = 0;      ///< Free: the bin's list.
  std::uint32_t bin_previous = 0;  ///< Free: the bin's list.
  std::uint32_t age_next = 0;      ///< Dirty: towards more recently freed runs.
  std::uint32_t age_previous = 0;  ///< Dirty: towards runs freed earlier.
  std::uint32_t stamp = 0;         ///< Dirty: when it was freed, milliseconds, wrapping.
  std::uint32_t padding = 0;
};

static_assert(sizeof(RunTag) == 32, "an OS page holds a whole number of tags");

}  // namespace slabmalloc
