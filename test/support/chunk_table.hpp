// SPDX-License-Identifier: MIT
//
// ChunkTable is a frame table like an arena's, for pages whose meta-data lies beside them. The file
// also has the pager of its frames.
//
//   arena    | chunk 0 | chunk 1 | … |      a frame is one chunk, or several for large objects
//   records  | bitmaps, header, state | …   one for each chunk; it leads to the frame's first
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

/// The table of one arena; each `AtomicsT` and size has its own. Objects of more than an eighth of
/// a chunk live in frames of `large_frame_chunks`, and smaller ones in frames of one chunk.
template <class AtomicsT, std::size_t chunk_size, std::size_t chunks,
          std::size_t large_frame_chunks = 1>
class ChunkTable {
 public:
  using Atomics = AtomicsT;
  using Header = PageHeader<Atomics>;

  static constexpr std::size_t chunk_bytes = chunk_size;
  static constexpr std::size_t chunk_count = chunks;
  static constexpr std::size_t large_frame_bytes = large_frame_chunks * chunk_bytes;
  static constexpr std::size_t maximum_words = chunk_bytes / 8 / word_bits;

  static constexpr std::size_t frame_bytes(std::size_t object_size) noexcept {
    return object_size <= chunk_bytes / 8 ? chunk_bytes : large_frame_bytes;
  }

  static Header* header_of(const void* address) noexcept {
    Record& record = record_of(address);
    return &(&record - record.chunks_to_head.load(std::memory_order_relaxed))->header;
  }
  static Header* head_of(const void* address) noexcept {
    return record_of(address).in_page.load(std::memory_order_relaxed) ? header_of(address)
                                                                      : nullptr;
  }
  static std::byte* frame_of(Header* header) noexcept {
    const auto distance = reinterpret_cast<std::uintptr_t>(header) -
                          reinterpret_cast<std::uintptr_t>(&records_[0].header);
    return chunk(distance / sizeof(Record));
  }
  static void open(Header* header, const SlotGeometry& geometry) noexcept {
    mark(header, geometry, true);
  }
  static void close(Header* header, const SlotGeometry& geometry) noexcept {
    mark(header, geometry, false);
  }

  /// The first byte of chunk `index`. Chunk 0 is aligned to the largest frame.
  static std::byte* chunk(std::size_t index) noexcept {
    static const Arena owned;
    return owned.start + index * chunk_bytes;
  }

  /// Resets every chunk to its unused state. Pre: no allocator uses any.
  static void reset() noexcept {
    for (Record& record : records_) {
      record.header.tag.store(0, Order::relaxed);
      record.header.seal.store(0, Order::relaxed);
      record.chunks_to_head.store(0, std::memory_order_relaxed);
      record.in_page.store(false, std::memory_order_relaxed);
    }
  }

 private:
  struct Record {
    typename Atomics::template Cell<Word> bitmaps[2 * maximum_words];
    Header header;
    std::atomic<std::uint32_t> chunks_to_head = 0;
    std::atomic<bool> in_page = false;
  };

  struct Arena {
    Arena()
        : start(static_cast<std::byte*>(
              ::operator new(chunk_count * chunk_bytes, std::align_val_t{large_frame_bytes}))) {}
    ~Arena() { ::operator delete(start, std::align_val_t{large_frame_bytes}); }
    std::byte* start;
  };

  /// Any address outside has the record after the last, which is never in a page.
  static Record& record_of(const void* address) noexcept {
    const std::size_t index =
        (reinterpret_cast<std::uintptr_t>(address) - reinterpret_cast<std::uintptr_t>(chunk(0))) /
        chunk_bytes;
    return records_[index < chunk_count ? index : chunk_count];
  }

  static void mark(Header* header, const SlotGeometry& geometry, bool in_page) noexcept {
    Record* first = &record_of(frame_of(header));
    for (std::uint32_t number = 0; number < frame_bytes(geometry.object_size) / chunk_bytes;
         ++number) {
      first[number].chunks_to_head.store(in_page ? number : 0, std::memory_order_relaxed);
      first[number].in_page.store(in_page, std::memory_order_relaxed);
    }
  }

  static inline Record records_[chunk_count + 1];
};

/// Frames of one small size.
template <class Atomics>
using SmallChunkTable = ChunkTable<Atomics, std::size_t{16} << 10, 64>;

/// Frames of two sizes, as the malloc's arena has them.
template <class Atomics>
using TwoSizeChunkTable = ChunkTable<Atomics, std::size_t{64} << 10, 768, 8>;

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
        std::byte* frame = Table::chunk(first);
        std::memset(frame, 0xA5, bytes);
        return {frame, false};
      }
    }
    return {};
  }

  void deallocate_frame(void* frame, std::size_t bytes) noexcept {
    const std::lock_guard lock(mutex_);
    const auto first = static_cast<std::size_t>(static_cast<std::byte*>(frame) - Table::chunk(0)) /
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
