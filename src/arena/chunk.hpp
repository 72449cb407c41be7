// SPDX-License-Identifier: MIT
//
// Chunk: the arena's unit of address space, 64 KiB, and the record that describes it.
//
// Records lie beside the data, in an array indexed by the chunk's number, so that no overflow of an
// object reaches them:
//
//     data     | chunk 0 | chunk 1 | chunk 2 | …          64 KiB each
//     records  | record 0 | record 1 | record 2 | …       1088 bytes each
//
//     record   | remote bitmap, local bitmap: 1024 | PageHeader: 48 | ChunkInfo: 16 |
//              ^ 0                            1024 ^           1072 ^           1088 ^
//
// The bitmaps grow down from the header, as page_header.hpp has it, and hold two bits for each of
// up to 4096 slots: 16-byte objects in one chunk. A stride of 17 cache lines puts the headers of
// successive chunks into different cache sets: 17 is odd, so every set is used.
//
// A record is clear, which means that its page's tag and seal are 0 and its info says Unclaimed,
// until a page or a large object begins in its chunk, and is clear again when that has ended. So a
// record tells what an address is:
//
//     SlabHead   the first chunk of a page of slots; header and info describe it
//     SlabTail   a further chunk of such a page; info leads to the head
//     LargeHead  the first chunk of a large object, which starts at its first byte
//     Cached    the same once it was freed, while it waits in a cache (large_cache.hpp) or for the mutex
//     Unclaimed  a free chunk, or one further into a large object: nothing to free starts here
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/base/atomics.hpp"
#include "slabmalloc/base/bits.hpp"
#include "slabmalloc/page/page_header.hpp"

namespace slabmalloc {

inline constexpr std::size_t chunk_shift = 16;
inline constexpr std::size_t chunk_bytes = std::size_t{1} << chunk_shift;

/// What begins or continues in a chunk. 0 is what a fresh record says.
enum class ChunkKind : std::uint8_t { Unclaimed = 0, SlabHead, SlabTail, LargeHead, Cached };

/// What an address in the chunk means, apart from what the page's header says.
/// Thread: written by whoever holds the run of chunks; read by whoever holds an object in it.
struct ChunkInfo {
  std::uint64_t reciprocal = 0;      ///< SlabHead: ceil(2^64 / bytes of a slot).
  std::uint32_t slots = 0;           ///< SlabHead: slots of the page. LargeHead, Cached: chunks of the object.
  ChunkKind kind = ChunkKind::Unclaimed;
  std::uint8_t class_index = 0;      ///< SlabHead: for the page's owner to use.
  std::uint16_t chunks_to_head = 0;  ///< SlabTail: the head is so many chunks before this one.

  static constexpr std::uint32_t no_slot = ~std::uint32_t{0};

  /// Of a page of `slots` slots of `slot_bytes`, from 2 on, which is class `class_index` to its owner.
  static constexpr ChunkInfo slab_head(std::uint32_t slot_bytes, std::uint32_t slots,
                                       std::uint8_t class_index) noexcept {
    return {~std::uint64_t{0} / slot_bytes + 1, slots, ChunkKind::SlabHead, class_index, 0};
  }

  /// The slot that starts at `offset` bytes into the page, or no_slot. Pre: kind is SlabHead.
  [[gnu::always_inline]] constexpr std::uint32_t slot_at(std::uint32_t offset) const noexcept {
    const std::uint32_t slot = slot_or_end_at(offset);
    return slot < slots ? slot : no_slot;
  }

  /// As slot_at(), but after the last slot there may be room for the start of one more, which counts too.
  /// For whoever looks at the slot's bit next: such a one's is set.
  [[gnu::always_inline]] constexpr std::uint32_t slot_or_end_at(std::uint32_t offset) const noexcept {
    if (static_cast<std::uint64_t>(slot_and_rest(offset)) >= reciprocal) [[unlikely]] {
      return no_slot;
    }
    return slot_around(offset);
  }

  /// The slot that `offset` bytes into the page lie in. Pre: kind is SlabHead, and they lie in one.
  [[gnu::always_inline]] constexpr std::uint32_t slot_around(std::uint32_t offset) const noexcept {
    return static_cast<std::uint32_t>(slot_and_rest(offset) >> 64);
  }

  /// The words of each bitmap. Pre: kind is SlabHead.
  constexpr std::uint32_t words() const noexcept { return (slots + word_bits - 1) / word_bits; }

