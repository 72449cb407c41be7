// SPDX-License-Identifier: MIT
//
// FrameSpan: the frames of one stretch of the address space, and the binary buddy system over them.
// See Knowlton, A Fast Storage Allocator, 1965; Knuth, The Art of Computer Programming, volume 1,
// section 2.5.
//
//   order 3   [                 block                 ]    a block of order k is 2^k base frames
//   order 2   [       buddy       ][      buddy       ]     at a multiple of 2^k frames
//   order 0   [ 0 ][ 1 ][ 2 ][ 3 ][ 4 ][ 5 ][ 6 ][ 7 ]
//
// A span stores nothing in free frames. The meta-data, in memory of the client's choice:
//
//   | FrameSpan | a BlockSet for each order | their words | owners | a byte of state per frame |
//
// which is 1.26 bytes per frame and a few hundred. With owners it is a word per frame more: there
// the first frame of a run has a word of the client's.
//
// A frame's number is address / BaseBytes. So a block's number alone gives its buddy, wherever the
// span begins. An order's first or last block that reaches out of the span is never free.
//
// A run of n frames is a block of 2^k >= n frames without its tail, which the span gave back. The
// rest consists of one block for each bit of n, largest first: a *head*, and *pieces* behind it.
//
//   13 frames      [       head, 8       ][ piece, 4 ][1][ free ]
//
// A run can also begin and end in the middle of blocks (take()). It then consists of the largest
// blocks that fit, and may go on in the span behind. There its part begins with a piece.
//
//   7 frames       [ free ][ head, 1 ][ piece, 4 ][ piece, 2 ][ free ]
//
// Free frames can go offline. They then are blocks of their own, until they go online.
//
// The span takes a block of the least sufficient order, and of these the one at the lowest address.
// So long-lived memory gathers at low addresses, and large blocks stay whole at high ones. (A list
// of free blocks, last in first out, would prefer memory that is in the caches. But zones above
// keep the frames that they use again soon.)
//
// Invariants:
//   F1  each frame is absent or in one block: free_frames() of them are in free blocks,
//       used_frames() in runs, offline_frames() in offline blocks, metadata_frames() are meta-data;
//       runs() runs begin here
//   F2  a frame's state is head, piece or offline where such a block begins, and plain where it is
//       in a free block or not a block's first frame
//   F3  of two buddies at most one is free
//   F4  bit k of non_empty = the set of order k is not empty
//   F5  free_frames() = sum over k of 2^k * blocks in the set of order k
//   F6  marked runs = heads with a mark
//   and those of each BlockSet.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>

#include "slabmalloc/base/misuse.hpp"
#include "slabmalloc/kernel/block_set.hpp"
#include "slabmalloc/kernel/memory_map.hpp"

namespace slabmalloc {

/// How a stretch of memory is used.
enum class FrameUse : std::uint8_t {
  Free,
  Allocated,
  Metadata,  ///< Of the frame allocator itself.
  Absent,    ///< A hole between regions.
  Offline,   ///< Taken out of service.
};

/// Consecutive frames that are one free or offline block, one run or frame of a client's, or alike.
struct FrameBlock {
  std::uintptr_t first;
  std::size_t frames;
  FrameUse use;
};

template <std::size_t BaseBytes, bool HasOwners>
class FrameSpan;

/// The place of a span in a SpanTable.
template <class Span>
struct SpanLinks {
  Span* parent = nullptr;
  Span* children[2] = {};    ///< At lower and at higher addresses.
  std::uint32_t orders = 0;  ///< Of the free blocks of this span and of all below it in the tree.
};

/// The frames of a range, some of which may be absent. All of them are absent at first. Thread: one
/// at a time. Cost: where nothing else is said, at most a few words for each order.
template <std::size_t BaseBytes, bool HasOwners = false>
class FrameSpan {
 public:
  static constexpr std::uint32_t base_bits = highest_bit(BaseBytes);
  /// Orders are below it: blocks have less than 2^32 frames, and an address.
  static constexpr std::uint32_t order_limit =
      word_bits - base_bits < 32 ? word_bits - base_bits : 32;

  /// Bytes of meta-data for `range`, a multiple of the alignment that create() needs.
  static constexpr std::size_t metadata_bytes(FrameRange range) noexcept {
    const std::uint32_t orders = orders_for(range);
    std::size_t words = 0;
    for (std::uint32_t order = 0; order < orders; ++order) {
      words += BlockSet::words_for(blocks_of(range, order));
    }
    words += HasOwners ? range.frames() : 0;
    return align_up(
        sizeof(FrameSpan) + orders * sizeof(BlockSet) + words * sizeof(Word) + range.frames(),
        alignof(FrameSpan));
  }

