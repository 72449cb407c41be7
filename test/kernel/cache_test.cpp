// SPDX-License-Identifier: MIT
//
// Tests of Cache: caches that are made at run time.
#include "slabmalloc/kernel/cache.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "kernel/hosted_kernel.hpp"
#include "slabmalloc/kernel/object_cache.hpp"
#include "slabmalloc/kernel/reclaimer.hpp"
#include "slabmalloc/kernel/slabinfo.hpp"
#include "support/frames.hpp"
#include "support/misuse_recorder.hpp"

namespace slabmalloc {
namespace {

using test::FrameSource;
using test::HostedCpu;
using test::OpenKernel;
using Caches = Cache<OpenKernel, FrameSource>;
using Heap = CpuZones<OpenKernel, FrameSource>;

/// Counts objects, and fails where it is told to.
struct Counted {
  std::size_t live = 0;
  std::size_t until_failure = ~std::size_t{0};
  std::set<void*> places{};
  Context context = Context::Emergency;

  static bool construct(void* place, Context context, void* argument) {
    auto& self = *static_cast<Counted*>(argument);
    EXPECT_EQ(HostedCpu::saved, 0u) << "constructors are called with nothing held";
    self.context = context;
    if (self.until_failure-- == 0) {
      return false;
    }
    EXPECT_TRUE(self.places.insert(place).second) << "a slot is constructed once";
    ++self.live;
    return true;
  }
  static void destroy(void* object, void* argument) {
    auto& self = *static_cast<Counted*>(argument);
    EXPECT_EQ(self.places.erase(object), 1u);
    --self.live;
  }
  ObjectCallbacks callbacks() { return {&construct, &destroy, this}; }
};

class CacheTest : public testing::Test {
 protected:
  void SetUp() override { HostedCpu::number = 0; }

