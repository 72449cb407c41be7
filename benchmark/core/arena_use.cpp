// SPDX-License-Identifier: MIT
//
// Measures how much of a fixed arena of 1 MiB clients get before the first OutOfMemory, as
// requested bytes / arena bytes. Nothing is freed. A zone allocates over a FrameAllocator. All
// meta-data comes out of the arena: the allocator's, the pages' and the frame tables. Only the zone
// object lies elsewhere, and the program prints its size.
//
//   64      objects of 64 B
//   even    sizes drawn evenly from 16 … 2048 B
//   log     sizes whose logarithm is drawn evenly from the same range
//   powers  powers of two from 16 to 2048 B, each as often as the others
//
// The program prints the mean and the least of 32 fixed seeds, so each run prints the same.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <memory>
#include <random>
#include <type_traits>

#include "slabmalloc/kernel.hpp"

namespace slabmalloc::benchmark_core {
namespace {

constexpr std::size_t arena_bytes = mebibyte;
constexpr std::uint64_t seeds = 32;
alignas(arena_bytes) std::byte arena[arena_bytes];

/// One thread plays all CPUs, one after the other, and no interrupt comes.
struct OneThread {
  static constexpr std::uint32_t maximum_cpus = 4;
  using InterruptState = int;
  static inline std::uint32_t current = 0;
  static std::uint32_t cpu() noexcept { return current; }
  static InterruptState save_interrupts() noexcept { return 0; }
  static void restore_interrupts(InterruptState) noexcept {}
  [[noreturn]] static void panic(const char*) noexcept { std::abort(); }
  static void log(const char*) noexcept {}
};
using Frames = FrameAllocator<OneThread>;
using CpuZonesOfArena = CpuZones<OneThread, Frames, SmallArenaKernelConfig<>>;

/// A record of a header and one word of each bitmap, 64 B, for each frame of the arena. The arena
/// is aligned to its size.
struct ArenaTable {
  using Atomics = HardwareAtomics;
  using Header = PageHeader<Atomics>;
  static constexpr std::size_t frame = 4 * kibibyte;
  static constexpr std::size_t maximum_words = 1;

  struct Record {
    Word bitmaps[2];
    Header header;
  };
  static inline Record* records = nullptr;
  static constexpr std::size_t bytes = arena_bytes / frame * sizeof(Record);

