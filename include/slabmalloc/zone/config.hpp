// SPDX-License-Identifier: MIT
//
// Configuration of a zone: a type whose members are constants and types. To change some of them,
// inherit from one of these and shadow them:
//
//   struct MyConfig : slabmalloc::DefaultConfig {
//     using Atomics = slabmalloc::SingleCpuAtomics;
//     static constexpr bool hardened = true;
//   };
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/classes/listed_size_classes.hpp"
#include "slabmalloc/classes/size_class_table.hpp"
#include "slabmalloc/page/embedded_page.hpp"
#include "slabmalloc/page/shaped_page.hpp"
#include "slabmalloc/zone/remote_free_queue.hpp"

namespace slabmalloc {

/// Objects of up to `MaxObjectBytes`, above the previous kind's, live on pages of type `P`.
template <ClassPage P, std::size_t MaxObjectBytes>
struct PageKind {
  using Page = P;
  static constexpr std::size_t max_object_bytes = MaxObjectBytes;
};

/// The page kinds of a zone, smallest objects first. The last serves all remaining classes.
template <class... Kinds>
struct PageKinds {};

/// True if all kinds are SizedPages: then one body of code serves all of them.
template <class Pages>
inline constexpr bool has_sized_pages = false;
template <class... Kinds>
inline constexpr bool has_sized_pages<PageKinds<Kinds...>> =
    sizeof...(Kinds) != 0 && (is_sized_page<typename Kinds::Page> && ...);

/// The members of every configuration; the types below add page kinds.
struct CommonConfig {
  /// The atomics of the zone and its pages.
  using Atomics = HardwareAtomics;
  /// The table of object sizes.
  using SizeClasses = FineSizeClasses;
  /// The queue that brings remote frees to the owner of a page: RemoteFreeQueue, or a type with the
  /// same members.
  template <class AtomicsT>
  using Queue = RemoteFreeQueue<AtomicsT>;
  /// Empty pages that a class of a paged zone keeps for its next use.
  static constexpr std::uint32_t idle_pages_per_class = 1;
  /// Empty pages of each kind that a paged zone keeps for any of its classes. So a pair of calls at
  /// the edge of a page does not go to the pager and back.
  static constexpr std::uint32_t depot_pages = 4;
  /// Queued pages that one slow path drains.
  static constexpr std::uint32_t drain_pages = 8;
  /// Claims from the current page after which a slow path drains queued pages, although it needs no
  /// other page.
  static constexpr std::uint32_t claims_per_drain = 64;
  /// Before an allocation says OutOfMemory, it drains all remote frees and uses empty pages of
  /// other classes, current pages too. That has no constant bound. Without it, the client does the
  /// same work when it wants to.
  static constexpr bool last_resort = true;
  /// Bitmap words whose remote frees a zone buffers before it delivers them; a power of two.
  static constexpr std::size_t remote_buffer_entries = 16;
  /// Of these, the number of words whose frees one slow path delivers at most.
  static constexpr std::size_t flush_words = 16;
  /// Bytes that buffered frees may keep from their owners.
  static constexpr std::size_t remote_buffer_bytes = 32 * kibibyte;
  /// A zone delivers the frees of larger objects at once.
  static constexpr std::size_t remote_buffer_max_object_bytes = 1 * kibibyte;
  /// Reports every double free at the second call, on whatever threads, if the first call happens
  /// before it. So the zone does not buffer, and the owner looks at the remote bitmap at each free.
  /// It also looks at each allocation, for frees at the same time.
  static constexpr bool hardened = false;
};

/// Base pages for objects up to 256 B and large pages up to 128 KiB, for a granule of 4, 16 or 64
/// KiB.
template <std::size_t GranuleBytes>
struct GranuleConfig : CommonConfig {
  using BasePage = typename PageSizes<GranuleBytes>::Base;
  using LargePage = typename PageSizes<GranuleBytes>::Large;
  using Pages = PageKinds<PageKind<BasePage, 256>, PageKind<LargePage, 128 * kibibyte>>;
};

/// 4 KiB and 2 MiB.
struct DefaultConfig : GranuleConfig<4 * kibibyte> {};

/// As the default, with size classes of powers of two.
struct PowerOfTwoConfig : DefaultConfig {
  using SizeClasses = PowerOfTwoSizeClasses;
};

/// Adds a middle size, a run of 16 base pages, for objects up to 8 KiB. It pins fewer bytes than a
/// large page for each class, where the pager can give such frames.
struct MiddlePageConfig : CommonConfig {
  using BasePage = ObjectPage;
  using MiddlePage = EmbeddedPage<64 * kibibyte>;
  using LargePage = LargeObjectPage;
  using Pages = PageKinds<PageKind<BasePage, 256>, PageKind<MiddlePage, 8 * kibibyte>,
                          PageKind<LargePage, 128 * kibibyte>>;
};

/// 8 B to 8 KiB, in steps of a pointer up to 128 B: nodes of containers have such sizes.
struct PoolSpec {
  static constexpr SizeClassSpec value{8, 8, 128, 4, 8192};
};

/// Pools of hosted programs: pages of 64 KiB, of which the operating system backs only what is
/// touched. Larger requests are runs of the pager.
struct PoolConfig : CommonConfig {
  using SizeClasses = SizeClassTable<PoolSpec>;
  using BasePage = EmbeddedPage<64 * kibibyte>;
  using Pages = PageKinds<PageKind<BasePage, 8 * kibibyte>>;
};

/// 8 B to 1 KiB.
struct SmallSpec {
  static constexpr SizeClassSpec value{8, 16, 128, 4, 1024};
};

/// Base pages alone, for pagers with nothing else and for arenas too small for large pages.
struct BasePageConfig : CommonConfig {
  using SizeClasses = SizeClassTable<SmallSpec>;
  using BasePage = ObjectPage;
  using Pages = PageKinds<PageKind<BasePage, 1024>>;
  static constexpr std::uint32_t depot_pages = 16;
};

/// 16 B to 2 KiB for an arena of a megabyte or so, in which each class costs half a page. Above 128
/// B, each size is the largest multiple of 16 B of which so many fit a page of 4, 8 or 16 KiB. Each
/// lives on the smallest page that its slots fill to 97 %; only the last fills its page to 7/8.
/// `PageOf<bytes>` is the page type.
template <template <std::size_t> class PageOf>
struct SmallArenaPages {
  using SizeClasses =
      ListedSizeClasses<16, 16, 32, 48, 64, 96, 128, 160, 192, 224, 288, 336, 400, 448, 496, 576,
                        672, 800, 896, 1008, 1152, 1344, 1616, 1808, 2016, 2048>;
  using Page4 = PageOf<4 * kibibyte>;
  using Page8 = PageOf<8 * kibibyte>;
  using Page16 = PageOf<16 * kibibyte>;
  using Pages = PageKinds<PageKind<Page4, 800>, PageKind<Page8, 896>, PageKind<Page4, 1008>,
                          PageKind<Page8, 1152>, PageKind<Page4, 1344>, PageKind<Page8, 1616>,
                          PageKind<Page16, 1808>, PageKind<Page4, 2016>, PageKind<Page16, 2048>>;
};

/// As much as possible of an arena of a megabyte or so, for a pager of frames of 4, 8 and 16 KiB.
/// It keeps no empty page: another page kind may need the memory.
struct SmallArenaConfig : CommonConfig {
  template <std::size_t Bytes>
  using PageOf = EmbeddedPage<Bytes>;
  using SizeClasses = SmallArenaPages<PageOf>::SizeClasses;
  using BasePage = PageOf<4 * kibibyte>;
  using Pages = SmallArenaPages<PageOf>::Pages;
  static constexpr std::uint32_t idle_pages_per_class = 0;
  static constexpr std::uint32_t depot_pages = 0;
};

}  // namespace slabmalloc
