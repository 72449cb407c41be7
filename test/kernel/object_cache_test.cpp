// SPDX-License-Identifier: MIT
#include "slabmalloc/kernel/object_cache.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <set>
#include <utility>
#include <vector>

#include "kernel/hosted_kernel.hpp"
#include "support/frames.hpp"
#include "support/misuse_recorder.hpp"

namespace slabmalloc {
namespace {

using test::FrameSource;
using test::HostedCpu;
using test::OpenKernel;

/// Counts itself, and keeps a state from one use to the next.
struct Inode {
  Inode() noexcept { ++constructed; }
  ~Inode() { ++destroyed; }
  Inode(const Inode&) = delete;
  Inode& operator=(const Inode&) = delete;

  std::uint64_t lock = 0x10C4;
  std::uint64_t uses = 0;
  std::uint64_t names[25] = {};

  static inline std::size_t constructed = 0;
  static inline std::size_t destroyed = 0;
};
static_assert(sizeof(Inode) == 216);

/// A test on CPU 0 that ends with nothing lost.
class ObjectCacheTest : public testing::Test {
 protected:
  using Cache = ObjectCache<Inode, OpenKernel, FrameSource>;
  static constexpr std::size_t slots = Cache::objects_per_page;

  void SetUp() override {
    on_cpu(0);
    Inode::constructed = Inode::destroyed = 0;
  }
  void TearDown() override {
    on_cpu(0);
    EXPECT_EQ(cache.validate(), nullptr);
    EXPECT_EQ(cache.destroy(), 0u) << "objects are in use";
    EXPECT_EQ(frames.live_bytes(), 0u);
    EXPECT_EQ(Inode::destroyed, Inode::constructed);
    EXPECT_EQ(cache.statistics().objects_in_use, 0u);
  }

  static void on_cpu(std::uint32_t cpu) { HostedCpu::number = cpu; }
  std::vector<Inode*> allocate(std::size_t count, Context context = Context::MayNotWait) {
    std::vector<Inode*> objects(count);
    objects.resize(cache.allocate_many(objects.data(), count, context));
    return objects;
  }
  void free_all(const std::vector<Inode*>& objects) {
    cache.deallocate_many(objects.data(), objects.size());
  }

