// SPDX-License-Identifier: MIT
//
// RemoteBuffer: a zone's frees of other owners' objects, gathered by bitmap word before they are
// delivered.
//
//   free ──► merge: same word ──► mask |= bit                      up to 64 frees, then one
//        └─► add:   new word  ──► replaces the entry, delivers it  atomic operation for all
//
// The buffer is a small direct-mapped table of {page, word, mask}. Buffered frees are missing at
// their owners, so the buffer is bounded in bytes by its configuration and in time by its zone,
// which delivers at the latest every claims_per_drain claims. A buffered object still counts as
// used, which pins its page.
//
// A zone whose thread sleeps delivers nothing. If the queue policy has a shared `Lock`, another
// thread may take everything out (take_all). The lock keeps the two apart. merge(), which serves
// most frees, does not take that lock; it sets the entry's own mark, and learns from the entry's
// missing key that a scavenger is there. The owner must not write the word that tells it so: it
// could put back what the scavenger took away. Therefore keys are written under the lock, and
// merge() writes none.
//
// Invariants, by entry:
//   mask = 0, or free.page and free.word are those of the mask's slots
//   key = 0, or key = key_of(free.page, free.word) and ones(mask) + room = slots_allowed()
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/base/misuse.hpp"
#include "slabmalloc/classes/slot_geometry.hpp"
#include "slabmalloc/zone/remote_free_queue.hpp"

namespace slabmalloc {

/// A direct-mapped table of the frees of `Entries` words. Thread: the zone's owner, where nothing
/// else is said.
template <class Atomics, std::size_t Entries, class Lock = OwnerOnlyLock>
class RemoteBuffer {
  static_assert(is_power_of_two(Entries), "entries are selected by a hash");

 public:
  using Header = PageHeader<Atomics>;

  /// Frees that a scavenger took out, to be delivered.
  struct BufferedFrees {
    RemoteFree<Atomics> frees[Entries];
    std::size_t count = 0;

    void deliver() const noexcept {
      for (std::size_t index = 0; index < count; ++index) {
        frees[index].deliver(frees[index].mask);
      }
    }
  };

  constexpr RemoteBuffer() noexcept = default;

  /// The bytes of all buffered objects; 0 while a scavenger takes them.
  std::size_t buffered_bytes() const noexcept {
    std::size_t bytes = 0;
    if (lock_.try_lock_owner()) {
      for (const Entry& entry : entries_) {
        bytes += entry.free.mask != 0
                     ? std::size_t{count_ones(entry.free.mask)} * entry.free.geometry->object_size
                     : 0;
      }
      lock_.unlock_owner();
    }
    return bytes;
  }

  /// Buffers the free of slot `slot` of `page` if frees of its word are buffered and there is room.
  /// False, and nothing done, if not, or if the slot is among them.
  /// Cost: constant, no call.
  [[gnu::always_inline]] bool merge(Header* page, std::uint32_t slot) noexcept {
    const std::uintptr_t key = key_of(page, slot / word_bits);
    Entry* place = &entry_of(key);
    // Else GCC keeps base and offset in registers of their own, which are then too few: 8 more
    // instructions.
    __asm__("" : "+r"(place));
    Entry& entry = *place;
    // Threads without a zone share an empty buffer, which they must not write: they leave here.
    if (entry.key.load(Order::relaxed) != key) [[unlikely]] {
      return false;
    }
    return entry.merge(key, slot);
  }

  /// Buffers `free`, of one slot. Delivers the entry that it replaces, or all of its word if the
  /// room is used up. Never buffers more than `limit_bytes`. Reports a second free of a slot that
  /// is buffered. While a scavenger holds the lock, delivers `free` at once.
  void add(const RemoteFree<Atomics>& free, std::size_t limit_bytes) noexcept {
    if (!lock_.try_lock_owner()) [[unlikely]] {
      free.deliver();
      return;
    }
    const std::uintptr_t key = key_of(free.page, free.word);
    Entry& entry = entry_of(key);
    if (entry.key.load(Order::relaxed) != key) {
      replace(entry, key, free, limit_bytes);
      return;
    }
    // Reports and deliveries come after unlocking: a misuse handler may take long.
    if ((entry.free.mask & free.mask) != 0) [[unlikely]] {
      lock_.unlock_owner();
      free.report_double_frees(free.mask, 0, BlockState::Freed);
      return;
    }
    entry.free.mask |= free.mask;
    if (entry.room != 0) {
      --entry.room;
      lock_.unlock_owner();
      return;
    }
    const RemoteFree<Atomics> due = entry.take();
    lock_.unlock_owner();
    due.deliver(due.mask & ~free.mask);
  }

  /// Delivers everything, or leaves the rest to a scavenger that holds the lock.
  void flush_all() noexcept { flush_some(Entries); }

