// SPDX-License-Identifier: MIT
//
// GuardedBlocks: blocks that stop the program at the access that is wrong. Each lies alone between
// inaccessible OS pages, and its memory stays inaccessible after its free. Its record has the calls
// that allocated it and that freed it.
//
//     region     | guard | place 0        | guard | place 1        | … | guard |
//
//     place      | inaccessible | fill | block |     ends at the guard, as close as its alignment
//                | block | fill | inaccessible |     allows; or starts at the other one, at random
//
//     state      Unused ──► Live ──► Freed ──► Live …   places wait in turn, the oldest first
//
// An access beyond the block or to a freed one faults, and on_fault() tells which block was meant.
// A write into the fill shows at the free. The idea is that of Electric Fence; of GWP-ASan that few
// allocations are guarded (Serebryany et al., "GWP-ASan: Sampling-Based Detection of Memory-Safety
// Bugs in Production", ICSE 2024).
//
// Invariants, checked by validate():
//   E1  each place is Live, or waits in the queue, once
//   E2  live_count() = the Live places; live_bytes() = the sum of their bytes
#pragma once

#include <cstddef>
#include <cstdint>

#include "malloc/call.hpp"
#include "malloc/call_stack.hpp"
#include "os/mutex.hpp"
#include "slabmalloc/base/atomics.hpp"
#include "slabmalloc/base/misuse.hpp"
#include "tunables.hpp"

namespace slabmalloc {

/// A guarded block, live or freed, as its record has it.
struct GuardedBlock {
  enum class State : std::uint8_t { Unused, Live, Freed };

  std::uintptr_t address = 0;
  std::size_t bytes = 0;  ///< Those asked for.
  State state = State::Unused;
  std::uint32_t next = 0;            ///< In the queue of places.
  std::uintptr_t accessible = 0;     ///< The OS pages that the block touches,
  std::size_t accessible_bytes = 0;  ///< and their bytes; 0 once they are inaccessible.
  std::uint32_t allocating_thread = 0;
  std::uint32_t freeing_thread = 0;
  CallStack allocation;
  CallStack free;
};

static_assert(sizeof(GuardedBlock) <= 600, "the option guard_places states the size of a record");

/// Where an address lies beside a block.
enum class GuardedAccess : std::uint8_t { Before, Inside, Beyond };

/// An access that faulted: the nearest block.
struct GuardedFault {
  const GuardedBlock* block = nullptr;  ///< Null: no block was ever there.
  GuardedAccess where = GuardedAccess::Inside;
  std::size_t distance = 0;  ///< Bytes to or from its start; from its end if beyond.
};

/// Thread: any; one mutex inside. Handlers of faults may call contains() and find_fault().
class GuardedBlocks {
 public:
  static constexpr std::size_t most_bytes = 32 * 1024;

  constexpr GuardedBlocks() noexcept = default;
  GuardedBlocks(const GuardedBlocks&) = delete;
  GuardedBlocks& operator=(const GuardedBlocks&) = delete;

  /// A block of `bytes` zeros at a multiple of `alignment`, a power of two.
  /// Pre: `bytes` is not 0.
  /// Fails: null if it is too large or too strictly aligned, if all places hold live blocks, or if
  /// the system refuses to change the access of the place's pages.
  void* allocate(std::size_t bytes, std::size_t alignment, const CallStack& stack) noexcept;

  /// True if `address` lies in the region. Cost: constant, without the mutex.
  /// Order: acquire, with the release in map_region(). `address` may be any: if the bytes came
  /// before the start, each low address would be in the region.
  [[gnu::always_inline]] bool contains(const void* address) const noexcept {
    const std::size_t bytes = region_bytes_.load(Order::acquire);
    return reinterpret_cast<std::uintptr_t>(address) - start_.load(Order::relaxed) < bytes;
  }

  /// Frees the block at `address`, for `call`.
  /// Pre: contains(address).
  /// Fails: reports misuse to the hook.
  void deallocate(const void* address, Call call, const CallStack& stack) noexcept;

  /// The bytes of the block at `address`, for `call`.
  /// Pre: contains(address).
  /// Fails: 0 after a report of misuse.
  std::size_t usable_bytes(const void* address, Call call) noexcept;

  /// The bytes of the live block at `address`; 0 if none starts there.
  /// Pre: contains(address).
  std::size_t bytes_at(const void* address) noexcept;

  /// The record of the block that lies, or lay, around `address` or nearest to it.
  /// Pre: contains(address).
  GuardedFault find_fault(const void* address) const noexcept;

  std::size_t allocations() const noexcept { return allocations_.load(Order::relaxed); }
  std::size_t live_count() const noexcept { return live_count_.load(Order::relaxed); }
  std::size_t live_bytes() const noexcept { return live_bytes_.load(Order::relaxed); }
  /// Samples that got no place.
  std::size_t refusals() const noexcept { return refusals_.load(Order::relaxed); }

  /// Holds the mutex across a fork.
  void prepare_fork() noexcept { mutex_.lock_for_fork(); }
  void parent_after_fork() noexcept { mutex_.unlock_after_fork(); }
  void child_after_fork() noexcept { mutex_.unlock_in_child(); }
  bool holds_mutex() const noexcept { return mutex_.is_held(); }

  /// The broken invariant, as an equation, or null.
  const char* validate() noexcept;

 private:
  static constexpr std::uint32_t no_place = ~std::uint32_t{0};
  /// The bytes around a block that are accessible hold this.
  static constexpr auto fill = std::byte{0xF5};

  bool map_region() noexcept;
  std::uint32_t place_of(std::uintptr_t address) const noexcept;
  std::uintptr_t start_of(std::uint32_t place) const noexcept;
  void push(std::uint32_t place) noexcept;
  void push_front(std::uint32_t place) noexcept;
  std::uint32_t pop() noexcept;
  void note_refusal() noexcept { refusals_.fetch_add(1, Order::relaxed); }
  const GuardedBlock* find_live(const void* address) const noexcept;
  static bool forbid(GuardedBlock& block) noexcept;
  static const std::byte* find_damage(const GuardedBlock& block) noexcept;
  static Misuse misuse_at(const GuardedBlock& block, const void* address) noexcept;

  os::Mutex mutex_;
  HardwareAtomics::Cell<std::uintptr_t> start_{};
  HardwareAtomics::Cell<std::size_t> region_bytes_{};
  GuardedBlock* blocks_ = nullptr;  ///< A record for each place.
  std::uint32_t places_ = 0;
  std::uint32_t first_ = no_place;  ///< Of the queue of places that hold no live block.
  std::uint32_t last_ = no_place;
  HardwareAtomics::Cell<std::size_t> allocations_{};
  HardwareAtomics::Cell<std::size_t> live_count_{};
  HardwareAtomics::Cell<std::size_t> live_bytes_{};
  HardwareAtomics::Cell<std::size_t> refusals_{};
};

/// The guarded blocks of the process.
[[gnu::visibility("hidden")]] extern constinit GuardedBlocks guarded_blocks;

/// Guards one allocation in `one_in`, and one for each `mean_bytes` of blocks; 0 for none. The
/// first call that asks for some loads what call stacks need, and sets the handlers of faults.
/// Pre: the calling thread holds no mutex of the heap.
void set_guarded_sampling(std::size_t one_in, std::size_t mean_bytes) noexcept;

}  // namespace slabmalloc