  /// A span without frames. Pre: `range` is not empty and begins above 0; `memory` has
  /// metadata_bytes(range).
  /// Cost: O(metadata_bytes(range)).
  static FrameSpan* create(void* memory, FrameRange range) noexcept {
    __builtin_memset(memory, 0, metadata_bytes(range));
    return ::new (memory) FrameSpan(range);
  }
  FrameSpan(const FrameSpan&) = delete;
  FrameSpan& operator=(const FrameSpan&) = delete;

  FrameRange range() const noexcept { return range_; }
  std::size_t free_frames() const noexcept { return free_frames_; }
  std::size_t used_frames() const noexcept { return used_frames_; }
  std::size_t metadata_frames() const noexcept { return metadata_frames_; }
  std::size_t offline_frames() const noexcept { return offline_frames_; }
  /// Runs that begin here.
  std::size_t runs() const noexcept { return runs_; }
  /// Bit k: there is a free block of order k.
  std::uint32_t free_orders() const noexcept { return non_empty_; }
  std::size_t free_blocks(std::uint32_t order) const noexcept {
    return order < orders_ ? sets()[order].count() : 0;
  }

  /// The first free block of `order` at or above `frame`; empty if there is none.
  FrameRange next_free(std::uintptr_t frame, std::uint32_t order) const noexcept {
    if (order >= orders_) {
      return {};
    }
    const std::uintptr_t base = range_.first >> order;
    const std::uintptr_t from = (frame + (std::uintptr_t{1} << order) - 1) >> order;
    const std::size_t found = sets()[order].next(from > base ? from - base : 0);
    return found != BlockSet::none ? block_range(base + found, order) : FrameRange{};
  }
  /// The free block that `frame` is in; empty if it is not free. Pre: `frame` lies in the span.
  FrameRange free_block_at(std::uintptr_t frame) const noexcept {
    for (std::uint32_t order = 0; order < orders_; ++order) {
      if (is_free(frame >> order, order)) {
        return block_range(frame >> order, order);
      }
    }
    return {};
  }

  /// Frees the absent frames of `range`. Pre: `range` lies in the span. Cost: O(frames).
  void fill(FrameRange range) noexcept {
    for (std::uintptr_t frame = range.first; frame < range.end; ++frame) {
      const std::uintptr_t first = frame;
      while (frame < range.end && state(frame) == absent) {
        state(frame) = plain;
        ++frame;
      }
      insert_range(first, frame);
    }
  }
  /// Marks frames as meta-data, which are absent or a run. Pre: `range` lies in the span.
  /// Cost: O(frames).
  void keep_for_metadata(FrameRange range) noexcept {
    if (state(range.first) != absent) {
      --runs_;
      used_frames_ -= range.frames();
    }
    metadata_frames_ += range.frames();
    for (std::uintptr_t frame = range.first; frame < range.end; ++frame) {
      state(frame) = metadata;
    }
  }

  /// The least order from `order` on that has a free block, or order_limit.
  std::uint32_t order_of_fit(std::uint32_t order) const noexcept {
    const std::uint32_t orders = order < orders_ ? non_empty_ >> order : 0;
    return orders != 0 ? order + lowest_bit(orders) : order_limit;
  }

  /// The first of `frames` frames in a row, aligned to a block of `order`. It is `marked` or not
  /// until it is freed.
  /// Pre: `frames` is 1 … 2^order; order_of_fit(order) == fit < order_limit.
  std::uintptr_t allocate(std::uint32_t order, std::size_t frames, std::uint32_t fit,
                          bool marked = false) noexcept {
    std::uintptr_t block = sets()[fit].first() + (range_.first >> fit);
    erase(block, fit);
    while (fit != order) {
      --fit;
      block *= 2;
      insert(block + 1, fit);
    }
    const std::uintptr_t first = block << order;
    insert_range(first + frames, first + (std::size_t{1} << order));
    mark_run({first, first + frames}, true, marked);
    return first;
  }

  /// Allocates the free frames of `range`: a run if it `begins` here, else a part of one that
  /// begins in a span before. A run is `marked` or not, as by allocate().
  /// Pre: all are free, and lie in the span.
  void take(FrameRange range, bool begins, bool marked = false) noexcept {
    erase_range(range);
    mark_run(range, begins, marked);
  }

