// SPDX-License-Identifier: MIT
//
// A picture of memory in text. Each character stands for a stretch, and names its main use.
//
//   0x40000000 |bbbbbbbbbbbbMMMMMMMMbbbbRRRRRR..................................+|
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernel/heap.hpp"

namespace boot {

/// The use of frames, by their size, since the frame allocator knows no more.
class MemoryPicture {
 public:
  /// Draws the memory of `frames`, whose heap has pages of two kinds.
  static void print(const Frames& frames, std::size_t middle_bytes) noexcept {
    static constinit MemoryPicture picture;
    picture.clear();
    std::uintptr_t first = ~std::uintptr_t{0};
    std::uintptr_t end = 0;
    frames.for_each_block([&](void* address, std::size_t bytes, slabmalloc::FrameUse) {
      const auto start = reinterpret_cast<std::uintptr_t>(address);
      first = start < first ? start : first;
      end = start + bytes > end ? start + bytes : end;
    });
    while ((end - first) > picture.stretch_bytes_ * cells) {
      picture.stretch_bytes_ *= 2;
    }
    picture.first_ = first / picture.stretch_bytes_ * picture.stretch_bytes_;
    frames.for_each_block([&](void* address, std::size_t bytes, slabmalloc::FrameUse use) {
      picture.add(reinterpret_cast<std::uintptr_t>(address), bytes,
                  kind_of(bytes, use, middle_bytes));
    });
    print_line("  each character: ", size(picture.stretch_bytes_),
               "; b base pages, M middle pages, "
               "R runs and larger, + meta-data, . free");
    picture.print_rows(end);
  }

 private:
  enum Kind : std::uint32_t { nothing, base, middle, run, metadata, free, kinds };
  static constexpr char characters[] = " bMR+.";
  static constexpr std::size_t columns = 64;
  static constexpr std::size_t cells = 16 * columns;

  static Kind kind_of(std::size_t bytes, slabmalloc::FrameUse use,
                      std::size_t middle_bytes) noexcept {
    switch (use) {
      case slabmalloc::FrameUse::Free:
        return free;
      case slabmalloc::FrameUse::Metadata:
        return metadata;
      case slabmalloc::FrameUse::Absent:
      case slabmalloc::FrameUse::Offline:
        return nothing;
      case slabmalloc::FrameUse::Allocated:
        break;
    }
    return bytes == page_bytes ? base : bytes == middle_bytes ? middle : run;
  }

  void clear() noexcept {
    stretch_bytes_ = page_bytes;
    for (auto& cell : frames_) {
      for (std::uint32_t& frames : cell) {
        frames = 0;
      }
    }
  }

  void add(std::uintptr_t start, std::size_t bytes, Kind kind) noexcept {
    for (std::uintptr_t at = start; at < start + bytes;) {
      const std::size_t cell = (at - first_) / stretch_bytes_;
      const std::uintptr_t next = first_ + (cell + 1) * stretch_bytes_;
      const std::uintptr_t stop = next < start + bytes ? next : start + bytes;
      if (cell < cells + columns) {
        frames_[cell][kind] += static_cast<std::uint32_t>((stop - at) / page_bytes);
      }
      at = stop;
    }
  }

  void print_rows(std::uintptr_t end) const noexcept {
    for (std::size_t row = 0; first_ + row * columns * stretch_bytes_ < end; ++row) {
      char text[columns];
      for (std::size_t column = 0; column < columns; ++column) {
        const std::uint32_t* const frames = frames_[row * columns + column];
        std::uint32_t most = nothing;
        for (std::uint32_t kind = 1; kind < kinds; ++kind) {
          most = frames[kind] > frames[most] ? kind : most;
        }
        text[column] = characters[most];
      }
      print_line("  ", hex(first_ + row * columns * stretch_bytes_), " |", Text(text, columns),
                 "|");
    }
  }

  std::uintptr_t first_ = 0;
  std::size_t stretch_bytes_ = page_bytes;
  /// Frames by use. There is one row more than the target, since the first stretch begins before
  /// the memory.
  std::uint32_t frames_[cells + columns][kinds] = {};
};

}  // namespace boot
