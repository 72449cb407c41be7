// SPDX-License-Identifier: MIT
//
// BlockRecord: what the debug mode stores with each block, and how a block lies in its slot.
//
//   previous slot ──┐  slot, of a size class                                        ┌── next slot
//   … record | guard | object: size bytes | red zone: 16 bytes or more | record | guard | object …
//              16 B    ▲                                                           16 B
//                      └─ the slot's first byte: alignment is that of the size class
//
// The guard before an object is that of the slot before, or lies before the first slot
// (debug_page.hpp). A run has the same picture without the guard before.
//
//   state of a block     red zone, guard     object and red zone
//   Live, Reached        red_byte
//   Freeing              red_byte, until it is Freed
//   NeverAllocated       guard: red_byte     free_byte
//   Freed                guard: red_byte     free_byte
//
// A write beyond an object hits its red zone first, and a write before it the guard. Both protect
// the record from writes that run past either end of an object. The state is mixed with the
// record's address, so other memory does not pass for a record.
//
// Equations over a slot, with their lines in BlockChecks::check_block():
//   D1  the state is one of these
//   D2  size + guard_bytes <= offset of the record
//   D3  the guard before is red_byte
//   D4  from size to the record all is red_byte if Live; if free, all bytes are free_byte
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/base/atomics.hpp"
#include "slabmalloc/base/bits.hpp"
#include "slabmalloc/base/layout.hpp"
#include "slabmalloc/base/misuse.hpp"

namespace slabmalloc {

/// What lies around blocks, as in SLUB.
inline constexpr std::uint8_t red_byte = 0xCC;
/// What lies in free blocks.
inline constexpr std::uint8_t free_byte = 0x6B;

/// The heap that allocated a block.
struct BlockOwner {
  const char* name = nullptr;
};

/// The record of a block. Thread: any. It may lag in a report of a free that another CPU makes at
/// this moment: that CPU changes the state first.
template <class AtomicsT>
class BlockRecord {
 public:
  enum class State : std::uint8_t {
    Damaged,         ///< Something overwrote the record, or there is none.
    NeverAllocated,  ///< Since its page came into use.
    Live,
    Reached,  ///< Live, and a leak scan has found it.
    Freeing,  ///< A free checks it.
    Freed,
  };

  /// Makes this the record of a block that no client had yet.
  void begin() noexcept {
    set_owner_and_size(nullptr, 0);
    set_user(allocation, {});
    set_user(free, {});
    set_state(State::NeverAllocated);
  }

  State state() const noexcept {
    const std::uint32_t number = state_.load(Order::relaxed) ^ seal();
    const bool is_sealed = seal_.load(Order::relaxed) == seal_of(owner(), size());
    return is_sealed && number - first_state <= static_cast<std::uint32_t>(State::Freed) - 1
               ? static_cast<State>(number - first_state + 1)
               : State::Damaged;
  }
  void set_state(State state) noexcept { state_.store(word_of(state), Order::relaxed); }
  /// False, and no effect, if the state was not `from`. Of two calls at the same time one succeeds.
  bool change_state(State from, State to) noexcept {
    std::uint32_t expected = word_of(from);
    while (!state_.compare_exchange(expected, word_of(to), Order::relaxed)) {
      if (expected != word_of(from)) {
        return false;
      }
    }
    return true;
  }

  void begin_use(const BlockOwner* owner, std::size_t size, const BlockUser& user) noexcept {
    set_owner_and_size(owner, size);
    set_user(allocation, user);
    set_user(free, {});
    set_state(State::Live);
  }
  void end_use(const BlockUser& user) noexcept {
    set_user(free, user);
    set_state(State::Freed);
  }

  const BlockOwner* owner() const noexcept { return owner_.load(Order::relaxed); }
  std::size_t size() const noexcept { return size_.load(Order::relaxed); }
  void set_size(std::size_t size) noexcept { set_owner_and_size(owner(), size); }
  BlockUser allocated() const noexcept { return user(allocation); }
  BlockUser freed() const noexcept { return user(free); }

  /// A link for a list of live blocks, which have no free. Null at first, and to be null at last.
  void* link() const noexcept { return const_cast<void*>(caller_[free].load(Order::relaxed)); }
  void set_link(void* block) noexcept { caller_[free].store(block, Order::relaxed); }

 private:
  template <class T>
  using Cell = typename AtomicsT::template Cell<T>;
  enum Use : std::uint32_t { allocation, free };

