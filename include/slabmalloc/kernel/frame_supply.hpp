// SPDX-License-Identifier: MIT
//
// FrameSupply: the path of frames from the pager to a CpuZones, and back.
//
//   get ────────► account: charge ──► pager ──► FrameLife::begin ──► frames
//   give_back ──► FrameLife::end ──► pager ──► account: discharge
//
// It owns the account of all frames of the heap, and the limit on them. It charges a frame before
// it asks for it, and discharges the frame after it went back. So no moment shows too many of them.
// It calls everything but the account with nothing held, interrupts as the caller had them.
//
// Invariant, with its line in validate():
//   K2  frame bytes <= the most that they ever were
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>

#include "slabmalloc/base/misuse.hpp"
#include "slabmalloc/kernel/hooks.hpp"
#include "slabmalloc/zone/pager.hpp"
#include "slabmalloc/zone/statistics.hpp"

namespace slabmalloc {

/// Called when an allocation would pass the limit; frees something, or not.
using LimitCallback = void (*)(void* argument) noexcept;

/// Acts on each frame on its way in and out, with nothing held.
///   begin(frame, context)   called for each frame that comes from the pager, for an allocation
///                           with that context; if it says false the frame goes back at once
///   end(frame)              called before a frame goes back
template <class L>
concept FrameLife = requires(L& life, void* frame, Context context) {
  { life.begin(frame, context) } noexcept -> std::same_as<bool>;
  { life.end(frame) } noexcept;
};

/// Does nothing with frames.
struct PlainFrames {
  static constexpr bool begin(void*, Context) noexcept { return true; }
  static constexpr void end(void*) noexcept {}
};

/// The bytes of all frames of a heap, against a limit. Thread: any, where not said otherwise.
template <KernelHooks Hooks, class Atomics>
class FrameAccount {
 public:
  /// Thread: any, with the callback as before; another one while nobody allocates.
  void set_limit(std::size_t bytes, LimitCallback callback, void* argument) noexcept {
    callback_ = callback;
    callback_argument_ = argument;
    limit_.store(bytes, Order::relaxed);
  }

  /// Counts up to `most` more frames of `bytes`, as many as the limit allows; returns how many.
  std::uint32_t charge(std::size_t bytes, std::uint32_t most) noexcept {
    const InterruptGuard<Hooks> interrupts;  // For handlers, where there are no atomics.
    std::size_t before = bytes_.load(Order::relaxed);
    std::uint32_t count = 0;
    do {
      // It never counts frames beyond the limit: they would keep others from the frames within it.
      const std::size_t limit = limit_.load(Order::relaxed);
      const std::size_t room = before < limit ? (limit - before) / bytes : 0;
      count = room < most ? static_cast<std::uint32_t>(room) : most;
      if (count == 0) {
        return 0;
      }
    } while (!bytes_.compare_exchange(before, before + count * bytes, Order::relaxed));
    return count;
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
  void discharge(std::size_t bytes) noexcept {
    const InterruptGuard<Hooks> interrupts;
    bytes_.fetch_sub(bytes, Order::relaxed);
  }
  /// Records the most, after the charged frames came and the rest was discharged. It counts fresh
  /// charges of others too.
  void note_high_water() noexcept {
    const InterruptGuard<Hooks> interrupts;
    const std::size_t now = bytes_.load(Order::relaxed);
    std::size_t highest = high_water_.load(Order::relaxed);
    while (now > highest && !high_water_.compare_exchange(highest, now, Order::relaxed)) {
    }
  }

  /// Whether the limit allows `more` bytes. Others may take the room.
  bool has_room(std::size_t more) const noexcept {
    const std::size_t now = bytes();
    return now <= limit() && more <= limit() - now;
  }
  std::size_t bytes() const noexcept { return bytes_.load(Order::relaxed); }
  std::size_t high_water() const noexcept { return high_water_.load(Order::relaxed); }
  std::size_t limit() const noexcept { return limit_.load(Order::relaxed); }

  /// K2, or null. Pre: no frames are on their way.
  const char* validate() const noexcept {
    return bytes() <= high_water() ? nullptr : "K2: frame bytes <= the most that they ever were";
  }

 private:
  using Cell = typename Atomics::template Cell<std::size_t>;

  Cell bytes_;
  Cell high_water_;
  Cell limit_{~std::size_t{0}};
  LimitCallback callback_ = nullptr;
  void* callback_argument_ = nullptr;
};

/// Frames of one pager. Thread: any that may call the pager, and holds nothing.
template <KernelHooks Hooks, Pager PagerT, class Atomics, FrameLife Life>
class FrameSupply {
 public:
  using Account = FrameAccount<Hooks, Atomics>;

