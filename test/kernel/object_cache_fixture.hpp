// SPDX-License-Identifier: MIT
//
// The fixture of ObjectCache tests: objects that count themselves, over counted frames, on CPUs
// that the test chooses.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernel/hosted_kernel.hpp"
#include "slabmalloc/kernel/object_cache.hpp"
#include "support/frames.hpp"

namespace slabmalloc::test {

/// Counts its objects, and keeps a state from one use to the next.
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

/// A large object: few fit a page, so their distribution over CPUs matters.
struct Wide {
  std::uint64_t words[90];
};

/// A test on CPU 0 that must end without a lost object or frame.
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
  std::vector<Inode*> allocate(std::size_t count, Context context = Context::MayWait) {
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

}  // namespace slabmalloc::test
