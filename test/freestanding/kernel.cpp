// SPDX-License-Identifier: MIT
//
// Instantiates the kernel services for one CPU and for several, as everything.cpp does for the
// core.
#include "slabmalloc/kernel.hpp"

#include <cstddef>
#include <cstdint>
#include <new>

using namespace slabmalloc;

namespace {

/// A kernel writes its own hooks. This file only compiles against these and never calls them.
struct Kernel {
  static constexpr std::uint32_t maximum_cpus = 4;
  using InterruptState = std::uintptr_t;
  static inline InterruptState saved = 0;
  static std::uint32_t cpu() noexcept { return static_cast<std::uint32_t>(saved) % maximum_cpus; }
  static InterruptState save_interrupts() noexcept { return saved++; }
  static void restore_interrupts(InterruptState state) noexcept { saved = state; }
  [[noreturn]] static void panic(const char*) noexcept { __builtin_trap(); }
  static void log(const char*) noexcept { ++saved; }
};

struct KernelOfOneCpu : Kernel {
  static constexpr std::uint32_t maximum_cpus = 1;
  static std::uint32_t cpu() noexcept { return 0; }
};

struct KernelWithReaders : Kernel {
  static std::uintptr_t grace_period_begin() noexcept { return ++saved; }
  static bool has_passed(std::uintptr_t number) noexcept { return number < saved; }
};

struct KernelWithNodes : Kernel {
  static std::uint32_t node(std::uint32_t cpu) noexcept { return cpu % 2; }
};
struct TwoNodes : NodeOptions {
  static constexpr std::uint32_t nodes = 2;
  static constexpr std::uint32_t limits = 2;
};
using Nodes = NodeFrames<KernelWithNodes, TwoNodes>;

struct KernelWithThreads : Kernel {
  static bool wait(WaitCondition condition) noexcept { return condition(); }
  static void wake() noexcept { ++saved; }
  static std::uintptr_t thread() noexcept { return saved + 1; }
};

template <class Frames>
const char* exercise_frames(Frames& frames, const MemoryRegion* regions, std::size_t count) {
  if (!frames.add(regions, count)) {
    return "refused";
  }
  void* several[8];
  const std::size_t got = frames.allocate_frames(Frames::base_bytes, several, 8);
  for (std::size_t index = 0; index < got; ++index) {
    frames.deallocate_frame(several[index], Frames::base_bytes);
  }
  void* run = frames.allocate_run(count, Frames::base_bytes * 4).address;
  Kernel::saved += frames.owns(run) ? frames.block_at(run).bytes : 0;
  frames.deallocate_run(run, count, Frames::base_bytes * 4);
  frames.for_each_block([](void*, std::size_t bytes, FrameUse) { Kernel::saved += bytes; });
  Kernel::saved += frames.statistics().free_bytes;
  return frames.validate();
}

/// Has a constructor and a destructor, and an alignment above the default.
struct Thing {
  Thing() noexcept { ++Kernel::saved; }
  ~Thing() { --Kernel::saved; }
  std::uint64_t words[70];
};
template <std::size_t GranuleBytes, class Atomics>
struct AlignedOptions : GranuleCacheOptions<GranuleBytes, Atomics> {
  static constexpr std::size_t alignment = 64;
};

template <class Cache>
const char* exercise_cache(Cache& cache, std::size_t count) {
  Thing* several[8];
  const bool is_sure = cache.reserve(count) && cache.reserve_for_interrupts(2);
  cache.set_limit(count * 4, [](void*) noexcept { ++Kernel::saved; }, nullptr);
  const std::size_t got = cache.allocate_many(several, 8, Context::MayWait);
  Thing* const one = is_sure ? cache.allocate(Context::Emergency) : nullptr;
  cache.deallocate(one);
  cache.deallocate_many(several, got);
  Kernel::saved += cache.statistics().objects_in_use + cache.destroy();
  return cache.validate();
}

template <class Cache, class Zones>
const char* exercise_reclaim(Cache& cache, Zones& zones) {
  Reclaimer<typename Zones::Hooks, typename Zones::Atomics> reclaimer;
  Reclaimable entry(cache);
  Reclaimable heap("heap", zones);
  entry.set_shrink([](void*, std::size_t bytes) noexcept { return bytes; }, nullptr);
  heap.set_shrink([](void*, const ReclaimRequest& request) noexcept { return request.block_bytes; },
                  nullptr);
  reclaimer.add(entry);
  reclaimer.add(heap);
  zones.set_reclaim(&reclaimer.reclaim_for, &reclaimer);
  const Layout layout = Layout::of<Thing>();
  void* const object = zones.allocate_zeroed(layout, Context::MayWait).value_or(nullptr);
  zones.deallocate(object, layout);
  void* const moved = zones.reallocate(nullptr, layout).value_or(nullptr);
  Kernel::saved += zones.usable_size(moved);
  zones.deallocate(moved);
  reclaimer.drain_later();
  Kernel::saved += reclaimer.drain_this_cpu() ? reclaimer.trim() : 0;
  log_slabinfo(reclaimer);
  Kernel::saved += reclaimer.remove(entry) && reclaimer.remove(heap) ? 1u : 0u;
  zones.release_all();
  return reclaimer.validate();
}

/// A cache that is made at run time, in a block of `heap`.
template <class Heap, class Frames>
const char* exercise_made_cache(Heap& heap, Frames& frames, std::size_t bytes) {
  using Caches = Cache<typename Heap::Hooks, Frames,
                       AlignedOptions<Frames::base_bytes, typename Heap::Atomics>>;
  const auto made = Caches::create_in(heap, frames, {"made", bytes});
  if (!made) {
    return describe(made.error);
  }
  void* several[8];
  const std::size_t got = made.cache->allocate_many(several, 8);
  made.cache->deallocate_many(several, got);
  made.cache->deallocate(made.cache->allocate());
  const char* const broken = made.cache->validate();
  Kernel::saved += made.cache->destroy_in(heap);
  return broken;
}

struct ReadThing {
  std::uint64_t words[4];
  RetiredLink retired;
};
constexpr RetiredKind read_thing_kind = RetiredKind::of<ReadThing>(offsetof(ReadThing, retired));

template <class Heap>
const char* exercise_per_cpu(Heap& heap, std::uint32_t cpus) {
  heap.set_cpus(cpus);
  const auto thing = heap.template allocate<Thing>();
  const std::uint64_t sum = thing ? thing.here()->words[0] + thing.on(cpus - 1)->words[1] : 0;
  Kernel::saved += static_cast<Kernel::InterruptState>(sum);
  heap.deallocate(thing, Context::Interrupt);
  heap.trim();
  Kernel::saved += heap.statistics().used_bytes + heap.frame_bytes();
  return heap.validate();
}

/// The page tables of this file map nothing.
struct PageTables {
  bool map(void* address, void* frame, std::size_t, Context) noexcept { return address != frame; }
  void unmap(void*, std::size_t bytes) noexcept { Kernel::saved += bytes; }
  void flush() noexcept { ++Kernel::saved; }
};

template <class Mapped, class Heap>
const char* exercise_mapped(Mapped& mapped, Heap& heap, MemoryRegion range) {
  mapped.set_range(range);
  void* const run = mapped.allocate(range.bytes / 4).value_or(nullptr);
  Kernel::saved += mapped.usable_size(run) + mapped.used_bytes() + mapped.waiting_bytes();
  mapped.deallocate(run, Context::Interrupt);
  const Layout layout = Layout::from_size_align(range.bytes / 8, 8).value_or(Layout());
  void* const large = heap.allocate(layout).value_or(nullptr);
  heap.deallocate(large);
  Kernel::saved += heap.trim() + mapped.flush();
  mapped.release();
  return mapped.validate();
}

template <class Zones>
const char* exercise_retired(Zones& zones, RetiredObjects<Zones>& retired) {
  const Layout layout = Layout::of<ReadThing>();
  zones.set_deferred_work(RetiredObjects<Zones>::step, &retired);
  zones.set_reclaim(RetiredObjects<Zones>::reclaim, &retired);
  void* const objects[] = {zones.allocate(layout).value_or(nullptr),
                           zones.allocate(layout).value_or(nullptr)};
  if (objects[0] != nullptr && objects[1] != nullptr && retired.retire(objects[0], layout)) {
    retired.retire(objects[1], read_thing_kind, Context::Interrupt);
  }
  Kernel::saved += retired.drain() && retired.is_empty() ? retired.free_passed() : 0;
  return retired.validate();
}

/// A pager that allocates from the heap and the zone that it serves.
class PagerOfHeap;
using ServedHeap = CpuZones<Kernel, PagerOfHeap>;
using ServedZone = PagedZone<PagerOfHeap>;
class PagerOfHeap {
 public:
  constexpr PagerOfHeap(ServedHeap& heap, ServedZone& zone) noexcept : heap_(heap), zone_(zone) {}
  Frame allocate_frame(std::size_t) noexcept {
    return heap_.allocate(Layout::of<Thing>(), Context::Interrupt).value_or(nullptr);
  }
  void deallocate_frame(void* frame, std::size_t) noexcept {
    zone_.deallocate(frame, Layout::of<Thing>());
  }