  FrameSource frames;
  Cache cache{"inode", frames};
};

TEST_F(ObjectCacheTest, every_slot_of_a_frame_is_constructed_once_and_destroyed_when_it_goes) {
  Inode* const first = cache.allocate();
  ASSERT_NE(first, nullptr);
  EXPECT_EQ(Inode::constructed, frames.live_frames() * slots);
  const std::size_t constructed = Inode::constructed;
  for (int round = 0; round < 3; ++round) {
    free_all(allocate(slots - 1));
  }
  EXPECT_EQ(Inode::constructed, constructed);
  EXPECT_EQ(Inode::destroyed, 0u);
  cache.deallocate(first);
  cache.zones().trim();
  EXPECT_EQ(frames.live_frames(), 0u);
  EXPECT_EQ(Inode::destroyed, constructed);
}

TEST_F(ObjectCacheTest, objects_keep_their_state_while_they_are_free) {
  const std::size_t count = 20 * slots;
  std::vector<Inode*> objects = allocate(count);
  ASSERT_EQ(objects.size(), count);
  for (Inode* object : objects) {
    EXPECT_EQ(object->lock, 0x10C4u);
    object->uses = 1;
    object->names[24] = reinterpret_cast<std::uintptr_t>(object);
  }
  // Through idle pages, the stash and another CPU.
  free_all(objects);
  ASSERT_TRUE(cache.zones().drain_this_cpu());
  on_cpu(1);
  objects = allocate(count);
  std::size_t used_before = 0;
  for (Inode* object : objects) {
    EXPECT_EQ(object->lock, 0x10C4u);
    if (object->uses != 0) {
      ++used_before;
      EXPECT_EQ(object->names[24], reinterpret_cast<std::uintptr_t>(object));
    }
  }
  EXPECT_EQ(Inode::constructed, frames.live_frames() * slots + Inode::destroyed);
  EXPECT_GT(used_before, count / 4);
  free_all(objects);
}

TEST_F(ObjectCacheTest, objects_of_kept_frames_are_constructed_too) {
  ASSERT_TRUE(cache.reserve(1));
  EXPECT_EQ(Inode::constructed, slots);
  frames.set_exhausted(true);
  Inode* const object = cache.allocate();
  ASSERT_NE(object, nullptr);
  EXPECT_EQ(object->lock, 0x10C4u);
  cache.deallocate(object);
}

TEST_F(ObjectCacheTest, objects_of_different_frames_have_different_colours) {
  static_assert(Cache::Page::colours > 1);
  std::set<std::uintptr_t> offsets;
  const std::vector<Inode*> objects = allocate(32 * slots);
  std::set<std::uintptr_t> seen;
  for (Inode* object : objects) {
    const auto address = reinterpret_cast<std::uintptr_t>(object);
    if (seen.insert(address / Cache::page_bytes).second) {
      offsets.insert(address % Cache::page_bytes);
    }
  }
  EXPECT_EQ(offsets.size(), Cache::Page::colours);
  free_all(objects);
}

TEST_F(ObjectCacheTest, many_objects_come_and_go_by_one_call) {
  const std::vector<Inode*> objects = allocate(1000);
  ASSERT_EQ(objects.size(), 1000u);
  EXPECT_EQ(std::set(objects.begin(), objects.end()).size(), 1000u);
  EXPECT_EQ(cache.statistics().objects_in_use, 1000u);
  free_all(objects);
  EXPECT_EQ(cache.statistics().objects_in_use, 0u);
  frames.set_exhausted(true);
  const std::vector<Inode*> some = allocate(5000);
  EXPECT_LT(some.size(), 5000u);
  EXPECT_EQ(some.size(), frames.live_frames() * slots);
  free_all(some);
}

TEST_F(ObjectCacheTest, statistics_tell_what_there_is) {
  cache.set_limit(100 * slots);
  const std::vector<Inode*> objects = allocate(10 * slots);
  on_cpu(1);
  cache.deallocate_many(objects.data(), slots);
  cache.deallocate(nullptr);
  ASSERT_TRUE(cache.zones().drain_this_cpu());
  on_cpu(0);
  ASSERT_TRUE(cache.keep_for_interrupts(2));
  const CacheStatistics now = cache.statistics();
  EXPECT_STREQ(now.name, "inode");
  EXPECT_EQ(now.objects_in_use, 9 * slots);
  EXPECT_EQ(now.pages, frames.live_frames());
  EXPECT_EQ(now.objects, now.pages * slots);
  EXPECT_EQ(now.object_bytes, sizeof(Inode));
  EXPECT_EQ(now.objects_per_page, slots);
  EXPECT_EQ(now.page_bytes, 4096u);
  EXPECT_EQ(now.pages_high_water, now.pages);
  EXPECT_EQ(now.limit_pages, 100u);
  EXPECT_GE(now.refills, 10u);
  EXPECT_EQ(now.remote_frees, slots);
  EXPECT_EQ(now.nested_calls, 0u);
  EXPECT_EQ(now.failures, 0u);
  cache.deallocate_many(objects.data() + slots, 9 * slots);
}

// ---- guarantees and bounds ---------------------------------------------------------------------

TEST_F(ObjectCacheTest, the_limit_is_in_whole_pages_and_its_callback_may_free_something) {
  static std::vector<Inode*> held;
  cache.set_limit(
      2 * slots + 1,
      [](void* argument) noexcept {
        auto& self = *static_cast<Cache*>(argument);
        self.deallocate_many(held.data(), held.size());
        held.clear();
      },
      &cache);
  held = allocate(slots);
  const std::vector<Inode*> rest = allocate(9 * slots);
  EXPECT_EQ(held.size(), 0u) << "the callback was asked";
  EXPECT_EQ(rest.size(), 3 * slots);
  EXPECT_EQ(frames.live_bytes(), 3 * Cache::page_bytes);
  free_all(rest);
  cache.set_limit(~std::size_t{0});
  EXPECT_EQ(cache.statistics().limit_pages, 0u);
}

/// Makes `counts[i]` allocations on CPU i, in turns; returns how many succeeded.
template <class Cache>
std::size_t allocate_on_cpus(Cache& cache, std::vector<std::size_t> counts,
                             std::vector<decltype(cache.allocate())>& objects, bool in_turns) {
  std::size_t failed = 0;
  for (bool is_done = false; !is_done;) {
    is_done = true;
    for (std::uint32_t cpu = 0; cpu < counts.size(); ++cpu) {
      HostedCpu::number = cpu;
      for (; counts[cpu] != 0; --counts[cpu]) {
        auto* const object = cache.allocate();
        object != nullptr ? objects.push_back(object) : void(++failed);
        if (in_turns) {
          --counts[cpu];
          is_done = false;
          break;
        }
      }
    }
  }
  HostedCpu::number = 0;
  return failed;
}

/// Large enough for few to a page, so that distributions matter.
struct Wide {
  std::uint64_t words[90];
};

TEST(ObjectCacheReserve, holds_however_the_allocations_are_spread_over_the_cpus) {
  using Cache = ObjectCache<Wide, OpenKernel, FrameSource>;
  constexpr std::size_t slots = Cache::objects_per_page;
  constexpr std::size_t cpus = OpenKernel::maximum_cpus;
  static_assert(slots == 5);
  for (std::size_t n = 1; n <= 4 * cpus + 9; ++n) {
    // c - 1 CPUs get `few` each, the others what is left; from all on one to one each.
    for (std::size_t few = 0; few <= slots + 1; ++few) {
      for (std::size_t others = 0; others < cpus && few * others <= n; ++others) {
        std::vector<std::size_t> counts(cpus, 0);
        for (std::size_t cpu = 1; cpu <= others; ++cpu) {
          counts[cpu] = few;
        }
        counts[0] = n - few * others;
        FrameSource frames;
        Cache cache("wide", frames);
        HostedCpu::number = static_cast<std::uint32_t>(n % cpus);
        ASSERT_TRUE(cache.reserve(n));
        ASSERT_EQ(frames.live_frames(), Cache::pages_for(n));
        frames.set_exhausted(true);
        std::vector<Wide*> objects;
        ASSERT_EQ(allocate_on_cpus(cache, counts, objects, n % 2 == 0), 0u)
            << n << " objects, " << others << " CPUs with " << few << " each";
        cache.deallocate_many(objects.data(), objects.size());
        ASSERT_EQ(cache.destroy(), 0u);
      }
    }
  }
}

TEST(ObjectCacheReserve, is_no_larger_than_the_worst_distribution_needs) {
  using Cache = ObjectCache<Wide, OpenKernel, FrameSource>;
  constexpr std::size_t cpus = OpenKernel::maximum_cpus;
  for (std::size_t n = cpus; n < 40; ++n) {
    FrameSource frames;
    Cache cache("wide", frames);
    HostedCpu::number = 0;
    // As many pages as one object fewer needs; the last one needs another if it is the worst.
    if (Cache::pages_for(n - 1) == Cache::pages_for(n)) {
      continue;
    }
    ASSERT_TRUE(cache.reserve(n - 1));
    frames.set_exhausted(true);
    std::vector<std::size_t> counts(cpus, 1);
    counts[0] = n - (cpus - 1);
    std::vector<Wide*> objects;
    EXPECT_EQ(allocate_on_cpus(cache, counts, objects, false), 1u) << n;
    cache.deallocate_many(objects.data(), objects.size());
    ASSERT_EQ(cache.destroy(), 0u);
  }
}

TEST_F(ObjectCacheTest, a_reserve_is_made_good_before_frames_go_back_and_ends_with_0) {
  ASSERT_TRUE(cache.reserve(10 * slots));
  const std::size_t reserved = frames.live_frames();
  frames.set_exhausted(true);
  for (int round = 0; round < 3; ++round) {
    const std::vector<Inode*> objects = allocate(10 * slots);
    EXPECT_EQ(objects.size(), 10 * slots);
    on_cpu(static_cast<std::uint32_t>(round) + 1);
    free_all(objects);
    cache.zones().trim();
    on_cpu(0);
    cache.zones().trim();
    EXPECT_EQ(frames.live_frames(), reserved);
  }
  ASSERT_TRUE(cache.reserve(0));
  cache.zones().trim();
  EXPECT_EQ(frames.live_frames(), 0u);
}

TEST_F(ObjectCacheTest, a_reserve_that_cannot_be_had_is_told) {
  frames.set_limit(2 * Cache::page_bytes);
  EXPECT_EQ(cache.reserve(10 * slots).error(), AllocationError::OutOfMemory);
  EXPECT_EQ(frames.live_frames(), 2u);
}

TEST_F(ObjectCacheTest, a_reserve_of_more_pages_than_can_be_counted_is_refused) {
  const std::size_t objects = (std::size_t{1} << 32) * slots;
  ASSERT_GT(Cache::pages_for(objects), std::size_t{1} << 32);
  EXPECT_EQ(cache.reserve(objects).error(), AllocationError::TooMany);
  EXPECT_EQ(frames.live_frames(), 0u);
}

TEST_F(ObjectCacheTest, more_objects_for_interrupts_than_a_cpu_can_keep_are_refused) {
  EXPECT_EQ(cache.keep_for_interrupts(40).error(), AllocationError::TooMany);
  EXPECT_EQ(frames.live_frames(), 0u);
}

TEST_F(ObjectCacheTest, handlers_have_constructed_objects_in_reserve) {
  ASSERT_TRUE(cache.keep_for_interrupts(2));
  std::vector<Inode*> objects = allocate(9 * slots, Context::Interrupt);
  EXPECT_EQ(objects.size(), 4 * slots) << "what there was, and no new frames";
  for (Inode* object : objects) {
    EXPECT_EQ(object->lock, 0x10C4u);
  }
  EXPECT_EQ(cache.statistics().objects_in_use, objects.size());
  free_all(objects);
}

// ---- its end
// -------------------------------------------------------------------------------------

TEST_F(ObjectCacheTest, the_end_waits_for_the_last_object) {
  const std::vector<Inode*> objects = allocate(3 * slots);
  cache.deallocate_many(objects.data() + 2, objects.size() - 2);
  on_cpu(3);
  EXPECT_EQ(cache.destroy(), 2u);
  EXPECT_EQ(objects[0]->lock, 0x10C4u);
  EXPECT_EQ(cache.statistics().objects_in_use, 2u);
  cache.deallocate(objects[0]);
  EXPECT_EQ(cache.destroy(), 1u);
  cache.deallocate(objects[1]);
  EXPECT_EQ(cache.destroy(), 0u);
  EXPECT_EQ(frames.live_frames(), 0u);
  Inode* const again = cache.allocate();
  ASSERT_NE(again, nullptr);
  cache.deallocate(again);
}

TEST_F(ObjectCacheTest, the_end_finds_what_is_under_way_between_cpus) {
  ASSERT_TRUE(cache.keep_for_interrupts(3));
  const std::vector<Inode*> objects = allocate(5 * slots);
  on_cpu(2);
  free_all(objects);
  EXPECT_EQ(cache.destroy(), 0u);
  EXPECT_EQ(frames.live_frames(), 0u);
}

TEST_F(ObjectCacheTest, misuse_is_reported_and_does_nothing) {
  test::MisuseRecorder misuse;
  Inode* const object = cache.allocate();
  cache.deallocate(object);
  cache.deallocate(object);
  EXPECT_EQ(misuse.take_kinds(), std::vector{MisuseKind::DoubleFree});
  Inode* const other = cache.allocate();
  cache.deallocate(reinterpret_cast<Inode*>(reinterpret_cast<std::byte*>(other) + 8));
  EXPECT_EQ(misuse.take_kinds(), std::vector{MisuseKind::MisalignedFree});
  EXPECT_EQ(cache.destroy(), 1u) << "whatever the counts say";
  cache.deallocate(other);
  cache.deallocate(nullptr);
}

// ---- kinds of objects
// ----------------------------------------------------------------------------

/// Gives each object a buffer of another cache; fails when that has none.
struct BufferedLife {
  using Buffers = ObjectCache<Wide, OpenKernel, FrameSource>;
  struct Object {
    Wide* buffer;
    std::uint64_t more[20];
  };
  Buffers* buffers;
  std::size_t* live;

