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
#pragma once

#include <fuzzer/FuzzedDataProvider.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

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

/// Defines a target, whose body follows, as a function of a FuzzInput&.
#define SLABMALLOC_FUZZ_TARGET(parameter)                                              \
  static void run_fuzz_target(parameter);                                              \
  extern "C" int LLVMFuzzerInitialize(int*, char*** arguments);                        \
  extern "C" int LLVMFuzzerInitialize(int*, char*** arguments) {                       \
    slabmalloc::test::AbortAtFailure::install((*arguments)[0]);                        \
    return 0;                                                                          \
  }                                                                                    \
  extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t*, std::size_t);             \
  extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) { \
    slabmalloc::test::FuzzInput input(data, bytes);                                    \
    run_fuzz_target(input);                                                            \
    return 0;                                                                          \
  }                                                                                    \
  static void run_fuzz_target(parameter)
