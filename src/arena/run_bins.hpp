// SPDX-License-Identifier: MIT
//
// RunBins: the free runs of one state and class in bins by length, with a bit for each bin that is
// not empty.
//
//     bin      0   1   …  14 | 15     16     …  22     | 23     24     …
//     chunks   1   2   …  15 | 16-17  18-19  …  30-31  | 32-35  36-39  …
//              exact         | eight bins for each doubling
//
// This is the two-level segregated fit of Masmano, Ripoll, Crespo and Real, "TLSF: a new dynamic
// memory allocator for real-time systems", ECRTS 2004, section 3. Here the lists lie in the runs'
// tags.
//
// A search examines a bounded number of runs in the first bin that may hold a fit. In every later
// bin each run fits, unless the alignment is above a chunk. So the cost of a search is constant. Of
// the runs that it examines in a bin it takes the lowest address: then the high end of the window
// stays free.
#pragma once

#include <cstdint>

#include "arena/run_tag.hpp"
#include "slabmalloc/base/bits.hpp"
#include "tunables.hpp"

namespace slabmalloc {

/// A request for `chunks` adjacent chunks; the first is at a multiple of `alignment` chunks from
/// address 0. `phase` is the number of chunk 0 when chunks are counted from address 0. Runs of
/// `run_class` or of no class serve it.
struct RunRequest {
  std::uint32_t chunks = 1;
  std::uint32_t alignment = 1;
  std::uint64_t phase = 0;
  [[no_unique_address]] RunClass run_class{};

  /// The first chunk at or after `chunk` where such a run may start.
  constexpr std::uint64_t first_from(std::uint32_t chunk) const noexcept {
    const std::uint64_t mask = std::uint64_t{alignment} - 1;
    return ((chunk + phase + mask) & ~mask) - phase;
  }
};

/// A place for a request: the free run, and the first chunk. None if `run` is no_chunk.
struct Placement {
  std::uint32_t run = no_chunk;
  std::uint32_t first = no_chunk;
  constexpr explicit operator bool() const noexcept { return run != no_chunk; }
};

/// The depth of a search: constant, or every run that may fit.
enum class SearchEffort : std::uint8_t { Bounded, Exhaustive };

/// The bins of one state and class.
class RunBins {
 public:
  constexpr RunBins() noexcept {
    for (std::uint32_t& head : heads_) {
      head = no_chunk;
    }
  }

  /// The bin for runs of `chunks`.
  /// Pre: 1 <= chunks < 2^25.
  static constexpr std::uint32_t bin_of(std::uint32_t chunks) noexcept {
    if (chunks < first_ranged) {
      return chunks - 1;
    }
    const std::uint32_t exponent = highest_bit(chunks);
    const std::uint32_t part = (chunks >> (exponent - part_shift)) & (parts - 1);
    return first_ranged - 1 + (exponent - first_exponent) * parts + part;
  }

  void insert(RunTag* tags, std::uint32_t run) noexcept {
    const std::uint32_t bin = bin_of(tags[run].chunks);
    tags[run].bin_previous = no_chunk;
    tags[run].bin_next = heads_[bin];
    if (heads_[bin] != no_chunk) {
      tags[heads_[bin]].bin_previous = run;
    }
    heads_[bin] = run;
    occupied_[bin / 64] |= std::uint64_t{1} << (bin % 64);
  }

  void remove(RunTag* tags, std::uint32_t run) noexcept {
    const RunTag& tag = tags[run];
    if (tag.bin_next != no_chunk) {
      tags[tag.bin_next].bin_previous = tag.bin_previous;
    }
    if (tag.bin_previous != no_chunk) {
      tags[tag.bin_previous].bin_next = tag.bin_next;
      return;
    }
    const std::uint32_t bin = bin_of(tag.chunks);
    heads_[bin] = tag.bin_next;
    if (tag.bin_next == no_chunk) {
      occupied_[bin / 64] &= ~(std::uint64_t{1} << (bin % 64));
    }
  }

  /// A run that can serve `request`.
  /// Cost: constant if Bounded.
  Placement find(const RunTag* tags, const RunRequest& request,
                 SearchEffort effort) const noexcept {
    for (std::uint32_t bin = next_occupied(bin_of(request.chunks)); bin < bins;
         bin = next_occupied(bin + 1)) {
      if (const Placement placement = find_in_bin(tags, bin, request, effort)) {
        return placement;
      }
    }
    return {};
  }

