// SPDX-License-Identifier: MIT
#include "slabmalloc/adaptors/resource_pager.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <list>
#include <memory_resource>
#include <vector>

#include "containers.hpp"
#include "slabmalloc/adaptors/stl_allocator.hpp"

namespace slabmalloc::test {
namespace {

using Zone = ScopedZone<ResourcePager, PoolConfig>;

/// Checks what comes back, and holds at most `limit` bytes.
class CheckedResource : public std::pmr::memory_resource {
 public:
  std::size_t live_bytes = 0;
  std::size_t limit = ~std::size_t{0};

 private:
  struct Block {
    void* address;
    std::size_t bytes, alignment;
    bool operator==(const Block&) const = default;
  };
  void* do_allocate(std::size_t bytes, std::size_t alignment) override {
    if (bytes > limit - live_bytes) {
      throw std::bad_alloc();
    }
    live_bytes += bytes;
    blocks_.push_back(
        {std::pmr::new_delete_resource()->allocate(bytes, alignment), bytes, alignment});
    return blocks_.back().address;
  }
  void do_deallocate(void* block, std::size_t bytes, std::size_t alignment) override {
    EXPECT_EQ(std::erase(blocks_, Block{block, bytes, alignment}), 1u);
    live_bytes -= bytes;
    std::pmr::new_delete_resource()->deallocate(block, bytes, alignment);
  }
  bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override {
    return this == &other;
  }
  std::vector<Block> blocks_;
};

TEST(ResourcePager, gives_a_zone_aligned_frames_and_runs_and_takes_all_back) {
  CheckedResource upstream;
  {
    ResourcePager pager(&upstream);
    Zone zone(pager);
    EXPECT_EQ(pager.upstream_resource(), &upstream);
    std::list<Wide, StlAllocator<Wide, Zone>> list(1000, Wide{3}, zone);
    EXPECT_TRUE(is_aligned(&list.back(), alignof(Wide)));
    const std::size_t of_frames = upstream.live_bytes;
    EXPECT_EQ(of_frames % (64 * kibibyte), 0u);
    const std::vector<int, StlAllocator<int, Zone>> numbers(100'000, 7, zone);
    EXPECT_EQ(upstream.live_bytes - of_frames, sizeof(int) * 100'000);
  }
  EXPECT_EQ(upstream.live_bytes, 0u);
}

TEST(ResourcePager, says_out_of_memory_where_upstream_throws) {
  CheckedResource upstream;
  ResourcePager pager(&upstream);
  Zone zone(pager);
  upstream.limit = 64 * kibibyte;
  std::vector<void*> blocks;
  constexpr Layout layout = Layout::of<Wide>();
  Result<void*> block = zone.allocate(layout);
  for (; block; block = zone.allocate(layout)) {
    blocks.push_back(*block);
  }
  EXPECT_EQ(block.error(), AllocationError::OutOfMemory);
  EXPECT_EQ(blocks.size(), Zone::slots_per_page(Zone::class_for(layout)));
  const Layout run = Layout::from_size_align(100 * kibibyte, 8).value();
  EXPECT_EQ(zone.allocate(run).error(), AllocationError::OutOfMemory);
  for (void* const one : blocks) {
    zone.deallocate(one, layout);
  }
  EXPECT_TRUE(zone.allocate(layout)) << "nothing is lost";
  EXPECT_EQ(zone.validate(), nullptr);
}

}  // namespace
}  // namespace slabmalloc::test
