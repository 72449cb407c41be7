// SPDX-License-Identifier: MIT
//
// DelayedFrees: the blocks of one CPU that clients freed and that do not serve again yet. While
// they rest, a write into them is seen, and a second free is told from a free of the next client.
//
//   free ──push──► | newest | … | oldest | ──pop──► checked ──► the size class
//
// Invariant:
//   D5  blocks <= Capacity, and bytes = those of these blocks <= MostBytes
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/base/language.hpp"

namespace slabmalloc {

/// A freed block of size class `index`.
struct DelayedBlock {
  void* address = nullptr;
  std::uint32_t index = 0;
  std::uint32_t bytes = 0;  ///< Of its slot.
};

/// First in, first out. Thread: its CPU, in a section.
template <std::uint32_t Capacity, std::size_t MostBytes>
class DelayedFrees {
 public:
  std::uint32_t size() const noexcept { return size_; }
  std::size_t bytes() const noexcept { return bytes_; }

  bool has_room_for(std::size_t bytes) const noexcept {
    return size_ < Capacity && bytes <= MostBytes - bytes_;
  }
  /// Pre: there is room for it.
  void push(const DelayedBlock& block) noexcept {
    blocks_[(first_ + size_) % count] = block;
    ++size_;
    bytes_ += block.bytes;
  }
  /// The oldest; a null address if there is none.
  DelayedBlock pop() noexcept {
    if (size_ == 0) {
      return {};
    }
    const DelayedBlock block = blocks_[first_];
    first_ = (first_ + 1) % count;
    --size_;
    bytes_ -= block.bytes;
    return block;
  }

  /// D5, or null.
  const char* validate() const noexcept {
    std::size_t bytes = 0;
    for (std::uint32_t number = 0; number < size_; ++number) {
      bytes += blocks_[(first_ + number) % count].bytes;
    }
    return size_ <= Capacity && bytes == bytes_ && bytes_ <= MostBytes
               ? nullptr
               : "D5: delayed blocks <= capacity, and bytes = those of the blocks <= most bytes";
  }

 private:
  static constexpr std::uint32_t count = Capacity != 0 ? Capacity : 1;

  DelayedBlock blocks_[count];
  std::uint32_t first_ = 0;
  std::uint32_t size_ = 0;
  std::size_t bytes_ = 0;
};

}  // namespace slabmalloc
