// SPDX-License-Identifier: MIT
//
// The loop of patterns that replace random ones of a fixed number of blocks.
#pragma once

#include <vector>

#include "block.hpp"
#include "random.hpp"
#include "workload.hpp"

namespace slabmalloc::benchmark {

/// Replaces one of `alive` blocks in each of `steps`, then frees all. make(random, step, serial)
/// returns the new block, already written.
template <class Make>
Result replace_random(unsigned thread, std::size_t steps, std::size_t alive, const Make& make) {
  Random random(thread);
  Result result{.operations = steps};
  std::vector<void*> blocks(alive);
  std::uint64_t serial = first_serial(thread);
  for (std::size_t step = 0; step < steps; ++step) {
    void*& block = blocks[random.below(alive)];
    result.checksum += drop_block(block);
    block = make(random, step, serial++);
  }
  for (void* block : blocks) result.checksum += drop_block(block);
  return result;
}

}  // namespace slabmalloc::benchmark
