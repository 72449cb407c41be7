// SPDX-License-Identifier: MIT
//
// EarlyMemory: the memory of a machine from its first instruction on, until there is a frame
// allocator. It does the work of Linux' memblock.
//
//   constinit slabmalloc::EarlyMemory<> early;
//   early.add(region) … early.reserve(image) …                  // in any order
//   early.allow_growth();                                       // all that is in use is reserved
//   void* const table = early.allocate(bytes, alignment);
//   early.hand_over(frames);                                    // the rest: to a FrameAllocator
//
// It owns one table. An entry says from which address on memory is used how, up to the next entry:
//
//   add         [                        )             [            )
//   reserve         [    )                      [   )
//   allocate                          [  )
//   entries     free used free        used      rsvd absent         absent
//               │   │    │            │  │      │   │  │            │
//               ▼   ▼    ▼            ▼  ▼      ▼   ▼  ▼            ▼
//             --ffffuuuuuffffffffffffffuuu-------rrrr---ffffffffffff------    address ──►
//
// The table lies in the object at first. When it is full, it moves to free memory, and has twice
// the room there. The memory of such a table is used, and goes to the frame allocator at the end.
// It leaves memory that is reserved or removed, and no client can free it.
//
// Invariants, with their lines in validate():
//   Y1  addresses ascend: address of entry i < address of entry i + 1
//   Y2  neighbours differ: use of entry i != use of entry i + 1; the first is not absent
//   Y3  the last entry is absent
//   Y4  the memory of the table is used, unless it lies in the object
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>

#include "slabmalloc/base/bits.hpp"
#include "slabmalloc/base/misuse.hpp"
#include "slabmalloc/base/result.hpp"
#include "slabmalloc/kernel/memory_map.hpp"

namespace slabmalloc {

/// How a stretch of the address space is used at boot. Bit 0: there is memory. Bit 1: it is taken.
enum class EarlyUse : std::uint8_t {
  Absent = 0,
  Free = 1,
  Reserved = 2,  ///< By reserve(), where no memory was added.
  Used = 3,      ///< Memory that is reserved or allocated.
};

/// A table of memory with room for `InlineEntries` changes of use, and for more once it may grow.
/// Addresses are those by which the kernel reaches the memory. It does not touch the memory, but
/// for tables that have grown. Thread: one at a time. Cost: O(entries) each.
template <std::size_t BaseBytes = 4096, std::size_t InlineEntries = 128>
class EarlyMemory {
  static_assert(is_power_of_two(BaseBytes), "a base frame is a power of two of bytes");
  static_assert(InlineEntries >= 4, "a table has room for two regions");

 public:
  /// Memory of tables is a multiple of it, so that whole frames go to the frame allocator.
  static constexpr std::size_t base_bytes = BaseBytes;

  constexpr EarlyMemory() noexcept = default;
  EarlyMemory(const EarlyMemory&) = delete;
  EarlyMemory& operator=(const EarlyMemory&) = delete;

  // ---- the map ---------------------------------------------------------------------------------

  /// Adds memory. What is reserved there stays so. The last byte of the address space is left out.
  /// Fails: OutOfMemory, with nothing changed, if the table is full and cannot grow.
  Result<void> add(MemoryRegion region) noexcept { return change(region, memory, 0, {}); }
  /// Takes memory away, such as that beyond what the kernel can map. What is reserved stays so. A
  /// table that lies there moves out first.
  /// Fails: as add(); OutOfMemory too if the table finds no other place.
  Result<void> remove(MemoryRegion region) noexcept { return change(region, 0, memory, region); }
  /// Keeps a region from being allocated or handed over, whether there is memory or not. A table
  /// that lies there moves out first.
  /// Fails: as remove().
  Result<void> reserve(MemoryRegion region) noexcept { return change(region, taken, 0, region); }
  /// From here on the table may grow into free memory. Call it once everything in use is reserved,
  /// and all memory that was added is mapped and writable.
  void allow_growth() noexcept { may_grow_ = true; }

