// SPDX-License-Identifier: MIT
//
// SpanTable: the spans of a frame allocator, as many as there are, and the runs that cross them. It
// also plans the spans for more memory.
//
//                      ┌── span ──┐            a tree by address; each node knows the orders of the
//                 ┌─ span      ┌─ span         free blocks of all nodes below it
//                 ▼            ▼
//   memory   |▒▒▒▒▒▒   ▒▒▒▒▒▒▒▒▒▒|▒▒▒▒|          |▒▒▒▒▒▒▒▒|
//            └─ span, with a hole┘ └ joined       └─ new ──┘   a range of a map, see plan()
//
// The tree is a treap (Seidel and Aragon, Randomized Search Trees, Algorithmica 1996), whose
// priorities are the scrambled addresses. The spans hold its links, so it needs no memory.
//
// Inside a span, a hole between two new ranges costs as much meta-data as memory does; between two
// spans it costs nothing. Spans include holes of up to bridged_frames.
//
// A block lies in one span. A run that no block can hold may consist of several, and may cross from
// one span to another that is *joined*: it begins where the first one ends.
//
// Invariants, with their lines in validate():
//   A1  spans are sorted by address and do not overlap
//   A3  the orders of a node = those of its span and of its children
//   A4  joints_ = spans that begin where another ends
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/kernel/frame_span.hpp"
#include "slabmalloc/kernel/memory_map.hpp"

namespace slabmalloc {

/// Spans, whose memory is the client's.
/// Thread: one at a time. Cost: O(log spans) where nothing else is said, on average.
template <std::size_t BaseBytes, bool HasOwners = false>
class SpanTable {
 public:
  using Span = FrameSpan<BaseBytes, HasOwners>;
  using Map = MemoryMap<BaseBytes>;

  /// Spans include holes of up to so many frames. They need as much meta-data as one more span.
  static constexpr std::size_t bridged_frames = 256;
  /// The free blocks of an order that a search for a long run looks at.
  static constexpr std::uint32_t searched_blocks = 64;
  /// Numbers of frames are below it.
  static constexpr std::uintptr_t end_of_frames = (~std::uintptr_t{0} >> Span::base_bits) + 1;

  /// The first span that ends above `frame`, or null.
  Span* first_above(std::uintptr_t frame) const noexcept {
    Span* found = nullptr;
    for (Span* span = root_; span != nullptr;) {
      const bool is_above = frame < span->range().end;
      found = is_above ? span : found;
      span = span->links_.children[is_above ? 0 : 1];
    }
    return found;
  }
  /// The span in which `frame` lies, or null.
  Span* find(std::uintptr_t frame) const noexcept {
    Span* const span = first_above(frame);
    return span != nullptr && frame >= span->range().first ? span : nullptr;
  }
  /// Calls f(span) for each span, in address order.
  template <class F>
  void for_each(F&& f) const noexcept {
    for (Span* span = first_above(0); span != nullptr; span = first_above(span->range().end)) {
      f(*span);
    }
  }

  /// Pre: `span` overlaps none.
  void insert(Span* span) noexcept {
    joints_ += find(span->range().first - 1) != nullptr ? 1u : 0u;
    joints_ += find(span->range().end) != nullptr ? 1u : 0u;
    Span* parent = nullptr;
    for (Span* at = root_; at != nullptr;) {
      parent = at;
      at = at->links_.children[side_of(span, at)];
    }
    hang(span, parent);
    refresh(span);
    while (span->links_.parent != nullptr && priority(span->links_.parent) < priority(span)) {
      rotate_up(span);
    }
  }

  /// Forgets all spans, and calls f(span) for each, which may give its memory back. Cost: O(spans).
  template <class F>
  void clear(F&& f) noexcept {
    joints_ = 0;
    Span* span = root_;
    while (span != nullptr) {
      const auto [lower, higher] = span->links_.children;
      Span* const child = lower != nullptr ? lower : higher;
      if (child != nullptr) {
        span = child;
        continue;
      }
      Span* const parent = span->links_.parent;
      (parent != nullptr ? parent->links_.children[side_of(span, parent)] : root_) = nullptr;
      f(span);
      span = parent;
    }
  }

