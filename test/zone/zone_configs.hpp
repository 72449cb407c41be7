// SPDX-License-Identifier: MIT
//
// The zone configurations under test, and the pager that suits each.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <type_traits>

#include "slabmalloc/slabmalloc.hpp"
#include "support/chunk_table.hpp"
#include "support/frames.hpp"

namespace slabmalloc::test {

/// The layout of `size` bytes at `alignment`, which must be a sound one.
inline Layout layout_of(std::size_t size, std::size_t alignment = 1) {
  const Result<Layout> layout = Layout::from_size_align(size, alignment);
  EXPECT_TRUE(layout) << size << " B aligned to " << alignment;
  return layout ? *layout : Layout();
}

/// Double frees across owners are found at the call.
struct HardenedConfig : DefaultConfig {
  static constexpr bool hardened = true;
};

/// For one processor: no atomic instruction anywhere.
struct SingleCpuConfig : CommonConfig {
  using Atomics = SingleCpuAtomics;
  using BasePage = PageSizes<4 * kibibyte, SingleCpuAtomics>::Base;
  using LargePage = PageSizes<4 * kibibyte, SingleCpuAtomics>::Large;
  using Pages = PageKinds<PageKind<BasePage, 256>, PageKind<LargePage, 128 * kibibyte>>;
};

/// Keeps no empty page at all.
struct EagerConfig : DefaultConfig {
  static constexpr std::uint32_t idle_pages_per_class = 0;
  static constexpr std::uint32_t depot_pages = 0;
};

/// Meta-data beside the pages; one page kind with frames of two sizes.
struct BesideConfig : CommonConfig {
  using Table = TwoSizeChunkTable<Atomics>;
  using BasePage = BesidePage<Table>;
  using Pages = PageKinds<PageKind<BasePage, 128 * kibibyte>>;
};

struct HardenedBesideConfig : BesideConfig {
  static constexpr bool hardened = true;
};

/// The frames that a configuration's zones live on: FrameSource unless its pages have a table.
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