  /// Calls visit(run) for a bounded number of the longest runs; those of one bin in no order.
  template <class Visit>
  void visit_longest(const RunTag* tags, const Visit& visit) const noexcept {
    std::uint32_t seen = 0;
    for (std::uint32_t bin = last_occupied(bins); bin < bins; bin = last_occupied(bin)) {
      for (std::uint32_t run = heads_[bin]; run != no_chunk; run = tags[run].bin_next) {
        if (seen++ == Tunables::search_depth) {
          return;
        }
        visit(run);
      }
    }
  }

  /// True if every list holds only runs of its bin, of `state` and of class `number`, with correct
  /// links, and if the bits tell which bins are empty. Adds the runs in all lists to `runs`.
  bool validate(const RunTag* tags, RunState state, std::uint32_t number,
                std::uint32_t& runs) const noexcept {
    for (std::uint32_t bin = 0; bin < bins; ++bin) {
      const bool bit = (occupied_[bin / 64] >> (bin % 64) & 1) != 0;
      if (bit != (heads_[bin] != no_chunk)) {
        return false;
      }
      std::uint32_t previous = no_chunk;
      for (std::uint32_t run = heads_[bin]; run != no_chunk; run = tags[run].bin_next) {
        if (tags[run].state != state || tags[run].run_class().number() != number ||
            bin_of(tags[run].chunks) != bin || tags[run].bin_previous != previous) {
          return false;
        }
        previous = run;
        ++runs;
      }
    }
    return true;
  }

 private:
  static constexpr std::uint32_t part_shift = 3;
  static constexpr std::uint32_t parts = 1u << part_shift;
  static constexpr std::uint32_t first_ranged = 16;
  static constexpr std::uint32_t first_exponent = 4;
  static constexpr std::uint32_t last_exponent = 24;
  static constexpr std::uint32_t bins =
      first_ranged - 1 + (last_exponent - first_exponent + 1) * parts;
  static constexpr std::uint32_t words = (bins + 63) / 64;

  static constexpr std::uint32_t lowest(std::uint64_t bits) noexcept {
    return static_cast<std::uint32_t>(__builtin_ctzll(bits));
  }
  static constexpr std::uint32_t highest(std::uint64_t bits) noexcept {
    return 63 - static_cast<std::uint32_t>(__builtin_clzll(bits));
  }

  /// The last bin before `end` that is not empty, or `bins`.
  std::uint32_t last_occupied(std::uint32_t end) const noexcept {
    std::uint32_t word = end / 64;
    std::uint64_t bits =
        word < words ? occupied_[word] & ((std::uint64_t{1} << (end % 64)) - 1) : 0;
    while (bits == 0) {
      if (word == 0) {
        return bins;
      }
      bits = occupied_[--word];
    }
    return word * 64 + highest(bits);
  }

  /// The first bin at or after `bin` that is not empty, or `bins`.
  std::uint32_t next_occupied(std::uint32_t bin) const noexcept {
    if (bin >= bins) {
      return bins;
    }
    std::uint32_t word = bin / 64;
    std::uint64_t bits = occupied_[word] & (~std::uint64_t{0} << (bin % 64));
    while (bits == 0) {
      if (++word == words) {
        return bins;
      }
      bits = occupied_[word];
    }
    return word * 64 + lowest(bits);
  }

  Placement find_in_bin(const RunTag* tags, std::uint32_t bin, const RunRequest& request,
                        SearchEffort effort) const noexcept {
    Placement best;
    std::uint32_t seen = 0;
    for (std::uint32_t run = heads_[bin];
         run != no_chunk && (effort == SearchEffort::Exhaustive || seen < Tunables::search_depth);
         run = tags[run].bin_next, ++seen) {
      const std::uint64_t first = request.first_from(run);
      const std::uint64_t end = std::uint64_t{run} + tags[run].chunks;
      if (first + request.chunks <= end && first < best.first) {
        best = {run, static_cast<std::uint32_t>(first)};
      }
    }
    return best;
  }

  std::uint32_t heads_[bins] = {};
  std::uint64_t occupied_[words] = {};
};

}  // namespace slabmalloc
