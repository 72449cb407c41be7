// SPDX-License-Identifier: MIT
//
// Configuration of an object cache: the options that a client chooses. The options and the type
// determine the one size class and the page kind.
//
// The page of a type is the smallest power of two of granules whose slots waste at most 1/8,
// meta-data included. The bound is that of Bonwick, The Slab Allocator, USENIX Summer 1994,
// section 3.2.2. Such a page always exists for objects of up to 1/8 of the largest page.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "slabmalloc/classes/one_size_class.hpp"
#include "slabmalloc/kernel/coloured_page.hpp"
#include "slabmalloc/kernel/debug_page.hpp"
#include "slabmalloc/kernel/kernel_config.hpp"

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

/// `O` if it has the options, else CacheOptions; works as CpuZonesConfigOrDefault.
template <class O>
using ObjectCacheOptionsOrDefault = std::conditional_t<ObjectCacheOptions<O>, O, CacheOptions>;

/// The configuration of CpuZones for objects of type `T`.
template <class T, class Options>
struct CacheConfig : Options {
  /// Bytes of each object. SlotGeometry has no slots of less than 2 bytes.
  static constexpr std::size_t alignment = alignof(T) > Options::alignment ? alignof(T)
                                                                           : Options::alignment;
  static constexpr std::size_t object_bytes = align_up(
      sizeof(T) > SlotGeometry::minimum_object_size ? sizeof(T) : SlotGeometry::minimum_object_size,
      alignment);
  /// Objects keep their contents while they are free.
  struct Debug : Options::Debug {
    static constexpr bool poisons = false;
  };
  /// Bytes from one object to the next: with a debug mode also the red zone and the record.
  static constexpr std::size_t slot_bytes =
      Debug::is_on ? align_up(object_bytes + BlockLayout<typename Options::Atomics>::overhead_bytes,
                              alignment > alignof(void*) ? alignment : alignof(void*))
                   : object_bytes;
  static constexpr std::size_t largest_page_bytes =
      (Debug::is_on ? 2 : 1) * Options::largest_page_bytes;
  static_assert(
      object_bytes <= Options::largest_page_bytes / 8,
      "for larger objects, raise Options::largest_page_bytes or give a layout to CpuZones");

  static constexpr std::size_t page_bytes = [] {
    std::size_t bytes = Options::granule_bytes;
    for (; bytes < largest_page_bytes; bytes *= 2) {
      const std::size_t slots =
          SlotGeometry::fit(slot_bytes, bytes, sizeof(PageHeader<typename Options::Atomics>), true)
              .slots;
      if (bytes - slots * slot_bytes <= bytes / 8) {
        break;
      }
    }
    return bytes;
  }();
  static constexpr std::size_t colour_step =
      alignment > Options::colour_bytes ? alignment : Options::colour_bytes;

  using BasePage = std::conditional_t<
      Debug::is_on,
      DebugPage<EmbeddedPage<page_bytes, typename Options::Atomics>, detail::lead_for(slot_bytes),
                false>,
      ColouredPage<page_bytes, object_bytes, colour_step, typename Options::Atomics>>;
  using Pages = PageKinds<PageKind<BasePage, slot_bytes>>;
  using SizeClasses = OneSizeClass<slot_bytes, alignment>;

  /// The sizes from Options, counted in pages rather than granules.
  static constexpr std::uint32_t pages_for(std::uint32_t granules) noexcept {
    const std::size_t pages = granules * Options::granule_bytes / page_bytes;
    return pages > 1 ? static_cast<std::uint32_t>(pages) : 1;
  }
  static constexpr std::uint32_t growth_frames = pages_for(Options::growth_frames);
  static constexpr std::uint32_t cached_frames = pages_for(Options::cached_frames);
};

}  // namespace slabmalloc
