// SPDX-License-Identifier: MIT
//
// Each constant of a zone's configuration changes what its comment says, and by how much. The zones
// here have base pages of 4 KiB with 63 slots of 64 B.
#include "slabmalloc/zone/config.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <memory>
#include <vector>

#include "support/frames.hpp"
#include "support/misuse_recorder.hpp"
#include "zone/zone_configs.hpp"

namespace slabmalloc::test {
namespace {

const std::size_t slots = ObjectPage::geometry(64).slots;

/// Keeps no empty page, and drains and flushes as little as it may: each configuration changes one
/// of its members.
struct BareConfig : BasePageConfig {
  static constexpr std::uint32_t idle_pages_per_class = 0;
  static constexpr std::uint32_t depot_pages = 0;
  static constexpr std::uint32_t drain_pages = 1;
  static constexpr std::uint32_t claims_per_drain = 4;
  static constexpr bool last_resort = false;
  static constexpr std::size_t flush_words = 1;
};

/// An owner's zone and another one.
template <class Config>
struct Zones {
  using Zone = PagedZone<FrameSource, Config>;

  Zones() : owner(std::make_unique<Zone>(frames)), other(std::make_unique<Zone>(frames)) {}
  ~Zones() { EXPECT_EQ(owner->validate(), nullptr); }

  std::vector<void*> allocate(std::size_t count) {
    std::vector<void*> objects;
    for (; count != 0; --count) {
      objects.push_back(owner->allocate(layout).value_or(nullptr));
      EXPECT_NE(objects.back(), nullptr);
    }
    return objects;
  }
  /// Frees them by other zones' threads, at once.
  void free_elsewhere(const std::vector<void*>& objects) {
    for (void* const object : objects) {
      Zone::deallocate_remote(object, layout);
    }
  }
  /// The frees by others that the owner has drained.
  std::size_t drained() { return owner->statistics().remote_frees; }
  std::size_t buffered() { return other->statistics().buffered_bytes; }

