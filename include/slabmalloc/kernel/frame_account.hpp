// SPDX-License-Identifier: MIT
//
// FrameAccount: the bytes of all frames and runs of a heap, and the limit on them.
//
//   charge ──► the pager is asked ─┬─► arrive                 … ──► it went back ──► depart
//                                  └─► discharge, if it had none
//
//   charged   |▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒|      |  limit
//   bytes     |▒▒▒▒▒▒▒▒▒▒▒▒|          those that came from the pager and are not back there
//
// A heap charges memory before it asks for it, and memory that goes back departs after it did. So
// the pager's memory is at no moment more than the limit, whatever other CPUs do meanwhile.
//
// It owns the allocations that wait for memory of the heap (memory_waiters.hpp), and wakes them
// when the limit has room again.
//
// Invariant, with its line in validate():
//   K2  charged = bytes <= the most that they ever were
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/kernel/hooks.hpp"
#include "slabmalloc/kernel/memory_waiters.hpp"

namespace slabmalloc {

/// Called when an allocation would pass the limit; frees something, or not.
using LimitCallback = void (*)(void* argument) noexcept;

/// Bytes that come and go, and the most that there ever were at once. Thread: any.
template <KernelHooks Hooks, class Atomics>
class ByteCount {
 public:
  void add(std::size_t bytes) noexcept {
    const UpdateGuard<Hooks, Atomics> guard;
    const std::size_t now = bytes_.fetch_add(bytes, Order::relaxed) + bytes;
    std::size_t highest = high_water_.load(Order::relaxed);
    while (now > highest && !high_water_.compare_exchange(highest, now, Order::relaxed)) {
    }
  }
  void subtract(std::size_t bytes) noexcept {
    const UpdateGuard<Hooks, Atomics> guard;
    bytes_.fetch_sub(bytes, Order::relaxed);
  }

  std::size_t get() const noexcept { return bytes_.load(Order::relaxed); }
  std::size_t high_water() const noexcept { return high_water_.load(Order::relaxed); }

 private:
  using Cell = typename Atomics::template Cell<std::size_t>;

  Cell bytes_;
  Cell high_water_;
};

/// Memory against a limit. Thread: any, where not said otherwise.
template <KernelHooks Hooks, class Atomics>
class FrameAccount {
 public:
  /// Thread: any, with the callback as before; another one while nobody allocates.
  void set_limit(std::size_t bytes, LimitCallback callback, void* argument) noexcept {
    // Others may read them now.
    if (callback_ != callback || callback_argument_ != argument) {
      callback_ = callback;
      callback_argument_ = argument;
    }
    limit_.store(bytes, Order::relaxed);
    waiters_.note_change();
  }

  /// Charges up to `most` more blocks of `bytes`, as many as the limit allows; returns how many.
  /// Pre: `bytes` is not 0.
  std::uint32_t charge(std::size_t bytes, std::uint32_t most) noexcept {
    const UpdateGuard<Hooks, Atomics> guard;
    const std::uint32_t count = charge_once(bytes, most);
    if (count != 0 || !waiters_.is_enabled()) {
      return count;
    }
    exchange_refused(true);
    return charge_once(bytes, most);
  }
  /// As charge(). If the limit allows none, it calls the callback and tries once more.
  /// Thread: any that holds nothing.
  std::uint32_t charge_or_call(std::size_t bytes, std::uint32_t most) noexcept {
    const std::uint32_t count = charge(bytes, most);
    if (count != 0 || callback_ == nullptr) {
      return count;
    }
    callback_(callback_argument_);
    return charge(bytes, most);
  }
  /// Ends the charge of bytes that did not come. If the limit refused a charge meanwhile, waiters
  /// look again: the pager may have what they want. Thread: any that holds nothing.
  void discharge(std::size_t bytes) noexcept {
    end_charge(bytes);
    if (waiters_.is_enabled() && exchange_refused(false)) {
      waiters_.note_change();
    }
  }
  /// Counts charged bytes that came.
  void arrive(std::size_t bytes) noexcept { held_.add(bytes); }
  /// Counts bytes that went back, and ends their charge. Thread: any that holds nothing.
  void depart(std::size_t bytes) noexcept {
    held_.subtract(bytes);
    end_charge(bytes);
    waiters_.note_change();
  }

  /// The allocations that wait for memory.
  constexpr MemoryWaiters<Hooks, Atomics>& waiters() noexcept { return waiters_; }

  /// Whether the limit allows `more` bytes. Others may take the room.
  bool has_room(std::size_t more) const noexcept {
    const std::size_t now = charged_.load(Order::relaxed);
    return now <= limit() && more <= limit() - now;
  }
  /// Those that arrived and did not depart.
  std::size_t bytes() const noexcept { return held_.get(); }
  std::size_t high_water() const noexcept { return held_.high_water(); }
  std::size_t limit() const noexcept { return limit_.load(Order::relaxed); }

  /// K2, or null. Pre: nothing is on its way.
  const char* validate() const noexcept {
    return charged_.load(Order::relaxed) == bytes() && bytes() <= high_water()
               ? nullptr
               : "K2: charged = frame bytes <= the most that they ever were";
  }

 private:
  using Cell = typename Atomics::template Cell<std::size_t>;

  /// Order: acquire, with the release in end_charge(): the pager's memory went back before its room
  /// is used again, even where the pager has no lock.
  std::uint32_t charge_once(std::size_t bytes, std::uint32_t most) noexcept {
    std::size_t before = charged_.load(Order::relaxed);
    std::uint32_t count = 0;
    do {
      // A charge never passes the limit, not even for a moment: others that fit would be refused.
      const std::size_t limit = limit_.load(Order::relaxed);
      const std::size_t room = before < limit ? (limit - before) / bytes : 0;
      count = room < most ? static_cast<std::uint32_t>(room) : most;
      if (count == 0) {
        return 0;
      }
    } while (!charged_.compare_exchange(before, before + count * bytes, Order::acquire));
    return count;
  }
  /// Order: release, with the acquire in charge_once().
  void end_charge(std::size_t bytes) noexcept {
    const UpdateGuard<Hooks, Atomics> guard;
    charged_.fetch_sub(bytes, Order::release);
  }
  /// Notes that the limit refused a charge, or takes the note away; returns whether there was one.
  /// Order: acq_rel, with itself: of a refused charge and a discharge, the second sees what the
  /// first did. So either the charge finds the room, or the discharge finds the note.
  bool exchange_refused(bool is_refused) noexcept {
    const UpdateGuard<Hooks, Atomics> guard;
    return has_refused_.exchange(is_refused ? 1 : 0, Order::acq_rel) != 0;
  }

  Cell charged_;
  ByteCount<Hooks, Atomics> held_;
  Cell limit_{~std::size_t{0}};
  typename Atomics::template Cell<std::uint32_t> has_refused_;  ///< 1 or 0.
  MemoryWaiters<Hooks, Atomics> waiters_;
  LimitCallback callback_ = nullptr;
  void* callback_argument_ = nullptr;
};

}  // namespace slabmalloc