  static constexpr ChunkInfo large_head(std::uint32_t chunks) noexcept {
    return {0, chunks, ChunkKind::LargeHead, 0, 0};
  }
  static constexpr ChunkInfo cached(std::uint32_t chunks) noexcept {
    return {0, chunks, ChunkKind::Cached, 0, 0};
  }
  static constexpr ChunkInfo slab_tail(std::uint16_t chunks_to_head) noexcept {
    return {0, 0, ChunkKind::SlabTail, 0, chunks_to_head};
  }
  /// Pre: kind is LargeHead or Cached.
  constexpr std::uint32_t large_chunks() const noexcept { return slots; }

 private:
  __extension__ using Product = unsigned __int128;

  /// SlotGeometry says why it finds slots in another way.
  /// With m the reciprocal of s bytes and offset n = k * s + r, n * m = k * 2^64 + k * e + r * m for an
  /// e < s. The upper half of that is k, the slot, and the lower half is below m if and only if r = 0, since
  /// offset * s is far below 2^64. (Lemire, Kaser and Kurz, "Faster Remainder by Direct Computation",
  /// Software: Practice and Experience 49, 2019, section 3.2.)
  [[gnu::always_inline]] constexpr Product slot_and_rest(std::uint32_t offset) const noexcept {
    return Product{offset} * reciprocal;
  }
};

/// The record of one chunk.
struct alignas(64) Chunk {
  using Header = PageHeader<HardwareAtomics>;

  static constexpr std::size_t bitmap_bytes = 1024;
  /// Bitmap words of one kind, local or remote, that there is room for.
  static constexpr std::size_t maximum_words = bitmap_bytes / sizeof(Word) / 2;

  HardwareAtomics::Cell<Word> bitmaps[bitmap_bytes / sizeof(Word)];
  Header header;
  alignas(8) ChunkInfo info;

  static Chunk* of(Header* page) noexcept {
    return reinterpret_cast<Chunk*>(reinterpret_cast<std::byte*>(page) - bitmap_bytes);
  }

  /// The record of the first chunk of the page whose further chunk this is. It takes the snapshot()
  /// by which the caller knows that, since the record may have changed meanwhile.
  /// Pre: the snapshot's kind is SlabTail.
  Chunk* head(const ChunkInfo& snapshot) noexcept { return this - snapshot.chunks_to_head; }

  /// Writes `info` so that snapshot() may read at the same time.
  void publish(ChunkInfo value) noexcept {
    const auto halves = __builtin_bit_cast(Halves, value);
    auto* target = reinterpret_cast<AliasedWord*>(&info);
    __atomic_store_n(&target[0], halves.first, __ATOMIC_RELAXED);
    __atomic_store_n(&target[1], halves.second, __ATOMIC_RELAXED);
  }

  /// Takes the large object whose snapshot() is `head` out of use; false if somebody else has. Thread: any.
  /// Order: relaxed; it decides who goes on, and guards nothing.
  bool claim_for_cache(const ChunkInfo& head) noexcept {
    auto expected = __builtin_bit_cast(Halves, ChunkInfo::large_head(head.large_chunks())).second;
    const auto cached_info = __builtin_bit_cast(Halves, ChunkInfo::cached(head.large_chunks())).second;
    return __atomic_compare_exchange_n(&reinterpret_cast<AliasedWord*>(&info)[1], &expected, cached_info, false,
                                       __ATOMIC_RELAXED, __ATOMIC_RELAXED);
  }

  /// The info as far as it is written. Thread: any, whoever holds the chunk.
  ChunkInfo snapshot() const noexcept {
    const auto* source = reinterpret_cast<const AliasedWord*>(&info);
    return __builtin_bit_cast(ChunkInfo, Halves{__atomic_load_n(&source[0], __ATOMIC_RELAXED),
                                                __atomic_load_n(&source[1], __ATOMIC_RELAXED)});
  }

  /// Forgets what was in the chunk. Afterwards no address in it is taken for an object.
  void clear() noexcept {
    header.tag.store(0, Order::relaxed);
    header.seal.store(0, Order::relaxed);
    publish(ChunkInfo{});
  }

 private:
  /// The two words that a ChunkInfo is written in.
  struct Halves {
    std::uint64_t first;
    std::uint64_t second;
  };
  using AliasedWord = std::uint64_t __attribute__((may_alias));
};

static_assert(sizeof(ChunkInfo) == 16, "the header and the info share a cache line");
static_assert(sizeof(Chunk) % 128 == 64, "an odd number of cache lines uses every cache set");
static_assert(sizeof(void*) != 8 || sizeof(Chunk) == 1088);
static_assert(offsetof(Chunk, header) == Chunk::bitmap_bytes,
              "bitmaps end where the header begins");

}  // namespace slabmalloc
