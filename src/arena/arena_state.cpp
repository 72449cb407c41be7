// SPDX-License-Identifier: MIT
//
// Counters of the arena, and the check of its invariants.
#include "arena/arena.hpp"

namespace slabmalloc {

namespace {

/// `amount` - `part`; 0 if `part` is larger, which an older count may be.
constexpr std::size_t without(std::size_t amount, std::size_t part) noexcept {
  return amount > part ? amount - part : 0;
}

}  // namespace

ArenaStatistics Arena::statistics() const noexcept {
  ArenaStatistics statistics;
  std::size_t cached_bytes = 0;
  std::size_t cached_count = 0;
  std::size_t takes = 0;
  for (const LargeCache& cache : large_caches_) {
    cached_bytes += cache.chunks() * chunk_bytes;
    cached_count += cache.runs();
    takes += cache.takes();
  }
  read_counters(counts_, statistics);
  read_counters(large_counts_, statistics.large);
  statistics.committed_bytes = committed_.value();
  statistics.committed_peak_bytes = committed_.peak();
  statistics.in_use_bytes = without(in_use_.value(), cached_bytes);
  statistics.in_use_peak_bytes = in_use_.peak();
  const auto limit_or_0 = [](std::size_t bytes) { return bytes != Tunables::no_limit ? bytes : 0; };
  statistics.soft_limit_bytes = limit_or_0(tunables.soft_limit_bytes);
  statistics.hard_limit_bytes = limit_or_0(tunables.hard_limit_bytes);
  statistics.dirty_bytes += cached_bytes + direct_.cached_bytes();
  statistics.large.count = without(statistics.large.count, cached_count);
  statistics.large.bytes = large_bytes();
  statistics.large.allocations += takes;
  statistics.large.frees += takes + cached_count;
  return statistics;
}

/// The usable bytes of the live large objects, by their records.
std::size_t Arena::large_bytes() const noexcept {
  std::size_t bytes = direct_.bytes();
  const std::size_t chunks = committed_chunks();
  for (std::size_t number = 0; number < chunks; ++number) {
    const ChunkInfo info = record(number).snapshot();
    bytes += info.kind == ChunkKind::LargeHead ? info.large_bytes() : 0;
  }
  return bytes;
}

/// Copies the sizes that the mutex guards to where statistics() reads them without it.
void Arena::note_sizes() noexcept {
  const std::size_t usable = window_.data_bytes() + window_.metadata_bytes();
  committed_.change(window_committed_, usable);
  window_committed_ = usable;
  counts_.dirty_bytes.set(std::size_t{runs_.chunks_in(RunState::Dirty)} * chunk_bytes);
  counts_.dirty_limit_bytes.set(limited_dirty_bytes(decay_.limit()));
  counts_.clean_bytes.set(std::size_t{runs_.chunks_in(RunState::Clean)} * chunk_bytes);
  counts_.metadata_bytes.set(window_.metadata_bytes());
}

bool Arena::validate() noexcept {
  const os::Lock lock(mutex_);
  const std::size_t usable_chunks = runs_.end() - runs_.chunks_in(RunState::Unusable);
  if (runs_.end() != committed_chunks() || usable_chunks * chunk_bytes != window_.data_bytes()) {
    return false;  // M1
  }
  if (runs_.chunks_in(RunState::Purging) != 0) {
    return false;  // M5
  }
  if (!admits_chunks(0)) {
    return false;  // M6
  }
  std::size_t count = direct_.count();
  // R1 to R6, D1 to D4, G1 and G2, M2, M3 and M7, M4.
  return runs_.validate() && direct_.validate() && huge_pages_.validate() &&
         validate_records(count) && count == large_counts_.count.get();
}

/// Checks M2, M3 and M7, and counts the large objects.
bool Arena::validate_records(std::size_t& count) noexcept {
  for (std::uint32_t first = 0; first < runs_.end(); first += runs_.run_chunks(first)) {
    const RunState state = runs_.state_of_run(first);
    const std::uint32_t length = runs_.run_chunks(first);
    for (std::uint32_t chunk = 0; chunk < length; ++chunk) {
      const Chunk& record = window_.records()[first + chunk];
      const bool is_clear = record.info.kind == ChunkKind::Unclaimed &&
                            record.header.tag.load(Order::relaxed) == 0 &&
                            record.header.seal.load(Order::relaxed) == 0;
      if (state != RunState::InUse && !is_clear) {
        return false;  // M2
      }
      const bool is_page = record.info.kind == ChunkKind::SlabHead;
      if (is_page && !RunClass::of(record.info.class_index).may_use(runs_.class_of_run(first))) {
        return false;  // M7
      }
      if (record.info.kind != ChunkKind::LargeHead && record.info.kind != ChunkKind::Cached) {
        continue;
      }
      if (chunk != 0 || record.info.large_chunks() != length ||
          record.info.large_bytes() % large_step_bytes != 0) {
        return false;  // M3
      }
      ++count;
    }
  }
  return true;
}

}  // namespace slabmalloc
