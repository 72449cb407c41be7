// SPDX-License-Identifier: MIT
//
// Chunk: 64 KiB, the arena's unit of address space, and the record that describes it.
//
// Records lie in an array beside the data, indexed by the chunk's number. So an object that
// overflows cannot reach them:
//
//     data     | chunk 0 | chunk 1 | chunk 2 | …          64 KiB each
//     records  | record 0 | record 1 | record 2 | …       1088 bytes each
//
//     record   | remote bitmap, local bitmap: 1024 | PageHeader: 44 | Holes: 4 | ChunkInfo: 16 |
//              ^ 0                            1024 ^           1068 ^          ^ 1072     1088 ^
//
// The bitmaps grow down from the header (page_header.hpp) and hold two bits for each of up to 4096
// slots: 16-byte objects in one chunk. The stride is 17 cache lines. Since 17 is odd, the headers
// of successive chunks use every cache set.
//
// A clear record has a page tag of 0, a seal of 0 and an info of Unclaimed; of the holes nothing is
// said. A record is clear until
// a page or a large object starts in its chunk, and clear again after it has ended. Records of
// zeros are clear, so their OS pages go back with the chunks (Arena::purge_records()). A record
// tells the kind of an address:
//
//     SlabHead   the first chunk of a page of slots; header and info describe it
//     SlabTail   a further chunk of such a page; info leads to the head
//     LargeHead  the first chunk of a large object, which starts at its first byte
//     Cached     a freed large object that waits in a cache (large_cache.hpp) or for the mutex
//     Unclaimed  a free chunk, or a further one of a large object: nothing to free starts here
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/base/atomics.hpp"
#include "slabmalloc/base/bits.hpp"
#include "slabmalloc/page/page_header.hpp"
#include "tunables.hpp"

namespace slabmalloc {

inline constexpr std::size_t chunk_shift = 16;
inline constexpr std::size_t chunk_bytes = std::size_t{1} << chunk_shift;

/// The bytes of a large object in a run are a multiple of this, the OS page of most systems. To ask
/// the system for its OS page would double the cost of a cached object.
inline constexpr std::size_t large_step_bytes = 4096;
static_assert(Tunables::largest_run_bytes <= ~std::uint32_t{0}, "a record has 32 bits for bytes");

/// The chunks of an object of `bytes`.
constexpr std::size_t chunks_for(std::size_t bytes) noexcept {
  return bytes == 0 ? 1 : (bytes - 1) / chunk_bytes + 1;
}

/// The usable bytes of a large object in a run, where `bytes` were asked for.
/// Pre: bytes <= Tunables::largest_run_bytes.
constexpr std::uint32_t large_bytes_for(std::size_t bytes) noexcept {
  return static_cast<std::uint32_t>(align_up(bytes != 0 ? bytes : 1, large_step_bytes));
}

/// The object that starts or continues in a chunk. A fresh record holds 0.
enum class ChunkKind : std::uint8_t { Unclaimed = 0, SlabHead, SlabTail, LargeHead, Cached };

/// The meaning of an address in the chunk, in addition to the page's header. By kind:
///
///                   SlabHead                        SlabTail             LargeHead, Cached
///     reciprocal    ceil(2^64 / bytes of a slot)    0                    0
///     slots         slots of the page               0                    usable bytes, lower half
///     sizes         sizes that its class serves     0                    0
///     extent        bytes of a slot                 chunks to the head   usable bytes, upper half
///
/// Thread: the holder of the run of chunks writes; the holder of an object in it reads.
struct ChunkInfo {
  std::uint64_t reciprocal = 0;
  std::uint16_t slots = 0;
  std::uint16_t sizes = 0;
  ChunkKind kind = ChunkKind::Unclaimed;
  std::uint8_t class_index = 0;  ///< SlabHead: for the page's owner to use.
  std::uint16_t extent = 0;

  static constexpr std::uint32_t no_slot = ~std::uint32_t{0};

  /// The info of a page of `slots` slots of `slot_bytes`, which its owner calls class
  /// `class_index`, and which serves the `sizes` sizes up to slot_bytes.
  /// Pre: slot_bytes >= 2.
  static constexpr ChunkInfo slab_head(std::uint16_t slot_bytes, std::uint16_t slots,
                                       std::uint8_t class_index, std::uint16_t sizes) noexcept {
    return {~std::uint64_t{0} / slot_bytes + 1,
            slots,
            sizes,
            ChunkKind::SlabHead,
            class_index,
            slot_bytes};
  }

