// SPDX-License-Identifier: MIT
//
// RemoteBuffer: a zone's frees of other owners' objects, gathered by bitmap word before they are told.
//
// A small direct-mapped table of {page, word, mask}: frees that fall into the same word become one
// atomic operation. What is gathered is withheld from its owner, so it is bounded: in bytes, by what a
// configuration allows, and in time, by every slow path of the zone that holds it. A buffered object
// still counts as used, which pins its page.
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/base/misuse.hpp"
#include "slabmalloc/classes/slot_geometry.hpp"
#include "slabmalloc/zone/owner.hpp"

namespace slabmalloc {

/// Slots of one bitmap word of one page, freed by a thread that does not own it.
template <class Atomics>
struct RemoteFree {
  PageHeader<Atomics>* page = nullptr;
  std::byte* frame = nullptr;
  const SlotGeometry* geometry = nullptr;
  std::uint32_t word = 0;
  Word mask = 0;

  /// The slot, where it is one. Pre: mask is not 0.
  std::uint32_t slot() const noexcept { return word * word_bits + lowest_bit(mask); }

  /// Reports each slot of `slots` in this word as freed twice.
  void report_double_frees(Word slots) const noexcept {
    for (; slots != 0; slots &= slots - 1) {
      const std::size_t slot = std::size_t{word} * word_bits + lowest_bit(slots);
      report_misuse({MisuseKind::DoubleFree, frame + slot * geometry->object_size,
                     geometry->object_size, slot});
    }
  }

  /// Frees the slots: marks them and tells the owner. Thread: any; lock-free and without a wait, so
  /// callable in interrupt handlers on any processor.
  /// Order: the fetch_or's release is paired with the acquire in SizeClass::collect(): what this
  /// thread did with the objects happens before their next use. The fetch_add's release makes the bits
  /// visible to who takes the announcement; its acquire, with the release half of the exchange in
  /// SizeClass::absorb(), lets the link be written after the owner read it.
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

/// A direct-mapped table of `Entries` words' frees. Thread: the zone's owner.
/// Invariant: key = 0 and mask = 0, or key = key_of(page, word) and ones(mask) + room = slots_allowed().
template <class Atomics, std::size_t Entries>
class RemoteBuffer {
  static_assert(is_power_of_two(Entries), "entries are selected by a hash");

 public:
  using Header = PageHeader<Atomics>;

  constexpr RemoteBuffer() noexcept = default;

  std::size_t withheld_bytes() const noexcept {
    std::size_t bytes = 0;
    for (const Entry& entry : entries_) {
      bytes += entry.free.mask != 0
                   ? std::size_t{count_ones(entry.free.mask)} * entry.free.geometry->object_size
                   : 0;
    }
    return bytes;
  }

  /// Gathers the free of slot `slot` of `page` if frees of its word are being gathered and there is room
  /// for more; false if not, or if the slot is among them: then nothing is done. Cost: constant, no call.
  [[gnu::always_inline]] bool merge(const Header* page, std::uint32_t slot) noexcept {
    const std::uintptr_t key = key_of(page, slot / word_bits);
    Entry& entry = entry_of(key);
    if (entry.key != key || entry.room == 0) [[unlikely]] {
      return false;
    }
    Word mask = entry.free.mask;
    if (test_and_set(mask, slot)) [[unlikely]] {
      return false;
    }
    entry.free.mask = mask;
    --entry.room;
    return true;
  }

  /// Gathers `free`, of one slot; delivers what was in its place, or all of its word if there is no more
  /// room. Never withholds more than `limit_bytes`. A second free of a slot that is still gathered here is
  /// reported.
  void add(const RemoteFree<Atomics>& free, std::size_t limit_bytes) noexcept {
    const std::uintptr_t key = key_of(free.page, free.word);
    Entry& entry = entry_of(key);
    if (entry.key != key) {
      flush(entry);
      const std::uint32_t slots = slots_allowed(limit_bytes, free.geometry->object_size);
      if (slots == 0) {
        free.deliver();
      } else {
        entry = {key, slots - 1, free};
      }
      return;
    }
    if ((entry.free.mask & free.mask) != 0) [[unlikely]] {
      free.report_double_frees(free.mask);
      return;
    }
    entry.free.mask |= free.mask;
    if (entry.room == 0) {
      flush(entry);
    } else {
      --entry.room;
    }
  }

  /// Delivers everything.
  void flush_all() noexcept {
    for (Entry& entry : entries_) {
      flush(entry);
    }
  }

 private:
  struct alignas(64) Entry {
    std::uintptr_t key = 0;
    std::uint32_t room = 0;  ///< Slots that may be added.
    RemoteFree<Atomics> free;
  };

  /// Slots of one word that may be withheld: an equal share of the bytes for every entry.
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

  static void flush(Entry& entry) noexcept {
    if (entry.key != 0) {
      const RemoteFree<Atomics> free = entry.free;
      entry = Entry{};
      free.deliver();
    }
  }

  Entry entries_[Entries] = {};
};

}  // namespace slabmalloc