  static constexpr std::uint32_t first_state = 0x51AB0DE5;

  static std::uint32_t mix(std::uint64_t number) noexcept {
    return static_cast<std::uint32_t>(number * 0x9E3779B97F4A7C15 >> 32);
  }
  std::uint32_t seal() const noexcept { return mix(reinterpret_cast<std::uintptr_t>(this)); }
  /// A write that goes on from the object destroys these two first. Nothing follows them after it.
  std::uint32_t seal_of(const BlockOwner* owner, std::size_t size) const noexcept {
    return mix(reinterpret_cast<std::uintptr_t>(owner)) ^ mix(~std::uint64_t{size}) ^ ~seal();
  }
  void set_owner_and_size(const BlockOwner* owner, std::size_t size) noexcept {
    owner_.store(owner, Order::relaxed);
    size_.store(size, Order::relaxed);
    seal_.store(seal_of(owner, size), Order::relaxed);
  }
  std::uint32_t word_of(State state) const noexcept {
    return (first_state + static_cast<std::uint32_t>(state) - 1) ^ seal();
  }
  BlockUser user(Use use) const noexcept {
    return {caller_[use].load(Order::relaxed), cpu_[use].load(Order::relaxed),
            time_[use].load(Order::relaxed)};
  }
  void set_user(Use use, const BlockUser& user) noexcept {
    caller_[use].store(user.caller, Order::relaxed);
    cpu_[use].store(user.cpu, Order::relaxed);
    time_[use].store(static_cast<std::uintptr_t>(user.time), Order::relaxed);
  }

  Cell<const BlockOwner*> owner_;
  Cell<std::size_t> size_;
  Cell<const void*> caller_[2];
  Cell<std::uintptr_t> time_[2];
  Cell<std::uint32_t> cpu_[2];
  Cell<std::uint32_t> seal_;  ///< Of the owner and the size.
  Cell<std::uint32_t> state_;
};

/// Where the parts of a block lie.
template <class AtomicsT, class RecordT = BlockRecord<AtomicsT>>
struct BlockLayout {
  using Atomics = AtomicsT;
  using Record = RecordT;

  static constexpr std::size_t guard_bytes = 16;
  /// The bytes that a block has beside those of its client, at least.
  static constexpr std::size_t overhead_bytes = 2 * guard_bytes + sizeof(Record);

  static constexpr std::size_t size_of(Layout layout) noexcept {
    return layout.size() != 0 ? layout.size() : 1;
  }
  /// The layout of the slot of a block of `layout`. Fails: InvalidLayout if it is too large.
  static constexpr Result<Layout> extend(Layout layout) noexcept {
    return Layout::from_size_align(size_of(layout) + overhead_bytes, layout.align());
  }
  /// The same for a run, of whole frames of `base_bytes`.
  static constexpr Result<Layout> extend_run(Layout layout, std::size_t base_bytes) noexcept {
    const Result<Layout> least = extend(layout);
    return least ? Layout::from_size_align(align_up(least->size(), base_bytes), layout.align())
                 : least;
  }

  /// The distance from a slot of `slot_bytes` to its record.
  static constexpr std::size_t record_offset(std::size_t slot_bytes) noexcept {
    return slot_bytes - guard_bytes - sizeof(Record);
  }
  /// False if a record would be misaligned: then `slot` is none of a debug mode.
  static bool has_place_for_record(const std::byte* slot, std::size_t slot_bytes) noexcept {
    return reinterpret_cast<std::uintptr_t>(slot + record_offset(slot_bytes)) % alignof(Record) ==
           0;
  }
  static Record& record_at(std::byte* slot, std::size_t slot_bytes) noexcept {
    return *reinterpret_cast<Record*>(slot + record_offset(slot_bytes));
  }
};

/// The first of `bytes` bytes that is not `value`, or `bytes`.
inline std::size_t first_other(const std::byte* begin, std::size_t bytes,
                               std::uint8_t value) noexcept {
  const Word all = ~Word{0} / 0xFF * value;
  std::size_t index = 0;
  for (; index + sizeof(Word) <= bytes; index += sizeof(Word)) {
    Word word = 0;
    __builtin_memcpy(&word, begin + index, sizeof(Word));
    if (word != all) {
      break;
    }
  }
  while (index < bytes && static_cast<std::uint8_t>(begin[index]) == value) {
    ++index;
  }
  return index;
}

}  // namespace slabmalloc
