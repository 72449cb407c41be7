// SPDX-License-Identifier: MIT
//
// BlockTrailer: what the hardened library keeps at the end of each block of a slot.
//
//   slot    | the client's bytes | fill | …          | trailer |
//           ^ block              ^ block + bytes     ^ block + capacity - 8
//
//   trailer = facts | code(facts, secret(block)) << 19
//   facts   = bytes asked for | kind << 16 | filled << 18
//   fill    = one byte, another for each block, never 0; in 32 bytes, or as many as there are
//
// A write beyond the bytes asked for changes the fill or the trailer. The secret is another in each
// process and for each address, so a trailer is not to be guessed, nor copied from another block.
// The code of 45 bits tells whether any bit of the trailer was changed.
// A trailer of 0 says nothing: the slot is free, or is being allocated by another thread.
#pragma once

#include <cstddef>
#include <cstdint>

namespace slabmalloc {

/// The functions that allocate a block, and must free it.
enum class BlockKind : std::uint8_t { Malloc, New, NewArray };

class BlockTrailer {
 public:
  /// The bytes of a trailer; a slot needs so many more than the client asked for.
  static constexpr std::size_t bytes = sizeof(std::uint64_t);

  struct Facts {
    bool is_sound = false;  ///< False: the trailer was overwritten, or is clear. Then the rest says
                            ///< nothing.
    bool is_clear = false;
    std::size_t bytes = 0;  ///< Asked for.
    BlockKind kind = BlockKind::Malloc;
    bool is_filled = false;
  };

  /// The trailer of a slot of `capacity` bytes at `block`, in a process with the secret `key`.
  BlockTrailer(void* block, std::size_t capacity, std::uint64_t key) noexcept
      : block_(static_cast<unsigned char*>(block)),
        end_(block_ + capacity - bytes),
        secret_(mix(reinterpret_cast<std::uintptr_t>(block) ^ key)) {}

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

  /// Makes the trailer say nothing.
  void clear() const noexcept { store(0); }

  Facts read() const noexcept {
    const std::uint64_t word = load();
    Facts facts;
    facts.is_clear = word == 0;
    facts.bytes = static_cast<std::uint16_t>(word);
    facts.kind = static_cast<BlockKind>(word >> kind_shift & 3);
    facts.is_filled = (word >> filled_shift & 1) != 0;
    facts.is_sound = word == sealed(word & ((std::uint64_t{1} << code_shift) - 1)) &&
                     facts.bytes <= static_cast<std::size_t>(end_ - block_);
    return facts;
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
  static constexpr unsigned code_shift = 19;
  /// A linear overflow writes the first bytes behind a block. More would cost large slots time.
  static constexpr std::size_t most_filled = 32;

  /// `facts` with their code: the upper bits of a product depend on all bits of its factors.
  std::uint64_t sealed(std::uint64_t facts) const noexcept {
    const std::uint64_t product = (secret_ ^ facts * 0x9E3779B97F4A7C15u) * 0xD6E8FEB86659FD93u;
    return facts | product >> code_shift << code_shift;
  }

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
  /// One byte eight times. Not 0, since the last byte of a string often goes too far.
  std::uint64_t fill() const noexcept { return (secret_ >> 56 | 1) * 0x0101010101010101u; }

  // Relaxed: another thread that frees a neighbour looks at the trailer, and takes either value.
  std::uint64_t load() const noexcept {
    return __atomic_load_n(reinterpret_cast<const AliasedWord*>(end_), __ATOMIC_RELAXED);
  }
  void store(std::uint64_t value) const noexcept {
    __atomic_store_n(reinterpret_cast<AliasedWord*>(end_), value, __ATOMIC_RELAXED);
  }

  /// The finalizer of MurmurHash3 (Appleby): each bit of the result depends on each of `value`.
  static std::uint64_t mix(std::uint64_t value) noexcept {
    value = (value ^ value >> 33) * 0xFF51AFD7ED558CCDu;
    value = (value ^ value >> 33) * 0xC4CEB9FE1A85EC53u;
    return value ^ value >> 33;
  }

  using AliasedWord = std::uint64_t __attribute__((may_alias));

  unsigned char* block_;
  unsigned char* end_;  ///< Where the trailer is.
  std::uint64_t secret_;
};

}  // namespace slabmalloc