  // ---- runs ------------------------------------------------------------------------------------

  /// Allocates `frames` frames in a row from the span with the smallest free block of at least
  /// `order`, the lowest one of several. Returns the first, aligned to a block of `order`, or 0.
  /// They are `marked` or not, see FrameSpan::allocate().
  /// Pre: `frames` is 1 … 2^order.
  std::uintptr_t allocate(std::uint32_t order, std::size_t frames, bool marked = false) noexcept {
    const std::uint32_t orders =
        root_ != nullptr && order < Span::order_limit ? root_->links_.orders >> order : 0;
    if (orders == 0) {
      return 0;
    }
    const std::uint32_t fit = order + lowest_bit(orders);
    Span* span = root_;
    for (bool is_here = false; !is_here;) {
      const auto [lower, higher] = span->links_.children;
      if (has_order(lower, fit)) {
        span = lower;
      } else if (is_set(span->free_orders(), fit)) {
        is_here = true;
      } else {
        span = higher;
      }
    }
    const std::uintptr_t first = span->allocate(order, frames, fit, marked);
    refresh(span);
    return first;
  }

  /// Allocates `frames` frames in a row that no single block has, aligned to 2^alignment frames.
  /// Returns the first, or 0. It finds all that cross joints. Inside a span it looks at
  /// searched_blocks free blocks of each order that such a run must contain. So it finds each run
  /// of at least 1/32 of the free frames, and a shorter one in most cases.
  /// Pre: allocate() failed.
  /// Cost: O(spans * log frames) with joints. A run that is no frame of a power of two adds
  /// O(orders * (spans * log spans + searched_blocks * log frames)).
  std::uintptr_t allocate_across(std::uint32_t alignment, std::size_t frames,
                                 bool marked = false) noexcept {
    std::uintptr_t first = joints_ != 0 && frames > 1 ? find_at_joints(alignment, frames) : 0;
    // A frame in one span would be a block.
    const bool is_block = alignment < word_bits && frames == std::size_t{1} << alignment;
    const std::uint32_t least = highest_bit(frames + 1) - 1;
    for (std::uint32_t order = least; first == 0 && !is_block && order < Span::order_limit;
         ++order) {
      if (has_order(root_, order)) {
        first = find_beside_blocks(alignment, frames, order);
      }
    }
    if (first != 0) {
      take({first, first + frames}, marked);
    }
    return first;
  }

  /// Allocates the frames of `range`. False if not all of them are free.
  /// Cost: O(blocks * (log spans + orders^2)).
  bool allocate_at(FrameRange range, bool marked) noexcept {
    const bool is_free = all_of(range, [](FrameUse use) { return use == FrameUse::Free; });
    if (is_free) {
      take(range, marked);
    }
    return is_free;
  }
  /// Takes all memory of `range` offline. False if a frame is used or meta-data; then nothing
  /// changes. Cost: as allocate_at().
  bool take_offline(FrameRange range) noexcept {
    const bool is_unused = all_of(range, [](FrameUse use) {
      return use != FrameUse::Allocated && use != FrameUse::Metadata;
    });
    if (is_unused) {
      for_each_within(range, [](Span& span, FrameRange part) { span.take_offline(part); });
    }
    return is_unused;
  }
  /// Frees the offline frames of `range`. Cost: as allocate_at().
  void put_online(FrameRange range) noexcept {
    for_each_within(range, [](Span& span, FrameRange part) { span.put_online(part); });
  }