  /// Takes the free frames of `range` out of service.
  /// Pre: `range` lies in the span, and none of its frames is used or meta-data.
  void take_offline(FrameRange range) noexcept {
    for_each_part(range, FrameUse::Free, [this](FrameRange, FrameRange part) {
      erase_range(part);
      mark_offline(part);
    });
  }
  /// Frees the offline frames of `range`. Pre: `range` lies in the span.
  void put_online(FrameRange range) noexcept {
    for_each_part(range, FrameUse::Offline, [this](FrameRange block, FrameRange part) {
      state(block.first) = plain;
      offline_frames_ -= block.frames();
      mark_offline({block.first, part.first});
      mark_offline({part.end, block.end});
      insert_range(part.first, part.end);
    });
  }

  /// The verdict on a free of `frames` frames from `first` on.
  struct Verdict {
    bool is_sound;
    MisuseKind kind;     ///< If it is not; SizeMismatch of a run that begins at `first`.
    std::size_t frames;  ///< Of the run that holds `first`; 0 if there is none.
  };
  /// Pre: `first` lies in the span. Cost: O(orders); for a bad free O(orders^2).
  Verdict judge(std::uintptr_t first, std::size_t frames) const noexcept {
    const std::uint8_t found = state(first);
    if ((found & head) != 0) [[likely]] {
      const std::size_t whole = frames_of_run(first);
      return {whole == frames, MisuseKind::SizeMismatch, whole};
    }
    if (found == absent || found == metadata) {
      return {false, MisuseKind::ForeignPointer, 0};
    }
    const FrameBlock block = block_at(first);
    if (block.use != FrameUse::Allocated) {
      return {false, MisuseKind::DoubleFree, 0};
    }
    return {false, MisuseKind::MisalignedFree, block.frames};
  }

  /// The frames of a run that go on here from a span before.
  std::size_t continued_frames() const noexcept {
    return (state(range_.first) & piece) != 0 ? frames_of_run(range_.first) : 0;
  }

  /// Frees a run, or the part of one that lies here. Pre: judge() found it sound.
  void deallocate(std::uintptr_t first, std::size_t frames) noexcept {
    if ((state(first) & head) != 0) {
      --runs_;
      marked_runs_ -= is_marked(first) ? 1u : 0u;
    }
    used_frames_ -= frames;
    for_each_piece(first, frames, [this](std::uintptr_t piece_first, std::uint32_t order) {
      state(piece_first) = plain;
      merge(piece_first, order);
    });
  }

