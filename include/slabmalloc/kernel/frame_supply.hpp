// SPDX-License-Identifier: MIT
//
// FrameSupply: the path of frames from the pager to a CpuZones, and back.
//
//   get ────────► account: charge ──► pager ──► FrameLife::begin ──► frames
//   give_back ──► FrameLife::end ──► pager ──► account: depart
//
// A type-stable cache parks its frames on both ways (parked_frames.hpp):
//
//   leave ──► parked ──► give_passed ──► give_back
//   get ◄───────┘
//
// It owns the account of all memory of the heap (frame_account.hpp), runs included. It calls
// everything but the account with nothing held, interrupts as the caller had them.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>

#include "slabmalloc/base/misuse.hpp"
#include "slabmalloc/kernel/frame_account.hpp"
#include "slabmalloc/kernel/guarded_counter.hpp"
#include "slabmalloc/kernel/hooks.hpp"
#include "slabmalloc/kernel/parked_frames.hpp"
#include "slabmalloc/zone/pager.hpp"

namespace slabmalloc {

/// Acts on each frame on its way in and out, with nothing held.
///   begin(frame, context)   called for each frame that comes from the pager, for an allocation
///                           with that context; if it says false the frame goes back at once
///   end(frame)              called before a frame goes back
/// A SizedFrameLife takes the bytes of the frame too, after its address.
template <class L>
concept SizedFrameLife = requires(L& life, void* frame, std::size_t bytes, Context context) {
  { life.begin(frame, bytes, context) } noexcept -> std::same_as<bool>;
  { life.end(frame, bytes) } noexcept;
};
template <class L>
concept FrameLife = SizedFrameLife<L> || requires(L& life, void* frame, Context context) {
  { life.begin(frame, context) } noexcept -> std::same_as<bool>;
  { life.end(frame) } noexcept;
};

/// Does nothing with frames.
struct PlainFrames {
  static constexpr bool begin(void*, Context) noexcept { return true; }
  static constexpr void end(void*) noexcept {}
};

/// Frames of one pager. Thread: any that may call the pager, and holds nothing.
template <KernelHooks Hooks, Pager PagerT, class Atomics, FrameLife Life,
          class ParkedT = NoParkedFrames>
class FrameSupply {
 public:
  using Parked = ParkedT;
  using Account = FrameAccount<Hooks, Atomics>;

  /// Pre: `pager` outlives it.
  constexpr FrameSupply(PagerT& pager, Life life) noexcept : pager_(pager), life_(life) {}

  /// Gets up to `most` frames of `bytes` for an allocation; returns how many there were. Parked
  /// ones come first. If the limit allows none, its callback may free memory.
  [[gnu::noinline]] std::uint32_t get(std::size_t bytes, Context context, void** frames,
                                      std::uint32_t most) noexcept {
    if constexpr (Parked::exist) {
      if (const std::uint32_t found = parked_.take_back(frames, most)) {
        return found;
      }
    }
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
    if constexpr (Parked::exist) {
      if (parked_.take_back(&frame, 1) != 0) {
        return frame;
      }
    }
    return get_charged(bytes, context, &frame, account_.charge(bytes, 1)) != 0 ? frame : nullptr;
  }

  /// Pre: `frame` came from here, and lies nowhere any more.
  void give_back(void* frame, std::size_t bytes) noexcept {
    if constexpr (SizedFrameLife<Life>) {
      life_.end(frame, bytes);
    } else {
      life_.end(frame);
    }
    pager_.deallocate_frame(frame, bytes);
    account_.depart(bytes);
  }

  /// The same, but parks the frame if readers may look at it. Returns the bytes that went back.
  [[gnu::always_inline]] std::size_t leave(void* frame, std::size_t bytes) noexcept {
    if constexpr (Parked::exist) {
      parked_.push(frame);
      account_.waiters().note_change();
      return 0;
    } else {
      give_back(frame, bytes);
      return bytes;
    }
  }
  /// Gives up to `most` parked frames of `bytes` back whose grace period has passed; returns how
  /// many.
  std::uint32_t give_passed(std::size_t bytes, std::uint32_t most) noexcept
    requires(Parked::exist)
  {
    std::uint32_t given = 0;
    while (given < most) {
      void* const frame = parked_.take_passed();
      if (frame == nullptr) {
        break;
      }
      give_back(frame, bytes);
      ++given;
    }
    return given;
  }
  /// Gives all parked frames of `bytes` back, and waits for their grace periods. False if that took
  /// too long, or others park frames meanwhile. Context: MayWait, in no read section.
  bool drain_parked(std::size_t bytes) noexcept
    requires(Parked::exist)
  {
    // They lie in at most three batches: one that passed, one that waits, and one to come.
    for (std::uint32_t batch = 0; batch < 3; ++batch) {
      give_passed(bytes, ~std::uint32_t{0});
      if (!parked_.wait()) {
        return false;
      }
    }
    give_passed(bytes, ~std::uint32_t{0});
    return parked_.size() == 0;
  }
  /// Gives all parked frames of `bytes` back at once. Pre: nobody looks at their objects.
  void give_parked(std::size_t bytes) noexcept
    requires(Parked::exist)
  {
    for (void* frame = nullptr; parked_.take_back(&frame, 1) != 0;) {
      give_back(frame, bytes);
    }
  }

  constexpr Parked& parked() noexcept { return parked_; }
  const Parked& parked() const noexcept { return parked_; }
  constexpr Account& account() noexcept { return account_; }
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
    account_.arrive(got * bytes);
    account_.discharge((charged - got) * bytes);
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
      if (is_aligned && begin_life(frame, bytes, context)) [[likely]] {
        frames[kept++] = frame;
      } else {
        pager_.deallocate_frame(frame, bytes);
      }
    }
    return kept;
  }

  bool begin_life(void* frame, [[maybe_unused]] std::size_t bytes, Context context) noexcept {
    if constexpr (SizedFrameLife<Life>) {
      return life_.begin(frame, bytes, context);
    } else {
      return life_.begin(frame, context);
    }
  }

  PagerT& pager_;
  [[no_unique_address]] Life life_;
  [[no_unique_address]] Parked parked_;
  Account account_;
  GuardedCounter<Hooks, Atomics> growths_;
};

}  // namespace slabmalloc
