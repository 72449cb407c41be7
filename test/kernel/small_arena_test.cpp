// SPDX-License-Identifier: MIT
// Tests of SmallArenaConfig: the usable share of an arena of 1 MiB.
#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "kernel/frame_fixture.hpp"
#include "support/misuse_recorder.hpp"
#include "zone/zone_configs.hpp"

namespace slabmalloc::test {
namespace {

/// As in benchmark/core/arena_use.cpp, whose figures have the bounds below.
using Source = std::mt19937_64;
using Zone = ScopedZone<Frames, SmallArenaConfig>;

/// An arena of 1 MiB and a zone over it.
struct Arena {
  explicit Arena(const PhysicalMemory& memory) {
    const MemoryRegion region = memory.region(0, mebibyte);
    EXPECT_TRUE(frames.add(&region, 1));
  }

  /// Allocates sizes from `draw` until memory is out; returns the requested bytes.
  template <class Draw>
  std::size_t fill(Draw&& draw) {
    for (std::size_t bytes = 0;;) {
      const Layout layout = layout_of(draw(), 8);
      void* object = zone.allocate(layout).value_or(nullptr);
      if (object == nullptr) {
        return bytes;
      }
      objects.emplace_back(object, layout);
      bytes += layout.size();
    }
  }
  void clear() {
    for (const auto& [object, layout] : objects) {
      zone.deallocate(object, layout);
    }
    objects.clear();
  }

  Frames frames;
  Zone zone{frames};
  std::vector<std::pair<void*, Layout>> objects;
};

class SmallArena : public testing::Test {
 protected:
  /// The mean share of the arena that clients can allocate, over several seeds.
  template <class Draw>
  double mean_use(Draw&& draw) {
    constexpr std::uint64_t seeds = 32;
    std::size_t bytes = 0;
    for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
      Source source(seed);
      Arena arena(memory_);
      bytes += arena.fill([&] { return draw(source); });
    }
    return static_cast<double>(bytes) / (seeds * static_cast<double>(mebibyte));
  }

  MisuseRecorder misuse_;
  PhysicalMemory memory_{mebibyte};
};

TEST_F(SmallArena, is_used_to_98_percent_by_objects_of_64_bytes) {
  EXPECT_GE(mean_use([](Source&) { return std::size_t{64}; }), 0.98);
}

TEST_F(SmallArena, is_used_to_85_percent_by_mixed_sizes) {
  EXPECT_GE(mean_use([](Source& source) { return 16 + source() % 2033; }), 0.85) << "drawn evenly";
  EXPECT_GE(mean_use([](Source& source) {
              const double fraction = static_cast<double>(source() >> 11) * 0x1p-53;
              return static_cast<std::size_t>(16 * std::pow(128, fraction));
            }),
            0.85)
      << "logarithms drawn evenly";
  EXPECT_GE(mean_use([](Source& source) { return std::size_t{16} << source() % 8; }), 0.85)
      << "powers of two";
}

TEST_F(SmallArena, can_be_used_by_other_sizes_as_much_as_if_it_were_new) {
  const std::vector<std::size_t> sizes = {2016, 16, 1808, 64, 896, 48};
  std::vector<std::size_t> fresh;
  for (const std::size_t size : sizes) {
    Arena arena(memory_);
    fresh.push_back(arena.fill([size] { return size; }));
  }
  Arena arena(memory_);
  for (std::size_t number = 0; number < sizes.size(); ++number) {
    EXPECT_EQ(arena.fill([&] { return sizes[number]; }), fresh[number]) << sizes[number] << " B";
    arena.clear();
  }
  EXPECT_EQ(arena.zone.validate(), nullptr);
  EXPECT_EQ(arena.frames.validate(), nullptr);
}

TEST_F(SmallArena, is_used_to_85_percent_by_the_zones_of_one_cpu) {
  HostedCpu::number = 0;
  std::size_t requested = 0;
  constexpr std::uint64_t seeds = 8;
  for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
    Source source(seed);
    Frames frames;
    const MemoryRegion region = memory_.region(0, mebibyte);
    ASSERT_TRUE(frames.add(&region, 1));
    CpuZones<PatientKernel, Frames, SmallArenaKernelConfig<>> zones(frames);
    std::vector<std::pair<void*, Layout>> objects;
    for (;;) {
      const Layout layout = layout_of(16 + source() % 2033, 8);
      void* object = zones.allocate(layout).value_or(nullptr);
      if (object == nullptr) {
        break;
      }
      objects.emplace_back(object, layout);
      requested += layout.size();
    }
    for (const auto& [object, layout] : objects) {
      zones.deallocate(object, layout);
    }
    zones.trim();
    EXPECT_EQ(frames.statistics().used_bytes, 0u) << "every frame comes back";
    EXPECT_EQ(frames.validate(), nullptr);
  }
  EXPECT_GE(static_cast<double>(requested) / (seeds * static_cast<double>(mebibyte)), 0.85);
}

}  // namespace
}  // namespace slabmalloc::test
