// SPDX-License-Identifier: MIT
//
// ParkedFrames: the empty frames of a type-stable cache that wait for a grace period before they go
// back to the pager. Readers without locks may still look at their objects.
//
//   frame caches ──excess──► parked ──grace period──► take_passed ──► destroyed ──► pager
//         ▲                    │
//         └────────────────────┴─ take_back, at any time: the same type, still constructed
//
// Linux has this as SLAB_TYPESAFE_BY_RCU, FreeBSD as UMA_ZONE_SMR. There too, an object that was
// freed may serve again at once, as another object of its type.
//
// A frame's link lies in its page header, where no reader looks. A frame that is taken back and
// comes again waits anew.
//
// Invariant: V1 of the list (grace_list.hpp); for the bytes see K1 (cpu_zones.hpp).
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/kernel/grace_list.hpp"
#include "slabmalloc/page/allocable_page.hpp"

namespace slabmalloc {

/// Of a heap or cache that parks none: nothing, in no bytes.
struct NoParkedFrames {
  static constexpr bool exist = false;

  constexpr void set_frame_bytes(std::size_t) noexcept {}
  static constexpr std::size_t bytes() noexcept { return 0; }
  static constexpr const char* validate() noexcept { return nullptr; }
};

/// Frames of pages of type `Page`. Thread: any. Context: where not said otherwise, one that may
/// call the pager.
template <GraceHooks Hooks, RunTimePage Page>
class ParkedFrames {
 public:
  static constexpr bool exist = true;

  /// Thread: before anyone uses it.
  constexpr void set_frame_bytes(std::size_t bytes) noexcept {
    frames_ = typename Page::Frames(bytes);
  }

  /// Pre: all objects of `frame` are free; no reader that begins from here on finds one. Context:
  /// any.
  void push(void* frame) noexcept { list_.push(frames_.header_of(frame)); }

  /// Takes up to `most` frames for use, whether their grace period has passed or not; returns how
  /// many. It finds one if there is one: it waits for other callers, which have interrupts saved.
  /// Cost: O(most); waits of at most `most_looks`.
  std::uint32_t take_back(void** frames, std::uint32_t most) noexcept {
    std::uint32_t taken = 0;
    for (std::uint32_t look = 0; taken < most && look < most_looks && !list_.is_empty(); ++look) {
      if (auto* const header = list_.take_any()) {
        frames[taken++] = frames_.frame_of(header);
      } else if (taken != 0) {
        break;
      } else {
        relax<Hooks>();
      }
    }
    return taken;
  }

  /// Takes a frame whose grace period has passed, or returns null.
  void* take_passed() noexcept {
    auto* const header = list_.take(1);
    return header != nullptr ? frames_.frame_of(header) : nullptr;
  }
  /// Waits until a batch of frames has passed. False if that took too long. Context: MayWait, in no
  /// read section.
  bool wait() noexcept { return list_.wait(); }

  /// Frames in it, and their bytes. Thread: any; the figures may lag behind others.
  std::size_t size() const noexcept { return list_.size(); }
  std::size_t bytes() const noexcept { return size() * frames_.bytes(); }

  /// V1, or null. Pre: nobody uses it.
  const char* validate() const noexcept { return list_.validate(); }

 private:
  static constexpr std::uint32_t most_looks = 16'384;

  typename Page::Frames frames_{};
  GraceList<Hooks, typename Page::Atomics, typename Page::Header> list_;
};

}  // namespace slabmalloc
