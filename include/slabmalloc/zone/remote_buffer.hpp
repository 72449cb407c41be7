// SPDX-License-Identifier: MIT
//
// RemoteBuffer: a zone's frees of other owners' objects, gathered by bitmap word before they are told.
//
// A small direct-mapped table of {page, word, mask}: frees that fall into the same word become one
// atomic operation. What is gathered is buffered from its owner, so it is bounded: in bytes, by what a
// configuration allows, and in time: by every 64th claim of the zone that holds it at the latest and, since that
// zone's thread may sleep for ever, by scavengers. A buffered object still counts as used, which pins its page.
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/base/misuse.hpp"
#include "slabmalloc/classes/slot_geometry.hpp"
#include "slabmalloc/zone/asymmetric_lock.hpp"
#include "slabmalloc/zone/owner.hpp"

namespace slabmalloc {

/// Slots of one bitmap word of one page, freed by a thread that does not own it.
template <class Atomics>
struct RemoteFree {
  PageHeader<Atomics>* page = nullptr;
  std::byte* first_slot = nullptr;
  const SlotGeometry* geometry = nullptr;
  std::uint32_t word = 0;
  Word mask = 0;

  /// The slot, where it is one. Pre: mask is not 0.
  std::uint32_t slot() const noexcept { return word * word_bits + lowest_bit(mask); }

  /// Reports each slot of `slots` in this word as freed twice.
  void report_double_frees(Word slots) const noexcept {
    for (; slots != 0; slots &= slots - 1) {
      const std::size_t slot = std::size_t{word} * word_bits + lowest_bit(slots);
      report_misuse({MisuseKind::DoubleFree, first_slot + slot * geometry->object_size,
                     geometry->object_size, slot});
    }
  }

  /// Frees the slots: marks them and tells the owner. Thread: any; lock-free and without a wait, so
  /// callable in interrupt handlers on any processor.
  /// Order: the fetch_or's release is paired with the acquire in SizeClass::drain_remote_bits(): what this
  /// thread did with the objects happens before their next use. The fetch_add's release makes the bits
  /// visible to who takes the announcement; its acquire, with the release half of the exchange in
  /// SizeClass::drain_page(), lets the link be written after the owner read it.
  /// Post: the announcement, with the push if it was the first, was the last access to the page.
  void deliver() const noexcept {
    // A live object pins its page: there is one, of this class, with an owner, and not idle. Otherwise the
    // object was freed by someone else while this free was gathered or under way.
    const std::uintptr_t tag = page->tag.load(Order::relaxed);
    if (tag == 0 || (tag & PageState::mask) == PageState::idle ||
        page->seal.load(Order::relaxed) != page->seal_for(geometry->object_size)) [[unlikely]] {
      report_double_frees(mask);
      return;
    }
    const Word before = page->remote(word, geometry->words).fetch_or(mask, Order::release);
    if ((before & mask) != 0) [[unlikely]] {
      report_double_frees(before & mask);
    }
    const std::uint32_t freed = count_ones(mask & ~before);
    if (freed == 0) [[unlikely]] {
      return;
    }
    if (page->announced.fetch_add(freed, Order::acq_rel) == 0) {
      Owner<Atomics>::of(tag)->push(page);
    }
  }
};

/// A direct-mapped table of `Entries` words' frees. Thread: the zone's owner, but for what scavengers may call.
///
/// All of it is behind a lock. merge(), which is most frees, has a second one, the same with other words: its mark
/// is the entry's, and what tells it of a scavenger is that the key is gone. The owner must not write that word while
/// a scavenger does: it could put back what the scavenger took away. So a scavenger passes the first lock, behind which
/// keys are written, and takes them away then; and merge() writes none.
///
/// Invariants, by entry: mask = 0, or free.page and free.word are those of the mask's slots; key = 0, or
/// key = key_of(free.page, free.word) and ones(mask) + room = slots_allowed().
template <class Atomics, std::size_t Entries>
class RemoteBuffer {
  static_assert(is_power_of_two(Entries), "entries are selected by a hash");

 public:
  using Header = PageHeader<Atomics>;

  /// What a scavenger took out, to be delivered.
  struct BufferedFrees {
    RemoteFree<Atomics> frees[Entries];
    std::size_t count = 0;

