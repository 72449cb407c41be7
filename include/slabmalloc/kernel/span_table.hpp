// SPDX-License-Identifier: MIT
//
// SpanTable: the spans of a frame allocator in the order of their addresses. It also plans the
// spans for more memory.
//
//   spans_   [ | | ]                          each frame is looked up here
//             │ │ └───────────────────┐
//             ▼ ▼                     ▼
//   memory   |▒▒▒▒▒▒   ▒▒▒▒▒▒▒▒▒▒|   |▒▒▒▒|          |▒▒▒▒▒▒▒▒|
//            └─ span, with a hole ┘                  └─ new ──┘   a range of a map, see plan()
//
// Inside a span, a hole between two new ranges costs as much meta-data as memory does; between two
// spans it costs nothing. Spans include holes of up to bridged_frames, or more if there would be
// too many spans otherwise.
//
// Invariant, with its line in validate():
//   A1  spans are sorted by address and do not overlap
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/kernel/frame_span.hpp"
#include "slabmalloc/kernel/memory_map.hpp"

namespace slabmalloc {

/// At most maximum_spans spans. Their memory is the client's.
/// Thread: one at a time. Cost: O(spans) where nothing else is said.
template <std::size_t BaseBytes>
class SpanTable {
 public:
  using Span = FrameSpan<BaseBytes>;
  using Map = MemoryMap<BaseBytes>;

  static constexpr std::size_t maximum_spans = 16;
  /// Spans include holes of up to so many frames. They need as much meta-data as one more span.
  static constexpr std::size_t bridged_frames = 256;

  Span* const* begin() const noexcept { return spans_; }
  Span* const* end() const noexcept { return spans_ + count_; }
  /// The spans that the table still has room for.
  std::size_t room() const noexcept { return maximum_spans - count_; }

  /// The first span that ends above `frame`, or null.
  Span* first_above(std::uintptr_t frame) const noexcept {
    for (Span* span : *this) {
      if (frame < span->range().end) {
        return span;
      }
    }
    return nullptr;
  }
  /// The span in which `frame` lies, or null.
  Span* find(std::uintptr_t frame) const noexcept {
    Span* const span = first_above(frame);
    return span != nullptr && frame >= span->range().first ? span : nullptr;
  }

  /// The span with the smallest free block of at least `order`, the lowest one of several.
  struct Fit {
    Span* span = nullptr;  ///< Null if there is none.
    std::uint32_t order = Span::order_limit;
  };
  Fit best_fit(std::uint32_t order) const noexcept {
    Fit best;
    for (Span* span : *this) {
      const std::uint32_t fit = span->order_of_fit(order);
      if (fit < best.order) {
        best = {span, fit};
      }
    }
    return best;
  }

  /// Pre: room() is not 0; `span` overlaps none.
  void insert(Span* span) noexcept {
    std::uint32_t index = count_++;
    for (; index != 0 && spans_[index - 1]->range().first > span->range().first; --index) {
      spans_[index] = spans_[index - 1];
    }
    spans_[index] = span;
  }

  // ---- more memory -----------------------------------------------------------------------------

  /// The spans for the ranges of a map where no span lies yet.
  struct Plan {
    std::size_t bridged = 0;  ///< Spans include holes of up to so many frames.
    std::size_t spans = 0;
    std::size_t metadata_bytes = 0;
    std::size_t frames = 0;  ///< Without those of holes.
    FrameRange largest;      ///< Of the ranges.
  };

  /// Makes few enough spans for room(), if possible.
  /// Cost: O(ranges * (regions + spans)) for each doubling of `bridged`.
  Plan plan(const Map& map) const noexcept {
    const auto ignore = [](FrameRange) {};
    Plan result = plan(map, bridged_frames, ignore);
    while (result.spans > room() && result.bridged <= ~std::size_t{0} / 2) {
      result = plan(map, result.bridged * 2, ignore);
    }
    return result;
  }
  /// Calls each_span(range) for each span of the plan with these holes.
  template <class F>
  Plan plan(const Map& map, std::size_t bridged, F&& each_span) const noexcept {
    Plan result;
    result.bridged = bridged;
    FrameRange range = next_new(map, 0);
    while (!range.is_empty()) {
      FrameRange span = range;
      do {
        span.end = range.end;
        result.frames += range.frames();
        if (range.frames() > result.largest.frames()) {
          result.largest = range;
        }
        range = next_new(map, range.end);
      } while (!range.is_empty() && range.first - span.end <= bridged &&
               !has_span_between(span.end, range.first));
      ++result.spans;
      result.metadata_bytes += Span::metadata_bytes(span);
      each_span(span);
    }
    return result;
  }

  /// A1, or null.
  const char* validate() const noexcept {
    for (std::uint32_t index = 1; index < count_; ++index) {
      if (spans_[index - 1]->range().end > spans_[index]->range().first) {
        return "A1: spans are sorted by address and do not overlap";
      }
    }
    return nullptr;
  }

 private:
  /// The lowest range of the map from `from` on that lies in no span.
  FrameRange next_new(const Map& map, std::uintptr_t from) const noexcept {
    FrameRange range = map.next(from);
    for (Span* const* at = begin(); at != end() && !range.is_empty(); ++at) {
      const FrameRange span = (*at)->range();
      if (range.first < span.first) {
        range.end = range.end < span.first ? range.end : span.first;
        break;
      }
      if (range.first < span.end) {
        range = map.next(span.end);
      }
    }
    return range;
  }
  bool has_span_between(std::uintptr_t first, std::uintptr_t end) const noexcept {
    const Span* const span = first_above(first);
    return span != nullptr && span->range().first >= first && span->range().end <= end;
  }

  std::uint32_t count_ = 0;
  Span* spans_[maximum_spans] = {};
};

}  // namespace slabmalloc