  /// Pre: `pager` outlives it.
  constexpr FrameSupply(PagerT& pager, Life life) noexcept : pager_(pager), life_(life) {}

  /// Gets up to `most` frames of `bytes` for an allocation; returns how many there were. If the
  /// limit allows none, its callback may free memory.
  [[gnu::noinline]] std::uint32_t get(std::size_t bytes, Context context, void** frames,
                                      std::uint32_t most) noexcept {
    const std::uint32_t got =
        get_charged(bytes, context, frames, account_.charge_or_call(bytes, most));
    if (got != 0) {
      growths_.add(1);
    }
    return got;
  }
  /// A frame for the reserve, or null. It does not call the limit's callback.
  void* get_to_reserve(std::size_t bytes, Context context) noexcept {
    void* frame = nullptr;
    return get_charged(bytes, context, &frame, account_.charge(bytes, 1)) != 0 ? frame : nullptr;
  }

  /// Pre: `frame` came from here, and lies nowhere any more.
  void give_back(void* frame, std::size_t bytes) noexcept {
    life_.end(frame);
    pager_.deallocate_frame(frame, bytes);
    account_.discharge(bytes);
  }

  Account& account() noexcept { return account_; }
  const Account& account() const noexcept { return account_; }
  /// Calls of get() that got some.
  std::size_t growths() const noexcept { return growths_.get(); }

 private:
  /// Gets at most as many frames as were charged, and discharges the rest.
  std::uint32_t get_charged(std::size_t bytes, Context context, void** frames,
                            std::uint32_t charged) noexcept {
    if (charged == 0) {
      return 0;
    }
    const std::uint32_t given = ask_pager(bytes, context, frames, charged);
    const std::uint32_t got = begin(bytes, context, frames, given);
    account_.discharge((charged - got) * bytes);
    if (got != 0) {
      account_.note_high_water();
    }
    return got;
  }

  /// Gets up to `count` frames from the pager: all by one call if the pager can.
  std::uint32_t ask_pager(std::size_t bytes, [[maybe_unused]] Context context, void** frames,
                          std::uint32_t count) noexcept {
    if constexpr (requires { pager_.allocate_frames(bytes, frames, std::size_t{count}); }) {
      const std::size_t got = pager_.allocate_frames(bytes, frames, std::size_t{count});
      return got < count ? static_cast<std::uint32_t>(got) : count;
    } else {
      std::uint32_t got = 0;
      for (Frame frame; got < count; ++got) {
        if constexpr (requires { pager_.allocate_frame(bytes, context); }) {
          frame = pager_.allocate_frame(bytes, context);
        } else {
          frame = pager_.allocate_frame(bytes);
        }
        if (frame.address == nullptr) {
          break;
        }
        frames[got] = frame.address;
      }
      return got;
    }
  }

  /// Keeps those of `given` frames that are fit for use; returns how many. If the pager gives a
  /// frame twice in a row, the heap uses it once. The bytes of a frame cannot tell that it is in
  /// use elsewhere: memory that outlived a restart is full of pages that look so.
  std::uint32_t begin(std::size_t bytes, Context context, void** frames,
                      std::uint32_t given) noexcept {
    std::uint32_t kept = 0;
    for (std::uint32_t number = 0; number < given; ++number) {
      void* const frame = frames[number];
      const bool is_aligned = (reinterpret_cast<std::uintptr_t>(frame) & (bytes - 1)) == 0;
      const bool is_again = kept != 0 && frame == frames[kept - 1];
      if (!is_aligned || is_again) [[unlikely]] {
        report_misuse({MisuseKind::InvalidPage, frame, 0, 0});
      }
      if (is_again) [[unlikely]] {
        continue;
      }
      if (is_aligned && life_.begin(frame, context)) [[likely]] {
        frames[kept++] = frame;
      } else {
        pager_.deallocate_frame(frame, bytes);
      }
    }
    return kept;
  }

  PagerT& pager_;
  [[no_unique_address]] Life life_;
  Account account_;
  SharedCounter<Atomics> growths_;
};

}  // namespace slabmalloc
