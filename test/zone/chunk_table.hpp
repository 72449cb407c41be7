// SPDX-License-Identifier: MIT
//
// ChunkTable: a frame table as an arena has one, for pages whose meta-data lies beside them, and
// the pager of its frames.
//
//   arena    | chunk 0 | chunk 1 | … |      64 KiB each; a frame is 1 or 8 of them
//   records  | bitmaps, header, head | …    one for each chunk; `head` leads to the frame's first
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <bitset>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <new>

#include "slabmalloc/page/beside_page.hpp"
#include "slabmalloc/zone/pager.hpp"

namespace slabmalloc::test {

/// The table of one arena; each `AtomicsT` has its own. Objects up to 8 KiB live in frames of one
/// chunk, larger ones in frames of eight.
template <class AtomicsT>
class ChunkTable {
 public:
  using Atomics = AtomicsT;
  using Header = PageHeader<Atomics>;

  static constexpr std::size_t chunk_bytes = std::size_t{64} << 10;
  static constexpr std::size_t chunk_count = 768;
  static constexpr std::size_t large_frame_bytes = 8 * chunk_bytes;
  static constexpr std::size_t maximum_words = chunk_bytes / 8 / word_bits;

  static constexpr std::size_t frame_bytes(std::size_t object_size) noexcept {
    return object_size <= chunk_bytes / 8 ? chunk_bytes : large_frame_bytes;
  }

  static Header* header_of(const void* address) noexcept {
    const std::size_t chunk = chunk_of(address);
    return chunk < chunk_count
               ? &records_[records_[chunk].head.load(std::memory_order_relaxed)].header
               : &outside_.header;
  }
  static Header* head_of(const void* address) noexcept {
    const std::size_t chunk = chunk_of(address);
    return chunk < chunk_count && records_[chunk].in_page.load(std::memory_order_relaxed)
               ? header_of(address)
               : nullptr;
  }
  static std::byte* frame_of(Header* header) noexcept {
    const auto distance = reinterpret_cast<std::uintptr_t>(header) -
                          reinterpret_cast<std::uintptr_t>(&records_[0].header);
    return arena() + distance / sizeof(Record) * chunk_bytes;
  }
  static void open(Header* header, const SlotGeometry& geometry) noexcept {
    mark(header, geometry, true);
  }
  static void close(Header* header, const SlotGeometry& geometry) noexcept {
    mark(header, geometry, false);
  }

  /// The first byte of the arena, aligned to the largest frame.
  static std::byte* arena() noexcept {
    static const Arena owned;
    return owned.start;
  }

 private:
  struct Record {
    typename Atomics::template Cell<Word> bitmaps[2 * maximum_words];
    Header header;
    std::atomic<std::uint32_t> head = 0;
    std::atomic<bool> in_page = false;
  };

  struct Arena {
    Arena()
        : start(static_cast<std::byte*>(
              ::operator new (chunk_count* chunk_bytes, std::align_val_t{large_frame_bytes}))) {
      for (std::uint32_t chunk = 0; chunk < chunk_count; ++chunk) {
        records_[chunk].head.store(chunk, std::memory_order_relaxed);
      }
    }
    ~Arena() { ::operator delete (start, std::align_val_t{large_frame_bytes}); }
    std::byte* start;
  };

  static std::size_t chunk_of(const void* address) noexcept {
    return (reinterpret_cast<std::uintptr_t>(address) - reinterpret_cast<std::uintptr_t>(arena())) /
           chunk_bytes;
  }

  static void mark(Header* header, const SlotGeometry& geometry, bool in_page) noexcept {
    const auto first = static_cast<std::uint32_t>(chunk_of(frame_of(header)));
    const std::size_t chunks = frame_bytes(geometry.object_size) / chunk_bytes;
    for (std::uint32_t chunk = first; chunk < first + chunks; ++chunk) {
      records_[chunk].head.store(in_page ? first : chunk, std::memory_order_relaxed);
      records_[chunk].in_page.store(in_page, std::memory_order_relaxed);
    }
  }

  static inline Record records_[chunk_count];
  static inline Record outside_;
};

/// Hands out the frames of a ChunkTable's arena; one at a time. Thread: any.
template <class Table>
class ChunkPager {
 public:
  ChunkPager() = default;
  ChunkPager(const ChunkPager&) = delete;
  ChunkPager& operator=(const ChunkPager&) = delete;

  Frame allocate_frame(std::size_t bytes) noexcept {
    const std::lock_guard lock(mutex_);
    ++calls_;
    const std::size_t chunks = bytes / Table::chunk_bytes;
    for (std::size_t first = 0; first + chunks <= Table::chunk_count; first += chunks) {
      if (is_free(first, chunks)) {
        set(first, chunks, true);
        live_bytes_ += bytes;
        std::byte* frame = Table::arena() + first * Table::chunk_bytes;
        std::memset(frame, 0xA5, bytes);
        return {frame, false};
      }
    }
    return {};
  }

  void deallocate_frame(void* frame, std::size_t bytes) noexcept {
    const std::lock_guard lock(mutex_);
    const auto first = static_cast<std::size_t>(static_cast<std::byte*>(frame) - Table::arena()) /
                       Table::chunk_bytes;
    const std::size_t chunks = bytes / Table::chunk_bytes;
    for (std::size_t chunk = first; chunk < first + chunks; ++chunk) {
      EXPECT_TRUE(used_[chunk]) << "chunk " << chunk << " was given back twice";
    }
    set(first, chunks, false);
    live_bytes_ -= bytes;
  }

  std::size_t calls() const noexcept {
    const std::lock_guard lock(mutex_);
    return calls_;
  }
  std::size_t live_bytes() const noexcept {
    const std::lock_guard lock(mutex_);
    return live_bytes_;
  }

 private:
  bool is_free(std::size_t first, std::size_t chunks) const noexcept {
    for (std::size_t chunk = first; chunk < first + chunks; ++chunk) {
      if (used_[chunk]) {
        return false;
      }
    }
    return true;
  }
  void set(std::size_t first, std::size_t chunks, bool used) noexcept {
    for (std::size_t chunk = first; chunk < first + chunks; ++chunk) {
      used_[chunk] = used;
    }
  }

  mutable std::mutex mutex_;
  std::bitset<Table::chunk_count> used_;
  std::size_t calls_ = 0;
  std::size_t live_bytes_ = 0;
};

}  // namespace slabmalloc::test
