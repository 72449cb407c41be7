// SPDX-License-Identifier: MIT
//
// A libFuzzer target: any calls of an EarlyMemory, against a record of each unit of memory.
#include "kernel/early_model.hpp"
#include "support/fuzz.hpp"

SLABMALLOC_FUZZ_TARGET(slabmalloc::test::FuzzInput& input) {
  slabmalloc::test::EarlyProgram program(input);
  program.run([&] { return !input.is_empty(); });
}