 private:
  ServedHeap& heap_;
  ServedZone& zone_;
};
extern ServedHeap served_heap;
extern ServedZone served_zone;
constinit PagerOfHeap pager_of_heap(served_heap, served_zone);
constinit ServedHeap served_heap(pager_of_heap);
constinit ServedZone served_zone(pager_of_heap);

constinit FrameAllocator<Kernel> frames_of_many_cpus;
constinit FrameAllocator<KernelOfOneCpu, 64 * kibibyte, SingleCpuAtomics> frames_of_one_cpu;

constinit ObjectCache<Thing, Kernel, FrameAllocator<Kernel>> cache_of_many_cpus(
    "thing", frames_of_many_cpus);
constinit ObjectCache<Thing, KernelOfOneCpu,
                      FrameAllocator<KernelOfOneCpu, 64 * kibibyte, SingleCpuAtomics>,
                      AlignedOptions<64 * kibibyte, SingleCpuAtomics>>
    cache_of_one_cpu("thing", frames_of_one_cpu);
constinit CpuZones<Kernel, FrameAllocator<Kernel>> zones_of_many_cpus(frames_of_many_cpus);
constinit CpuZones<KernelOfOneCpu, FrameAllocator<KernelOfOneCpu, 64 * kibibyte, SingleCpuAtomics>,
                   GranuleKernelConfig<64 * kibibyte, SingleCpuAtomics>>
    zones_of_one_cpu(frames_of_one_cpu);
constinit CpuZones<Kernel, FrameAllocator<Kernel>, SmallArenaKernelConfig<>> zones_of_small_arena(
    frames_of_many_cpus);
struct LateConfig : KernelConfig {
  static constexpr bool makes_parts_late = true;
};
using LateZones = CpuZones<Kernel, FrameAllocator<Kernel>, LateConfig>;
alignas(LateZones) std::byte room_of_late_zones[sizeof(LateZones)];
constinit CpuZones<KernelWithThreads, FrameAllocator<Kernel>> zones_with_threads(
    frames_of_many_cpus);
constinit Nodes frames_of_nodes;
constinit CpuZones<KernelWithNodes, Nodes> zones_of_nodes(frames_of_nodes);
constinit CpuZones<KernelWithReaders, FrameAllocator<Kernel>> zones_with_readers(
    frames_of_many_cpus);
constinit RetiredObjects retired_objects(zones_with_readers);
constinit PageTables page_tables;
constinit MappedRuns<Kernel, FrameAllocator<Kernel>, PageTables> mapped_runs(frames_of_many_cpus,
                                                                             page_tables);
constinit FallbackRuns fallback_runs(frames_of_many_cpus, mapped_runs);
constinit CpuZones<Kernel, decltype(fallback_runs)> zones_over_mapped_runs(fallback_runs);
constinit PerCpuHeap<Kernel, Nodes> per_cpu_of_many_cpus(frames_of_nodes);
constinit PerCpuHeap<KernelOfOneCpu,
                     FrameAllocator<KernelOfOneCpu, 64 * kibibyte, SingleCpuAtomics>,
                     PerCpuConfig<64 * kibibyte, SingleCpuAtomics>>
    per_cpu_of_one_cpu(frames_of_one_cpu);
struct StableOptions : CacheOptions {
  static constexpr bool type_stable = true;
};
constinit ObjectCache<Thing, KernelWithReaders, FrameAllocator<Kernel>, StableOptions>
    cache_with_readers("thing", frames_of_many_cpus);
constinit CpuZones<Kernel, FrameAllocator<Kernel>, DebugKernelConfig> zones_in_debug_mode(
    frames_of_many_cpus);
constinit ObjectCache<Thing, Kernel, FrameAllocator<Kernel>, DebugCacheOptions> cache_in_debug_mode(
    "thing", frames_of_many_cpus);

struct OwnedFrames : FrameOptions {
  static constexpr bool has_owners = true;
};
template <class Config>
struct Tagged : Config {
  static constexpr std::uint32_t tags = 16;
};
using TaggedFrames = FrameAllocator<Kernel, 4 * kibibyte, HardwareAtomics, OwnedFrames>;
constinit TaggedFrames frames_with_owners;
constinit CpuZones<Kernel, TaggedFrames, Tagged<KernelConfig>> zones_with_tags(frames_with_owners);
constinit CpuZones<Kernel, TaggedFrames, Tagged<DebugKernelConfig>> debugged_zones_with_tags(
    frames_with_owners);
using TaggedFramesOfOneCpu =
    FrameAllocator<KernelOfOneCpu, 64 * kibibyte, SingleCpuAtomics, OwnedFrames>;
constinit TaggedFramesOfOneCpu frames_with_owners_of_one_cpu;
constinit CpuZones<KernelOfOneCpu, TaggedFramesOfOneCpu,
                   Tagged<GranuleKernelConfig<64 * kibibyte, SingleCpuAtomics>>>
    zones_with_tags_of_one_cpu(frames_with_owners_of_one_cpu);

template <class Zones>
const char* exercise_tags(Zones& zones) {
  const Layout layout = Layout::of<Thing>();
  zones.set_tag_name(1, "thing");
  zones.set_tag_limit(1, 65536, [](void*) noexcept { ++Kernel::saved; }, nullptr);
  void* several[8];
  zones.deallocate_many(several, zones.allocate_many(layout, several, 8, Context::MayWait, 1),
                        layout);
  zones.deallocate(zones.allocate_zeroed(layout, Context::MayWait, 1).value_or(nullptr), layout);
  Kernel::saved += zones.tag_statistics(1).bytes;
  return exercise_reclaim(cache_of_many_cpus, zones);
}

}  // namespace