  /// The block that `frame` is in, as FrameSpan::block_at() says, and a run whole. In no span, the
  /// absent frames up to the next one.
  /// Cost: O(orders^2), and O(log spans + orders) for each other span of the run.
  FrameBlock block_at(std::uintptr_t frame) const noexcept {
    const Span* span = find(frame);
    if (span == nullptr) {
      const Span* const next = first_above(frame);
      const std::uintptr_t end = next != nullptr ? next->range().first : end_of_frames;
      return {frame, end - frame, FrameUse::Absent};
    }
    FrameBlock block = span->block_at(frame);
    if (block.use == FrameUse::Allocated) {
      block.frames += frames_behind(span, block.first + block.frames);
    }
    while (block.first == span->range().first && span->continued_frames() != 0) {
      span = find(block.first - 1);
      const FrameBlock part = span->block_at(block.first - 1);
      block = {part.first, part.frames + block.frames, FrameUse::Allocated};
    }
    return block;
  }
  /// The verdict on a free of `frames` frames from `first` on.
  typename Span::Verdict judge(std::uintptr_t first, std::size_t frames) const noexcept {
    const Span* span = find(first);
    if (span == nullptr) {
      return {false, MisuseKind::ForeignPointer, 0};
    }
    typename Span::Verdict verdict = span->judge(first, frames);
    const bool is_head = verdict.kind == MisuseKind::SizeMismatch;
    if (is_head) [[likely]] {
      verdict.frames += frames_behind(span, first + verdict.frames);
    } else if (verdict.frames != 0) {
      verdict.frames = block_at(first).frames;
    }
    verdict.is_sound = is_head && verdict.frames == frames;
    return verdict;
  }
  /// Frees a run. Pre: judge() found it sound.
  void deallocate(std::uintptr_t first, std::size_t frames) noexcept {
    for_each_part(first, frames,
                  [](Span& span, FrameRange part) { span.deallocate(part.first, part.frames()); });
  }
  /// Frees the absent frames of `range`. Pre: `range` lies in a span. Cost: O(frames).
  void fill(FrameRange range) noexcept {
    for_each_part(range.first, range.frames(),
                  [](Span& span, FrameRange part) { span.fill(part); });
  }

  // ---- more memory -----------------------------------------------------------------------------

  /// A span for ranges of a map where no span lies yet.
  struct NewSpan {
    FrameRange range;
    FrameRange largest;      ///< Of the ranges.
    std::size_t frames = 0;  ///< Without those of holes.
  };

  /// Calls each_span(NewSpan) for each, in address order. It may insert that span.
  /// Cost: O(ranges * (regions + log spans)).
  template <class F>
  void plan(const Map& map, F&& each_span) const noexcept {
    FrameRange range = next_new(map, 0);
    while (!range.is_empty()) {
      NewSpan span{range, range, 0};
      do {
        span.range.end = range.end;
        span.frames += range.frames();
        span.largest = range.frames() > span.largest.frames() ? range : span.largest;
        range = next_new(map, range.end);
      } while (!range.is_empty() && is_bridged(span, range));
      each_span(span);
    }
  }

  /// The spans on the longest way from the root of the tree. Cost: O(spans * log spans).
  std::size_t depth() const noexcept {
    std::size_t deepest = 0;
    for_each([&](const Span& span) {
      std::size_t depth = 0;
      for (const Span* at = &span; at != nullptr; at = at->links_.parent) {
        ++depth;
      }
      deepest = depth > deepest ? depth : deepest;
    });
    return deepest;
  }
  /// A1, A3 or A4, or null. Cost: O(spans * log spans).
  const char* validate() const noexcept {
    const char* broken = nullptr;
    std::uintptr_t end = 0;
    std::size_t joints = 0;
    for_each([&](const Span& span) {
      const bool is_apart = end <= span.range().first;
      joints += end == span.range().first ? 1u : 0u;
      end = span.range().end;
      if (!is_apart) {
        broken = "A1: spans are sorted by address and do not overlap";
      } else if (broken == nullptr && span.links_.orders != orders_below(span)) {
        broken = "A3: the orders of a node = those of its span and of its children";
      }
    });
    return broken != nullptr || joints == joints_
               ? broken
               : "A4: joints = spans that begin where another ends";
  }

