// SPDX-License-Identifier: MIT
//
// Configuration of an object cache: what a client chooses, and the one size class and page kind
// that follow from it and from the type.
//
// The page of a type is the smallest power of two of granules of which slots waste at most 1/8
// (Bonwick, The Slab Allocator, USENIX Summer 1994, section 3.2.2), meta-data included. Objects of
// up to 1/8 of the largest page always have one.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "slabmalloc/classes/one_size_class.hpp"
#include "slabmalloc/kernel/coloured_page.hpp"
#include "slabmalloc/kernel/kernel_config.hpp"

namespace slabmalloc {

/// What a client of an object cache may choose, whatever the granule.
struct CommonCacheOptions : CommonKernelConfig {
  /// Objects have at least this alignment; that of their type, if it is larger.
  static constexpr std::size_t alignment = 1;
  /// Bytes from one colour to the next: a cache line.
  static constexpr std::size_t colour_bytes = 64;
  /// Bitmap words whose remote frees are gathered, by each CPU in each cache.
  static constexpr std::size_t remote_buffer_entries = 4;
  /// Any context may use what is reserved.
  static constexpr bool reserved_frames_are_for_all = true;
  /// How many objects are in use is known at any time.
  static constexpr bool counts_frees = true;
};

/// All of it; inherit, and shadow what is to be different.
template <std::size_t GranuleBytes, class AtomicsT = HardwareAtomics>
struct GranuleCacheOptions : CommonCacheOptions {
  using Atomics = AtomicsT;
  /// The smallest page.
  static constexpr std::size_t granule_bytes = GranuleBytes;
  /// The largest page; for objects of up to 1/8 of it.
  static constexpr std::size_t largest_page_bytes = 16 * GranuleBytes;
};

/// For a granule of 4 KiB.
struct CacheOptions : GranuleCacheOptions<4 * kibibyte> {};

/// Options of an object cache: what inherits from GranuleCacheOptions.
template <class O>
concept ObjectCacheOptions = std::derived_from<O, CommonCacheOptions> && requires {
  O::granule_bytes;
  O::largest_page_bytes;
};

/// `O` if it is one, else CacheOptions; as CpuZonesConfigOrDefault.
template <class O>
using ObjectCacheOptionsOrDefault = std::conditional_t<ObjectCacheOptions<O>, O, CacheOptions>;

/// The configuration of CpuZones for objects of type `T`.
template <class T, class Options>
struct CacheConfig : Options {
  /// Of each object. SlotGeometry has no slots of less than 2 bytes.
  static constexpr std::size_t alignment = alignof(T) > Options::alignment ? alignof(T)
                                                                           : Options::alignment;
  static constexpr std::size_t object_bytes = align_up(
      sizeof(T) > SlotGeometry::minimum_object_size ? sizeof(T) : SlotGeometry::minimum_object_size,
      alignment);
  static_assert(
      object_bytes <= Options::largest_page_bytes / 8,
      "for larger objects, raise Options::largest_page_bytes or give a layout to CpuZones");

  static constexpr std::size_t page_bytes = [] {
    std::size_t bytes = Options::granule_bytes;
    for (; bytes < Options::largest_page_bytes; bytes *= 2) {
      const std::size_t slots =
          SlotGeometry::fit(object_bytes, bytes, sizeof(PageHeader<typename Options::Atomics>),
                            true)
              .slots;
      if (bytes - slots * object_bytes <= bytes / 8) {
        break;
      }
    }
    return bytes;
  }();
  static constexpr std::size_t colour_step =
      alignment > Options::colour_bytes ? alignment : Options::colour_bytes;

  using BasePage = ColouredPage<page_bytes, object_bytes, colour_step, typename Options::Atomics>;
  using Pages = PageKinds<PageKind<BasePage, object_bytes>>;
  using SizeClasses = OneSizeClass<object_bytes, alignment>;

  /// What Options says of granules, in pages.
  static constexpr std::uint32_t pages_for(std::uint32_t granules) noexcept {
    const std::size_t pages = granules * Options::granule_bytes / page_bytes;
    return pages > 1 ? static_cast<std::uint32_t>(pages) : 1;
  }
  static constexpr std::uint32_t growth_frames = pages_for(Options::growth_frames);
  static constexpr std::uint32_t cached_frames = pages_for(Options::cached_frames);
};

}  // namespace slabmalloc
