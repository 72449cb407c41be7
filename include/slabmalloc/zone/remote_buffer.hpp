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
template <class Atomics, std::size_t Entries>
class RemoteBuffer {
  static_assert(is_power_of_two(Entries), "entries are selected by a mask");

 public:
  constexpr RemoteBuffer() noexcept = default;

  std::size_t withheld_bytes() const noexcept { return withheld_bytes_; }

  /// Gathers `free`, of one slot; delivers what was in its place. A second free of a slot that is
  /// still gathered here is reported.
  void add(const RemoteFree<Atomics>& free, std::size_t limit_bytes) noexcept {
    Gathered& entry = entries_[index_of(free)];
    if (entry.page == free.page && entry.word == free.word) {
      if ((entry.mask & free.mask) != 0) [[unlikely]] {
        free.report_double_frees(free.mask);
        return;
      }
      entry.mask |= free.mask;
    } else {
      flush(entry);
      entry = free;
    }
    withheld_bytes_ += free.geometry->object_size;
    if (withheld_bytes_ > limit_bytes) {
      flush_all();
    }
  }

  /// Delivers everything.
  void flush_all() noexcept {
    if (withheld_bytes_ != 0) {
      for (Gathered& entry : entries_) {
        flush(entry);
      }
    }
  }

 private:
  using Gathered = RemoteFree<Atomics>;

  static std::size_t index_of(const Gathered& free) noexcept {
    const auto address = reinterpret_cast<std::uintptr_t>(free.page);
    const std::uintptr_t mixed = (address >> 6) ^ (address >> 12) ^ (address >> 16) ^ free.word;
    return mixed & (Entries - 1);
  }

  void flush(Gathered& entry) noexcept {
    if (entry.page != nullptr) {
      const Gathered free = entry;
      entry = Gathered{};
      withheld_bytes_ -= std::size_t{count_ones(free.mask)} * free.geometry->object_size;
      free.deliver();
    }
  }

  Gathered entries_[Entries] = {};
  std::size_t withheld_bytes_ = 0;
};

}  // namespace slabmalloc
