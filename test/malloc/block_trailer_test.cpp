// SPDX-License-Identifier: MIT
#include "malloc/block_trailer.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "support/random.hpp"

namespace slabmalloc {
namespace {

constexpr BlockKind kinds[] = {BlockKind::Malloc, BlockKind::New, BlockKind::NewArray};

/// A slot with room for its neighbours' bytes.
class BlockTrailerTest : public testing::TestWithParam<std::size_t> {
 protected:
  BlockTrailerTest() : memory_(capacity_ / 8 + 2) {}
  BlockTrailer trailer(std::uint64_t key = 7) { return {slot(), capacity_, keys_of(key)}; }
  /// Keys of a process; others for each `seed`.
  static TrailerKeys keys_of(std::uint64_t seed) {
    test::Random random(seed);
    return {random.next(), random.next(), random.next()};
  }
  unsigned char* slot() { return reinterpret_cast<unsigned char*>(memory_.data() + 1); }

  const std::size_t capacity_ = GetParam();
  std::vector<std::uint64_t> memory_;
};

INSTANTIATE_TEST_SUITE_P(Slots, BlockTrailerTest, testing::Values(16, 48, 320, 32768),
                         [](const auto& bytes) { return "of_" + std::to_string(bytes.param); });

TEST_P(BlockTrailerTest, says_what_was_written) {
  for (std::size_t asked = 0; asked <= capacity_ - BlockTrailer::bytes;
       asked += asked < 64 || asked + 80 > capacity_ ? 1 : 61) {
    for (const BlockKind kind : kinds) {
      for (const bool fills : {false, true}) {
        trailer().write(asked, kind, fills);
        const BlockTrailer::Facts facts = trailer().read();
        ASSERT_TRUE(facts.is_sound);
        ASSERT_EQ(facts.bytes, asked);
        ASSERT_EQ(facts.kind, kind);
        ASSERT_EQ(facts.is_filled, fills);
        ASSERT_TRUE(trailer().is_sound_or_clear());
        ASSERT_TRUE(!fills || trailer().has_fill(asked));
      }
    }
  }
  EXPECT_EQ(memory_.front(), 0u);
  EXPECT_EQ(memory_.back(), 0u);
}

TEST_P(BlockTrailerTest, shows_each_changed_bit_behind_the_bytes_asked_for) {
  for (const std::size_t asked :
       {std::size_t{0}, std::size_t{5}, capacity_ / 2 - 3, capacity_ - BlockTrailer::bytes}) {
    std::memset(slot(), 'x', capacity_);
    trailer().write(asked, BlockKind::New, true);
    for (std::size_t byte = asked; byte < capacity_; ++byte) {
      if (byte == asked + 32 && byte + BlockTrailer::bytes < capacity_) {
        byte = capacity_ - BlockTrailer::bytes;
      }
      for (int bit = 0; bit < 8; ++bit) {
        slot()[byte] = static_cast<unsigned char>(slot()[byte] ^ 1u << bit);
        const BlockTrailer::Facts facts = trailer().read();
        ASSERT_FALSE(facts.is_sound && facts.bytes == asked && facts.kind == BlockKind::New &&
                     facts.is_filled && trailer().has_fill(asked))
            << byte;
        slot()[byte] = static_cast<unsigned char>(slot()[byte] ^ 1u << bit);
      }
    }
    // Nothing else is written.
    for (std::size_t byte = 0; byte < asked; ++byte) {
      ASSERT_EQ(slot()[byte], 'x');
    }
  }
}

TEST_P(BlockTrailerTest, fills_with_no_byte_that_ends_a_string) {
  for (std::uint64_t seed = 0; seed < 2000; ++seed) {
    trailer(seed).write(0, BlockKind::Malloc, true);
    for (std::size_t byte = 0; byte < std::min<std::size_t>(32, capacity_ - BlockTrailer::bytes);
         ++byte) {
      ASSERT_NE(slot()[byte], 0) << seed;
    }
  }
}

TEST_P(BlockTrailerTest, is_unsound_at_random) {
  test::Random random;
  for (int round = 0; round < 100000; ++round) {
    const std::uint64_t word = random.next();
    std::memcpy(slot() + capacity_ - sizeof word, &word, sizeof word);
    ASSERT_FALSE(trailer().read().is_sound);
    ASSERT_FALSE(trailer().is_sound_or_clear());
  }
}

TEST_P(BlockTrailerTest, is_unsound_in_another_process_and_at_another_address) {
  trailer(7).write(3, BlockKind::Malloc, true);
  EXPECT_FALSE(trailer(9).read().is_sound);
  std::memmove(slot() - 8, slot(), capacity_);
  EXPECT_FALSE(BlockTrailer(slot() - 8, capacity_, keys_of(7)).read().is_sound);
}

TEST_P(BlockTrailerTest, says_nothing_when_clear) {
  trailer().write(3, BlockKind::Malloc, true);
  trailer().clear();
  EXPECT_TRUE(trailer().is_sound_or_clear());
  EXPECT_FALSE(trailer().read().is_sound);
}

}  // namespace
}  // namespace slabmalloc
