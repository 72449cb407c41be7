// SPDX-License-Identifier: MIT
//
// The members of FrameSpan that look at it without changing anything: what a frame belongs to, and
// whether all is sound.
#pragma once

#include "slabmalloc/kernel/frame_span.hpp"

namespace slabmalloc {

template <std::size_t BaseBytes>
inline FrameBlock FrameSpan<BaseBytes>::block_at(std::uintptr_t frame) const noexcept {
  const std::uint8_t found = state(frame);
  if (found == absent || found == metadata) {
    std::uintptr_t end = frame + 1;
    while (end < range_.end && end - frame < 4096 && state(end) == found) {
      ++end;
    }
    return {frame, end - frame, found == absent ? FrameUse::Absent : FrameUse::Metadata};
  }
  for (std::uint32_t order = 0; order < orders_; ++order) {
    const std::uintptr_t first = frame >> order << order;
    if (is_free(frame >> order, order)) {
      return {first, std::size_t{1} << order, FrameUse::Free};
    }
    if (first < range_.first) {
      break;
    }
    const std::uint8_t kind = state(first);
    if (kind > metadata && (kind & order_mask) >= order) {
      // What is before a piece is a larger piece of its run, or the head.
      return (kind & head) != 0 || first == range_.first
                 ? FrameBlock{first, frames_of_run(first), FrameUse::Allocated}
                 : block_at(first - 1);
    }
  }
  return {frame, 1, FrameUse::Allocated};
}

template <std::size_t BaseBytes>
inline const char* FrameSpan<BaseBytes>::validate() const noexcept {
  std::size_t free = 0;
  for (std::uint32_t order = 0; order < orders_; ++order) {
    if (const char* broken = sets()[order].validate()) {
      return broken;
    }
    if (is_set(non_empty_, order) != (sets()[order].count() != 0)) {
      return "F4: bit k of non_empty = the set of order k is not empty";
    }
    free += sets()[order].count() << order;
  }
  if (free != free_frames_) {
    return "F5: free frames = sum over k of 2^k * blocks in the set of order k";
  }
  std::size_t runs = 0;
  std::size_t frames[4] = {};
  for (std::uintptr_t frame = range_.first; frame < range_.end;) {
    const FrameBlock block = block_at(frame);
    if (block.first != frame || block.frames > range_.end - frame) {
      return "F1: each frame is absent or in one block";
    }
    if (const char* broken = validate_block(block)) {
      return broken;
    }
    runs += block.use == FrameUse::Allocated ? 1u : 0u;
    frames[static_cast<std::uint8_t>(block.use)] += block.frames;
    frame += block.frames;
  }
  const auto counted = [&](FrameUse use) { return frames[static_cast<std::uint8_t>(use)]; };
  return counted(FrameUse::Free) == free_frames_ && counted(FrameUse::Allocated) == used_frames_ &&
                 counted(FrameUse::Metadata) == metadata_frames_ && runs == runs_
             ? nullptr
             : "F1: counted are the frames of free blocks, runs and meta-data";
}

template <std::size_t BaseBytes>
inline const char* FrameSpan<BaseBytes>::validate_block(const FrameBlock& block) const noexcept {
  if (block.use == FrameUse::Absent || block.use == FrameUse::Metadata) {
    return nullptr;
  }
  std::size_t plain_frames = 0;
  for (std::size_t frame = 0; frame < block.frames; ++frame) {
    plain_frames += state(block.first + frame) == plain ? 1u : 0u;
  }
  if (block.use == FrameUse::Free) {
    const std::uint32_t order = highest_bit(block.frames);
    if (order + 1 < orders_ && is_free((block.first >> order) ^ 1, order)) {
      return "F3: of two buddies at most one is free";
    }
    return plain_frames == block.frames ? nullptr : "F2: frames of free blocks are plain";
  }
  std::uint8_t kind = head;
  std::size_t pieces = 0;
  bool is_sound = true;
  for_each_piece(block.first, block.frames, [&](std::uintptr_t piece_first, std::uint32_t order) {
    is_sound = is_sound && state(piece_first) == (kind | order);
    kind = piece;
    ++pieces;
  });
  return is_sound && plain_frames + pieces == block.frames
             ? nullptr
             : "F2: a run is a head and pieces, and otherwise plain";
}

}  // namespace slabmalloc
