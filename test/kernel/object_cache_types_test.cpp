// SPDX-License-Identifier: MIT
//
// Tests of ObjectCache with objects of all kinds, sizes and alignments.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernel/object_cache_fixture.hpp"

namespace slabmalloc {
namespace {

using test::FrameSource;
using test::HostedCpu;
using test::OpenKernel;
using test::Wide;

/// Gives each object a buffer of another cache; fails when that cache is empty.
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
  // A frame of the objects takes 23 of 40 buffers, so the cache could not construct the second
  // frame.
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

TEST(ObjectCacheAlignment, every_alignment_holds_at_every_colour) {
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
