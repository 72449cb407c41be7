// SPDX-License-Identifier: MIT
//
// Pager: where page frames come from and go to. It is all that a client must supply.
#pragma once

#include <concepts>
#include <cstddef>

namespace slabmalloc {

/// A page frame, or the lack of one. A pager may simply return a pointer.
struct Frame {
  void* address = nullptr;
  bool zeroed = false;  ///< Every byte is known to be 0.

  constexpr Frame() noexcept = default;
  constexpr Frame(void* frame, bool is_zeroed = false) noexcept
      : address(frame), zeroed(is_zeroed) {}
};

/// Gives and takes page frames.
///   allocate_frame(bytes)            a frame of `bytes`, a power of two, aligned to its size; a null
///                                    address when there is none (that is no error of the pager's)
///   deallocate_frame(frame, bytes)   takes back what allocate_frame gave
/// The zone calls its pager with no lock held, on the thread that called the zone.
template <class P>
concept Pager = requires(P& pager, void* frame, std::size_t bytes) {
  { pager.allocate_frame(bytes) } noexcept -> std::convertible_to<Frame>;
  { pager.deallocate_frame(frame, bytes) } noexcept;
};

/// A pager that also gives runs of frames, for requests above the largest size class.
///   allocate_run(bytes, alignment)     `bytes` is at least 1; aligned to `alignment`, a power of two
///   deallocate_run(run, bytes, alignment)   takes back what allocate_run gave for the same figures
template <class P>
concept RunPager =
    Pager<P> && requires(P& pager, void* run, std::size_t bytes, std::size_t alignment) {
      { pager.allocate_run(bytes, alignment) } noexcept -> std::convertible_to<Frame>;
      { pager.deallocate_run(run, bytes, alignment) } noexcept;
    };

/// The pager of a client that has scavengers (see Owner). An owner that must take in all that others freed lets a scavenge
/// end first. It cannot spin meanwhile: a scavenger on the processor of a more urgent owner does not run before that one
/// sleeps, and how to sleep the client knows.
///   pause_scavenging()     returns when no scavenge goes on, and lets none begin
///   resume_scavenging()   lets them begin again, soon afterwards
/// With any other pager, what a scavenger looks at is left for another time.
template <class P>
concept ScavengingPauser = requires(P& pager) {
  { pager.pause_scavenging() } noexcept;
  { pager.resume_scavenging() } noexcept;
};

/// Stands for a pager where the client refills by hand.
struct NoPager {
  static constexpr Frame allocate_frame(std::size_t) noexcept { return {}; }
  static constexpr void deallocate_frame(void*, std::size_t) noexcept {}
};

}  // namespace slabmalloc