  static constexpr std::size_t frame_bytes(std::size_t) noexcept { return frame; }
  static Header* header_of(const void* address) noexcept {
    return &records[reinterpret_cast<std::uintptr_t>(address) % arena_bytes / frame].header;
  }
  static Header* head_of(const void* address) noexcept { return header_of(address); }
  static std::byte* frame_of(Header* header) noexcept {
    const auto distance =
        reinterpret_cast<std::uintptr_t>(header) - reinterpret_cast<std::uintptr_t>(records);
    return arena + distance / sizeof(Record) * frame;
  }
  static void open(Header*, const SlotGeometry&) noexcept {}
  static void close(Header*, const SlotGeometry&) noexcept {}
};

template <std::size_t StepsPerDoubling>
struct ToTwoKibibytes {
  static constexpr SizeClassSpec value{16, 16, 128, StepsPerDoubling, 2048};
};

/// Pages of 4 KiB up to `Limit`, and of `LargeBytes` above.
template <std::size_t Limit, std::size_t LargeBytes, std::size_t StepsPerDoubling>
struct TwoKinds : SmallArenaConfig {
  using SizeClasses = SizeClassTable<ToTwoKibibytes<StepsPerDoubling>>;
  using Pages = PageKinds<PageKind<ObjectPage, Limit>, PageKind<EmbeddedPage<LargeBytes>, 2048>>;
};

/// Pages of 4 KiB alone, beside their meta-data where they have few slots.
template <class Table>
struct Beside : SmallArenaConfig {
  using SizeClasses = Table;
  using Pages = PageKinds<PageKind<ObjectPage, 48>, PageKind<BesidePage<ArenaTable>, 2048>>;
};
/// The largest multiples of 16 B that let so many slots fill a frame.
using Divisors = ListedSizeClasses<16, 16, 32, 48, 64, 96, 128, 160, 192, 224, 256, 288, 336, 400,
                                   448, 512, 576, 672, 816, 1024, 1360, 2048>;

/// As SmallArenaConfig, with page kinds in ascending order.
struct Ascending : SmallArenaConfig {
  using Pages = PageKinds<PageKind<ObjectPage, 800>, PageKind<EmbeddedPage<8 * kibibyte>, 1616>,
                          PageKind<EmbeddedPage<16 * kibibyte>, 2048>>;
};

/// The C++ library's: the figures in docs/MEASURING.md are of its sequences.
using Source = std::mt19937_64;

std::size_t draw_even(Source& source) { return 16 + source() % 2033; }
std::size_t draw_logarithm(Source& source) {
  const double fraction = static_cast<double>(source() >> 11) * 0x1p-53;
  return static_cast<std::size_t>(16 * std::pow(128, fraction));
}
std::size_t draw_power(Source& source) { return std::size_t{16} << source() % 8; }
std::size_t draw_64(Source&) { return 64; }

/// Where an arena's bytes are when an allocation fails for the first time.
struct Use {
  double requested = 0;
  double rounding = 0;    ///< The part of a slot beyond the requested bytes.
  double free_slots = 0;  ///< Slots of pages in use.
  double page_rest = 0;   ///< Meta-data of pages, bytes that no slot fills, frame tables.
  double free_frames = 0;
  double frame_metadata = 0;
};

template <class Config>
constexpr bool has_frame_table = std::is_base_of_v<Beside<typename Config::SizeClasses>, Config>;

template <class Config, class Draw>
Use use_of_arena(std::uint64_t seed, Draw&& draw) {
  const auto frames = std::make_unique<Frames>();
  const auto zone = std::make_unique<PagedZone<Frames, Config>>(*frames);
  const MemoryRegion region{reinterpret_cast<std::uintptr_t>(arena), arena_bytes};
  if (!frames->add(&region, 1)) {
    std::abort();
  }
  if constexpr (has_frame_table<Config>) {
    ArenaTable::records =
        static_cast<ArenaTable::Record*>(frames->allocate_run(ArenaTable::bytes, 64).address);
  }
  Source source(seed);
  std::size_t requested = 0;
  for (;;) {
    const std::size_t size = draw(source);
    if (!zone->allocate(*Layout::from_size_align(size, 8))) {
      break;
    }
    requested += size;
  }
  if (zone->validate() != nullptr || frames->validate() != nullptr) {
    std::abort();
  }
  const auto share = [](std::size_t bytes) {
    return static_cast<double>(bytes) / static_cast<double>(arena_bytes);
  };
  const FrameStatistics frame_statistics = frames->statistics();
  std::size_t slots = 0;
  for (std::uint32_t index = 0; index < Config::SizeClasses::count; ++index) {
    const ClassStatistics statistics = zone->class_statistics(index);
    slots += statistics.slots * statistics.object_size;
  }
  const std::size_t used = zone->statistics().used_bytes;
  return {share(requested),
          share(used) - share(requested),
          share(slots) - share(used),
          share(frame_statistics.used_bytes) - share(slots),
          share(frame_statistics.free_bytes),
          share(frame_statistics.metadata_bytes)};
}

/// The share of the arena that `cpus` CPUs can allocate. A random CPU makes each allocation.
template <std::uint32_t cpus, class Draw>
double use_by_cpus(std::uint64_t seed, Draw&& draw) {
  const auto frames = std::make_unique<Frames>();
  const auto zones = std::make_unique<CpuZonesOfArena>(*frames);
  const MemoryRegion region{reinterpret_cast<std::uintptr_t>(arena), arena_bytes};
  if (!frames->add(&region, 1)) {
    std::abort();
  }
  Source source(seed);
  Source cpu_source(~seed);
  for (std::size_t requested = 0;;) {
    const std::size_t size = draw(source);
    OneThread::current = static_cast<std::uint32_t>(cpu_source() % cpus);
    if (!zones->allocate(*Layout::from_size_align(size, 8))) {
      return static_cast<double>(requested) / static_cast<double>(arena_bytes);
    }
    requested += size;
  }
}

/// Prints the mean and the least of use(seed).
template <class UseOfSeed>
void print_use(UseOfSeed&& use_of_seed) {
  double sum = 0, least = 1;
  for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
    const double use = use_of_seed(seed);
    sum += use;
    least = std::min(least, use);
  }
  std::printf("  %5.1f (%4.1f)", sum / seeds * 100, least * 100);
}

template <class Config>
void print_row(const char* name) {
  std::printf("%-34s %7u %7zu", name, Config::SizeClasses::count,
              sizeof(PagedZone<Frames, Config>));
  const auto print = [](auto draw) {
    print_use([draw](std::uint64_t seed) { return use_of_arena<Config>(seed, draw).requested; });
  };
  print(draw_64);
  print(draw_even);
  print(draw_logarithm);
  print(draw_power);
  std::printf("\n");
}

template <std::uint32_t cpus>
void print_row_of_cpus(const char* name) {
  std::printf("%-34s %7u %7zu", name, CpuZonesOfArena::SizeClasses::count,
              sizeof(CpuZonesOfArena) / OneThread::maximum_cpus * cpus);
  const auto print = [](auto draw) {
    print_use([draw](std::uint64_t seed) { return use_by_cpus<cpus>(seed, draw); });
  };
  print(draw_64);
  print(draw_even);
  print(draw_logarithm);
  print(draw_power);
  std::printf("\n");
}

void print_table() {
  std::printf("%% of 1 MiB given out before the first OutOfMemory: mean (least) of %llu seeds\n\n",
              static_cast<unsigned long long>(seeds));
  std::printf("%-34s %7s %7s  %-13s%-13s%-13s%s\n", "configuration", "classes", "zone, B", "  64 B",
              "  even", "  log", "  powers");
  print_row<BasePageConfig>("BasePageConfig (to 1 KiB, runs)");
  print_row<MiddlePageConfig>("MiddlePageConfig");
  print_row<KernelConfig>("KernelConfig");
  print_row<TwoKinds<1024, 4 * kibibyte, 4>>("4 KiB");
  print_row<TwoKinds<512, 8 * kibibyte, 4>>("4 KiB to 512 B, 8 KiB");
  print_row<TwoKinds<512, 8 * kibibyte, 8>>("the same, 8 classes per doubling");
  print_row<TwoKinds<256, 16 * kibibyte, 4>>("4 KiB to 256 B, 16 KiB");
  print_row<TwoKinds<512, 16 * kibibyte, 4>>("4 KiB to 512 B, 16 KiB");
  print_row<TwoKinds<1024, 16 * kibibyte, 4>>("4 KiB to 1 KiB, 16 KiB");
  print_row<TwoKinds<512, 16 * kibibyte, 2>>("4 KiB to 512 B, 16 KiB, 2 per d.");
  print_row<Beside<SizeClassTable<ToTwoKibibytes<4>>>>("4 KiB, beside");
  print_row<Beside<SizeClassTable<ToTwoKibibytes<8>>>>("4 KiB, beside, 8 per doubling");
  print_row<Beside<Divisors>>("4 KiB, beside, sizes that fill it");
  print_row<Ascending>("SmallArenaConfig, kinds ascending");
  print_row<SmallArenaConfig>("SmallArenaConfig");
  print_row_of_cpus<1>("SmallArenaKernelConfig, 1 CPU");
  print_row_of_cpus<2>("SmallArenaKernelConfig, 2 CPUs");
  print_row_of_cpus<4>("SmallArenaKernelConfig, 4 CPUs");
}

/// Prints where all bytes of the arena are, on average.
template <class Config, class Draw>
void print_rest(const char* name, Draw&& draw) {
  Use sum;
  for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
    const Use use = use_of_arena<Config>(seed, draw);
    sum.requested += use.requested;
    sum.rounding += use.rounding;
    sum.free_slots += use.free_slots;
    sum.page_rest += use.page_rest;
    sum.free_frames += use.free_frames;
    sum.frame_metadata += use.frame_metadata;
  }
  std::printf("%-10s", name);
  for (const double part : {sum.requested, sum.rounding, sum.free_slots, sum.page_rest,
                            sum.free_frames, sum.frame_metadata}) {
    std::printf("%12.1f", part / seeds * 100);
  }
  std::printf("\n");
}

template <class Config>
void print_rests(const char* name) {
  std::printf("\n%s: where the arena is, %% of its bytes\n\n%-10s%12s%12s%12s%12s%12s%12s\n", name,
              "load", "requested", "rounding", "free slots", "page rest", "free", "frame map");
  print_rest<Config>("64 B", draw_64);
  print_rest<Config>("even", draw_even);
  print_rest<Config>("log", draw_logarithm);
  print_rest<Config>("powers", draw_power);
}

}  // namespace
}  // namespace slabmalloc::benchmark_core

int main() {
  slabmalloc::benchmark_core::print_table();
  slabmalloc::benchmark_core::print_rests<slabmalloc::SmallArenaConfig>("SmallArenaConfig");
}
