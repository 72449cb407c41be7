// SPDX-License-Identifier: MIT
// Tests of object caches in debug mode.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <set>

#include "kernel/debug_fixture.hpp"

namespace slabmalloc {
namespace {

using test::DebugKernel;
using test::DebugReport;
using Kind = MisuseKind;
using Frames = FrameAllocator<DebugKernel>;

struct Node {
  Node() noexcept { ++constructed; }
  ~Node() { ++destroyed; }
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  std::uint32_t lock = 0x10C4;
  std::uint8_t bytes[96] = {};
  Node* next = nullptr;

  static inline std::size_t constructed = 0;
  static inline std::size_t destroyed = 0;
};
struct alignas(64) Wide {
  std::byte bytes[4096];
};
struct DebugOptions : CacheOptions {
  using Debug = KernelDebug;
};

class DebugCacheTest : public testing::Test {
 protected:
  DebugCacheTest() {
    test::HostedCpu::number = 0;
    DebugKernel::sleeps = true;
    const MemoryRegion regions[] = {memory.region(0, 8 * mebibyte)};
    EXPECT_TRUE(frames.add(regions, 1));
  }

  test::DebugRecorder reports;
  test::PhysicalMemory memory{8 * mebibyte};
  Frames frames;
};

TEST_F(DebugCacheTest, objects_stay_constructed_and_writes_around_them_are_found) {
  Node::constructed = Node::destroyed = 0;
  ObjectCache<Node, DebugKernel, Frames, DebugOptions> cache("node", frames);
  for (std::size_t offset = sizeof(Node); offset < sizeof(Node) + 16; ++offset) {
    Node* const node = cache.allocate();
    ASSERT_NE(node, nullptr);
    EXPECT_EQ(node->lock, 0x10C4u);
    node->bytes[5] = 0;
    reinterpret_cast<std::byte*>(node)[offset] = std::byte{0x41};
    cache.deallocate(node);
    const DebugReport report = reports.take_one();
    EXPECT_EQ(report.misuse.kind, Kind::Overflow);
    EXPECT_EQ(report.misuse.block, node);
    EXPECT_STREQ(report.history.heap, "node");
    EXPECT_EQ(report.history.size, sizeof(Node));
    EXPECT_EQ(report.history.offset, static_cast<std::ptrdiff_t>(offset));
    cache.deallocate(node);
    EXPECT_EQ(reports.take_one().misuse.kind, Kind::DoubleFree);
    // Behind the object, while it is free.
    reinterpret_cast<std::byte*>(node)[offset] = std::byte{0x42};
    cache.zones().drain_this_cpu();
    EXPECT_EQ(reports.take_one().misuse.kind, Kind::Overflow);
  }
  EXPECT_EQ(cache.validate(), nullptr);
  EXPECT_EQ(cache.destroy(), 0u);
  EXPECT_EQ(Node::constructed, Node::destroyed);
  EXPECT_NE(Node::constructed, 0u);
  EXPECT_EQ(frames.statistics().used_bytes, 0u);
}

TEST_F(DebugCacheTest, a_free_object_keeps_what_its_user_left) {
  ObjectCache<Node, DebugKernel, Frames, DebugOptions> cache("node", frames);
  std::set<Node*> nodes;
  for (int count = 0; count < 100; ++count) {
    Node* const node = cache.allocate();
    node->bytes[0] = 7;
    nodes.insert(node);
  }
  for (Node* const node : nodes) {
    cache.deallocate(node);
  }
  for (int count = 0; count < 50; ++count) {
    Node* const node = cache.allocate();
    EXPECT_EQ(node->bytes[0], nodes.contains(node) ? 7 : 0);
    cache.deallocate(node);
  }
  EXPECT_EQ(cache.destroy(), 0u);
}

TEST_F(DebugCacheTest, a_free_by_another_cache_of_the_same_type_names_the_right_one) {
  ObjectCache<Node, DebugKernel, Frames, DebugOptions> one("one", frames);
  ObjectCache<Node, DebugKernel, Frames, DebugOptions> other("other", frames);
  Node* const node = one.allocate();
  other.deallocate(node);
  const DebugReport report = reports.take_one();
  EXPECT_EQ(report.misuse.kind, Kind::MismatchedFree);
  EXPECT_EQ(report.misuse.block, node);
  EXPECT_STREQ(report.misuse.allocated_by, "one");
  one.deallocate(node);
  EXPECT_EQ(one.destroy(), 0u);
  EXPECT_EQ(other.destroy(), 0u);
}

TEST_F(DebugCacheTest, objects_that_nothing_points_to_are_leaks) {
  ObjectCache<Node, DebugKernel, Frames, DebugOptions> cache("node", frames);
  Node* const list = cache.allocate();
  list->next = cache.allocate();
  Node* lost = cache.allocate();
  const LeakRoot root{&list, sizeof(list)};
  std::vector<void*> leaks;
  EXPECT_EQ(cache.zones().find_leaks(&root, 1,
                                     [&](const Leak& leak) {
                                       EXPECT_STREQ(leak.heap, "node");
                                       EXPECT_EQ(leak.size, sizeof(Node));
                                       leaks.push_back(leak.block);
                                     }),
            1u);
  EXPECT_EQ(leaks, std::vector<void*>{lost});
  cache.deallocate(list->next);
  cache.deallocate(list);
  cache.deallocate(lost);
  EXPECT_EQ(cache.destroy(), 0u);
}

TEST_F(DebugCacheTest, types_that_fill_the_largest_page_compile_and_stay_aligned) {
  ObjectCache<Wide, DebugKernel, Frames, DebugOptions> cache("wide", frames);
  std::vector<Wide*> all;
  for (int count = 0; count < 40; ++count) {
    all.push_back(cache.allocate());
    ASSERT_NE(all.back(), nullptr);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(all.back()) % 64, 0u);
  }
  for (Wide* const wide : all) {
    cache.deallocate(wide);
  }
  EXPECT_EQ(cache.destroy(), 0u);
}

}  // namespace
}  // namespace slabmalloc
