// SPDX-License-Identifier: MIT
//
// What libFuzzer targets share: FuzzInput reads the bytes that libFuzzer makes up, and a failed
// check of GoogleTest ends the program, so that libFuzzer saves these bytes.
//
//   SLABMALLOC_FUZZ_TARGET(test::FuzzInput& input) {
//     while (!input.is_empty()) {
//       switch (input.below(3)) { … }
//     }
//   }
//
// A target must leave nothing behind: then the bytes alone repeat a failure.
//
// libFuzzer grows inputs byte by byte. So that programs are long from the start, one change in
// eight makes a whole new input instead.
#pragma once

#include <fuzzer/FuzzedDataProvider.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "scenarios/random.hpp"

namespace slabmalloc::test {

/// Choices, made by bytes. Without bytes left, each choice is the least one.
class FuzzInput {
 public:
  FuzzInput(const std::uint8_t* data, std::size_t bytes) : bytes_(data, bytes) {}

  bool is_empty() { return bytes_.remaining_bytes() == 0; }
  /// A number below `bound`, which is not 0.
  std::size_t below(std::size_t bound) {
    return bytes_.ConsumeIntegralInRange<std::size_t>(0, bound - 1);
  }
  /// A number in [first, last].
  std::size_t between(std::size_t first, std::size_t last) {
    return bytes_.ConsumeIntegralInRange<std::size_t>(first, last);
  }
  /// True for one of `times` choices.
  bool one_in(std::size_t times) { return below(times) + 1 == times; }
  /// A power of two, at most 2^`most`.
  std::size_t power_of_two(std::size_t most) { return std::size_t{1} << between(0, most); }

 private:
  FuzzedDataProvider bytes_;
};

/// Changes `size` bytes at `data`, which has room for `most`; returns how many there are then.
inline std::size_t change_input(std::uint8_t* data, std::size_t size, std::size_t most,
                                unsigned seed,
                                std::size_t (*change)(std::uint8_t*, std::size_t, std::size_t)) {
  scenario::Random random(seed);
  if (!random.one_in(8)) {
    return change(data, size, most);
  }
  size = random.between(most / 4, most);
  for (std::size_t index = 0; index < size; ++index) {
    data[index] = static_cast<std::uint8_t>(random.below(256));
  }
  return size;
}

/// Ends the program at the first failed check, after GoogleTest has printed it.
class AbortAtFailure : public testing::EmptyTestEventListener {
 public:
  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (result.failed()) {
      std::abort();
    }
  }

  static void install(const char* program) {
    testing::UnitTest::GetInstance()->listeners().Append(new AbortAtFailure);
    std::fprintf(stderr, "A failure names a file. To repeat it: %s FILE\n", program);
  }
};

}  // namespace slabmalloc::test

extern "C" {
std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t most);
std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t most,
                                    unsigned seed);
int LLVMFuzzerInitialize(int* count, char*** arguments);
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
}

/// Defines a target, whose body follows, as a function of a FuzzInput&.
#define SLABMALLOC_FUZZ_TARGET(parameter)                                                     \
  static void run_fuzz_target(parameter);                                                     \
  std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t most, \
                                      unsigned seed) {                                        \
    return slabmalloc::test::change_input(data, size, most, seed, &LLVMFuzzerMutate);         \
  }                                                                                           \
  int LLVMFuzzerInitialize(int*, char*** arguments) {                                         \
    slabmalloc::test::AbortAtFailure::install((*arguments)[0]);                               \
    return 0;                                                                                 \
  }                                                                                           \
  int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {                    \
    slabmalloc::test::FuzzInput input(data, size);                                            \
    run_fuzz_target(input);                                                                   \
    return 0;                                                                                 \
  }                                                                                           \
  static void run_fuzz_target(parameter)
