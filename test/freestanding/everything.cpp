// SPDX-License-Identifier: MIT
//
// Instantiates every part of the core for every kind of configuration. If a compiler needs a
// support library, this file's object has an undefined symbol.
#include <cstddef>
#include <cstdint>

#include "slabmalloc/slabmalloc.hpp"

using namespace slabmalloc;

namespace {

/// Page sizes of a granule, and both policies that kernels choose: one CPU or several.
template <std::size_t GranuleBytes, class AtomicsT>
struct KernelConfig : CommonConfig {
  using Atomics = AtomicsT;
  using BasePage = typename PageSizes<GranuleBytes, Atomics>::Base;
  using LargePage = typename PageSizes<GranuleBytes, Atomics>::Large;
  using Pages = PageKinds<PageKind<BasePage, 256>, PageKind<LargePage, 128 * kibibyte>>;
};

struct HardenedConfig : DefaultConfig {
  static constexpr bool hardened = true;
};

/// A kernel's frame table: a record for each frame of a fixed window of memory.
template <class AtomicsT>
struct WindowTable {
  using Atomics = AtomicsT;
  using Header = PageHeader<Atomics>;

  static constexpr std::size_t bytes_per_frame = 4 * kibibyte;
  static constexpr std::size_t frames = 64;
  static constexpr std::size_t maximum_words = 512 / word_bits;

  struct Record {
    typename Atomics::template Cell<Word> bitmaps[2 * maximum_words];
    Header header;
  };
  alignas(bytes_per_frame) static inline std::byte window[frames * bytes_per_frame];
  static inline constinit Record records[frames] = {};

  static std::size_t index_of(const void* address) noexcept {
    return (reinterpret_cast<std::uintptr_t>(address) -
            reinterpret_cast<std::uintptr_t>(&window[0])) /
           bytes_per_frame;
  }
  static constexpr std::size_t frame_bytes(std::size_t) noexcept { return bytes_per_frame; }
  static Header* header_of(const void* address) noexcept {
    return &records[index_of(address)].header;
  }
  static Header* head_of(const void* address) noexcept {
    const std::size_t index = index_of(address);
    return index < frames ? &records[index].header : nullptr;
  }
  static std::byte* frame_of(Header* header) noexcept {
    const auto distance =
        reinterpret_cast<std::uintptr_t>(header) - reinterpret_cast<std::uintptr_t>(&records[0]);
    return &window[distance / sizeof(Record) * bytes_per_frame];
  }
  static void open(Header*, const SlotGeometry&) noexcept {}
  static void close(Header*, const SlotGeometry&) noexcept {}
};

/// One kind of pages beside their meta-data, for a zone of small objects.
template <class AtomicsT>
struct BesideConfig : CommonConfig {
  using Atomics = AtomicsT;
  using SizeClasses = SizeClassTable<SmallSpec>;
  using BasePage = BesidePage<WindowTable<Atomics>>;
  using Pages = PageKinds<PageKind<BasePage, 1024>>;
};

/// A kernel writes its own pager. This file only compiles against this one and never calls it.
struct FramePager {
  void* next = nullptr;
  void* allocate_frame(std::size_t) noexcept { return next; }
  void deallocate_frame(void* frame, std::size_t) noexcept { next = frame; }
};
struct FrameAndRunPager : FramePager {
  Frame allocate_run(std::size_t, std::size_t) noexcept { return {next, true}; }
  void deallocate_run(void* run, std::size_t, std::size_t) noexcept { next = run; }
};

std::size_t visited_bytes = 0;

/// The common part of zones and size-class allocators, including templates of the class.
template <class Allocator, class Page>
const char* exercise(Allocator& allocator, Layout layout, Page* page) {
  const Result<void*> object = allocator.allocate(layout);
  if (object) {
    allocator.deallocate(object.value(), layout);
    allocator.deallocate_remote(object.value(), layout);
  }
  allocator.visit_live([](void*, std::size_t bytes) { visited_bytes += bytes; });
  visited_bytes += page == nullptr ? 0 : sizeof page;
  allocator.drain();
  return allocator.validate();
}

template <class Page>
const char* exercise_size(std::size_t size, Layout layout, Page* page) {
  SCAllocator<Page> allocator(size, layout.align());
  if (!allocator.refill(page)) {
    return "refused";
  }
  allocator.try_reclaim_pages(1, [&page](Page* empty) noexcept { page = empty; });
  visited_bytes += allocator.statistics().used;
  return exercise(allocator, layout, page);
}

template <class Zone>
const char* exercise_zone(Zone& zone, Layout layout, typename Zone::Config::BasePage* page) {
  using Page = typename Zone::Config::BasePage;
  const bool refilled = static_cast<bool>(zone.refill(layout, page));
  const Result<void*> zeroed = zone.allocate_zeroed(layout);
  if (refilled && zeroed) {
    const Result<void*> moved = zone.reallocate(zeroed.value(), layout, layout);
    visited_bytes += moved ? zone.usable_size(layout) : zone.frame_bytes(layout);
  }
  zone.try_reclaim_base_pages(1, [&page](Page* empty) noexcept { page = empty; });
  if constexpr (requires { typename Zone::Config::LargePage; }) {
    using Large = typename Zone::Config::LargePage;
    zone.try_reclaim_large_pages(1, [&layout, &zone](Large* empty) noexcept {
      visited_bytes += zone.refill_large(layout, empty) ? 1u : 0u;
    });
  }
  const char* broken = exercise(zone, layout, page);
  zone.release_all([](void*, std::size_t bytes) noexcept { visited_bytes += bytes; });
  return broken;
}

/// The widest form of a zone: refilled by hand or by itself, with runs, and given back as a whole.
template <class Config>
const char* exercise_config(Layout layout, typename Config::BasePage* page) {
  static constinit FrameAndRunPager pager;
  ScopedZone<FrameAndRunPager, Config> zone(pager);
  visited_bytes += zone.trim();
  exercise_size(layout.size(), layout, page);
  return exercise_zone(zone, layout, page);
}

constinit ZoneAllocator zone_by_hand;
constinit BasicZoneAllocator<KernelConfig<4 * kibibyte, SingleCpuAtomics>> zone_of_one_cpu;

}  // namespace