  bool construct(void* place, Context context) noexcept {
    EXPECT_EQ(HostedCpu::saved, 0u) << "constructors are called with nothing held";
    EXPECT_EQ(context, Context::MayWait);
    Wide* const buffer = buffers->allocate(context);
    if (buffer == nullptr) {
      return false;
    }
    ::new (place) Object{buffer, {}};
    ++*live;
    return true;
  }
  void destroy(Object* object) noexcept {
    EXPECT_EQ(HostedCpu::saved, 0u);
    buffers->deallocate(object->buffer);
    object->~Object();
    --*live;
  }
};

TEST(ObjectCacheLife, constructors_may_use_other_caches_and_fail) {
  HostedCpu::number = 0;
  FrameSource frames;
  FrameSource buffer_frames;
  std::size_t live = 0;
  ObjectCache<Wide, OpenKernel, FrameSource> buffers("buffer", buffer_frames);
  using Cache =
      ObjectCache<BufferedLife::Object, OpenKernel, FrameSource, CacheOptions, BufferedLife>;
  Cache cache("buffered", frames, {&buffers, &live});
  buffer_frames.set_limit(8 * 4096);
  std::vector<BufferedLife::Object*> objects;
  while (auto* object = cache.allocate(Context::MayWait)) {
    EXPECT_NE(object->buffer, nullptr);
    objects.push_back(object);
  }
  // Of 40 buffers a frame of the objects takes 23: the second one could not be constructed.
  EXPECT_EQ(objects.size(), Cache::objects_per_page);
  EXPECT_EQ(live, Cache::objects_per_page);
  EXPECT_EQ(frames.live_frames(), 1u);
  EXPECT_EQ(buffers.statistics().objects_in_use, live);
  cache.deallocate_many(objects.data(), objects.size());
  EXPECT_EQ(cache.destroy(), 0u);
  EXPECT_EQ(live, 0u);
  EXPECT_EQ(buffers.destroy(), 0u);
  EXPECT_EQ(buffer_frames.live_bytes(), 0u);
}

template <std::size_t Alignment>
struct AlignedOptions : CacheOptions {
  static constexpr std::size_t alignment = Alignment;
};
struct Odd {
  unsigned char bytes[13];
};

template <std::size_t Alignment>
void expect_aligned() {
  using Cache = ObjectCache<Odd, OpenKernel, FrameSource, AlignedOptions<Alignment>>;
  FrameSource frames;
  Cache cache("aligned", frames);
  std::vector<Odd*> objects(200);
  ASSERT_EQ(cache.allocate_many(objects.data(), objects.size()), objects.size());
  for (Odd* object : objects) {
    ASSERT_EQ(reinterpret_cast<std::uintptr_t>(object) % Alignment, 0u) << Alignment;
  }
  const std::size_t waste = Cache::page_bytes - Cache::objects_per_page * Cache::object_bytes;
  EXPECT_LE(waste, Cache::page_bytes / 8) << Alignment;
  cache.deallocate_many(objects.data(), objects.size());
  EXPECT_EQ(cache.destroy(), 0u);
}

TEST(ObjectCacheAlignment, every_one_is_kept_whatever_the_colour) {
  HostedCpu::number = 0;
  expect_aligned<1>();
  expect_aligned<2>();
  expect_aligned<4>();
  expect_aligned<8>();
  expect_aligned<16>();
  expect_aligned<32>();
  expect_aligned<64>();
  expect_aligned<128>();
  expect_aligned<256>();
  expect_aligned<512>();
  expect_aligned<1024>();
  expect_aligned<2048>();
  expect_aligned<4096>();
}

template <std::size_t Bytes>
struct Sized {
  unsigned char bytes[Bytes];
};

template <std::size_t Bytes>
void expect_small_waste() {
  using Config = CacheConfig<Sized<Bytes>, CacheOptions>;
  constexpr SlotGeometry geometry = Config::BasePage::geometry(Config::object_bytes);
  constexpr std::size_t waste = Config::page_bytes - geometry.slots * Config::object_bytes;
  EXPECT_LE(waste, Config::page_bytes / 8) << Bytes;
  if (Config::page_bytes > 4096) {
    const std::size_t half = Config::page_bytes / 2;
    const std::size_t slots = SlotGeometry::fit(Bytes, half, 48, true).slots;
    EXPECT_GT(half - slots * Bytes, half / 8) << Bytes << ": half of the page would do";
  }
}

TEST(CacheConfigPages, waste_at_most_an_eighth_and_no_smaller_one_does) {
  []<std::size_t... Steps>(std::index_sequence<Steps...>) {
    (expect_small_waste<Steps * 61 + 1>(), ...);
  }
  (std::make_index_sequence<134>());
  expect_small_waste<8192>();
}

TEST(ObjectCacheOfOneCpu, needs_no_atomics) {
  HostedCpu::number = 0;
  FrameSource frames;
  ObjectCache<Wide, test::SingleKernel, FrameSource,
              GranuleCacheOptions<16 * kibibyte, SingleCpuAtomics>>
      cache("wide", frames);
  ASSERT_TRUE(cache.reserve(100));
  std::vector<Wide*> objects(500);
  ASSERT_EQ(cache.allocate_many(objects.data(), objects.size()), objects.size());
  EXPECT_EQ(cache.statistics().objects_in_use, objects.size());
  cache.deallocate_many(objects.data(), objects.size());
  EXPECT_EQ(cache.destroy(), 0u);
  EXPECT_EQ(frames.live_bytes(), 0u);
}

}  // namespace
}  // namespace slabmalloc
