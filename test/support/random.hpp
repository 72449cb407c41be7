// SPDX-License-Identifier: MIT
//
// Random numbers for tests on a host. Each test that uses them prints its seed. The environment
// variable SLABMALLOC_TEST_SEED sets it.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>

#include "scenarios/random.hpp"

namespace slabmalloc::test {

/// A generator that knows its seed.
class Random : public scenario::Random {
 public:
  /// Takes its seed from SLABMALLOC_TEST_SEED, else a new one on each run; prints the seed.
  Random() : Random(choose_seed()) {
    std::printf("SLABMALLOC_TEST_SEED=%llu\n", static_cast<unsigned long long>(seed_));
    std::fflush(stdout);
  }
  explicit Random(std::uint64_t seed) : scenario::Random(seed), seed_(seed) {}

  std::uint64_t seed() const noexcept { return seed_; }
  /// A generator for another thread, determined by this one's seed.
  Random fork() { return Random(next()); }

 private:
  static std::uint64_t choose_seed() {
    if (const char* given = std::getenv("SLABMALLOC_TEST_SEED")) {
      return std::strtoull(given, nullptr, 0);
    }
    return std::random_device{}();
  }

  std::uint64_t seed_;
};

}  // namespace slabmalloc::test
