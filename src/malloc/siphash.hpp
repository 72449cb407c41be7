// SPDX-License-Identifier: MIT
//
// SipHash-2-4 of one word: Aumasson and Bernstein, "SipHash: a Fast Short-Input PRF", INDOCRYPT
// 2012. Who knows a result knows neither the key nor the results of other words.
#pragma once

#include <bit>
#include <cstdint>

namespace slabmalloc {

/// The hash of the eight bytes of `word`, the lowest first, under a key of two words.
/// Cost: 14 rounds; for keys, not for each block.
constexpr std::uint64_t siphash(std::uint64_t key0, std::uint64_t key1,
                                std::uint64_t word) noexcept {
  std::uint64_t v0 = key0 ^ 0x736F6D6570736575u;
  std::uint64_t v1 = key1 ^ 0x646F72616E646F6Du;
  std::uint64_t v2 = key0 ^ 0x6C7967656E657261u;
  std::uint64_t v3 = key1 ^ 0x7465646279746573u;
  const auto rounds = [&](int count) noexcept {
    for (; count != 0; --count) {
      v0 += v1;
      v1 = std::rotl(v1, 13) ^ v0;
      v0 = std::rotl(v0, 32);
      v2 += v3;
      v3 = std::rotl(v3, 16) ^ v2;
      v0 += v3;
      v3 = std::rotl(v3, 21) ^ v0;
      v2 += v1;
      v1 = std::rotl(v1, 17) ^ v2;
      v2 = std::rotl(v2, 32);
    }
  };
  const auto absorb = [&](std::uint64_t block) noexcept {
    v3 ^= block;
    rounds(2);
    v0 ^= block;
  };
  absorb(word);
  absorb(std::uint64_t{8} << 56);  // The length, behind no further bytes.
  v2 ^= 0xFF;
  rounds(4);
  return v0 ^ v1 ^ v2 ^ v3;
}

// The test vector of the paper, appendix A, for eight bytes.
static_assert(siphash(0x0706050403020100u, 0x0F0E0D0C0B0A0908u, 0x0706050403020100u) ==
              0x93F5F5799A932462u);

}  // namespace slabmalloc
