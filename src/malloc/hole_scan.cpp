// SPDX-License-Identifier: MIT
//
// The walk over the records, and what becomes of each page.
#include "malloc/hole_scan.hpp"

#include "malloc/thread_zones.hpp"
#include "tunables.hpp"

namespace slabmalloc {

namespace {

std::uint32_t now() noexcept {
  return static_cast<std::uint32_t>(os::interface().now_milliseconds());
}

/// Gives the units of `due` of the chunk back to the system; returns those that went back. Counts
/// the system calls in `calls`; the split of a huge page counts as many.
UnitSet drop(const Chunk& chunk, UnitSet due, std::uint32_t& calls) noexcept {
  UnitSet dropped = 0;
  std::byte* const start = process_arena.address_of(&chunk);
  for (std::uint32_t unit = 0; unit < units_per_chunk;) {
    const std::uint32_t length = lowest_bit(~(Word{due} >> unit));
    if (length == 0) {
      ++unit;
      continue;
    }
    std::uint32_t splits = 0;
    if (process_arena.drop_hole(start + unit * unit_bytes, length * unit_bytes, splits)) {
      const std::uint32_t run = ((std::uint32_t{1} << length) - 1) << unit;
      dropped = static_cast<UnitSet>(dropped | run);
    }
    calls += 1 + splits * Tunables::calls_per_split;
    unit += length;
  }
  return dropped;
}

/// Drops the units of a page that have been free since the last scan, and notes those that are
/// free now. Counts the system calls in `calls`.
void scan_page(Chunk& head, ThreadZone& owner, std::uint32_t& calls) noexcept {
  const ChunkInfo info = head.snapshot();
  Word free[Chunk::maximum_words];
  find_free_slots(free, head.header, info.words(),
                  owner.zone.class_at(info.class_index).latest_claim());
  const std::size_t bytes = ArenaZone::frame_bytes_of_class(info.class_index);
  for (std::uint32_t number = 0; number < bytes / chunk_bytes; ++number) {
    Chunk& chunk = *(&head + number);
    const UnitSet seen = whole_os_pages(units_of_free_slots(info, number, free));
    Holes holes = chunk.holes();
    const auto due = static_cast<UnitSet>(seen & holes.seen & ~holes.dropped);
    const UnitSet dropped = due != 0 ? drop(chunk, due, calls) : UnitSet{0};
    owner.holes.note_dropped(count_ones(dropped));
    const Holes after{static_cast<UnitSet>(holes.dropped | dropped), seen};
    if (after != holes) {
      chunk.set_holes(after);
    }
  }
}

}  // namespace

void HoleScan::end(std::uint32_t refaulted) noexcept {
  const std::uint32_t stretch = stretch_.load(Order::relaxed);
  if (refaulted != 0 && refaulted >= dropped_before_ / 2) {
    stretch_.store(stretch < Tunables::longest_scan_stretch ? stretch * 2 : stretch,
                   Order::relaxed);
  } else {
    stretch_.store(stretch > 1 ? stretch / 2 : 1, Order::relaxed);
  }
  dropped_before_ = dropped_;
  dropped_ = 0;
}

void scan_step(std::uint32_t& next, HoleScan::Step step, const ScavengedQueue* owner) noexcept {
  const std::size_t chunks = process_arena.committed_chunks();
  std::uint32_t calls = 0;
  for (std::uint32_t records = 0; records < step.records && calls < step.calls; ++records) {
    if (next >= chunks) {
      next = HoleScan::no_scan;
      return;
    }
    Chunk& record = process_arena.own_record(next++);
    const std::uintptr_t tag = record.header.tag.load(Order::relaxed);
    ScavengedQueue* const queue = ScavengedQueue::of(tag);
    // Only the owner and the holder of its lock know that a zone is complete.
    if (queue != nullptr &&
        (owner != nullptr ? queue == owner : queue->scavenger_lock().has_scavenger()) &&
        queue->zone() != nullptr) {
      scan_page(record, *queue->zone(), calls);
    }
  }
}

void scan_own_pages(ThreadZone& own) noexcept {
  HoleScan& scan = own.holes;
  if (scan.next_chunk == HoleScan::no_scan) {
    const std::uint32_t time = now();
    if (!scan.is_due(time)) {
      return;
    }
    scan.begin(time, true);
    scan.next_chunk = 0;
  }
  ScavengedQueue& queue = own.zone.queue();
  queue.lock();
  scan_step(scan.next_chunk, Tunables::owner_scan_step, &queue);
  if (scan.next_chunk == HoleScan::no_scan) {
    scan.end(queue.take_refaults());
  }
  queue.unlock();
}

void scan_all_own_pages(ThreadZone& own) noexcept {
  own.holes.begin(now(), true);
  own.holes.next_chunk = 0;
  while (own.holes.next_chunk != HoleScan::no_scan) {
    scan_own_pages(own);
  }
}

}  // namespace slabmalloc