  FrameSource frames;
  FrameSource heap_frames;
  Heap heap{heap_frames};
  Counted counted;
  test::MisuseRecorder misuse;
};

TEST_F(CacheTest, a_free_of_an_object_of_another_cache_is_reported) {
  const CacheShape shape = Caches::shape_for(192, 8);
  Caches one("one", frames, shape);
  Caches other("other", frames, shape);
  const std::size_t count = 3 * shape.objects_per_page() + 1;
  std::vector<void*> objects;
  for (std::size_t number = 0; number < count; ++number) {
    HostedCpu::number = number % 2;
    objects.push_back(one.allocate());
  }
  void* const own = other.allocate();
  for (void* const object : objects) {
    for (std::uint32_t cpu = 0; cpu < 3; ++cpu) {
      HostedCpu::number = cpu;
      other.deallocate(object);
      EXPECT_EQ(misuse.take_kinds(), std::vector{MisuseKind::ForeignPointer});
    }
  }
  other.deallocate_many(objects.data(), count);
  EXPECT_EQ(misuse.take_kinds(), std::vector(count, MisuseKind::ForeignPointer));
  one.deallocate_many(objects.data(), count);
  other.deallocate(own);
  for (Caches* const cache : {&one, &other}) {
    EXPECT_EQ(cache->validate(), nullptr);
    EXPECT_EQ(cache->destroy(), 0u);
  }
}

/// A kernel whose part pointers a test may hide, as if it interrupted a section.
struct NestedKernel : OpenKernel {
  static inline void* part = nullptr;
  template <std::uint32_t>
  static void* local() noexcept {
    return part;
  }
  template <std::uint32_t>
  static void set_local(void* value) noexcept {
    part = value;
  }
};
struct NestedConfig : KernelConfig {
  static constexpr std::uint32_t local_slot = 0;
};

TEST_F(CacheTest, a_free_of_a_block_of_another_heap_is_reported_in_a_section_too) {
  const Layout layout = Layout::of<std::byte[64]>();
  void* const block = heap.allocate(layout).value();
  CpuZones<NestedKernel, FrameSource, NestedConfig> other(heap_frames);
  void* const own = other.allocate(layout).value();
  other.deallocate(block, layout);
  EXPECT_EQ(misuse.take_kinds(), std::vector{MisuseKind::ForeignPointer});
  void* const part = std::exchange(NestedKernel::part, nullptr);
  other.deallocate(block, layout);
  EXPECT_EQ(misuse.take_kinds(), std::vector{MisuseKind::ForeignPointer});
  other.deallocate(own, layout);
  NestedKernel::part = part;
  EXPECT_TRUE(other.drain_this_cpu());
  EXPECT_EQ(other.statistics().zones.used_bytes, 0u);
  heap.deallocate(block, layout);
  other.release_all();
  NestedKernel::part = nullptr;
}

TEST_F(CacheTest, objects_of_every_size_and_alignment_lie_apart_and_aligned) {
  const auto storage = std::make_unique<std::array<std::byte, sizeof(Caches) + 64>>();
  void* const place = reinterpret_cast<void*>(
      align_up(reinterpret_cast<std::uintptr_t>(storage->data()), alignof(Caches)));
  for (std::size_t alignment = 1; alignment <= 8192; alignment *= 2) {
    for (std::size_t bytes = 1; bytes <= 8192; bytes += bytes < 80 ? 1 : 97 + bytes / 16) {
      const auto made = Caches::create(place, frames, {"sized", bytes, alignment});
      ASSERT_TRUE(made) << bytes << ", " << alignment;
      Caches& cache = *made.cache;
      const std::size_t count = 2 * cache.shape().objects_per_page() + 1;
      std::vector<void*> objects(count < 300 ? count : 300);
      ASSERT_EQ(cache.allocate_many(objects.data(), objects.size()), objects.size());
      std::set<std::uintptr_t> places;
      for (void* const object : objects) {
        const auto address = reinterpret_cast<std::uintptr_t>(object);
        ASSERT_EQ(address % alignment, 0u) << bytes << ", " << alignment;
        places.insert(address);
        std::memset(object, 0x5A, bytes);
      }
      ASSERT_EQ(places.size(), objects.size());
      for (auto next = places.begin(), last = next++; next != places.end(); last = next++) {
        ASSERT_GE(*next - *last, bytes) << bytes << ", " << alignment;
      }
      for (void* const object : objects) {
        cache.deallocate(object);
      }
      ASSERT_EQ(cache.validate(), nullptr) << bytes << ", " << alignment;
      ASSERT_EQ(cache.destroy(), 0u);
      ASSERT_EQ(frames.live_bytes(), 0u);
    }
  }
  EXPECT_EQ(misuse.take_kinds(), std::vector<MisuseKind>{});
}

TEST_F(CacheTest, a_bad_size_or_alignment_is_named_and_takes_no_memory) {
  EXPECT_EQ(Caches::create_in(heap, frames, {"none", 0}).error, CacheError::NoSize);
  EXPECT_EQ(Caches::create_in(heap, frames, {"large", 8193}).error, CacheError::TooLarge);
  EXPECT_EQ(Caches::create_in(heap, frames, {"odd", 8, 24}).error, CacheError::AlignmentNotPower);
  EXPECT_EQ(heap_frames.live_bytes(), 0u);
  heap_frames.set_exhausted(true);
  EXPECT_EQ(Caches::create_in(heap, frames, {"thing", 8}).error, CacheError::OutOfMemory);
  alignas(Caches) static std::byte untouched[sizeof(Caches)] = {};
  EXPECT_FALSE(Caches::create(untouched, frames, {"none", 0}));
  for (const std::byte byte : untouched) {
    ASSERT_EQ(byte, std::byte{0});
  }
}

TEST_F(CacheTest, a_cache_lives_in_a_block_of_a_heap_until_its_last_object_is_free) {
  const auto made = Caches::create_in(heap, frames, {"thing", 200, 8, counted.callbacks()});
  ASSERT_TRUE(made);
  Caches& cache = *made.cache;
  void* const object = cache.allocate(Context::MayNotWait);
  ASSERT_NE(object, nullptr);
  EXPECT_EQ(counted.context, Context::MayNotWait) << "the constructor learns the context";
  EXPECT_EQ(counted.live, frames.live_frames() * cache.shape().objects_per_page());
  EXPECT_EQ(cache.destroy_in(heap), 1u);
  EXPECT_STREQ(cache.name(), "thing") << "it stays";
  cache.deallocate(object);
  EXPECT_EQ(cache.destroy_in(heap), 0u);
  EXPECT_EQ(counted.live, 0u);
  EXPECT_EQ(frames.live_bytes(), 0u);
  heap.release_all();
  EXPECT_EQ(heap_frames.live_bytes(), 0u);
}

TEST_F(CacheTest, a_frame_whose_construction_fails_at_any_slot_goes_back_whole) {
  const CacheShape shape = Caches::shape_for(200, 8);
  for (std::size_t slot = 0; slot < shape.objects_per_page(); ++slot) {
    Caches cache("thing", frames, shape, counted.callbacks());
    // A refill gets several frames; all after the first failure succeed.
    counted.until_failure = slot;
    frames.set_limit(shape.page_bytes);
    EXPECT_EQ(cache.allocate(Context::MayNotWait), nullptr) << slot;
    EXPECT_EQ(counted.live, 0u) << slot;
    EXPECT_EQ(frames.live_bytes(), 0u) << slot;
    counted.until_failure = ~std::size_t{0};
    void* const object = cache.allocate();
    ASSERT_NE(object, nullptr);
    cache.deallocate(object);
    EXPECT_EQ(cache.destroy(), 0u);
  }
}

TEST_F(CacheTest, caches_of_all_page_sizes_keep_what_the_options_say) {
  for (const std::size_t bytes : {64u, 700u, 1472u, 3000u, 5000u, 8192u}) {
    Caches cache("thing", frames, Caches::shape_for(bytes, 8));
    const CacheShape& shape = cache.shape();
    const std::size_t granules = shape.page_bytes / 4096;
    void* const object = cache.allocate();
    ASSERT_NE(object, nullptr);
    const std::size_t growth = CacheOptions::growth_frames / granules;
    EXPECT_EQ(frames.live_frames(), growth > 1 ? growth : 1) << bytes;
    ASSERT_TRUE(cache.reserve(3 * shape.objects_per_page()));
    EXPECT_EQ(
        cache.zones().statistics().reserved_frame_bytes,
        shape.pages_for(3 * shape.objects_per_page(), OpenKernel::maximum_cpus) * shape.page_bytes);
    cache.set_limit(100 * shape.objects_per_page());
    EXPECT_EQ(cache.statistics().limit_pages, 100u);
    EXPECT_EQ(cache.statistics().page_bytes, shape.page_bytes);
    EXPECT_EQ(cache.statistics().pages, frames.live_frames());
    EXPECT_EQ(cache.validate(), nullptr);
    cache.deallocate(object);
    EXPECT_EQ(cache.destroy(), 0u);
    EXPECT_EQ(frames.live_bytes(), 0u);
  }
}

TEST_F(CacheTest, objects_of_other_caches_and_wrong_addresses_are_refused) {
  Caches cache("thing", frames, Caches::shape_for(200, 8));
  Caches other("other", frames, Caches::shape_for(208, 8));
  auto* const object = static_cast<std::byte*>(cache.allocate());
  for (std::uint32_t cpu = 0; cpu < 2; ++cpu) {
    HostedCpu::number = cpu;
    other.deallocate(object);
    EXPECT_EQ(misuse.take_kinds(), std::vector{MisuseKind::ForeignPointer});
    for (std::size_t offset = 1; offset < 200; ++offset) {
      cache.deallocate(object + offset);
      EXPECT_EQ(misuse.take_kinds(), std::vector{MisuseKind::MisalignedFree}) << offset;
    }
  }
  HostedCpu::number = 0;
  const auto frame = align_down(reinterpret_cast<std::uintptr_t>(object), 4096u);
  for (std::uintptr_t address = frame; address < frame + 4096; ++address) {
    const bool is_slot = (address - reinterpret_cast<std::uintptr_t>(object)) % 200 == 0;
    if (!is_slot) {
      cache.deallocate(reinterpret_cast<void*>(address));
      EXPECT_EQ(misuse.take_kinds(), std::vector{MisuseKind::MisalignedFree});
    }
  }
  cache.deallocate(object);
  cache.deallocate(object);
  EXPECT_EQ(misuse.take_kinds(), std::vector{MisuseKind::DoubleFree});
  HostedCpu::number = 1;
  cache.deallocate(object);
  ASSERT_TRUE(cache.zones().drain_this_cpu());
  EXPECT_EQ(misuse.take_kinds(), std::vector{MisuseKind::DoubleFree});
  HostedCpu::number = 0;
  EXPECT_EQ(cache.destroy(), 0u);
  EXPECT_EQ(other.destroy(), 0u);
}

TEST_F(CacheTest, slabinfo_has_their_names_and_sizes) {
  std::vector<std::string> lines;
  Caches small("urb", frames, Caches::shape_for(100, 64));
  struct Typed {
    std::uint64_t words[30];
  };
  ObjectCache<Typed, OpenKernel, FrameSource> typed("typed", frames);
  Reclaimable small_entry(small);
  Reclaimable typed_entry(typed);
  Reclaimer<OpenKernel> reclaimer;
  reclaimer.add(small_entry);
  reclaimer.add(typed_entry);
  void* const object = small.allocate();
  HostedCpu::lines = &lines;
  log_slabinfo(reclaimer);
  HostedCpu::lines = nullptr;
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_EQ(lines[1].substr(0, 4), "urb ");
  EXPECT_NE(lines[1].find(" 128 "), std::string::npos) << lines[1];
  EXPECT_EQ(lines[2].substr(0, 6), "typed ");
  EXPECT_TRUE(reclaimer.remove(small_entry) && reclaimer.remove(typed_entry));
  small.deallocate(object);
  EXPECT_EQ(small.destroy() + typed.destroy(), 0u);
}

TEST_F(CacheTest, handlers_and_limits_have_the_meaning_of_typed_caches) {
  Caches cache("thing", frames, Caches::shape_for(200, 8), counted.callbacks());
  ASSERT_TRUE(cache.reserve_for_interrupts(2));
  EXPECT_EQ(cache.reserve_for_interrupts(40).error(), AllocationError::TooMany);
  EXPECT_EQ(cache.reserve(~std::size_t{0}).error(), AllocationError::TooMany);
  cache.set_limit(cache.shape().objects_per_page());
  std::vector<void*> objects(9 * cache.shape().objects_per_page());
  objects.resize(cache.allocate_many(objects.data(), objects.size(), Context::Interrupt));
  EXPECT_EQ(objects.size(), 4 * cache.shape().objects_per_page()) << "no frame beyond the first";
  cache.deallocate_many(objects.data(), objects.size());
  EXPECT_EQ(cache.statistics().objects_in_use, 0u);
  EXPECT_EQ(cache.destroy(), 0u);
  EXPECT_EQ(counted.live, 0u);
}

TEST(CacheThreads, threads_make_and_destroy_caches_while_others_use_theirs) {
  FrameSource frames;
  FrameSource heap_frames;
  Heap heap(heap_frames);
  Caches shared("shared", frames, Caches::shape_for(120, 8));
  const auto work = [&](std::uint32_t cpu) {
    HostedCpu::number = cpu;
    for (std::size_t round = 0; round < 200; ++round) {
      Counted counted;
      const auto made = Caches::create_in(
          heap, frames, {"own", 16 + (round * 37 + cpu * 501) % 4000, 16, counted.callbacks()});
      ASSERT_TRUE(made);
      std::vector<void*> objects(50);
      std::vector<void*> others(50);
      ASSERT_EQ(made.cache->allocate_many(objects.data(), objects.size()), objects.size());
      ASSERT_EQ(shared.allocate_many(others.data(), others.size()), others.size());
      made.cache->deallocate_many(objects.data(), objects.size());
      shared.deallocate_many(others.data(), others.size());
      ASSERT_EQ(made.cache->validate(), nullptr);
      ASSERT_EQ(made.cache->destroy_in(heap), 0u);
      ASSERT_EQ(counted.live, 0u);
    }
  };
  std::vector<std::thread> threads;
  for (std::uint32_t cpu = 0; cpu < 4; ++cpu) {
    threads.emplace_back(work, cpu);
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  HostedCpu::number = 0;
  EXPECT_EQ(shared.destroy(), 0u);
  EXPECT_EQ(frames.live_bytes(), 0u);
  heap.release_all();
  EXPECT_EQ(heap_frames.live_bytes(), 0u);
}

}  // namespace
}  // namespace slabmalloc
