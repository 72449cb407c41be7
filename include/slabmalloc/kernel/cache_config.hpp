// SPDX-License-Identifier: MIT
//
// Configuration of object caches: the options that a client chooses. All caches with the same
// options have the same code, whatever their objects.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "slabmalloc/kernel/debug_config.hpp"
#include "slabmalloc/kernel/kernel_config.hpp"
#include "slabmalloc/page/shaped_page.hpp"

namespace slabmalloc {

/// The options of an object cache that do not depend on the granule.
struct CommonCacheOptions : CommonKernelConfig {
  /// The least alignment of an object; a larger alignment of the type prevails.
  static constexpr std::size_t alignment = 1;
  /// Bytes from one colour to the next: a cache line.
  static constexpr std::size_t colour_bytes = 64;
  /// Bitmap words whose remote frees each CPU buffers in each cache.
  static constexpr std::size_t remote_buffer_entries = 4;
  /// True lets any context use the reserved frames.
  static constexpr bool reserved_frames_are_for_all = true;
  /// True lets the cache tell at any time how many objects are in use.
  static constexpr bool counts_frees = true;
  /// True for readers without locks that look at an object before they know that it is still theirs
  /// (SLAB_TYPESAFE_BY_RCU). A freed object may serve again at once. But its memory holds a
  /// constructed object of this cache until a grace period has passed since all of its page were
  /// freed. The hooks are GraceHooks.
  static constexpr bool type_stable = false;
};

/// All options. To change some, inherit and shadow them.
template <std::size_t GranuleBytes, class AtomicsT = HardwareAtomics>
struct GranuleCacheOptions : CommonCacheOptions {
  using Atomics = AtomicsT;
  /// The smallest page.
  static constexpr std::size_t granule_bytes = GranuleBytes;
  /// The largest page. It suits objects of up to 1/8 of it.
  static constexpr std::size_t largest_page_bytes = 16 * GranuleBytes;
};

/// For a granule of 4 KiB.
struct CacheOptions : GranuleCacheOptions<4 * kibibyte> {};

/// Options of an object cache: a type that inherits from GranuleCacheOptions.
template <class O>
concept ObjectCacheOptions = std::derived_from<O, CommonCacheOptions> && requires {
  O::granule_bytes;
  O::largest_page_bytes;
};

/// As GranuleCacheOptions, with all checks.
template <std::size_t GranuleBytes, class AtomicsT = HardwareAtomics>
struct GranuleDebugCacheOptions : GranuleCacheOptions<GranuleBytes, AtomicsT> {
  using Debug = KernelDebug;
};

/// As CacheOptions, with all checks.
struct DebugCacheOptions : GranuleDebugCacheOptions<4 * kibibyte> {};

/// Options with tags, which object caches do not have: a cache has a name and a limit itself.
template <class O>
concept TaggedCacheOptions = O::tags != 0;

/// `O` if it has the options, else CacheOptions; works as CpuZonesConfigOrDefault.
template <class O>
using ObjectCacheOptionsOrDefault =
    std::conditional_t<ObjectCacheOptions<O> && !TaggedCacheOptions<O>, O, CacheOptions>;

/// The one size class of a cache. Its size is known at run time, so no layout selects it.
struct CacheSizeClass {
  static constexpr std::uint32_t no_class = ~std::uint32_t{0};
  static constexpr std::uint32_t count = 1;
  static constexpr std::size_t max_size = 0;

  static constexpr std::size_t size_of(std::uint32_t) noexcept { return max_size; }
  static constexpr std::uint32_t index_for(std::size_t, std::size_t = 1) noexcept {
    return no_class;
  }
  static constexpr bool validate() noexcept { return true; }
};

/// The configuration of CpuZones for an object cache.
template <class Options>
struct CacheConfig : Options {
  using BasePage = ShapedPage<typename Options::Atomics>;
  using Pages = PageKinds<PageKind<BasePage, Options::largest_page_bytes / 8>>;
  using SizeClasses = CacheSizeClass;

  /// Pages of `bytes` for the numbers of Options, which are counted in granules.
  static constexpr std::uint32_t frames_of(std::uint32_t granules, std::size_t bytes) noexcept {
    const std::size_t pages = granules * Options::granule_bytes / bytes;
    return pages > 1 ? static_cast<std::uint32_t>(pages) : 1;
  }
};

}  // namespace slabmalloc
