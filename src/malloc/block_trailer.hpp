// SPDX-License-Identifier: MIT
//
// BlockTrailer: what the hardened library keeps at the end of each block of a slot.
//
//   slot    | the client's bytes | fill | …          | trailer |
//           ^ block              ^ block + bytes     ^ block + capacity - 8
//
//   trailer = facts | code(block, facts) without its lowest 19 bits
//   code    = both halves of (block ^ key) * (facts ^ another key), of 128 bits, combined by ^
//   facts   = bytes asked for | kind << 16 | filled << 18; of a resting block 3 << 16
//   fill    = one word for each block, no byte of which is 0; in 32 bytes, or as many as there are
//
// A write beyond the bytes asked for changes the fill or the trailer. The keys are others in each
// start of a program, and from that of the fill nobody computes the others. So a trailer is not to
// be guessed, nor copied from another block, nor computed from what a read beyond a block finds in
// its fill. The code of 45 bits tells whether any bit of the trailer was changed. It is that of
// wyhash (Wang Yi, 2019), with one step, and no cryptography.
// A trailer of 0 says nothing: the slot is free, or is being allocated by another thread. A block
// rests if it was freed and its slot is not free yet (quarantine.hpp).
#pragma once

#include <cstddef>
#include <cstdint>

namespace slabmalloc {

/// The functions that allocate a block, and must free it.
enum class BlockKind : std::uint8_t { Malloc, New, NewArray };

/// The secrets of a process's trailers.
struct TrailerKeys {
  std::uint64_t block = 0;
  std::uint64_t facts = 0;
  std::uint64_t fill = 0;
};

class BlockTrailer {
 public:
  /// The bytes of a trailer; a slot needs so many more than the client asked for.
  static constexpr std::size_t bytes = sizeof(std::uint64_t);

  struct Facts {
    bool is_sound = false;  ///< False: the trailer was overwritten, or is clear. Then the rest says
                            ///< nothing.
    std::size_t bytes = 0;  ///< Asked for.
    BlockKind kind = BlockKind::Malloc;
    bool is_filled = false;
    bool is_resting = false;  ///< Then only that.
  };

  /// The trailer of a slot of `capacity` bytes at `block`.
  BlockTrailer(void* block, std::size_t capacity, const TrailerKeys& keys) noexcept
      : block_(static_cast<unsigned char*>(block)), end_(block_ + capacity - bytes), keys_(keys) {}

  /// Writes the trailer of `asked` bytes, and if `fills` the bytes before it.
  /// Pre: asked <= capacity - BlockTrailer::bytes, and capacity is below 64 KiB.
  void write(std::size_t asked, BlockKind kind, bool fills) const noexcept {
    if (fills) {
      for_each_word_beyond(asked, [&](std::size_t offset, std::uint64_t mask) noexcept {
        const std::uint64_t word = (word_at(offset) & ~mask) | (fill() & mask);
        __builtin_memcpy(block_ + offset, &word, sizeof word);
      });
    }
    store(sealed(asked | std::uint64_t{static_cast<std::uint8_t>(kind)} << kind_shift |
                 std::uint64_t{fills} << filled_shift));
  }

  /// Makes the trailer say that the block rests.
  void write_resting() const noexcept { store(sealed(resting)); }
  bool is_resting() const noexcept { return load() == sealed(resting); }

  /// Makes the trailer say nothing.
  void clear() const noexcept { store(0); }

  Facts read() const noexcept {
    const std::uint64_t word = load();
    Facts facts;
    facts.bytes = static_cast<std::uint16_t>(word);
    facts.kind = static_cast<BlockKind>(word >> kind_shift & 3);
    facts.is_filled = (word >> filled_shift & 1) != 0;
    facts.is_resting = (word >> kind_shift & 3) == resting >> kind_shift;
    facts.is_sound = is_sealed(word) && facts.bytes <= static_cast<std::size_t>(end_ - block_);
    return facts;
  }

  /// True if the trailer is sound or says nothing.
  bool is_sound_or_clear() const noexcept {
    const std::uint64_t word = load();
    return word == 0 || is_sealed(word);
  }

  /// True if the fill behind `asked` bytes is as it was written.
  bool has_fill(std::size_t asked) const noexcept {
    std::uint64_t changed = 0;
    for_each_word_beyond(asked, [&](std::size_t offset, std::uint64_t mask) noexcept {
      changed |= (word_at(offset) ^ fill()) & mask;
    });
    return changed == 0;
  }

 private:
  static constexpr unsigned kind_shift = 16;
  static constexpr unsigned filled_shift = 18;
  static constexpr std::uint64_t resting = std::uint64_t{3} << kind_shift;
  static constexpr unsigned code_shift = 19;
  /// A linear overflow writes the first bytes behind a block. More would cost large slots time.
  static constexpr std::size_t most_filled = 32;

  /// `facts` with their code.
  std::uint64_t sealed(std::uint64_t facts) const noexcept {
    __extension__ using Product = unsigned __int128;
    const std::uint64_t one = address() ^ keys_.block;
    const std::uint64_t other = facts ^ keys_.facts;
    // Each half for itself: else GCC keeps them on the stack.
    const auto upper = static_cast<std::uint64_t>(static_cast<Product>(one) * other >> 64);
    return facts | (upper ^ one * other) >> code_shift << code_shift;
  }
  bool is_sealed(std::uint64_t word) const noexcept {
    return word == sealed(word & ((std::uint64_t{1} << code_shift) - 1));
  }
  std::uint64_t address() const noexcept { return reinterpret_cast<std::uintptr_t>(block_); }

  /// Calls f(offset, mask) for each word of the fill; the mask has the bits of the bytes that were
  /// not asked for.
  template <class F>
  [[gnu::always_inline]] void for_each_word_beyond(std::size_t asked, F&& f) const noexcept {
    const auto room = static_cast<std::size_t>(end_ - block_);
    const std::size_t end = room - asked < most_filled ? room : asked + most_filled;
    std::size_t offset = asked / sizeof(std::uint64_t) * sizeof(std::uint64_t);
    const std::uint64_t beyond = ~std::uint64_t{0} << (asked - offset) * 8;
    for (std::uint64_t mask = from_little_endian(beyond); offset < end;
         offset += sizeof(std::uint64_t), mask = ~std::uint64_t{0}) {
      f(offset, mask);
    }
  }
  static constexpr std::uint64_t from_little_endian(std::uint64_t value) noexcept {
    return __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? value : __builtin_bswap64(value);
  }
  std::uint64_t word_at(std::size_t offset) const noexcept {
    std::uint64_t word = 0;
    __builtin_memcpy(&word, block_ + offset, sizeof word);
    return word;
  }
  /// No byte is 0, since the last byte of a string often goes too far.
  std::uint64_t fill() const noexcept {
    return (address() * 0x9E3779B97F4A7C15u ^ keys_.fill) | 0x0101010101010101u;
  }

  // Relaxed: another thread that frees a neighbour looks at the trailer, and takes either value.
  std::uint64_t load() const noexcept {
    return __atomic_load_n(reinterpret_cast<const AliasedWord*>(end_), __ATOMIC_RELAXED);
  }
  void store(std::uint64_t value) const noexcept {
    __atomic_store_n(reinterpret_cast<AliasedWord*>(end_), value, __ATOMIC_RELAXED);
  }

  using AliasedWord = std::uint64_t __attribute__((may_alias));

  unsigned char* block_;
  unsigned char* end_;  ///< Where the trailer is.
  TrailerKeys keys_;
};

}  // namespace slabmalloc
