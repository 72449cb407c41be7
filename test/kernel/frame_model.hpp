// SPDX-License-Identifier: MIT
//
// FrameModel computes the results of a buddy system over a range of frames by examining every
// frame.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "slabmalloc/kernel/frame_span.hpp"

namespace slabmalloc::test {

/// The free frames of a range, by their numbers in the range.
class FrameModel {
 public:
  explicit FrameModel(FrameRange range) : range_(range), free_(range.frames()) {}

  bool is_free(std::uintptr_t first, std::size_t frames) const {
    if (first < range_.first || first + frames > range_.end) {
      return false;
    }
    for (std::uintptr_t frame = first; frame < first + frames; ++frame) {
      if (!free_[frame - range_.first]) {
        return false;
      }
    }
    return true;
  }
  void set(std::uintptr_t first, std::size_t frames, bool free) {
    for (std::uintptr_t frame = first; frame < first + frames; ++frame) {
      free_[frame - range_.first] = free;
    }
  }

  /// Free blocks of 2^order frames that are not part of a larger one.
  std::vector<std::uintptr_t> blocks(std::uint32_t order) const {
    std::vector<std::uintptr_t> result;
    const std::size_t frames = std::size_t{1} << order;
    for (std::uintptr_t first = range_.first / frames * frames; first < range_.end;
         first += frames) {
      if (is_free(first, frames) && !is_free(first / (2 * frames) * (2 * frames), 2 * frames)) {
        result.push_back(first);
      }
    }
    return result;
  }

  /// The place of an allocation aligned to 2^order frames: the least sufficient order, then the
  /// lowest address.
  std::optional<std::uintptr_t> place(std::uint32_t order) const {
    for (; std::size_t{1} << order <= range_.frames(); ++order) {
      const std::vector<std::uintptr_t> fitting = blocks(order);
      if (!fitting.empty()) {
        return fitting.front();
      }
    }
    return std::nullopt;
  }

  /// True if `frames` free frames lie in a row from a multiple of 2^alignment on.
  bool has_row(std::size_t frames, std::uint32_t alignment) const {
    const std::uintptr_t step = std::uintptr_t{1} << alignment;
    for (std::uintptr_t first = align_up(range_.first, step); first < range_.end; first += step) {
      if (is_free(first, frames)) {
        return true;
      }
    }
    return false;
  }

 private:
  FrameRange range_;
  std::vector<bool> free_;
};

}  // namespace slabmalloc::test
