// SPDX-License-Identifier: MIT
//
// HoleScan: gives memory back to the system that holds no live slot, within pages in use.
//
//     page     | live | free | free | free | live | free |      slots
//     units    |     |     |     |     |     |     |     |      of 4 KiB: the least OS page
//                       ^^^^^ ^^^^^                             no live slot: a hole
//
// Free slots hold no links, and bitmaps lie beside the data. So nobody reads or writes such a unit
// before a slot in it is issued. The record of each chunk has two bits for each unit (chunk.hpp):
//
//     seen       the unit was free at the last scan, and no slot of it was claimed since
//     dropped    it went back to the system, and reads as zero
//
// A scan drops the units that are free and were seen free by the scan before. So a unit must be
// free for one interval, and a unit that is used again and again keeps its memory. A claim clears
// both bits; nothing else does. Two scans in a row drop all that is free: that is trim().
//
// A scan walks over the records of the arena in steps, so that no call takes long. A zone's owner
// scans its own pages, every tunables.decay_milliseconds. Other threads scan the pages of zones
// whose owners have not done so for twice that time, and while trim() or exhaustion asks for it.
// Such a scavenger holds the lock of each owner during a step (scavenged_queue.hpp). Then
//
//     no slot becomes claimed      except by a hand-off, in a page whose tag says full
//     no page leaves its owner
//     the current page stays
//
// Free slots are those with a bit in either bitmap. The slots of the latest claim count as live. In
// full pages only remote bits count, since a slot that was handed off is claimed without the lock.
//
// Invariant, with its line in ArenaTable::check_holes():
//   H1  a hole, dropped or seen, holds no live or claimed slot
#pragma once

#include <cstdint>

#include "arena/chunk.hpp"
#include "os/os.hpp"
#include "tunables.hpp"

namespace slabmalloc {

class ScavengedQueue;
struct ThreadZone;

/// The units of an OS page.
inline std::uint32_t units_per_os_page() noexcept {
  return static_cast<std::uint32_t>(os::interface().os_page_bytes() / unit_bytes);
}

/// `units` without those whose OS page is not wholly in the set.
inline UnitSet whole_os_pages(UnitSet units) noexcept {
  if (units_per_os_page() > units_per_chunk) {
    return 0;
  }
  for (std::uint32_t step = 1; step < units_per_os_page(); step *= 2) {
    // Every bit at a multiple of 2 * step is the `and` of that many.
    units = static_cast<UnitSet>(units & units >> step);
  }
  UnitSet result = 0;
  for (std::uint32_t unit = 0; unit < units_per_chunk; unit += units_per_os_page()) {
    const auto all = static_cast<UnitSet>(((std::uint32_t{1} << units_per_os_page()) - 1) << unit);
    result = static_cast<UnitSet>(result | ((units >> unit & 1) != 0 ? all : 0));
  }
  return result;
}

/// `units` and the rest of their OS pages.
inline UnitSet os_pages_around(UnitSet units) noexcept {
  return units_per_os_page() == 1
             ? units
             : static_cast<UnitSet>(~whole_os_pages(static_cast<UnitSet>(~units)));
}

/// Finds the free slots of each of `words` words of a page, without those of `claim`, the latest
/// claim of the page's class.
/// Pre: the calling thread holds the lock of the owner's queue.
/// Order: the acquire of the tag is paired with the release in ClassPages::push_partial(), that of
/// the remote words with the release in RemoteFree::deliver(): the last client's writes come first.
template <class Header, class Claim>
void find_free_slots(Word* free, Header& page, std::uint32_t words, const Claim& claim) noexcept {
  const bool is_full = (page.tag.load(Order::acquire) & PageState::mask) == PageState::full;
  for (std::uint32_t word = 0; word < words; ++word) {
    const Word local = page.local(word).load(Order::relaxed);
    const Word remote = page.remote(word, words).load(Order::acquire);
    free[word] = is_full ? remote & ~local : remote | local;
  }
  if (claim.page == &page) {
    free[claim.word] &= ~claim.slots;
  }
}

/// The units of chunk `chunk` of a page that hold no slot but free ones. The page has `slots`, laid
/// out as `info` says; word w of `free` has the bits of its free slots. Units beyond the last slot
/// are free.
/// Cost: O(units + words).
inline UnitSet units_of_free_slots(const ChunkInfo& info, std::uint32_t chunk,
                                   const Word* free) noexcept {
  UnitSet result = 0;
  for (std::uint32_t unit = 0; unit < units_per_chunk; ++unit) {
    const auto byte = static_cast<std::uint32_t>(chunk * chunk_bytes + unit * unit_bytes);
    const std::uint32_t last_around = info.slot_around(byte + unit_bytes - 1);
    const std::uint32_t end = last_around < info.slots ? last_around + 1 : info.slots;
    bool is_free = true;
    for (std::uint32_t slot = info.slot_around(byte); slot < end && is_free;) {
      const std::uint32_t bit = slot % word_bits;
      const std::uint32_t count = end - slot < word_bits - bit ? end - slot : word_bits - bit;
      const Word mask = ~Word{0} >> (word_bits - count) << bit;
      is_free = (free[slot / word_bits] & mask) == mask;
      slot += count;
    }
    result = static_cast<UnitSet>(result | (is_free ? 1u << unit : 0u));
  }
  return result;
}

/// The scans of one zone's pages.
/// Thread: the zone's owner under its queue's lock, or a scavenger that holds that lock; the time
/// of the last scan: any.
class HoleScan {
 public:
  using Step = Tunables::ScanStep;