 private:
  static bool has_order(const Span* span, std::uint32_t order) noexcept {
    return span != nullptr && is_set(span->links_.orders, order);
  }

  // ---- the tree --------------------------------------------------------------------------------

  /// The side of `parent` on which `span` hangs.
  static std::uint32_t side_of(const Span* span, const Span* parent) noexcept {
    return span->range().first < parent->range().first ? 0 : 1;
  }
  static std::uintptr_t priority(const Span* span) noexcept {
    // Twice the multiplier of Knuth, volume 3, section 6.4. Once would spread regular addresses too
    // evenly, and the tree would be deep.
    constexpr auto multiplier = static_cast<std::uintptr_t>(0x9E37'79B9'7F4A'7C15u);
    const std::uintptr_t once = span->range().first * multiplier;
    return (once ^ once >> (word_bits / 2)) * multiplier;
  }
  void hang(Span* span, Span* parent) noexcept {
    span->links_.parent = parent;
    (parent != nullptr ? parent->links_.children[side_of(span, parent)] : root_) = span;
  }
  static std::uint32_t orders_below(const Span& span) noexcept {
    std::uint32_t orders = span.free_orders();
    for (const Span* const child : span.links_.children) {
      orders |= child != nullptr ? child->links_.orders : 0;
    }
    return orders;
  }
  /// Restores A3 after a change of the free blocks of `span`.
  static void refresh(Span* span) noexcept {
    for (; span != nullptr; span = span->links_.parent) {
      const std::uint32_t orders = orders_below(*span);
      if (span->links_.orders == orders) {
        return;
      }
      span->links_.orders = orders;
    }
  }
  /// Exchanges `span` with its parent.
  void rotate_up(Span* span) noexcept {
    Span* const parent = span->links_.parent;
    const std::uint32_t side = side_of(span, parent);
    Span* const inner = span->links_.children[1 - side];
    hang(span, parent->links_.parent);
    parent->links_.children[side] = inner;
    if (inner != nullptr) {
      inner->links_.parent = parent;
    }
    span->links_.children[1 - side] = parent;
    parent->links_.parent = span;
    parent->links_.orders = orders_below(*parent);
    span->links_.orders = orders_below(*span);
  }

  // ---- runs across blocks ----------------------------------------------------------------------

  /// Calls change(span, part) for the part of first … first + frames - 1 in each span.
  template <class F>
  void for_each_part(std::uintptr_t first, std::size_t frames, F&& change) noexcept {
    const std::uintptr_t end = first + frames;
    while (first != end) {
      Span* const span = find(first);
      const FrameRange part{first, end < span->range().end ? end : span->range().end};
      change(*span, part);
      refresh(span);
      first = part.end;
    }
  }
  /// Calls change(span, part) for the part of `range` in each span that it meets.
  template <class F>
  void for_each_within(FrameRange range, F&& change) noexcept {
    for (Span* span = first_above(range.first); span != nullptr && span->range().first < range.end;
         span = first_above(span->range().end)) {
      const FrameRange whole = span->range();
      change(*span, FrameRange{whole.first < range.first ? range.first : whole.first,
                               whole.end < range.end ? whole.end : range.end});
      refresh(span);
    }
  }
  /// True if accept(use) says so of all blocks of `range`.
  template <class F>
  bool all_of(FrameRange range, F&& accept) const noexcept {
    bool accepted = true;
    while (accepted && range.first < range.end) {
      const FrameBlock block = block_at(range.first);
      accepted = accept(block.use);
      range.first = block.first + block.frames;
    }
    return accepted;
  }
  /// Allocates free frames.
  void take(FrameRange range, bool marked) noexcept {
    for_each_part(range.first, range.frames(), [range, marked](Span& span, FrameRange part) {
      span.take(part, part.first == range.first, marked);
    });
  }
  /// The frames that a run, which goes on to `end` in `span`, has in the spans behind.
  std::size_t frames_behind(const Span* span, std::uintptr_t end) const noexcept {
    std::size_t frames = 0;
    while (end + frames == span->range().end) {
      span = find(span->range().end);
      const std::size_t more = span != nullptr ? span->continued_frames() : 0;
      if (more == 0) {
        break;
      }
      frames += more;
    }
    return frames;
  }
  FrameRange free_block_at(std::uintptr_t frame) const noexcept {
    const Span* const span = find(frame);
    return span != nullptr ? span->free_block_at(frame) : FrameRange{};
  }
  /// Where `frames` free frames lie that contain `frame` or begin behind it; 0 if there are too
  /// few. Then `end` is the end of the free frames around `frame`.
  std::uintptr_t place_around(std::uintptr_t frame, std::uint32_t alignment, std::size_t frames,
                              std::uintptr_t& end) const noexcept {
    FrameRange block = free_block_at(frame);
    std::uintptr_t first = frame;
    for (end = block.end; !block.is_empty(); block = free_block_at(first - 1)) {
      first = block.first;
    }
    if (alignment >= word_bits - Span::base_bits) {
      return 0;
    }
    first = align_up(first, std::uintptr_t{1} << alignment);
    do {
      if (first < end && end - first >= frames) {
        return first;
      }
      block = free_block_at(end);
      end = block.is_empty() ? end : block.end;
    } while (!block.is_empty());
    return 0;
  }
  std::uintptr_t find_at_joints(std::uint32_t alignment, std::size_t frames) const noexcept {
    std::uintptr_t end = 0;
    std::uintptr_t seen = 0;
    std::uintptr_t found = 0;
    for (const Span* span = first_above(0); span != nullptr && found == 0;
         span = first_above(end)) {
      const std::uintptr_t joint = span->range().first;
      // The free frames before `seen` are too few.
      if (joint == end && joint >= seen && !span->free_block_at(joint).is_empty()) {
        found = place_around(joint, alignment, frames, seen);
      }
      end = span->range().end;
    }
    return found;
  }
  std::uintptr_t find_beside_blocks(std::uint32_t alignment, std::size_t frames,
                                    std::uint32_t order) const noexcept {
    std::uint32_t count = 0;
    std::uintptr_t seen = 0;
    for (const Span* span = first_above(0); span != nullptr;
         span = first_above(span->range().end)) {
      for (FrameRange block = span->next_free(seen, order);
           !block.is_empty() && count < searched_blocks;
           block = span->next_free(seen, order), ++count) {
        if (const std::uintptr_t found = place_around(block.first, alignment, frames, seen)) {
          return found;
        }
      }
    }
    return 0;
  }

  // ---- plans -----------------------------------------------------------------------------------

  /// Whether `span` is to include `range` behind it: its meta-data must fit into one of its ranges.
  bool is_bridged(const NewSpan& span, FrameRange range) const noexcept {
    const std::size_t largest =
        range.frames() > span.largest.frames() ? range.frames() : span.largest.frames();
    return range.first - span.range.end <= bridged_frames &&
           Span::metadata_bytes({span.range.first, range.end}) <= largest * BaseBytes &&
           !has_span_between(span.range.end, range.first);
  }
  /// The lowest range of the map from `from` on that lies in no span.
  FrameRange next_new(const Map& map, std::uintptr_t from) const noexcept {
    FrameRange range = map.next(from);
    while (!range.is_empty()) {
      const Span* const span = first_above(range.first);
      if (span == nullptr || range.end <= span->range().first) {
        break;
      }
      if (range.first < span->range().first) {
        range.end = span->range().first;
        break;
      }
      range = map.next(span->range().end);
    }
    return range;
  }
  bool has_span_between(std::uintptr_t first, std::uintptr_t end) const noexcept {
    const Span* const span = first_above(first);
    return span != nullptr && span->range().first >= first && span->range().end <= end;
  }

  Span* root_ = nullptr;
  std::size_t joints_ = 0;  ///< Spans that begin where another ends.
};

}  // namespace slabmalloc
