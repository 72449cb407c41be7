// SPDX-License-Identifier: MIT
//
// SmallFrameTable: the least that BesidePage needs, over frames of one size in static memory.
//
//   memory    | frame 0 | frame 1 | … |       16 KiB each
//   records   | bitmaps, header, in_page | …  stride no multiple of a cache line's power of two
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/page/beside_page.hpp"

namespace slabmalloc::test {

/// The table; each `AtomicsT` has its own. Thread: any, for frames of different owners.
template <class AtomicsT>
class SmallFrameTable {
 public:
  using Atomics = AtomicsT;
  using Header = PageHeader<Atomics>;

  static constexpr std::size_t frame_size = std::size_t{16} << 10;
  static constexpr std::size_t frame_count = 64;
  static constexpr std::size_t maximum_words = frame_size / 8 / word_bits;

  static constexpr std::size_t frame_bytes(std::size_t) noexcept { return frame_size; }
  static Header* header_of(const void* address) noexcept { return &record_of(address).header; }
  static Header* head_of(const void* address) noexcept {
    Record& record = record_of(address);
    return record.in_page.load(Order::relaxed) != 0 ? &record.header : nullptr;
  }
  static std::byte* frame_of(Header* header) noexcept {
    const auto distance = reinterpret_cast<std::uintptr_t>(header) -
                          reinterpret_cast<std::uintptr_t>(&records_[0].header);
    return frame(distance / sizeof(Record));
  }
  static void open(Header* header, const SlotGeometry&) noexcept {
    record_of(frame_of(header)).in_page.store(1, Order::relaxed);
  }
  static void close(Header* header, const SlotGeometry&) noexcept {
    record_of(frame_of(header)).in_page.store(0, Order::relaxed);
  }

  /// Makes every frame one that was never used. Pre: no allocator uses any.
  static void reset() noexcept {
    for (Record& record : records_) {
      record.header.tag.store(0, Order::relaxed);
      record.header.seal.store(0, Order::relaxed);
      record.in_page.store(0, Order::relaxed);
    }
  }

  /// The first byte of frame `index`.
  static std::byte* frame(std::size_t index) noexcept { return memory_ + index * frame_size; }

 private:
  struct Record {
    typename Atomics::template Cell<Word> bitmaps[2 * maximum_words];
    Header header;
    typename Atomics::template Cell<std::uint32_t> in_page;
  };

  /// Any address outside has the record after the last, which is never in a page.
  static Record& record_of(const void* address) noexcept {
    const std::size_t index =
        (reinterpret_cast<std::uintptr_t>(address) - reinterpret_cast<std::uintptr_t>(memory_)) /
        frame_size;
    return records_[index < frame_count ? index : frame_count];
  }

  alignas(frame_size) static inline std::byte memory_[frame_count * frame_size];
  static inline Record records_[frame_count + 1];
};

}  // namespace slabmalloc::test