  const Layout layout = layout_of(64);
  FrameSource frames;
  MisuseRecorder misuse;
  std::unique_ptr<Zone> owner;
  std::unique_ptr<Zone> other;
};

/// The frames that an owner keeps when all of its objects are free.
template <class Config>
std::size_t frames_kept() {
  Zones<Config> zones;
  for (void* const object : zones.allocate(20 * slots)) {
    zones.owner->deallocate(object, zones.layout);
  }
  return zones.frames.live_frames();
}

struct IdleConfig : BareConfig {
  static constexpr std::uint32_t idle_pages_per_class = 3;
};
struct DepotConfig : BareConfig {
  static constexpr std::uint32_t depot_pages = 5;
};

TEST(ZoneConfig, says_how_many_empty_pages_a_class_and_a_zone_keep) {
  const std::size_t least = frames_kept<BareConfig>();
  EXPECT_LE(least, 1u) << "the current page";
  EXPECT_EQ(frames_kept<IdleConfig>(), least + IdleConfig::idle_pages_per_class);
  EXPECT_EQ(frames_kept<DepotConfig>(), least + DepotConfig::depot_pages);
}

/// The pages that the owner drains when it needs another page, of ten that wait.
template <class Config>
std::size_t pages_drained_by_an_allocation() {
  Zones<Config> zones;
  std::vector<void*> objects = zones.allocate(11 * slots);
  objects.resize(10 * slots);
  std::vector<void*> one_of_each;
  for (std::size_t page = 0; page < 10; ++page) {
    one_of_each.push_back(objects[page * slots]);
  }
  zones.free_elsewhere(one_of_each);
  zones.allocate(1);
  return zones.drained();
}

struct DrainConfig : BareConfig {
  static constexpr std::uint32_t drain_pages = 6;
};

TEST(ZoneConfig, says_how_many_pages_a_slow_path_drains) {
  EXPECT_EQ(pages_drained_by_an_allocation<BareConfig>(), BareConfig::drain_pages);
  EXPECT_EQ(pages_drained_by_an_allocation<DrainConfig>(), DrainConfig::drain_pages);
}

/// The claims until an owner drains, although it needs no other page: it frees and allocates on the
/// current one.
template <class Config>
std::size_t claims_until_a_drain() {
  Zones<Config> zones;
  // Some claims that drain nothing, until the first drain restarts the count.
  zones.free_elsewhere({zones.allocate(slots + 1)[0]});
  const auto claim = [&] {
    // A page's last word has free slots only: the claim takes them again.
    for (void* const object : zones.allocate(slots / 2)) {
      zones.owner->deallocate(object, zones.layout);
    }
  };
  while (zones.drained() == 0) {
    claim();
  }
  zones.free_elsewhere({zones.allocate(1)[0]});
  std::size_t claims = 0;
  for (; zones.drained() == 1; ++claims) {
    claim();
  }
  return claims;
}

struct RareDrainConfig : BareConfig {
  static constexpr std::uint32_t claims_per_drain = 40;
};

TEST(ZoneConfig, says_after_how_many_claims_an_owner_drains) {
  const std::size_t often = claims_until_a_drain<BareConfig>();
  const std::size_t rarely = claims_until_a_drain<RareDrainConfig>();
  EXPECT_LE(often, BareConfig::claims_per_drain);
  EXPECT_LE(rarely, RareDrainConfig::claims_per_drain);
  EXPECT_GT(rarely, 4 * often);
}

/// True if an allocation of another size finds the one page that is empty, among queued ones that
/// are not.
template <class Config>
bool finds_the_last_memory() {
  Zones<Config> zones;
  const std::vector<void*> objects = zones.allocate(8 * slots);
  zones.frames.set_limit(zones.frames.live_bytes());
  for (std::size_t page = 0; page < 7; ++page) {
    const auto first = objects.begin() + static_cast<std::ptrdiff_t>(page * slots);
    zones.free_elsewhere({first, first + static_cast<std::ptrdiff_t>(page == 3 ? slots : 1)});
  }
  return static_cast<bool>(zones.owner->allocate(layout_of(128)));
}

struct LastResortConfig : BareConfig {
  static constexpr bool last_resort = true;
};

TEST(ZoneConfig, says_whether_all_memory_is_searched_before_exhaustion) {
  EXPECT_FALSE(finds_the_last_memory<BareConfig>());
  EXPECT_TRUE(finds_the_last_memory<LastResortConfig>());
}

/// The bytes that the other zone buffers at most while it frees the owner's objects: all, or only
/// each `step`-th.
template <class Config>
std::size_t most_buffered(std::size_t step) {
  Zones<Config> zones;
  const std::vector<void*> objects = zones.allocate(100 * slots);
  std::size_t most = 0;
  for (std::size_t number = 0; number < objects.size(); number += step) {
    zones.other->deallocate(objects[number], zones.layout);
    most = most > zones.buffered() ? most : zones.buffered();
  }
  return most;
}

struct FewEntriesConfig : BareConfig {
  static constexpr std::size_t remote_buffer_entries = 4;
};
struct FewBytesConfig : BareConfig {
  static constexpr std::size_t remote_buffer_bytes = 4 * kibibyte;
};
struct SmallObjectsConfig : BareConfig {
  static constexpr std::size_t remote_buffer_max_object_bytes = 63;
};
struct HardenedBareConfig : BareConfig {
  static constexpr bool hardened = true;
};

TEST(ZoneConfig, says_how_many_frees_a_zone_buffers) {
  const std::size_t of_each_page = slots;
  // A word's entry depends on its address, and two may share one.
  EXPECT_LE(most_buffered<BareConfig>(of_each_page), BareConfig::remote_buffer_entries * 64);
  EXPECT_GT(most_buffered<BareConfig>(of_each_page),
            2 * FewEntriesConfig::remote_buffer_entries * 64);
  EXPECT_LE(most_buffered<FewEntriesConfig>(of_each_page),
            FewEntriesConfig::remote_buffer_entries * 64);
  EXPECT_GT(most_buffered<FewEntriesConfig>(of_each_page), 0u);
  EXPECT_GT(most_buffered<BareConfig>(1), 2 * FewBytesConfig::remote_buffer_bytes);
  EXPECT_LE(most_buffered<BareConfig>(1), std::size_t{BareConfig::remote_buffer_bytes});
  EXPECT_GT(most_buffered<FewBytesConfig>(1), FewBytesConfig::remote_buffer_bytes / 2);
  EXPECT_LE(most_buffered<FewBytesConfig>(1), std::size_t{FewBytesConfig::remote_buffer_bytes});
  EXPECT_EQ(most_buffered<SmallObjectsConfig>(of_each_page), 0u);
  EXPECT_EQ(most_buffered<HardenedBareConfig>(of_each_page), 0u);
}

/// The words whose frees drain_some() delivers, of sixteen.
template <class Config>
std::size_t words_flushed() {
  Zones<Config> zones;
  const std::vector<void*> objects = zones.allocate(16 * slots);
  for (std::size_t number = 0; number < objects.size(); number += slots) {
    zones.other->deallocate(objects[number], zones.layout);
  }
  const std::size_t before = zones.buffered();
  zones.other->drain_some();
  return (before - zones.buffered()) / 64;
}

struct FlushConfig : BareConfig {
  static constexpr std::size_t flush_words = 7;
};

TEST(ZoneConfig, says_how_many_words_a_slow_path_delivers) {
  EXPECT_EQ(words_flushed<BareConfig>(), BareConfig::flush_words);
  EXPECT_EQ(words_flushed<FlushConfig>(), FlushConfig::flush_words);
}

/// Learns the size class of each frame.
struct NotingPager : FrameSource {
  Frame allocate_class_frame(std::size_t bytes, std::uint32_t class_index) noexcept {
    classes.push_back(class_index);
    return allocate_frame(bytes);
  }
  std::vector<std::uint32_t> classes;
};

TEST(ZoneConfig, a_class_pager_learns_which_class_each_frame_is_for) {
  static_assert(ClassPager<NotingPager> && !ClassPager<FrameSource>);
  NotingPager frames;
  PagedZone<NotingPager, BareConfig> zone(frames);
  std::vector<std::uint32_t> expected;
  for (const std::size_t bytes : {8u, 64u, 64u, 16u}) {
    const Layout layout = layout_of(bytes);
    void* const object = zone.allocate(layout).value_or(nullptr);
    ASSERT_NE(object, nullptr);
    expected.push_back(BareConfig::SizeClasses::index_for(bytes));
    zone.deallocate(object, layout);
    zone.trim();
  }
  EXPECT_EQ(frames.classes, expected);
}

}  // namespace
}  // namespace slabmalloc::test