  /// Delivers the frees of at most `words` words, in turn.
  void flush_some(std::size_t words) noexcept {
    if (!holds_some()) {
      return;
    }
    holds_some_.store(false, Order::relaxed);
    for (std::size_t looked_at = 0; looked_at < Entries; ++looked_at) {
      if (words == 0) {
        holds_some_.store(true, Order::relaxed);
        return;
      }
      Entry& entry = entries_[next_to_flush_];
      next_to_flush_ = (next_to_flush_ + 1) % Entries;
      if (!lock_.try_lock_owner()) [[unlikely]] {
        // Should the scavenger give up, there is still something to come back for.
        holds_some_.store(true, Order::relaxed);
        return;
      }
      if (entry.free.mask == 0) {
        lock_.unlock_owner();
        continue;
      }
      const RemoteFree<Atomics> due = entry.take();
      lock_.unlock_owner();
      due.deliver(due.mask);
      --words;
    }
  }

  /// False if nothing is buffered. Thread: any; a hint.
  bool holds_some() const noexcept { return holds_some_.load(Order::relaxed); }

  /// Takes everything out, for the scavenger to deliver. Nothing if the owner holds the lock or
  /// sets a mark right now, or if `fence()` fails, which is as in Lock::try_lock_scavenger().
  /// Thread: any but the owner.
  template <class Fence>
  BufferedFrees take_all(Fence&& fence) noexcept {
    BufferedFrees result;
    const auto is_merging = [this]() noexcept {
      bool some = false;
      for (const Entry& entry : entries_) {
        some = some || entry.mark.is_set();
      }
      return some;
    };
    if (!holds_some() || !lock_.try_lock_scavenger(fence)) {
      return result;
    }
    for (Entry& entry : entries_) {
      entry.key.store(0, Order::relaxed);
    }
    if (fence() && !is_merging()) {
      for (Entry& entry : entries_) {
        if (entry.free.mask != 0) {
          result.frees[result.count++] = entry.take();
        }
      }
      holds_some_.store(false, Order::relaxed);
    }
    lock_.unlock_scavenger();
    return result;
  }

 private:
  struct alignas(64) Entry {
    typename Atomics::template Cell<std::uintptr_t> key;  ///< 0: not to be merged with.
    [[no_unique_address]] typename Lock::Mark mark;       ///< The owner is in merge().
    std::uint32_t room = 0;                               ///< Slots that may be added.
    RemoteFree<Atomics> free;

    /// Adds a slot if there is room, it is not there already, and the key was not taken away. It
    /// does not look at the slot's bits. Their lines are in the caches of other CPUs: a look at
    /// each free costs both threads a tenth of their processor time.
    [[gnu::always_inline]] bool merge(std::uintptr_t expected, std::uint32_t slot) noexcept {
      mark.set();
      if (key.load(Order::relaxed) == expected && room != 0) [[likely]] {
        Word mask = free.mask;
        if (!test_and_set(mask, slot)) [[likely]] {
          free.mask = mask;
          --room;
          mark.clear();
          return true;
        }
      }
      mark.clear();
      return false;
    }

    /// Empties the entry; returns what was in it. Under the lock.
    RemoteFree<Atomics> take() noexcept {
      const RemoteFree<Atomics> taken = free;
      key.store(0, Order::relaxed);
      free.mask = 0;
      return taken;
    }
  };

  /// The part of add() for a word that is not buffered yet. It unlocks.
  void replace(Entry& entry, std::uintptr_t key, const RemoteFree<Atomics>& free,
               std::size_t limit_bytes) noexcept {
    const RemoteFree<Atomics> due = entry.take();
    const std::uint32_t slots = slots_allowed(limit_bytes, free.geometry->object_size);
    if (slots != 0) {
      entry.free = free;
      entry.room = slots - 1;
      entry.key.store(key, Order::relaxed);
      holds_some_.store(true, Order::relaxed);
    }
    lock_.unlock_owner();
    if (due.mask != 0) {
      due.deliver(due.mask);
    }
    if (slots == 0) {
      free.deliver();
    }
  }

  /// Slots of one word that may be buffered: an equal share of the bytes for every entry.
  static std::uint32_t slots_allowed(std::size_t limit_bytes, std::uint32_t object_size) noexcept {
    const std::size_t slots = limit_bytes / Entries / object_size;
    return slots < word_bits ? static_cast<std::uint32_t>(slots) : word_bits;
  }

  /// The address of the local word, which no two words share.
  static std::uintptr_t key_of(Header* page, std::uint32_t word) noexcept {
    return reinterpret_cast<std::uintptr_t>(&page->local(word));
  }
  /// Fibonacci hashing: Knuth, The Art of Computer Programming 3, 6.4.
  [[gnu::always_inline]] Entry& entry_of(std::uintptr_t key) noexcept {
    constexpr auto golden = static_cast<std::uintptr_t>(0x9E3779B97F4A7C15u);
    constexpr std::uint32_t bits = lowest_bit(Entries);
    if constexpr (bits == 0) {
      return entries_[0];
    } else {
      return entries_[key * golden >> (sizeof(key) * 8 - bits)];
    }
  }

  Entry entries_[Entries] = {};
  [[no_unique_address]] mutable Lock lock_;
  typename Atomics::template Cell<bool> holds_some_{false};
  std::size_t next_to_flush_ = 0;
};

}  // namespace slabmalloc
