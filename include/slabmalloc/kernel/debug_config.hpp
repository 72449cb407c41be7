// SPDX-License-Identifier: MIT
//
// Configuration of the debug mode of a CpuZones. A configuration names it:
//
//   struct MyConfig : slabmalloc::KernelConfig {
//     using Debug = slabmalloc::KernelDebug;
//   };
//   constinit slabmalloc::CpuZones<MyKernel, MyFrames, slabmalloc::DebugKernelConfig> heap(frames);
//
// With NoDebug, the default, the code and the memory of a heap are those without a debug mode.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "slabmalloc/kernel/debug_page.hpp"
#include "slabmalloc/kernel/kernel_config.hpp"
#include "slabmalloc/kernel/tagged_page.hpp"

namespace slabmalloc {

/// All checks. To change a member, inherit and shadow it.
struct KernelDebug {
  static constexpr bool is_on = true;
  /// Freed blocks that each CPU keeps from reuse, and their bytes with red zones and records, at
  /// most. With 0 they serve again at once.
  static constexpr std::uint32_t delayed_blocks = 32;
  static constexpr std::size_t delayed_bytes = 32 * kibibyte;
};

/// 8 B to 16 KiB: blocks of up to 8 KiB have a size class, with their red zones and records.
struct DebugSpec {
  static constexpr SizeClassSpec value{8, 16, 128, 4, 16384};
};

/// As GranuleKernelConfig, with all checks.
template <std::size_t GranuleBytes, class AtomicsT = HardwareAtomics>
struct GranuleDebugConfig : GranuleKernelConfig<GranuleBytes, AtomicsT> {
  using SizeClasses = SizeClassTable<DebugSpec>;
  using Debug = KernelDebug;
};

/// As KernelConfig, with all checks.
struct DebugKernelConfig : GranuleDebugConfig<4 * kibibyte> {};

/// `C` with page kinds that have records.
template <class C>
struct ConfigWithRecords : C {
  using Pages = typename DebugPages<typename C::Pages, typename C::SizeClasses>::Type;
};

/// `C` with page kinds that have tags.
template <class C>
struct ConfigWithTags : C {
  using Pages = typename TaggedPages<typename C::Pages>::Type;
};
template <class C>
using ConfigWithPageTags = std::conditional_t<C::tags != 0, ConfigWithTags<C>, C>;

/// The configuration with which a heap of configuration `C` works. The pages of a cache, whose size
/// class has no size here, stay: its frames come with records (object_checks.hpp).
template <class C>
using ConfigInUse =
    std::conditional_t<C::Debug::is_on && C::SizeClasses::max_size != 0,
                       ConfigWithRecords<ConfigWithPageTags<C>>, ConfigWithPageTags<C>>;

}  // namespace slabmalloc