template class slabmalloc::SCAllocator<ObjectPage>;
template class slabmalloc::SCAllocator<LargeObjectPage>;
template class slabmalloc::SCAllocator<BesidePage<WindowTable<HardwareAtomics>>>;
template class slabmalloc::SCAllocator<BesidePage<WindowTable<SingleCpuAtomics>>>;
template class slabmalloc::BasicZoneAllocator<DefaultConfig>;
template class slabmalloc::BasicZoneAllocator<DefaultConfig, FramePager>;

/// Keeps all of the above in the object. It is external, so sizes and frames are not constants
/// here.
const char* exercise_everything(std::size_t size, std::size_t alignment, void* frame) {
  const Result<Layout> checked = Layout::from_size_align(size, alignment);
  if (!checked) {
    return "invalid";
  }
  const Layout layout = checked.value();
  const auto base_page = [frame]<class Config>() {
    return static_cast<typename Config::BasePage*>(frame);
  };
  const auto each = [&]<class... Configs>() {
    const char* broken = nullptr;
    ((broken = exercise_config<Configs>(layout, base_page.template operator()<Configs>())), ...);
    return broken;
  };
  set_misuse_handler([](const Misuse& misuse) noexcept { visited_bytes += misuse.object_size; });
  visited_bytes += ZoneAllocator::get_max_size(size).value_or(ZoneAllocator::MAX_ALLOC_SIZE);
  exercise_zone(zone_by_hand, layout, base_page.template operator()<DefaultConfig>());
  using OneCpu = KernelConfig<4 * kibibyte, SingleCpuAtomics>;
  exercise_zone(zone_of_one_cpu, layout, base_page.template operator()<OneCpu>());
  return each.template
  operator()<PowerOfTwoConfig, MiddlePageConfig, BasePageConfig, SmallArenaConfig, HardenedConfig,
             OneCpu, GranuleConfig<16 * kibibyte>, GranuleConfig<64 * kibibyte>,
             BesideConfig<HardwareAtomics>, BesideConfig<SingleCpuAtomics>>();
}
