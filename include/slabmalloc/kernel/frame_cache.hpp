// SPDX-License-Identifier: MIT
//
// FrameCache: empty frames between zones and their pager. Each CPU has one for each page kind.
// Other CPUs take from it before they ask for new frames.
//
//   zone ──page is empty──► frame cache ──excess──► pager
//     ▲                     │   ▲
//     └─────────────────────┘   └── other CPUs take, one frame at a time
//
// A frame's link lies in its page header, not in its first bytes. So the contents of the slots
// stay.
//
// Invariant, with its line in validate():
//   K3  size() = frames linked from the top on
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/kernel/spin_lock.hpp"
#include "slabmalloc/zone/config.hpp"

namespace slabmalloc {

/// Frames for pages of one kind, last in first out. Thread: any, inside a section of its CPU's (see
/// CpuParts): so a handler that interrupts a holder of the lock keeps away from all frame caches.
template <KernelHooks Hooks, class Kind>
class FrameCache {
 public:
  using Page = typename Kind::Page;
  using Header = typename Page::Header;
  using Atomics = typename Page::Atomics;

  /// True if frames of `bytes` are of this kind.
  static constexpr bool takes(std::size_t bytes) noexcept {
    if constexpr (AllocablePage<Page>) {
      return bytes == Page::frame_bytes(Kind::max_object_bytes);
    }
    return true;
  }

  /// Thread: before anyone uses it.
  constexpr void set_frames(const FramesOf<Page>& frames) noexcept { frames_ = frames; }

  void push(void* const* frames, std::uint32_t count) noexcept {
    const Guard guard(lock_);
    for (std::uint32_t number = 0; number < count; ++number) {
      link(frames[number]);
    }
  }

  /// Takes a frame out, or null. Cost: constant; a look if there is none.
  void* pop() noexcept { return size() != 0 ? take() : nullptr; }

  /// As push(), but only if the cache has fewer than `most`; else false.
  bool push_below(std::uint32_t most, void* frame) noexcept {
    const Guard guard(lock_);
    const bool has_room = size() < most;
    if (has_room) {
      link(frame);
    }
    return has_room;
  }

  /// As pop(), but waits for the end of a move that may bring a frame, and leaves `least`.
  void* take(std::uint32_t least = 0) noexcept {
    const Guard guard(lock_);
    Header* const header = top_;
    if (header == nullptr || size() <= least) {
      return nullptr;
    }
    top_ = header->next;
    size_.store(size() - 1, Order::relaxed);
    return frames_.frame_of(header);
  }

  /// Takes a frame out of `source` for `frame`, but for this frame cache itself while that has
  /// fewer than `least`: then `frame` stays as it is. False if `source` has none. A caller that
  /// finds nothing there finds it by take() here. It reads `least` under the lock.
  template <class Least>
  bool move_or_take(FrameCache& source, const Least& least, void*& frame) noexcept {
    const Guard guard(lock_);
    void* const found = source.pop();
    if (found == nullptr) {
      return false;
    }
    if (size() < least.load(Order::relaxed)) {
      link(found);
    } else {
      frame = found;
    }
    return true;
  }

  /// Frames in it. Thread: any; the figure may lag for all but the lock's holder.
  std::uint32_t size() const noexcept { return size_.load(Order::relaxed); }
  /// The same, without a lag.
  std::uint32_t exact_size() noexcept {
    const Guard guard(lock_);
    return size();
  }

  /// K3, or null. Pre: nobody uses it. Cost: O(frames).
  const char* validate() const noexcept {
    std::size_t linked = 0;
    for (const Header* header = top_; header != nullptr && linked <= size(); ++linked) {
      header = header->next;
    }
    return linked == size() ? nullptr : "K3: the size of a frame cache = frames linked in it";
  }

 private:
  using Guard = typename SpinLock<Hooks, Atomics>::Guard;

  void link(void* frame) noexcept {
    Header* const header = frames_.header_of(frame);
    header->next = top_;
    top_ = header;
    size_.store(size() + 1, Order::relaxed);
  }

  SpinLock<Hooks, Atomics> lock_;
  [[no_unique_address]] FramesOf<Page> frames_{};
  Header* top_ = nullptr;
  typename Atomics::template Cell<std::uint32_t> size_;
};

/// The bytes of frames of at most `Most` page kinds, each size once.
template <std::size_t Most>
struct FrameSizes {
  std::size_t at[Most] = {};
  std::uint32_t count = 0;