  constexpr HoleScan() noexcept = default;

  /// True if the time for a scan by the owner has come, or by others. These wait twice as long for
  /// an owner that has scanned last. They come at intervals of their own, so for their own last
  /// scan three quarters are enough. Thread: any; a hint.
  bool is_due(std::uint32_t now) const noexcept { return quarters_past(now) >= 4; }
  bool is_overdue(std::uint32_t now) const noexcept {
    return quarters_past(now) >= (is_by_owner_.load(Order::relaxed) ? 8 : 3);
  }

  /// Makes a scan by others overdue: the owner has gone.
  void leave_to_others() noexcept {
    is_by_owner_.store(false, Order::relaxed);
    begun_at_.store(begun_at_.load(Order::relaxed) - interval(), Order::relaxed);
  }

  /// Notes that a scan begins at `now`, by the owner or by others.
  void begin(std::uint32_t now, bool by_owner) noexcept {
    begun_at_.store(now, Order::relaxed);
    is_by_owner_.store(by_owner, Order::relaxed);
  }

  /// Notes that `units` were dropped.
  void note_dropped(std::uint32_t units) noexcept { dropped_ += units; }

  /// Notes that a scan ends. The owner has claimed `refaulted` dropped units since the scan before
  /// ended. If those are half of the units that that one dropped, scans become rarer.
  void end(std::uint32_t refaulted) noexcept;

  /// Where the owner's scan goes on; `no_scan` if none is under way.
  static constexpr std::uint32_t no_scan = ~std::uint32_t{0};
  std::uint32_t next_chunk = no_scan;

 private:
  std::uint32_t interval() const noexcept {
    const std::uint32_t decay = tunables.decay_milliseconds;
    const std::uint32_t least = Tunables::least_scan_milliseconds;
    return (decay > least ? decay : least) * stretch_.load(Order::relaxed);
  }
  /// The quarters of an interval since the last scan began.
  std::uint64_t quarters_past(std::uint32_t now) const noexcept {
    return std::uint64_t{now - begun_at_.load(Order::relaxed)} * 4 / interval();
  }

  HardwareAtomics::Cell<std::uint32_t> begun_at_{0};  ///< Milliseconds.
  HardwareAtomics::Cell<bool> is_by_owner_{true};     ///< The scan that began then.
  HardwareAtomics::Cell<std::uint32_t> stretch_{1};   ///< Intervals between two scans.
  std::uint32_t dropped_ = 0;                         ///< Units, by the scan under way.
  std::uint32_t dropped_before_ = 0;                  ///< Units, by the scan before.
};

/// Scans pages from chunk `next` on, for at most a step: those of `owner`, or of all owners whose
/// scavenger's lock is held if that is null. After the last chunk `next` is HoleScan::no_scan.
/// Pre: the calling thread holds the lock of these owners.
void scan_step(std::uint32_t& next, HoleScan::Step step, const ScavengedQueue* owner) noexcept;

/// Scans a step of the calling thread's own pages if a scan is due or under way.
void scan_own_pages(ThreadZone& own) noexcept;

/// Scans all of the calling thread's own pages.
void scan_all_own_pages(ThreadZone& own) noexcept;

}  // namespace slabmalloc