  // ---- memory ----------------------------------------------------------------------------------

  /// The highest free memory of `bytes` that ends at or below `limit`, at `alignment`, a power of
  /// two; its contents are left as they are. 0 bytes count as 1.
  /// Fails: null if there is none, or the table is full and cannot grow.
  void* allocate(std::size_t bytes, std::size_t alignment,
                 std::uintptr_t limit = ~std::uintptr_t{0}) noexcept {
    if (!make_room({})) {
      return nullptr;
    }
    bytes = bytes != 0 ? bytes : 1;
    const std::uintptr_t address = place(bytes, alignment, limit, {});
    if (address != 0) {
      paint({address, bytes}, taken, 0);
    }
    return reinterpret_cast<void*>(address);
  }
  /// Frees memory that was allocated or reserved, or a part of it.
  /// Fails: false if the table is full and cannot grow; and for a bad free, which it reports as
  /// DoubleFree of free memory, and ForeignPointer where there is no memory, or the table. Nothing
  /// changes then.
  bool deallocate(void* address, std::size_t bytes) noexcept {
    const MemoryRegion region{reinterpret_cast<std::uintptr_t>(address), bytes != 0 ? bytes : 1};
    bool has_free = false;
    bool is_used = region.address != end_of(region) && !overlap(region, grown_table());
    for_each_within(region, [&](EarlyUse use) {
      has_free = has_free || use == EarlyUse::Free;
      is_used = is_used && use == EarlyUse::Used;
    });
    if (!is_used) {
      report_misuse(
          {has_free ? MisuseKind::DoubleFree : MisuseKind::ForeignPointer, address, 0, 0});
      return false;
    }
    return static_cast<bool>(change(region, 0, taken, {}));
  }

  /// Gives all free memory to `frames`, by one call of its add(), and then the memory of a table
  /// that has grown. If that memory adjoins no other and is too small for its own meta-data, the
  /// frame allocator does not get it. Memory that was reserved or allocated still belongs to its
  /// user, who can give it to add() later.
  /// Pre: as allow_growth(). Post: nothing is in the table. Fails: OutOfMemory, with all memory
  /// still here, if the list finds no room or `frames` does not take it.
  template <class FramesT>
  Result<void> hand_over(FramesT& frames) noexcept {
    static_assert(FramesT::base_bytes <= BaseBytes, "tables must be of whole frames");
    allow_growth();
    // The list lies behind the entries.
    while (capacity_ - count_ < count(EarlyUse::Free)) {
      if (!move_table(2 * capacity_, {})) {
        return AllocationError::OutOfMemory;
      }
    }
    std::size_t regions = 0;
    MemoryRegion* first = nullptr;
    for_each([&](void* address, std::size_t bytes, EarlyUse use) {
      if (use == EarlyUse::Free) {
        auto* const region = ::new (static_cast<void*>(entries_ + count_ + regions++))
            MemoryRegion{reinterpret_cast<std::uintptr_t>(address), bytes};
        first = first != nullptr ? first : region;
      }
    });
    const Result<void> added = frames.add(first, regions);
    if (added) {
      const MemoryRegion table = grown_table();
      entries_ = inline_;
      capacity_ = InlineEntries;
      count_ = 0;
      static_cast<void>(frames.add(&table, 1));
    }
    return added;
  }

  // ---- inspection ------------------------------------------------------------------------------

  /// Calls f(address, bytes, EarlyUse) for each stretch that is not absent, in address order; `f`
  /// changes nothing here.
  template <class F>
  void for_each(F&& f) const noexcept {
    for (std::size_t index = 0; index < count_; ++index) {
      if (entries_[index].use != 0) {
        f(reinterpret_cast<void*>(entries_[index].address),
          entries_[index + 1].address - entries_[index].address, use_of(index));
      }
    }
  }
  /// The bytes that are used so.
  std::size_t bytes(EarlyUse wanted) const noexcept {
    std::size_t sum = 0;
    for_each([&](void*, std::size_t bytes, EarlyUse use) { sum += use == wanted ? bytes : 0; });
    return sum;
  }

