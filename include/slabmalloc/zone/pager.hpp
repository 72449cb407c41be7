// SPDX-License-Identifier: MIT
//
// Pager: the source and sink of page frames. A client must supply nothing else.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>

#include "slabmalloc/base/layout.hpp"
#include "slabmalloc/base/misuse.hpp"
#include "slabmalloc/base/result.hpp"

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
///   allocate_frame(bytes)            a frame of `bytes`, a power of two, aligned to its size; one
///                                    with a null address if there is none, which is no error
///   deallocate_frame(frame, bytes)   takes back what allocate_frame gave
/// The zone calls its pager with no lock held, on the thread that called the zone.
template <class P>
concept Pager = requires(P& pager, void* frame, std::size_t bytes) {
  { pager.allocate_frame(bytes) } noexcept -> std::convertible_to<Frame>;
  { pager.deallocate_frame(frame, bytes) } noexcept;
};

/// A pager that learns which size class of the zone a frame is for.
///   allocate_class_frame(bytes, class_index)   as allocate_frame(bytes)
template <class P>
concept ClassPager = Pager<P> && requires(P& pager, std::size_t bytes, std::uint32_t class_index) {
  { pager.allocate_class_frame(bytes, class_index) } noexcept -> std::convertible_to<Frame>;
};

/// A pager that also gives runs of frames, for requests above the largest size class.
///   allocate_run(bytes, alignment)   `bytes` is at least 1; aligned to `alignment`, a power of two
///   deallocate_run(run, bytes, alignment)   takes back what allocate_run gave for the same
///                                    figures; it may return a bool, false if it refused a bad free
///   base_bytes, optional             what it rounds `bytes` up to, a power of two; all runs are
///                                    aligned to it
template <class P>
concept RunPager =
    Pager<P> && requires(P& pager, void* run, std::size_t bytes, std::size_t alignment) {
      { pager.allocate_run(bytes, alignment) } noexcept -> std::convertible_to<Frame>;
      { pager.deallocate_run(run, bytes, alignment) } noexcept;
    };

/// What lies at an address, as far as a pager knows.
enum class PagerUse : std::uint8_t {
  None,   ///< Nothing that the pager gives.
  Free,   ///< Memory that the pager may give.
  Frame,  ///< A frame that allocate_frame() gave.
  Run,    ///< A run that allocate_run() gave.
};

/// The frame or run in which an address lies. Without one, only `use` counts.
struct PagerBlock {
  void* address = nullptr;
  std::size_t bytes = 0;
  PagerUse use = PagerUse::None;
};

/// A RunPager that finds frames and runs by their addresses. It may be asked about any address.
///   base_bytes         as of a RunPager, and not optional
///   block_at(address)  what lies there; of a run, its bytes rounded up to base_bytes, by which
///                      deallocate_run() takes it back, at any alignment
/// A pager whose functions are chosen at run time may add:
///   finds(), has_runs()   false while it knows no block, and while it gives no runs
template <class P>
concept FindingPager = RunPager<P> && requires(const P& pager, const void* address) {
  { P::base_bytes } -> std::convertible_to<std::size_t>;
  { pager.block_at(address) } noexcept -> std::same_as<PagerBlock>;
};

/// A RunPager that keeps a word of its client's for each run: 0 at first.
///   set_owner(run, word)   sets the word; false if there is no such run
///   owner(run)             the word; 0 if there is no such run
///   deallocate_run(run, bytes, alignment, word)   as deallocate_run(); if it returns true, `word`
///                          is that of the run that it took back
template <class P>
concept OwnerPager =
    RunPager<P> && requires(P& pager, void* run, std::size_t bytes, std::uintptr_t& word) {
      { pager.set_owner(run, word) } noexcept -> std::same_as<bool>;
      { pager.owner(run) } noexcept -> std::same_as<std::uintptr_t>;
      { pager.deallocate_run(run, bytes, bytes, word) } noexcept -> std::same_as<bool>;
    };

/// Takes the place of a pager where the client refills by hand.
struct NoPager {
  static constexpr Frame allocate_frame(std::size_t) noexcept { return {}; }
  static constexpr void deallocate_frame(void*, std::size_t) noexcept {}
};

/// The runs of a pager that has them, or the answer of a pager without. Thread: the zone's owner.
template <class PagerT>
struct PagerRuns {
  struct Run {
    Result<void*> address_or_error;
    bool zeroed;
  };

  static constexpr bool exist = RunPager<PagerT>;

  /// A size of 0 counts as 1. Fails: OutOfMemory; InvalidLayout if the pager has no runs.
  [[gnu::noinline]] static Run allocate([[maybe_unused]] PagerT* pager,
                                        [[maybe_unused]] Layout layout) noexcept {
    if constexpr (exist) {
      const Frame run = pager->allocate_run(bytes_of(layout), layout.align());
      if (run.address != nullptr) {
        return {run.address, run.zeroed};
      }
      return {AllocationError::OutOfMemory, false};
    } else {
      return {AllocationError::InvalidLayout, false};
    }
  }

  /// True if the pager took the run back. Ignores a null pointer.
  /// Fails: SizeMismatch to the misuse hook if the pager has no runs.
  [[gnu::noinline]] static bool deallocate([[maybe_unused]] PagerT* pager, void* object,
                                           [[maybe_unused]] Layout layout) noexcept {
    if (object == nullptr) {
      return false;
    }
    if constexpr (exist) {
      const std::size_t bytes = bytes_of(layout);
      if constexpr (requires {
                      {
                        pager->deallocate_run(object, bytes, layout.align())
                      } -> std::same_as<bool>;
                    }) {
        return pager->deallocate_run(object, bytes, layout.align());
      } else {
        pager->deallocate_run(object, bytes, layout.align());
        return true;
      }
    } else {
      report_misuse({.kind = MisuseKind::SizeMismatch,
                     .address = object,
                     .object_size = 0,
                     .slot = 0,
                     .given_size = layout.size()});
      return false;
    }
  }

 private:
  static constexpr std::size_t bytes_of(Layout layout) noexcept {
    return layout.size() != 0 ? layout.size() : 1;
  }
};

}  // namespace slabmalloc