template class slabmalloc::FrameAllocator<Kernel, 16 * kibibyte>;
template class slabmalloc::FrameAllocator<Kernel, 4 * kibibyte, HardwareAtomics, OwnedFrames>;
template class slabmalloc::EarlyMemory<4 * kibibyte>;
template class slabmalloc::NodeFrames<KernelWithNodes, TwoNodes>;
template class slabmalloc::ChosenFrames<Nodes>;
template class slabmalloc::NodeFrames<KernelOfOneCpu, NodeOptions, 64 * kibibyte, SingleCpuAtomics>;

/// Keeps all of the above in the object: external, and never called.
const char* exercise_kernel(const MemoryRegion* regions, std::size_t count) {
  const char* broken = exercise_frames(frames_of_many_cpus, regions, count);
  broken = broken != nullptr ? broken : exercise_frames(frames_of_one_cpu, regions, count);
  broken = broken != nullptr ? broken : exercise_cache(cache_of_many_cpus, count);
  broken = broken != nullptr ? broken : exercise_cache(cache_of_one_cpu, count);
  const char* const other = exercise_reclaim(cache_of_many_cpus, zones_of_many_cpus);
  broken = broken != nullptr ? broken : other;
  const char* const small = exercise_reclaim(cache_of_many_cpus, zones_of_small_arena);
  broken = broken != nullptr ? broken : small;
  const char* const sleeping = exercise_reclaim(cache_of_many_cpus, zones_with_threads);
  broken = broken != nullptr ? broken : sleeping;
  auto* const late = ::new (room_of_late_zones) LateZones(frames_of_many_cpus);
  const char* const of_late = exercise_reclaim(cache_of_many_cpus, *late);
  broken = broken != nullptr ? broken : of_late;
  const char* const debugged = exercise_reclaim(cache_of_many_cpus, zones_in_debug_mode);
  broken = broken != nullptr ? broken : debugged;
  Kernel::saved += zones_in_debug_mode.check_blocks();
  const LeakRoot root{regions, count * sizeof(MemoryRegion)};
  Kernel::saved += zones_in_debug_mode.find_leaks(
      &root, 1, [](const Leak& leak) noexcept { Kernel::saved += leak.size; });
  const char* const debugged_cache = exercise_cache(cache_in_debug_mode, count);
  broken = broken != nullptr ? broken : debugged_cache;
  Kernel::saved += cache_in_debug_mode.zones().find_leaks(
      &root, 1, [](const Leak& leak) noexcept { Kernel::saved += leak.size; });
  const char* const tagged = exercise_tags(zones_with_tags);
  broken = broken != nullptr ? broken : tagged;
  const char* const both = exercise_tags(debugged_zones_with_tags);
  broken = broken != nullptr ? broken : both;
  const char* const stable = exercise_cache(cache_with_readers, count);
  broken = broken != nullptr ? broken : stable;
  Kernel::saved += cache_with_readers.zones().drain_parked() ? 1u : 0u;
  const char* const near = exercise_reclaim(cache_of_many_cpus, zones_of_nodes);
  broken = broken != nullptr ? broken : near;
  const char* const made = exercise_made_cache(zones_of_many_cpus, frames_of_many_cpus, count);
  broken = broken != nullptr ? broken : made;
  const char* const one = exercise_made_cache(zones_of_one_cpu, frames_of_one_cpu, count);
  broken = broken != nullptr ? broken : one;
  broken = broken != nullptr ? broken : exercise_tags(zones_with_tags_of_one_cpu);
  broken = broken != nullptr ? broken : exercise_retired(zones_with_readers, retired_objects);
  const char* const mapped = exercise_mapped(mapped_runs, zones_over_mapped_runs, regions[0]);
  broken = broken != nullptr ? broken : mapped;
  const char* const copies = exercise_per_cpu(per_cpu_of_many_cpus, 3);
  broken = broken != nullptr ? broken : copies;
  broken = broken != nullptr ? broken : exercise_per_cpu(per_cpu_of_one_cpu, 1);
  return broken != nullptr ? broken : exercise_reclaim(cache_of_one_cpu, zones_of_one_cpu);
}