  /// True if a block of `bytes` lies in slots like these. False for any other kind.
  [[gnu::always_inline]] constexpr bool serves(std::size_t bytes) const noexcept {
    return extent - bytes < sizes;
  }

  /// The slot that starts `offset` bytes into the page, or no_slot.
  /// Pre: kind is SlabHead.
  [[gnu::always_inline]] constexpr std::uint32_t slot_at(std::uint32_t offset) const noexcept {
    const std::uint32_t slot = slot_or_end_at(offset);
    return slot < slots ? slot : no_slot;
  }

  /// As slot_at(), but also accepts the start of one more slot after the last, where the page has
  /// room for it. For callers that test the slot's bit next: the bit of that slot is always set.
  [[gnu::always_inline]] constexpr std::uint32_t slot_or_end_at(
      std::uint32_t offset) const noexcept {
    if (static_cast<std::uint64_t>(slot_and_rest(offset)) >= reciprocal) [[unlikely]] {
      return no_slot;
    }
    return slot_around(offset);
  }

  /// The slot that contains `offset`, in bytes from the start of the page.
  /// Pre: kind is SlabHead, and a slot contains it.
  [[gnu::always_inline]] constexpr std::uint32_t slot_around(std::uint32_t offset) const noexcept {
    return static_cast<std::uint32_t>(slot_and_rest(offset) >> 64);
  }

  /// The words of each bitmap.
  /// Pre: kind is SlabHead.
  constexpr std::uint32_t words() const noexcept { return (slots + word_bits - 1) / word_bits; }

  static constexpr ChunkInfo large_head(std::uint32_t bytes) noexcept {
    return large(ChunkKind::LargeHead, bytes);
  }
  static constexpr ChunkInfo cached(std::uint32_t bytes) noexcept {
    return large(ChunkKind::Cached, bytes);
  }
  static constexpr ChunkInfo slab_tail(std::uint16_t chunks_to_head) noexcept {
    return {0, 0, 0, ChunkKind::SlabTail, 0, chunks_to_head};
  }
  /// Pre: kind is SlabTail.
  constexpr std::uint32_t chunks_to_head() const noexcept { return extent; }
  /// The usable bytes of the object, and its chunks.
  /// Pre: kind is LargeHead or Cached.
  constexpr std::uint32_t large_bytes() const noexcept {
    return slots | std::uint32_t{extent} << 16;
  }
  constexpr std::uint32_t large_chunks() const noexcept {
    return static_cast<std::uint32_t>(chunks_for(large_bytes()));
  }

 private:
  __extension__ using Product = unsigned __int128;

  static constexpr ChunkInfo large(ChunkKind kind, std::uint32_t bytes) noexcept {
    return {0, static_cast<std::uint16_t>(bytes),      0, kind,
            0, static_cast<std::uint16_t>(bytes >> 16)};
  }

  /// Let m be the reciprocal of s bytes and n = k * s + r the offset. Then n * m = k * 2^64 + k * e
  /// + r * m for an e < s. The upper half of the product is k, the slot. The lower half is below m
  /// if and only if r = 0, since n * s is far below 2^64. (Lemire, Kaser and Kurz, "Faster
  /// Remainder by Direct Computation", Software: Practice and Experience 49, 2019, section 3.2.)
  /// SlotGeometry states why it finds slots in another way.
  [[gnu::always_inline]] constexpr Product slot_and_rest(std::uint32_t offset) const noexcept {
    return Product{offset} * reciprocal;
  }
};

/// The unit of memory that goes back to the system within a page in use: the least OS page.
inline constexpr std::uint32_t unit_bytes = 4096;
inline constexpr std::uint32_t units_per_chunk = chunk_bytes / unit_bytes;

/// A bit for each unit of a chunk, the first one's lowest.
using UnitSet = std::uint16_t;

/// The units of a chunk of slots in which no slot is live or claimed, as far as scans found them
/// (malloc/hole_scan.hpp). An OS page of several units has all of its bits set, or none.
struct Holes {
  UnitSet dropped = 0;  ///< Given back to the system: the units read as zero.
  UnitSet seen = 0;     ///< Free at the last scan.

  constexpr bool operator==(const Holes&) const noexcept = default;
};

/// The record of one chunk.
struct alignas(64) Chunk {
  using Header = PageHeader<HardwareAtomics>;

  static constexpr std::size_t bitmap_bytes = 1024;
  /// The room for bitmap words of one kind, local or remote.
  static constexpr std::size_t maximum_words = bitmap_bytes / sizeof(Word) / 2;

