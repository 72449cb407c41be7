// SPDX-License-Identifier: MIT
//
// Configuration of the zones of a kernel: the members of zone/config.hpp, and those that several
// CPUs and contexts add.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "slabmalloc/zone/config.hpp"

namespace slabmalloc {

/// No debug mode. KernelDebug (debug_config.hpp) is one.
struct NoDebug {
  static constexpr bool is_on = false;
};

/// The members of every configuration of CpuZones beside CommonConfig; the types below add page
/// kinds.
struct CommonKernelConfig : CommonConfig {
  /// A CPU's empty pages lie in its frame cache, where others find them. So its classes keep none.
  static constexpr std::uint32_t depot_pages = 0;
  static constexpr std::uint32_t idle_pages_per_class = 0;
  /// CpuZones itself searches further, and restores interrupts in between.
  static constexpr bool last_resort = false;
  /// Queued pages that one slow path drains: a slow path runs with interrupts saved.
  static constexpr std::uint32_t drain_pages = 1;
  static constexpr std::size_t flush_words = 1;
  /// Frames that one refill gets from the pager: those of the smallest page kind. It gets others
  /// one by one.
  static constexpr std::uint32_t growth_frames = 4;
  /// Empty frames of each page kind that a CPU keeps. More of them go back to the pager in a
  /// context that may call it.
  static constexpr std::uint32_t cached_frames = 8;
  /// How many frames of `bytes` stand for `frames`, one of the two numbers above.
  static constexpr std::uint32_t frames_of(std::uint32_t frames, std::size_t) noexcept {
    return frames;
  }
  /// Objects of each size class that a CPU can keep for handlers; see
  /// CpuZones::reserve_for_interrupts().
  static constexpr std::uint32_t reserve_objects = 4;
  /// The slot of each CPU's own memory (LocalHooks) where a heap finds its part. No two heaps share
  /// one.
  static constexpr std::uint32_t no_local_slot = ~std::uint32_t{0};
  static constexpr std::uint32_t local_slot = no_local_slot;
  /// The contexts that may use the reserved frames (reserve_frames()): true for every context,
  /// false for Emergency alone.
  static constexpr bool reserved_frames_are_for_all = false;
  /// Makes each CPU count the frees of each size class. So CpuZones::class_counts() knows the
  /// objects in use, at the price of a few instructions a free.
  static constexpr bool counts_frees = false;
  /// The tags of the heap's blocks, from 0 to this number less 1; at most 255. With 0 there are
  /// none, and no code and no memory for them (heap_tags.hpp).
  static constexpr std::uint32_t tags = 0;
  /// True in an object cache at whose freed objects readers without locks may look; see
  /// CommonCacheOptions.
  static constexpr bool type_stable = false;
  /// Makes each CPU's part at its first slow path, so that the memory of CPUs that never use the
  /// heap is never written. Then reserve_for_interrupts() reaches the CPUs that have a part.
  static constexpr bool makes_parts_late = false;
  /// The debug mode.
  using Debug = NoDebug;
};

/// 8 B to 8 KiB.
struct KernelSpec {
  static constexpr SizeClassSpec value{8, 16, 128, 4, 8192};
};

/// For a granule of 4, 16 or 64 KiB: base pages for objects up to 256 B, runs of at least 64 KiB up
/// to 8 KiB. Larger requests are the pager's runs.
template <std::size_t GranuleBytes, class AtomicsT = HardwareAtomics>
struct GranuleKernelConfig : CommonKernelConfig {
  using Atomics = AtomicsT;
  using SizeClasses = SizeClassTable<KernelSpec>;
  using BasePage = SizedPage<PageSizes<GranuleBytes, AtomicsT>::Base::size_bytes, AtomicsT>;
  using MiddlePage = SizedPage<(GranuleBytes < 64 * kibibyte ? 64 : 256) * kibibyte, AtomicsT>;
  using Pages = PageKinds<PageKind<BasePage, 256>, PageKind<MiddlePage, 8 * kibibyte>>;
};

/// Base pages of 4 KiB.
struct KernelConfig : GranuleKernelConfig<4 * kibibyte> {};

/// As SmallArenaConfig, for one CPU: each further CPU has half-full pages of its own.
template <class AtomicsT = HardwareAtomics>
struct SmallArenaKernelConfig : CommonKernelConfig {
  using Atomics = AtomicsT;
  template <std::size_t Bytes>
  using PageOf = SizedPage<Bytes, AtomicsT>;
  using SizeClasses = typename SmallArenaPages<PageOf>::SizeClasses;
  using BasePage = PageOf<4 * kibibyte>;
  using Pages = typename SmallArenaPages<PageOf>::Pages;
  static constexpr std::uint32_t growth_frames = 1;
  static constexpr std::uint32_t cached_frames = 0;
};

/// A configuration of CpuZones: inherits from CommonKernelConfig and names its page kinds.
template <class C>
concept CpuZonesConfig =
    std::derived_from<C, CommonKernelConfig> && requires { typename C::Pages; };

/// `C` if it is one; else KernelConfig: after the static assertion's message the compiler adds no
/// other.
template <class C>
using CpuZonesConfigOrDefault = std::conditional_t<CpuZonesConfig<C>, C, KernelConfig>;

}  // namespace slabmalloc