  /// The first of Y1–Y4 that does not hold, or null.
  const char* validate() const noexcept {
    std::size_t before = 0;
    for (std::size_t index = 0; index < count_; ++index) {
      const Entry& entry = entries_[index];
      if (index != 0 && entries_[index - 1].address >= entry.address) {
        return "Y1: addresses ascend";
      }
      if (entry.use == before || entry.use > (memory | taken)) {
        return "Y2: the uses of neighbours differ";
      }
      before = entry.use;
    }
    if (before != 0) {
      return "Y3: the last entry is absent";
    }
    bool is_used = true;
    for_each_within(grown_table(),
                    [&](EarlyUse use) { is_used = is_used && use == EarlyUse::Used; });
    return is_used ? nullptr : "Y4: the memory of the table is used";
  }

 private:
  /// A use from `address` on.
  struct Entry {
    std::uintptr_t address;
    std::size_t use;
  };
  static_assert(sizeof(Entry) == sizeof(MemoryRegion) && alignof(Entry) == alignof(MemoryRegion),
                "hand_over() makes its list in free entries");
  static constexpr std::size_t memory = 1;
  static constexpr std::size_t taken = 2;
  /// Entries that a change may add.
  static constexpr std::size_t changed_entries = 2;

  static constexpr std::uintptr_t end_of(MemoryRegion region) noexcept {
    const std::uintptr_t room = ~std::uintptr_t{0} - region.address;
    return region.address + (region.bytes < room ? region.bytes : room);
  }
  static constexpr bool overlap(MemoryRegion one, MemoryRegion other) noexcept {
    return one.address < end_of(other) && other.address < end_of(one);
  }
  EarlyUse use_of(std::size_t index) const noexcept {
    return static_cast<EarlyUse>(entries_[index].use);
  }
  std::size_t count(EarlyUse wanted) const noexcept {
    std::size_t stretches = 0;
    for_each([&](void*, std::size_t, EarlyUse use) { stretches += use == wanted ? 1u : 0u; });
    return stretches;
  }
  MemoryRegion grown_table() const noexcept {
    return entries_ != inline_
               ? MemoryRegion{reinterpret_cast<std::uintptr_t>(entries_), capacity_ * sizeof(Entry)}
               : MemoryRegion{0, 0};
  }
  /// Calls f(use) for each stretch of `region`, absent ones included.
  template <class F>
  void for_each_within(MemoryRegion region, F&& f) const noexcept {
    const std::uintptr_t end = end_of(region);
    std::uintptr_t position = region.address;
    for (std::size_t index = 0; index <= count_ && position < end; ++index) {
      const std::uintptr_t next = index < count_ ? entries_[index].address : end;
      if (next > position) {
        f(index != 0 ? use_of(index - 1) : EarlyUse::Absent);
        position = next;
      }
    }
  }

  // ---- changes ---------------------------------------------------------------------------------