  /// The block that `frame` is in; of absent frames and meta-data, as many as follow, up to 4096.
  /// Pre: `frame` lies in the span. Cost: O(orders^2).
  FrameBlock block_at(std::uintptr_t frame) const noexcept {
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
        if ((kind & (head | piece)) == 0) {
          return {first, std::size_t{1} << (kind & order_mask), FrameUse::Offline};
        }
        // Before a piece lies a piece of its run, or the head.
        return (kind & head) != 0 || first == range_.first
                   ? FrameBlock{first, frames_of_run(first), FrameUse::Allocated}
                   : block_at(first - 1);
      }
    }
    return {frame, 1, FrameUse::Allocated};
  }

  /// True if `frame` is one of the memory, and no hole. Pre: it lies in the span.
  bool has(std::uintptr_t frame) const noexcept { return state(frame) != absent; }
  /// True if the run that begins at `first` is marked. Pre: one does.
  bool is_marked(std::uintptr_t first) const noexcept { return (state(first) & mark) != 0; }
  /// The client's word of frame `first`. It is 0 when a run that begins there is allocated, and at
  /// first. Pre: the frame lies in the span.
  Word& owner(std::uintptr_t first) noexcept
    requires HasOwners
  {
    return reinterpret_cast<Word*>(states_)[first - range_.end];
  }

  /// The first of F1–F6, B1 and B2 that does not hold, or null. Cost: O(frames).
  const char* validate() const noexcept {
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
    std::size_t marked_runs = 0;
    std::size_t frames[5] = {};
    for (std::uintptr_t frame = range_.first; frame < range_.end;) {
      const FrameBlock block = block_at(frame);
      if (block.first != frame || block.frames > range_.end - frame) {
        return "F1: each frame is absent or in one block";
      }
      if (const char* broken = validate_block(block)) {
        return broken;
      }
      const bool begins = block.use == FrameUse::Allocated && (state(frame) & head) != 0;
      runs += begins ? 1u : 0u;
      marked_runs += begins && is_marked(frame) ? 1u : 0u;
      frames[static_cast<std::uint8_t>(block.use)] += block.frames;
      frame += block.frames;
    }
    if (marked_runs != marked_runs_) {
      return "F6: marked runs = heads with a mark";
    }
    const auto counted = [&](FrameUse use) { return frames[static_cast<std::uint8_t>(use)]; };
    return counted(FrameUse::Free) == free_frames_ &&
                   counted(FrameUse::Allocated) == used_frames_ &&
                   counted(FrameUse::Metadata) == metadata_frames_ &&
                   counted(FrameUse::Offline) == offline_frames_ && runs == runs_
               ? nullptr
               : "F1: counted are the frames of free and offline blocks, runs and meta-data";
  }

  /// The state of a frame, as it lies in memory: for tests that plant corruption.
  std::uint8_t& state(std::uintptr_t frame) noexcept { return states_[frame - range_.first]; }

 private:
  static constexpr std::uint8_t absent = 0;
  static constexpr std::uint8_t plain = 1;
  static constexpr std::uint8_t metadata = 2;
  static constexpr std::uint8_t head = 0x40;  ///< Plus the order, here and below.
  static constexpr std::uint8_t piece = 0x80;
  static constexpr std::uint8_t mark = 0x20;     ///< Of a head: the client's, see allocate().
  static constexpr std::uint8_t offline = 0x20;  ///< Alone, plus the order.
  static constexpr std::uint8_t order_mask = 0x1F;

  explicit FrameSpan(FrameRange range) noexcept : range_(range), orders_(orders_for(range)) {
    Word* words = reinterpret_cast<Word*>(sets() + orders_);
    for (std::uint32_t order = 0; order < orders_; ++order) {
      const std::size_t blocks = blocks_of(range, order);
      ::new (static_cast<void*>(sets() + order)) BlockSet(words, blocks);
      words += BlockSet::words_for(blocks);
    }
    words += HasOwners ? range.frames() : 0;
    states_ = reinterpret_cast<std::uint8_t*>(words);
  }

  static constexpr std::uint32_t orders_for(FrameRange range) noexcept {
    const std::uint32_t orders = highest_bit(range.frames()) + 1;
    return orders < order_limit ? orders : order_limit;
  }
  /// Blocks of `order` that the range has frames of.
  static constexpr std::size_t blocks_of(FrameRange range, std::uint32_t order) noexcept {
    return ((range.end - 1) >> order) - (range.first >> order) + 1;
  }
  std::uint8_t state(std::uintptr_t frame) const noexcept { return states_[frame - range_.first]; }
  BlockSet* sets() noexcept { return reinterpret_cast<BlockSet*>(this + 1); }
  const BlockSet* sets() const noexcept { return reinterpret_cast<const BlockSet*>(this + 1); }

  static constexpr FrameRange block_range(std::uintptr_t block, std::uint32_t order) noexcept {
    return {block << order, (block + 1) << order};
  }
  void mark_run(FrameRange range, bool begins, bool marked) noexcept {
    runs_ += begins ? 1u : 0u;
    marked_runs_ += begins && marked ? 1u : 0u;
    used_frames_ += range.frames();
    if constexpr (HasOwners) {
      owner(range.first) = 0;
    }
    std::uint8_t kind = !begins ? piece : marked ? head | mark : head;
    for_each_piece(range.first, range.frames(), [&](std::uintptr_t first, std::uint32_t order) {
      state(first) = static_cast<std::uint8_t>(kind | order);
      kind = piece;
    });
  }

  void mark_offline(FrameRange range) noexcept {
    offline_frames_ += range.frames();
    for_each_piece(range.first, range.frames(), [&](std::uintptr_t first, std::uint32_t order) {
      state(first) = static_cast<std::uint8_t>(offline | order);
    });
  }
  /// Calls f(block, part) for each block of that use: the block, and the part in `range`.
  template <class F>
  void for_each_part(FrameRange range, FrameUse use, F&& f) noexcept {
    for (std::uintptr_t frame = range.first; frame < range.end;) {
      const FrameBlock block = block_at(frame);
      const std::uintptr_t end = block.first + block.frames;
      if (block.use == use) {
        f(FrameRange{block.first, end}, FrameRange{frame, end < range.end ? end : range.end});
      }
      frame = end;
    }
  }

  /// The order of the largest possible block from `first` on, of at most `frames` frames.
  static std::uint32_t order_from(std::uintptr_t first, std::size_t frames) noexcept {
    const std::uint32_t natural = lowest_bit(first);
    const std::uint32_t room = highest_bit(frames);
    const std::uint32_t order = natural < room ? natural : room;
    return order < order_limit ? order : order_limit - 1;
  }
  /// Calls f(first frame, order) for each block of a run.
  template <class F>
  static void for_each_piece(std::uintptr_t first, std::size_t frames, F&& f) noexcept {
    while (frames != 0) {
      const std::uint32_t order = order_from(first, frames);
      f(first, order);
      first += std::size_t{1} << order;
      frames -= std::size_t{1} << order;
    }
  }
  std::size_t frames_of_run(std::uintptr_t first) const noexcept {
    std::uintptr_t frame = first;
    do {
      frame += std::size_t{1} << (state(frame) & order_mask);
    } while (frame < range_.end && (state(frame) & piece) != 0);
    return frame - first;
  }

  bool is_free(std::uintptr_t block, std::uint32_t order) const noexcept {
    return sets()[order].contains(block - (range_.first >> order));
  }
  void insert(std::uintptr_t block, std::uint32_t order) noexcept {
    sets()[order].insert(block - (range_.first >> order));
    non_empty_ |= std::uint32_t{1} << order;
    free_frames_ += std::size_t{1} << order;
  }
  void erase(std::uintptr_t block, std::uint32_t order) noexcept {
    sets()[order].erase(block - (range_.first >> order));
    if (sets()[order].count() == 0) {
      non_empty_ &= ~(std::uint32_t{1} << order);
    }
    free_frames_ -= std::size_t{1} << order;
  }
  /// Frees the block at `frame`, and merges it with its buddy as long as that is free.
  void merge(std::uintptr_t frame, std::uint32_t order) noexcept {
    std::uintptr_t block = frame >> order;
    while (order + 1 < orders_ && is_free(block ^ 1, order)) {
      erase(block ^ 1, order);
      block /= 2;
      ++order;
    }
    insert(block, order);
  }
  /// Takes free frames out of their blocks.
  void erase_range(FrameRange range) noexcept {
    for (std::uintptr_t frame = range.first; frame < range.end;) {
      const FrameRange block = free_block_at(frame);
      erase(block.first >> lowest_bit(block.frames()), lowest_bit(block.frames()));
      insert_range(block.first, frame);
      insert_range(block.end < range.end ? block.end : range.end, block.end);
      frame = block.end;
    }
  }
  /// Frees first … end - 1, in the largest possible blocks.
  void insert_range(std::uintptr_t first, std::uintptr_t end) noexcept {
    while (first != end) {
      const std::uint32_t order = order_from(first, end - first);
      merge(first, order);
      first += std::size_t{1} << order;
    }
  }

  const char* validate_block(const FrameBlock& block) const noexcept {
    if (block.use == FrameUse::Absent || block.use == FrameUse::Metadata) {
      return nullptr;
    }
    std::size_t plain_frames = 0;
    for (std::size_t frame = 0; frame < block.frames; ++frame) {
      plain_frames += state(block.first + frame) == plain ? 1u : 0u;
    }
    if (block.use == FrameUse::Offline) {
      return plain_frames + 1 == block.frames ? nullptr : "F2: offline is the first frame alone";
    }
    if (block.use == FrameUse::Free) {
      const std::uint32_t order = highest_bit(block.frames);
      if (order + 1 < orders_ && is_free((block.first >> order) ^ 1, order)) {
        return "F3: of two buddies at most one is free";
      }
      return plain_frames == block.frames ? nullptr : "F2: frames of free blocks are plain";
    }
    // In the span before, a run may have begun.
    std::uint8_t kind =
        block.first == range_.first && (state(block.first) & piece) != 0 ? piece : head;
    std::size_t pieces = 0;
    bool is_sound = true;
    for_each_piece(block.first, block.frames, [&](std::uintptr_t piece_first, std::uint32_t order) {
      const std::uint8_t marks = kind == head ? state(piece_first) & mark : 0;
      is_sound = is_sound && state(piece_first) == (kind | marks | order);
      kind = piece;
      ++pieces;
    });
    return is_sound && plain_frames + pieces == block.frames
               ? nullptr
               : "F2: a run is a head and pieces, and otherwise plain";
  }

  template <std::size_t, bool>
  friend class SpanTable;

  const FrameRange range_;
  SpanLinks<FrameSpan> links_;
  std::uint8_t* states_ = nullptr;
  std::size_t free_frames_ = 0;
  std::size_t used_frames_ = 0;
  std::size_t metadata_frames_ = 0;
  std::size_t offline_frames_ = 0;
  std::size_t runs_ = 0;
  std::size_t marked_runs_ = 0;
  const std::uint32_t orders_;
  std::uint32_t non_empty_ = 0;
};

}  // namespace slabmalloc
