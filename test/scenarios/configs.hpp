// SPDX-License-Identifier: MIT
//
// Configurations for scenarios beside those of the library, layouts, and a suitable pager for each.
#pragma once

#include <cstddef>
#include <cstdint>

#include "scenarios/frames.hpp"
#include "slabmalloc/slabmalloc.hpp"

namespace slabmalloc::scenario {

/// The layout of `size` bytes at `alignment`, which must be valid.
constexpr Layout layout_of(std::size_t size, std::size_t alignment = 1) noexcept {
  return Layout::from_size_align(size, alignment).value_or(Layout());
}

/// Finds double frees across owners at the call.
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

/// Holds no empty page at all.
struct EagerConfig : DefaultConfig {
  static constexpr std::uint32_t idle_pages_per_class = 0;
  static constexpr std::uint32_t depot_pages = 0;
};

/// As MiddlePageConfig, with one type of class for all page kinds, which has no depot.
struct SizedPageConfig : CommonConfig {
  static constexpr std::uint32_t depot_pages = 0;
  using BasePage = SizedPage<4 * kibibyte>;
  using MiddlePage = SizedPage<64 * kibibyte>;
  using LargePage = SizedPage<2 * mebibyte>;
  using Pages = PageKinds<PageKind<BasePage, 256>, PageKind<MiddlePage, 8 * kibibyte>,
                          PageKind<LargePage, 128 * kibibyte>>;
};

/// Only base pages of any granule, for machines without memory for large pages.
template <std::size_t GranuleBytes, class AtomicsT = HardwareAtomics>
struct BaseGranuleConfig : CommonConfig {
  using Atomics = AtomicsT;
  using SizeClasses = SizeClassTable<SmallSpec>;
  using BasePage = typename PageSizes<GranuleBytes, Atomics>::Base;
  using Pages = PageKinds<PageKind<BasePage, 1024>>;
};

/// The pager of a configuration's zones.
template <class Config>
struct PagerFor {
  using Type = Frames;
};

template <class Config>
concept HasLargePages = requires { typename Config::LargePage; };

template <class Config>
constexpr std::size_t largest_page_bytes() noexcept {
  if constexpr (HasLargePages<Config>) {
    return sizeof(typename Config::LargePage);
  } else {
    return Config::BasePage::frame_bytes(~std::size_t{0});
  }
}

}  // namespace slabmalloc::scenario