  /// No table lies in `kept` afterwards.
  Result<void> change(MemoryRegion region, std::size_t set, std::size_t clear,
                      MemoryRegion kept) noexcept {
    if (region.address == end_of(region)) {
      return {};
    }
    if (!make_room(kept)) {
      return AllocationError::OutOfMemory;
    }
    paint(region, set, clear);
    return {};
  }
  /// Sets and clears bits of the uses in `region`. Pre: changed_entries are free.
  void paint(MemoryRegion region, std::size_t set, std::size_t clear) noexcept {
    const std::size_t first = entry_at(region.address);
    const std::size_t end = entry_at(end_of(region));
    for (std::size_t index = first; index < end; ++index) {
      entries_[index].use = (entries_[index].use | set) & ~clear;
    }
    std::size_t kept = 0;
    for (std::size_t index = 0; index < count_; ++index) {
      const std::size_t before = kept != 0 ? entries_[kept - 1].use : 0;
      if (entries_[index].use != before) {
        entries_[kept++] = entries_[index];
      }
    }
    count_ = kept;
  }
  /// The entry that begins at `address`. If there was none, one that changes nothing.
  std::size_t entry_at(std::uintptr_t address) noexcept {
    std::size_t index = 0;
    while (index < count_ && entries_[index].address < address) {
      ++index;
    }
    if (index == count_ || entries_[index].address != address) {
      for (std::size_t moved = count_++; moved > index; --moved) {
        entries_[moved] = entries_[moved - 1];
      }
      entries_[index] = {address, index != 0 ? entries_[index - 1].use : 0};
    }
    return index;
  }

  /// The highest place for `bytes` in begin … end - 1, or 0.
  static std::uintptr_t place_within(std::uintptr_t begin, std::uintptr_t end, std::size_t bytes,
                                     std::size_t alignment) noexcept {
    if (end <= begin || end - begin < bytes) {
      return 0;
    }
    const std::uintptr_t found = (end - bytes) & ~(std::uintptr_t{alignment} - 1);
    return found >= begin ? found : 0;
  }
  /// The highest free place for `bytes` outside of `kept`, or 0.
  std::uintptr_t place(std::size_t bytes, std::size_t alignment, std::uintptr_t limit,
                       MemoryRegion kept) const noexcept {
    const std::uintptr_t kept_end = end_of(kept);
    std::uintptr_t found = 0;
    for (std::size_t index = count_; found == 0 && index-- > 0;) {
      if (use_of(index) == EarlyUse::Free) {
        const std::uintptr_t begin = entries_[index].address;
        const std::uintptr_t next = entries_[index + 1].address;
        const std::uintptr_t end = next < limit ? next : limit;
        found = place_within(begin < kept_end ? kept_end : begin, end, bytes, alignment);
        if (found == 0) {
          found = place_within(begin, end < kept.address ? end : kept.address, bytes, alignment);
        }
      }
    }
    return found;
  }
  /// Room for the entries of one change, in a table outside of `kept`.
  bool make_room(MemoryRegion kept) noexcept {
    const std::size_t room = capacity_ - count_;
    if (room >= changed_entries && !overlap(kept, grown_table())) {
      return true;
    }
    // A move changes the uses of two regions, before the change that it makes room for.
    const bool is_large_enough = room >= 3 * changed_entries;
    return may_grow_ && move_table(is_large_enough ? capacity_ : 2 * capacity_, kept);
  }
  /// Moves the entries to a table with room for `wanted` of them. False if there is no memory for
  /// it outside of `kept`.
  bool move_table(std::size_t wanted, MemoryRegion kept) noexcept {
    const std::size_t bytes = align_up(wanted * sizeof(Entry), BaseBytes);
    const std::uintptr_t address = place(bytes, BaseBytes, ~std::uintptr_t{0}, kept);
    if (address == 0) {
      return false;
    }
    const MemoryRegion before = grown_table();
    auto* const entries = reinterpret_cast<Entry*>(address);
    for (std::size_t index = 0; index < count_; ++index) {
      ::new (static_cast<void*>(entries + index)) Entry(entries_[index]);
    }
    entries_ = entries;
    capacity_ = bytes / sizeof(Entry);
    paint(grown_table(), taken, 0);
    if (before.bytes != 0) {
      paint(before, 0, taken);
    }
    return true;
  }

  Entry inline_[InlineEntries] = {};
  Entry* entries_ = inline_;
  std::size_t capacity_ = InlineEntries;
  std::size_t count_ = 0;
  bool may_grow_ = false;
};

}  // namespace slabmalloc