  HardwareAtomics::Cell<Word> bitmaps[bitmap_bytes / sizeof(Word)];
  [[no_unique_address]] Header header;  ///< The holes lie in its tail padding.
  HardwareAtomics::Cell<std::uint32_t> encoded_holes;
  alignas(8) ChunkInfo info;

  static Chunk* of(Header* page) noexcept {
    return reinterpret_cast<Chunk*>(reinterpret_cast<std::byte*>(page) - bitmap_bytes);
  }

  /// The head record of the page that this further chunk belongs to. It uses the caller's
  /// snapshot(), since the record may have changed since then.
  /// Pre: the snapshot's kind is SlabTail.
  Chunk* head(const ChunkInfo& snapshot) noexcept { return this - snapshot.chunks_to_head(); }

  /// Writes `info` so that snapshot() may read at the same time.
  void publish(ChunkInfo value) noexcept {
    const auto halves = __builtin_bit_cast(Halves, value);
    auto* target = reinterpret_cast<AliasedWord*>(&info);
    __atomic_store_n(&target[0], halves.first, __ATOMIC_RELAXED);
    __atomic_store_n(&target[1], halves.second, __ATOMIC_RELAXED);
  }

  /// The holes of a chunk of slots.
  /// Thread: the page's owner, or a scavenger that holds the owner's lock.
  Holes holes() const noexcept {
    return __builtin_bit_cast(Holes, encoded_holes.load(Order::relaxed));
  }
  void set_holes(Holes holes) noexcept {
    encoded_holes.store(__builtin_bit_cast(std::uint32_t, holes), Order::relaxed);
  }

  /// In the hardened library, for the holder of a chunk that is free or is being allocated: whether
  /// the chunk's memory may be accessed. If so it is zero. The mark may be lost with the OS page of
  /// the record. Then the next allocation makes the memory accessible once more.
  bool is_accessible() const noexcept {
    return encoded_holes.load(Order::relaxed) == accessible_mark;
  }
  void note_access(bool is_accessible) noexcept {
    encoded_holes.store(is_accessible ? accessible_mark : 0, Order::relaxed);
  }

  /// Changes a large object's record from LargeHead to Cached. Of several threads one succeeds.
  /// Pre: `head` is a snapshot() of it.
  /// Thread: any.
  /// Order: relaxed; the exchange selects one thread and guards no data.
  /// Fails: false; another thread was first.
  bool claim_for_cache(const ChunkInfo& head) noexcept {
    return replace_large(head, ChunkInfo::cached(head.large_bytes()));
  }

  /// Changes the bytes of a large object, within its chunks. The rest is as for claim_for_cache().
  bool resize_in_chunks(const ChunkInfo& head, std::uint32_t bytes) noexcept {
    return replace_large(head, ChunkInfo::large_head(bytes));
  }

  /// A copy of the info, which another thread may be writing. Thread: any, without a claim to the
  /// chunk.
  ChunkInfo snapshot() const noexcept {
    const auto* source = reinterpret_cast<const AliasedWord*>(&info);
    return __builtin_bit_cast(ChunkInfo, Halves{__atomic_load_n(&source[0], __ATOMIC_RELAXED),
                                                __atomic_load_n(&source[1], __ATOMIC_RELAXED)});
  }

  /// Clears the record: then no address in the chunk counts as an object.
  void clear() noexcept {
    header.tag.store(0, Order::relaxed);
    header.seal.store(0, Order::relaxed);
    publish(ChunkInfo{});
  }

 private:
  /// In the place of the holes, which a free chunk has none of.
  static constexpr std::uint32_t accessible_mark = 1;

  /// A ChunkInfo is written as these two words. Of a large object's, the first is 0.
  struct Halves {
    std::uint64_t first;
    std::uint64_t second;
  };
  using AliasedWord = std::uint64_t __attribute__((may_alias));

  bool replace_large(const ChunkInfo& from, const ChunkInfo& to) noexcept {
    auto expected = __builtin_bit_cast(Halves, from).second;
    const auto desired = __builtin_bit_cast(Halves, to).second;
    return from.kind == ChunkKind::LargeHead &&
           __atomic_compare_exchange_n(&reinterpret_cast<AliasedWord*>(&info)[1], &expected,
                                       desired, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
  }
};

static_assert(sizeof(ChunkInfo) == 16, "the header and the info share a cache line");
static_assert(sizeof(Chunk) % 128 == 64, "an odd number of cache lines uses every cache set");
static_assert(sizeof(void*) != 8 || sizeof(Chunk) == 1088);
static_assert(offsetof(Chunk, header) == Chunk::bitmap_bytes,
              "bitmaps end where the header begins");

}  // namespace slabmalloc
