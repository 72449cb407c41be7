// SPDX-License-Identifier: MIT
//
// Random: reproducible randomness for tests. Each test that uses it prints its seed; the
// environment variable SLABMALLOC_TEST_SEED sets it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>

namespace slabmalloc::test {

/// A generator of random numbers with the few forms that tests need.
class Random {
 public:
  /// Seeded from SLABMALLOC_TEST_SEED, else anew on each run; prints the seed.
  Random() : Random(choose_seed()) {
    std::printf("SLABMALLOC_TEST_SEED=%llu\n", static_cast<unsigned long long>(seed_));
    std::fflush(stdout);
  }
  explicit Random(std::uint64_t seed) : seed_(seed), engine_(seed) {}

  std::uint64_t seed() const noexcept { return seed_; }
  std::uint64_t next() { return engine_(); }
  /// A number below `bound`. Pre: not 0.
  std::size_t below(std::size_t bound) { return static_cast<std::size_t>(engine_() % bound); }
  /// A number in [first, last].
  std::size_t between(std::size_t first, std::size_t last) {
    return first + below(last - first + 1);
  }
  /// True once in `times`.
  bool one_in(std::size_t times) { return below(times) == 0; }
  /// A generator for another thread, determined by this one's seed.
  Random fork() { return Random(engine_()); }

 private:
  static std::uint64_t choose_seed() {
    if (const char* given = std::getenv("SLABMALLOC_TEST_SEED")) {
      return std::strtoull(given, nullptr, 0);
    }
    return std::random_device{}();
  }

  std::uint64_t seed_;
  std::mt19937_64 engine_;
};

}  // namespace slabmalloc::test
