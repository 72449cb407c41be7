// SPDX-License-Identifier: MIT
//
// RunMapFixture: a run map with tags of its own, for tests.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "arena/run_map.hpp"

namespace slabmalloc::test {

class RunMapFixture : public testing::Test {
 protected:
  explicit RunMapFixture(std::size_t chunks) : tags_(chunks) { map_.attach(tags_.data()); }

  /// Purges the first `chunks` of the dirty run at `run`.
  void purge(std::uint32_t run, std::uint32_t chunks) {
    map_.begin_purge(run, chunks);
    map_.end_purge(run, true, 0);
  }

  /// Whether validate() notices that `change` broke the tags, which are then as before.
  template <class Change>
  bool notices(Change&& change) {
    const std::vector<RunTag> whole = tags_;
    change();
    const bool is_noticed = !map_.validate();
    tags_ = whole;
    return is_noticed;
  }

  std::vector<RunTag> tags_;
  RunMap map_;
};

}  // namespace slabmalloc::test
