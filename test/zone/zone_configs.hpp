// SPDX-License-Identifier: MIT
//
// Zone configurations for tests, and a suitable pager for each.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <type_traits>

#include "scenarios/configs.hpp"
#include "slabmalloc/slabmalloc.hpp"
#include "support/chunk_table.hpp"
#include "support/frames.hpp"

namespace slabmalloc::test {

/// The layout of `size` bytes at `alignment`, which must be valid.
inline Layout layout_of(std::size_t size, std::size_t alignment = 1) {
  const Result<Layout> layout = Layout::from_size_align(size, alignment);
  EXPECT_TRUE(layout) << size << " B aligned to " << alignment;
  return layout ? *layout : Layout();
}

using scenario::EagerConfig;
using scenario::HardenedConfig;
using scenario::SingleCpuConfig;

/// Meta-data beside the pages; one page kind with frames of two sizes.
struct BesideConfig : CommonConfig {
  using Table = TwoSizeChunkTable<Atomics>;
  using BasePage = BesidePage<Table>;
  using Pages = PageKinds<PageKind<BasePage, 128 * kibibyte>>;
};

struct HardenedBesideConfig : BesideConfig {
  static constexpr bool hardened = true;
};

/// The source of a configuration's frames: FrameSource unless its pages have a table.
template <class Config>
struct PagerFor {
  using Type = FrameSource;
};
template <class Config>
  requires requires { typename Config::Table; }
struct PagerFor<Config> {
  using Type = ChunkPager<typename Config::Table>;
};

}  // namespace slabmalloc::test