  constexpr const std::size_t* begin() const noexcept { return at; }
  constexpr const std::size_t* end() const noexcept { return at + count; }
  /// The place of `bytes`, or count.
  constexpr std::uint32_t index_of(std::size_t bytes) const noexcept {
    std::uint32_t index = 0;
    while (index < count && at[index] != bytes) {
      ++index;
    }
    return index;
  }
};

/// The sizes of the frames of `Kinds`: kinds that have the same share a frame cache.
template <class... Kinds>
struct FrameSizesOf {
  static constexpr FrameSizes<sizeof...(Kinds)> sizes = [] {
    constexpr std::size_t of_kinds[] = {Kinds::Page::frame_bytes(Kinds::max_object_bytes)...};
    FrameSizes<sizeof...(Kinds)> result;
    for (const std::size_t bytes : of_kinds) {
      if (result.index_of(bytes) == result.count) {
        result.at[result.count++] = bytes;
      }
    }
    return result;
  }();
  static constexpr std::uint32_t size_count = sizes.count;
  /// The bytes of a frame of base pages.
  static constexpr std::size_t base_bytes = sizes.at[0];
};
/// The one size of a page kind that is known at run time.
template <class Kind>
  requires RunTimePage<typename Kind::Page>
struct FrameSizesOf<Kind> {
  FrameSizes<1> sizes{};
  static constexpr std::uint32_t size_count = 1;
};

/// A frame cache for each page kind of `Pages`. Their bytes tell the frames apart.
template <KernelHooks Hooks, class Pages>
class FrameCaches;
template <KernelHooks Hooks, class... Kinds>
class FrameCaches<Hooks, PageKinds<Kinds...>> : public FrameSizesOf<Kinds...>,
                                                FrameCache<Hooks, Kinds>... {
 public:
  static constexpr const char* known_bytes = "a frame's bytes are those of one page kind";

  /// Tells the size of the frames of a page kind for which it is known at run time.
  /// Thread: before anyone uses it.
  constexpr void set_frame_bytes(std::size_t bytes) noexcept {
    this->sizes = {{bytes}, 1};
    (FrameCache<Hooks, Kinds>::set_frames(FramesOf<typename Kinds::Page>::of(bytes)), ...);
  }

  /// Pre: `bytes` is one of sizes.
  void push(void* const* frames, std::uint32_t count, std::size_t bytes) noexcept {
    with(bytes, [=](auto& cache) { cache.push(frames, count); });
  }
  void push(void* frame, std::size_t bytes) noexcept { push(&frame, 1, bytes); }
  void* pop(std::size_t bytes) noexcept {
    void* frame = nullptr;
    with(bytes, [&frame](auto& cache) { frame = cache.pop(); });
    return frame;
  }
  bool push_below(std::uint32_t most, void* frame, std::size_t bytes) noexcept {
    bool has_room = false;
    with(bytes, [&](auto& cache) { has_room = cache.push_below(most, frame); });
    return has_room;
  }
  void* take(std::size_t bytes, std::uint32_t least = 0) noexcept {
    void* frame = nullptr;
    with(bytes, [&](auto& cache) { frame = cache.take(least); });
    return frame;
  }
  template <class Least>
  bool move_or_take(FrameCaches& source, std::size_t bytes, const Least& least,
                    void*& frame) noexcept {
    bool found = false;
    with(bytes, [&]<class Kind>(FrameCache<Hooks, Kind>& cache) {
      found = cache.move_or_take(static_cast<FrameCache<Hooks, Kind>&>(source), least, frame);
    });
    return found;
  }
  std::uint32_t exact_size(std::size_t bytes) noexcept {
    std::uint32_t result = 0;
    with(bytes, [&result](auto& cache) { result = cache.exact_size(); });
    return result;
  }
  std::uint32_t size(std::size_t bytes) const noexcept {
    std::uint32_t result = 0;
    const_cast<FrameCaches*>(this)->with(bytes, [&result](auto& cache) { result = cache.size(); });
    return result;
  }
  /// Bytes of all frames. Thread: any; the figure may lag for all but the locks' holders.
  std::size_t bytes() const noexcept {
    std::size_t sum = 0;
    for (const std::size_t bytes : this->sizes) {
      sum += size(bytes) * bytes;
    }
    return sum;
  }

  /// K3 of each, or null. Pre: nobody uses them. Cost: O(frames).
  const char* validate() const noexcept {
    const char* broken = nullptr;
    ((broken = FrameCache<Hooks, Kinds>::validate()) || ...);
    return broken;
  }

 private:
  template <class F>
  void with(std::size_t bytes, F&& f) noexcept {
    const bool is_known = ((FrameCache<Hooks, Kinds>::takes(bytes) &&
                            (f(static_cast<FrameCache<Hooks, Kinds>&>(*this)), true)) ||
                           ...);
    require<Hooks>(is_known, known_bytes);
  }
};

}  // namespace slabmalloc