    void deliver() const noexcept {
      for (std::size_t index = 0; index < count; ++index) {
        frees[index].deliver();
      }
    }
  };

  constexpr RemoteBuffer() noexcept = default;

  /// The bytes of what is gathered; 0 while a scavenger is taking it.
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

  /// Gathers the free of slot `slot` of `page` if frees of its word are being gathered and there is room
  /// for more; false if not, or if the slot is among them: then nothing is done. Cost: constant, no call.
  [[gnu::always_inline]] bool merge(const Header* page, std::uint32_t slot) noexcept {
    const std::uintptr_t key = key_of(page, slot / word_bits);
    Entry* place = &entry_of(key);
    // Else GCC keeps base and offset in registers of their own, which are then too few: 8 more instructions.
    __asm__("" : "+r"(place));
    Entry& entry = *place;
    // Threads without a zone share an empty buffer, which they must not write to: this is where they leave.
    if (entry.key.load(Order::relaxed) != key) [[unlikely]] {
      return false;
    }
    return entry.merge(key, slot);
  }

  /// Gathers `free`, of one slot; delivers what was in its place, or all of its word if there is no more
  /// room. Never buffers more than `limit_bytes`. A second free of a slot that is still gathered here is
  /// reported. While a scavenger is there, `free` is delivered at once.
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
    // Reports and deliveries come after leaving: what a handler does may take long, and scavengers wait.
    if ((entry.free.mask & free.mask) != 0) [[unlikely]] {
      lock_.unlock_owner();
      free.report_double_frees(free.mask);
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
    due.deliver();
  }

  /// Delivers everything, or leaves the rest to a scavenger that is there.
  void flush_all() noexcept { flush_some(Entries); }

  /// Delivers what is gathered of at most `words` words, in turn.
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
      due.deliver();
      --words;
    }
  }

  /// False if nothing is gathered. Thread: any; a hint.
  bool holds_some() const noexcept { return holds_some_.load(Order::relaxed); }

  /// Takes everything out, for the scavenger to deliver; nothing if the owner is at it right now, or if there is
  /// no fence. Thread: any but the owner. `fence` is as in AsymmetricLock::try_lock_scavenger().
  template <class Fence>
  BufferedFrees take_all(Fence&& fence) noexcept {
    BufferedFrees result;
    const auto is_merging = [this]() noexcept {
      bool some = false;
      for (const Entry& entry : entries_) {
        some = some || entry.merging.load(Order::acquire);
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
    template <class T>
    using Cell = typename Atomics::template Cell<T>;

    Cell<std::uintptr_t> key;   ///< 0: not to be merged with. Scavengers clear it before they are inside.
    Cell<bool> merging{false};  ///< The owner is in merge().
    std::uint32_t room = 0;     ///< Slots that may be added.
    RemoteFree<Atomics> free;

    /// Adds a slot if there is room, it is not there already, and the key was not taken away.
    /// Order: leaving releases, with the acquire in take_all(): the slot is seen.
    [[gnu::always_inline]] bool merge(std::uintptr_t expected, std::uint32_t slot) noexcept {
      merging.store(true, Order::relaxed);
      compiler_fence();
      if (key.load(Order::relaxed) == expected && room != 0) [[likely]] {
        Word mask = free.mask;
        if (!test_and_set(mask, slot)) [[likely]] {
          free.mask = mask;
          --room;
          merging.store(false, Order::release);
          return true;
        }
      }
      merging.store(false, Order::release);
      return false;
    }

    /// Empties the entry; what was in it. Inside the lock.
    RemoteFree<Atomics> take() noexcept {
      const RemoteFree<Atomics> taken = free;
      key.store(0, Order::relaxed);
      free.mask = 0;
      return taken;
    }
  };

  /// The part of add() for a word that is not gathered yet. It leaves the lock.
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
      due.deliver();
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

  /// Unlike for every word of every page: the bitmaps of two pages do not overlap.
  static std::uintptr_t key_of(const Header* page, std::uint32_t word) noexcept {
    return reinterpret_cast<std::uintptr_t>(page) - word * sizeof(Word);
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
  mutable AsymmetricLock<Atomics> lock_;
  typename Atomics::template Cell<bool> holds_some_{false};
  std::size_t next_to_flush_ = 0;
};

}  // namespace slabmalloc
