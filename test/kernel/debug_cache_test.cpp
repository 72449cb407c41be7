// SPDX-License-Identifier: MIT
// Tests of the debug mode of object caches: each fault is reported with its cache, object, offset
// and last users, and constructed objects stay as they are.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "kernel/debug_fixture.hpp"
#include "kernel/reading_kernel.hpp"
#include "support/pattern.hpp"
#include "support/random.hpp"

namespace slabmalloc {
namespace {

using test::DebugKernel;
using test::DebugReport;
using test::HostedCpu;
using test::InSection;
using Kind = MisuseKind;

/// Finds its parts by the CPU's own pointers, so that a test can say that a section goes on.
struct Options : DebugCacheOptions {
  static constexpr std::uint32_t local_slot = 0;
};
struct OtherOptions : DebugCacheOptions {
  static constexpr std::uint32_t local_slot = CommonKernelConfig::no_local_slot;
};
using Frames = FrameAllocator<DebugKernel>;
using DebuggedCache = Cache<DebugKernel, Frames, Options>;
using OtherCache = Cache<DebugKernel, Frames, OtherOptions>;

constexpr std::size_t memory_bytes = 16 * mebibyte;

/// Fills each object, and expects it to be whole at its end.
struct Filled {
  std::size_t bytes;
  std::set<void*> objects{};
  std::size_t until_failure = ~std::size_t{0};
  bool is_checked = true;

  static bool construct(void* place, Context, void* argument) noexcept {
    auto& self = *static_cast<Filled*>(argument);
    if (self.until_failure-- == 0) {
      return false;
    }
    EXPECT_TRUE(self.objects.insert(place).second);
    test::fill_pattern(static_cast<std::byte*>(place), self.bytes, 1);
    return true;
  }
  static void destroy(void* object, void* argument) noexcept {
    auto& self = *static_cast<Filled*>(argument);
    EXPECT_EQ(self.objects.erase(object), 1u);
    EXPECT_TRUE(!self.is_checked ||
                test::holds_pattern(static_cast<const std::byte*>(object), self.bytes, 1));
  }
  ObjectCallbacks callbacks() { return {&construct, &destroy, this}; }
};

class DebugCacheTest : public testing::Test {
 protected:
  DebugCacheTest() {
    HostedCpu::number = 0;
    DebugKernel::sleeps = true;
    DebugKernel::time = 0;
    const MemoryRegion regions[] = {memory.region(0, memory_bytes)};
    EXPECT_TRUE(frames.add(regions, 1));
    forget_parts();
  }
  ~DebugCacheTest() override {
    DebugKernel::shadow = nullptr;
    DebugKernel::tracer = nullptr;
    EXPECT_EQ(frames.statistics().used_bytes, 0u) << "every frame is back";
  }
  /// One cache after the other may have the CPUs' pointers.
  static void forget_parts() {
    for (void*& part : DebugKernel::parts) {
      part = nullptr;
    }
  }

  /// Calls test(cache, bytes) with caches of many shapes, with and without a constructor.
  template <class Test>
  void with_each_cache(Test&& test) {
    for (const auto& [bytes, alignment] : {std::pair<std::size_t, std::size_t>{1, 1},
                                           {8, 8},
                                           {13, 1},
                                           {100, 8},
                                           {64, 64},
                                           {216, 32},
                                           {1000, 8},
                                           {3000, 16},
                                           {8192, 8},
                                           {4096, 4096},
                                           {20, 8192}}) {
      for (const bool is_raw : {false, true}) {
        forget_parts();
        Filled filled{bytes};
        DebuggedCache cache("thing", frames, DebuggedCache::shape_for(bytes, alignment),
                            is_raw ? ObjectCallbacks{} : filled.callbacks());
        ASSERT_EQ(cache.shape().error, CacheError::None);
        // Damage stays in the object, and reaches the destructor.
        filled.is_checked = false;
        test(cache, bytes);
        ASSERT_FALSE(HasFailure()) << bytes << " B, alignment " << alignment << ", raw " << is_raw;
        EXPECT_EQ(cache.zones().check_blocks(), 0u);
        EXPECT_EQ(cache.validate(), nullptr);
        EXPECT_EQ(cache.destroy(), 0u);
        EXPECT_TRUE(filled.objects.empty());
        EXPECT_EQ(frames.statistics().used_bytes, 0u);
      }
    }
  }
  static std::byte* allocate_on_1(DebuggedCache& cache) {
    HostedCpu::number = 1;
    auto* const object = static_cast<std::byte*>(cache.allocate());
    HostedCpu::number = 0;
    return object;
  }
  static void free_on_2(DebuggedCache& cache, void* object) {
    HostedCpu::number = 2;
    cache.deallocate(object);
    HostedCpu::number = 0;
  }
  static void drain_2(DebuggedCache& cache) {
    HostedCpu::number = 2;
    cache.zones().drain_this_cpu();
    HostedCpu::number = 0;
  }
  void expect_one(Kind kind, const void* object, std::size_t bytes, std::ptrdiff_t offset) {
    const DebugReport report = reports.take_one();
    EXPECT_EQ(report.misuse.kind, kind);
    EXPECT_EQ(report.misuse.block, object);
    EXPECT_STREQ(report.history.heap, "thing");
    EXPECT_EQ(report.history.size, bytes);
    EXPECT_EQ(report.history.offset, offset);
    EXPECT_EQ(report.history.allocated.cpu, 1u);
    EXPECT_NE(report.history.allocated.caller, nullptr);
    EXPECT_NE(report.history.allocated.time, 0u);
    if (kind == Kind::WriteAfterFree || kind == Kind::DoubleFree) {
      EXPECT_EQ(report.history.freed.cpu, 2u);
      EXPECT_GT(report.history.freed.time, report.history.allocated.time);
      EXPECT_EQ(report.misuse.state, BlockState::Freed);
    }
  }

  test::DebugRecorder reports;
  test::PhysicalMemory memory{memory_bytes};
  Frames frames;
};

// ---- shapes and sums ----------------------------------------------------------------------------

TEST(DebugShape, has_room_for_the_object_its_red_zone_and_its_record_at_every_size) {
  using Slots = ObjectLayout<HardwareAtomics>;
  for (std::size_t alignment = 1; alignment <= 8192; alignment *= 2) {
    for (std::size_t bytes = 1; bytes <= 8192; ++bytes) {
      const DebugShape shape = DebuggedCache::shape_for(bytes, alignment);
      ASSERT_EQ(shape.error, CacheError::None);
      ASSERT_EQ(shape.validate(DebuggedCache::Page::header_bytes), nullptr);
      ASSERT_EQ(shape.client_bytes, bytes);
      ASSERT_GE(Slots::record_offset(shape.object_bytes()), bytes + Slots::guard_bytes);
      ASSERT_EQ(shape.object_bytes() % alignof(Slots::Record), 0u);
      ASSERT_GE(shape.lead_bytes(), Slots::guard_bytes);
      ASSERT_EQ(shape.lead_bytes() % alignment, 0u);
      ASSERT_GE(shape.objects_per_page(), 1u);
      const CacheShape plain = Cache<DebugKernel, Frames>::shape_for(bytes, alignment);
      ASSERT_TRUE(shape.page_bytes == plain.page_bytes || shape.waste() <= shape.page_bytes / 8 ||
                  shape.page_bytes == 65536u);
    }
  }
}

TEST(ObjectSums, locate_a_change_of_any_byte_of_objects_of_any_length) {
  test::Random random;
  for (const std::size_t bytes : {1u, 2u, 3u, 4u, 5u, 7u, 8u, 13u, 64u, 1000u, 8192u}) {
    std::vector<std::byte> object(bytes);
    test::fill_pattern(object.data(), bytes, random.next());
    const ObjectSums before = ObjectSums::of(object.data(), bytes);
    for (std::size_t offset = 0; offset < bytes; ++offset) {
      const std::byte kept = object[offset];
      for (unsigned change : {1u, 0x80u, 1 + random.below(255)}) {
        object[offset] = kept ^ std::byte{static_cast<unsigned char>(change)};
        const ObjectSums now = ObjectSums::of(object.data(), bytes);
        ASSERT_NE(now, before);
        ASSERT_EQ(now.first_change(before, object.data(), bytes), offset) << bytes;
      }
      object[offset] = kept;
    }
    ASSERT_EQ(ObjectSums::of(object.data(), bytes), before);
  }
}

TEST(ObjectSums, differ_after_a_change_of_any_two_words) {
  test::Random random;
  std::array<std::uint32_t, 64> words{};
  for (std::uint32_t& word : words) {
    word = static_cast<std::uint32_t>(random.next());
  }
  const auto sums = [&] {
    return ObjectSums::of(reinterpret_cast<const std::byte*>(words.data()), sizeof(words));
  };
  const ObjectSums before = sums();
  for (std::size_t one = 0; one < words.size(); ++one) {
    for (std::size_t two = 0; two < one; ++two) {
      // Of all pairs these are the nearest to a sum that stays.
      const std::uint32_t change = random.one_in(2) ? 1 : static_cast<std::uint32_t>(random.next());
      words[one] += change;
      words[two] -= change;
      ASSERT_NE(sums(), before) << one << ", " << two;
      words[one] -= change;
      words[two] += change;
    }
  }
}

// ---- faults -------------------------------------------------------------------------------------

TEST_F(DebugCacheTest, a_write_at_each_offset_behind_an_object_is_an_overflow) {
  with_each_cache([&](DebuggedCache& cache, std::size_t bytes) {
    const std::size_t room =
        DebuggedCache::Mode::Blocks::record_offset(cache.shape().object_bytes());
    for (std::size_t offset = bytes; offset < std::min(room, bytes + 200); ++offset) {
      std::byte* const object = allocate_on_1(cache);
      object[offset] = std::byte{0x41};
      free_on_2(cache, object);
      expect_one(Kind::Overflow, object, bytes, static_cast<std::ptrdiff_t>(offset));
      ASSERT_FALSE(HasFailure()) << offset;
    }
  });
}

TEST_F(DebugCacheTest, a_write_at_each_offset_before_an_object_is_an_underflow) {
  with_each_cache([&](DebuggedCache& cache, std::size_t bytes) {
    std::byte* const objects[] = {allocate_on_1(cache), allocate_on_1(cache)};
    for (std::byte* const object : objects) {
      for (std::ptrdiff_t offset = -16; offset < 0; ++offset) {
        object[offset] = std::byte{0x42};
        EXPECT_EQ(cache.zones().check_blocks(), 1u);
        expect_one(Kind::Underflow, object, bytes, offset);
        ASSERT_FALSE(HasFailure()) << offset;
      }
      free_on_2(cache, object);
    }
  });
}

TEST_F(DebugCacheTest, a_write_at_each_offset_of_a_freed_object_is_found_where_its_delay_ends) {
  with_each_cache([&](DebuggedCache& cache, std::size_t bytes) {
    const std::size_t room =
        DebuggedCache::Mode::Blocks::record_offset(cache.shape().object_bytes());
    for (std::size_t offset = 0; offset < room; offset += offset < 300 ? 1 : 37) {
      std::byte* const object = allocate_on_1(cache);
      free_on_2(cache, object);
      object[offset] ^= std::byte{0x43};
      drain_2(cache);
      expect_one(Kind::WriteAfterFree, object, bytes, static_cast<std::ptrdiff_t>(offset));
      ASSERT_FALSE(HasFailure()) << offset;
    }
  });
}

TEST_F(DebugCacheTest, a_write_into_a_free_object_is_found_by_its_next_allocation_and_at_the_end) {
  with_each_cache([&](DebuggedCache& cache, std::size_t bytes) {
    std::byte* const neighbour = allocate_on_1(cache);  // Keeps the page in use.
    std::byte* object = allocate_on_1(cache);
    free_on_2(cache, object);
    drain_2(cache);
    HostedCpu::number = 1;
    cache.zones().drain_this_cpu();
    HostedCpu::number = 0;
    object[bytes - 1] ^= std::byte{0x44};
    std::vector<std::byte*> taken;
    std::vector<DebugReport> found;
    while (found.empty()) {
      taken.push_back(allocate_on_1(cache));
      ASSERT_NE(taken.back(), nullptr) << "no allocation found it";
      found = reports.take();
    }
    EXPECT_EQ(taken.back(), object) << "the object serves after the report";
    EXPECT_EQ(found[0].misuse.kind, Kind::WriteAfterFree);
    EXPECT_EQ(found[0].history.offset, static_cast<std::ptrdiff_t>(bytes - 1));
    taken.push_back(neighbour);
    for (std::byte* const one : taken) {
      free_on_2(cache, one);
    }
    cache.zones().drain_and_leave_current();
    object[0] ^= std::byte{0x45};
    EXPECT_EQ(cache.destroy(), 0u);
    expect_one(Kind::WriteAfterFree, object, bytes, 0);
  });
}

TEST_F(DebugCacheTest, a_write_over_all_of_a_free_object_tells_that_it_knows_no_single_offset) {
  Filled filled{216};
  filled.is_checked = false;
  DebuggedCache cache("thing", frames, DebuggedCache::shape_for(216, 8), filled.callbacks());
  std::byte* const object = allocate_on_1(cache);
  free_on_2(cache, object);
  test::fill_pattern(object, 216, 2);
  std::vector<std::string> lines;
  HostedCpu::lines = &lines;
  drain_2(cache);
  HostedCpu::lines = nullptr;
  expect_one(Kind::WriteAfterFree, object, 216, BlockHistory::no_offset);
  ASSERT_GE(lines.size(), 4u);
  EXPECT_EQ(lines[0], "slabmalloc: write into freed memory");
  EXPECT_EQ(lines[1], "  heap       thing");
  EXPECT_NE(lines[2].find(", 216 bytes, free"), std::string::npos) << lines[2];
  EXPECT_EQ(lines[3], "  damage     in more than one place");
  EXPECT_EQ(lines.back(), "  in         thing");
  EXPECT_EQ(cache.destroy(), 0u) << "the next check finds no damage";
}

TEST_F(DebugCacheTest, a_double_free_is_told_from_a_free_of_an_object_that_was_never_allocated) {
  with_each_cache([&](DebuggedCache& cache, std::size_t bytes) {
    std::byte* const object = allocate_on_1(cache);
    free_on_2(cache, object);
    cache.deallocate(object);
    expect_one(Kind::DoubleFree, object, bytes, 0);
    drain_2(cache);
    cache.deallocate(object);  // Its slot is free again.
    expect_one(Kind::DoubleFree, object, bytes, 0);
    std::byte* const next = object + cache.shape().object_bytes();
    if (cache.shape().objects_per_page() > 1) {
      cache.deallocate(next);
      const DebugReport never = reports.take_one();
      EXPECT_EQ(never.misuse.kind, Kind::DoubleFree);
      EXPECT_EQ(never.misuse.state, BlockState::NeverAllocated);
      EXPECT_EQ(never.misuse.block, next);
    }
    for (std::size_t offset = 1; offset < cache.shape().object_bytes();
         offset += offset < 200 ? 1 : 101) {
      std::byte* const live = allocate_on_1(cache);
      cache.deallocate(live + offset);
      expect_one(Kind::MisalignedFree, live, bytes, 0);
      free_on_2(cache, live);
      ASSERT_FALSE(HasFailure()) << offset;
    }
  });
}

TEST_F(DebugCacheTest, a_free_by_another_cache_names_both) {
  DebuggedCache cache("thing", frames, DebuggedCache::shape_for(100, 8));
  for (const std::size_t bytes : {100u, 120u, 300u}) {  // The same slots, and others.
    OtherCache other("other", frames, OtherCache::shape_for(bytes, 8));
    std::byte* const object = allocate_on_1(cache);
    std::vector<std::string> lines;
    HostedCpu::lines = &lines;
    other.deallocate(object);
    HostedCpu::lines = nullptr;
    EXPECT_STREQ(reports.take_one().misuse.allocated_by, "thing");
    ASSERT_GE(lines.size(), 3u);
    EXPECT_EQ(lines[0], "slabmalloc: free by a function of another kind");
    EXPECT_EQ(lines[1], "  heap       thing");
    EXPECT_EQ(lines.back(), "  in         other");
    cache.deallocate(object);
    EXPECT_EQ(other.destroy(), 0u);
  }
  using PlainCache = Cache<DebugKernel, Frames, CacheOptions>;
  for (const std::size_t bytes : {244u, 250u, 301u}) {  // Places where no record can lie.
    PlainCache plain("plain", frames, PlainCache::shape_for(bytes, 1));
    void* const object = plain.allocate();
    cache.deallocate(object);
    EXPECT_EQ(reports.take_one().misuse.kind, Kind::ForeignPointer);
    plain.deallocate(object);
    EXPECT_EQ(plain.destroy(), 0u);
  }
  CpuZones<DebugKernel, Frames> heap(frames);  // It has no debug mode.
  void* const block = heap.allocate(test::debug_layout(100)).value();
  cache.deallocate(block);
  EXPECT_EQ(reports.take_one().misuse.kind, Kind::ForeignPointer);
  heap.deallocate(block, test::debug_layout(100));
  heap.release_all();
  EXPECT_EQ(cache.destroy(), 0u);
}

// ---- calls --------------------------------------------------------------------------------------

struct Node {
  Node() noexcept { ++made; }
  ~Node() { --made; }
  Node* to[4] = {};
  std::uint64_t uses = 0;

  static inline std::size_t made = 0;
};
using Nodes = ObjectCache<Node, DebugKernel, Frames, Options>;

TEST_F(DebugCacheTest, each_call_of_a_typed_cache_names_the_code_that_called_it) {
  Nodes nodes("node", frames);
  Node* two[2];
  Node* const one = nodes.allocate();
  EXPECT_EQ(nodes.allocate_many(two, 2), 2u);
  std::set<const void*> callers;
  for (Node* const node : {one, two[0], two[1]}) {
    reinterpret_cast<std::byte*>(node)[sizeof(Node)] = std::byte{1};
  }
  nodes.deallocate(one);
  callers.insert(reports.take_one().history.allocated.caller);
  nodes.deallocate_many(two, 2);
  for (const DebugReport& report : reports.take()) {
    callers.insert(report.history.allocated.caller);
  }
  EXPECT_EQ(callers.size(), 2u) << "both objects of one call have one caller";
  EXPECT_EQ(nodes.destroy(), 0u);
  EXPECT_EQ(Node::made, 0u);
}

TEST_F(DebugCacheTest, each_allocation_fails_by_plan_and_each_constructor_may) {
  Filled filled{100};
  DebuggedCache cache("thing", frames, DebuggedCache::shape_for(100, 8), filled.callbacks());
  for (std::uint32_t call = 1; call <= 9; ++call) {
    void* objects[8];
    cache.zones().debug().failure_plan().fail_after(call);
    const std::size_t got = cache.allocate_many(objects, 8);
    EXPECT_EQ(got, call - 1);
    cache.deallocate_many(objects, got);
  }
  cache.zones().debug().failure_plan().stop();
  EXPECT_EQ(cache.destroy(), 0u);
  EXPECT_TRUE(filled.objects.empty());
  for (std::size_t slot = 0; slot < cache.shape().objects_per_page(); ++slot) {
    cache.set_limit(cache.shape().objects_per_page());
    filled.until_failure = slot;
    EXPECT_EQ(cache.allocate(Context::MayNotWait), nullptr);
    EXPECT_TRUE(filled.objects.empty());
    filled.until_failure = ~std::size_t{0};
  }
}

TEST_F(DebugCacheTest, delayed_objects_serve_before_memory_is_exhausted) {
  DebuggedCache cache("thing", frames, DebuggedCache::shape_for(500, 8));
  cache.set_limit(4 * cache.shape().objects_per_page());
  std::vector<void*> objects;
  while (void* const object = cache.allocate()) {
    objects.push_back(object);
  }
  EXPECT_EQ(objects.size(), 4 * cache.shape().objects_per_page());
  const std::size_t failures = cache.statistics().failures;
  for (void* const object : objects) {
    cache.deallocate(object);
    EXPECT_EQ(cache.zones().debug().delayed_blocks(), 1u);
    ASSERT_EQ(cache.allocate(), object);
  }
  EXPECT_EQ(cache.statistics().failures, failures);
  {
    const InSection handler;
    cache.deallocate(objects.back());
    EXPECT_EQ(cache.zones().debug().delayed_blocks(), 0u) << "the middle of a section delays none";
    cache.deallocate(objects.back());
    EXPECT_EQ(reports.take_one().misuse.kind, Kind::DoubleFree);
    EXPECT_EQ(cache.allocate(Context::MayNotWait), nullptr);
    EXPECT_TRUE(reports.take().empty()) << "it may have an object that its CPU keeps for handlers";
    EXPECT_EQ(cache.allocate(Context::MayWait), nullptr);
    EXPECT_EQ(reports.take_one().misuse.kind, Kind::WrongContext);
  }
  objects.pop_back();
  cache.deallocate_many(objects.data(), objects.size());
  EXPECT_EQ(cache.destroy(), 0u);
}

struct ReadNode {
  std::uint64_t words[3] = {};
  RetiredLink retired;
};

TEST_F(DebugCacheTest, retired_objects_are_checked_where_they_are_freed) {
  using ReadNodes = ObjectCache<ReadNode, test::Reading<DebugKernel>, Frames, OtherOptions>;
  static constexpr auto kind = RetiredKind::of<ReadNode>(offsetof(ReadNode, retired));
  ReadNodes nodes("node", frames);
  RetiredObjects retired(nodes.zones());
  ReadNode* const sound = nodes.allocate();
  ReadNode* const damaged = nodes.allocate();
  reinterpret_cast<std::byte*>(damaged)[sizeof(ReadNode)] = std::byte{1};
  retired.retire(sound, kind, Context::Interrupt);
  retired.retire(damaged, kind, Context::Interrupt);
  EXPECT_TRUE(reports.take().empty());
  EXPECT_TRUE(retired.drain());
  EXPECT_EQ(reports.take_one().misuse.block, damaged);
  nodes.deallocate(sound);
  EXPECT_EQ(reports.take_one().misuse.kind, Kind::DoubleFree);
  EXPECT_EQ(nodes.destroy(), 0u);
}

TEST_F(DebugCacheTest, a_random_load_keeps_objects_constructed_beside_a_shadow_and_events) {
  test::Random random;
  for (const bool is_raw : {false, true}) {
    constexpr std::size_t bytes = 120;
    forget_parts();
    std::vector<bool> poisoned(memory_bytes);
    DebugKernel::shadow = [&](void* address, std::size_t count, bool poisons) {
      std::fill_n(poisoned.begin() + static_cast<std::ptrdiff_t>(memory.offset_of(address)), count,
                  poisons);
    };
    std::map<const void*, std::size_t> traced;
    std::map<const void*, std::size_t> frames_held;
    DebugKernel::tracer = [&](const HeapEvent& event) {
      EXPECT_STREQ(event.heap, "thing");
      auto& held = event.kind == HeapEvent::Kind::Allocate || event.kind == HeapEvent::Kind::Free
                       ? traced
                       : frames_held;
      if (event.kind == HeapEvent::Kind::Allocate || event.kind == HeapEvent::Kind::Grow) {
        EXPECT_TRUE(held.emplace(event.address, event.bytes).second);
      } else {
        EXPECT_EQ(held[event.address], event.bytes);
        held.erase(event.address);
      }
    };
    Filled filled{bytes};
    DebuggedCache cache("thing", frames, DebuggedCache::shape_for(bytes, 8),
                        is_raw ? ObjectCallbacks{} : filled.callbacks());
    std::map<std::byte*, std::uint64_t> live;
    for (int turn = 0; turn < 20'000; ++turn) {
      HostedCpu::number = random.below(DebugKernel::maximum_cpus);
      if (!live.empty() && random.one_in(2)) {
        auto it = live.lower_bound(memory.at(random.below(memory_bytes)));
        it = it != live.end() ? it : live.begin();
        auto [object, key] = *it;
        ASSERT_TRUE(test::holds_pattern(object, bytes, key));
        const std::size_t at = memory.offset_of(object);
        EXPECT_FALSE(poisoned[at] || poisoned[at + bytes - 1]);
        EXPECT_TRUE(poisoned[at + bytes] && poisoned[at - 1]);
        test::fill_pattern(object, bytes, 1);  // Its constructed state.
        cache.deallocate(object);
        EXPECT_TRUE(poisoned[at]);
        live.erase(it);
      } else if (live.size() < 500) {
        auto* const object = static_cast<std::byte*>(cache.allocate());
        ASSERT_NE(object, nullptr);
        EXPECT_TRUE(is_raw || test::holds_pattern(object, bytes, 1)) << "it stayed constructed";
        const std::uint64_t key = random.next();
        test::fill_pattern(object, bytes, key);
        ASSERT_TRUE(live.emplace(object, key).second);
      }
      if (turn % 1000 == 0) {
        cache.zones().trim();
        EXPECT_EQ(cache.zones().check_blocks(), 0u);
        EXPECT_EQ(cache.validate(), nullptr);
        EXPECT_EQ(traced.size(), live.size());
      }
      ASSERT_TRUE(reports.take().empty() && !HasFailure()) << "turn " << turn;
    }
    for (const auto& [object, key] : live) {
      test::fill_pattern(object, bytes, 1);
      cache.deallocate(object);
    }
    HostedCpu::number = 0;
    EXPECT_EQ(cache.destroy(), 0u);
    EXPECT_TRUE(traced.empty() && frames_held.empty() && filled.objects.empty());
    EXPECT_EQ(std::find(poisoned.begin(), poisoned.end(), true), poisoned.end());
  }
}

TEST_F(DebugCacheTest, objects_that_no_root_leads_to_are_leaks_with_their_users) {
  test::Random random;
  Nodes nodes("node", frames);
  constexpr std::size_t count = 400;
  std::array<Node*, count> all{};
  for (Node*& node : all) {
    HostedCpu::number = random.below(DebugKernel::maximum_cpus);
    node = nodes.allocate();
  }
  HostedCpu::number = 0;
  Node* const freed = nodes.allocate();  // A free object leads nowhere.
  std::copy_n(all.begin(), 4, freed->to);
  nodes.deallocate(freed);
  for (int round = 0; round < 4; ++round) {
    std::map<Node*, bool> is_reached;
    for (Node* const node : all) {
      for (Node*& to : node->to) {
        to = random.one_in(3) ? all[random.below(count)] : nullptr;
      }
    }
    std::array<Node*, 3> roots{};
    std::vector<Node*> stack;
    for (Node*& root : roots) {
      root = all[random.below(count)];
      stack.push_back(root);
    }
    while (!stack.empty()) {
      Node* const node = stack.back();
      stack.pop_back();
      if (node != nullptr && !std::exchange(is_reached[node], true)) {
        stack.insert(stack.end(), std::begin(node->to), std::end(node->to));
      }
    }
    const LeakRoot root{roots.data(), sizeof(roots)};
    std::set<void*> leaks;
    EXPECT_EQ(nodes.zones().find_leaks(&root, 1,
                                       [&](const Leak& leak) {
                                         EXPECT_EQ(leak.size, sizeof(Node));
                                         EXPECT_STREQ(leak.heap, "node");
                                         EXPECT_NE(leak.allocated.caller, nullptr);
                                         leaks.insert(leak.block);
                                       }),
              count - is_reached.size());
    for (Node* const node : all) {
      ASSERT_EQ(leaks.contains(node), !is_reached.contains(node));
    }
  }
  for (Node* const node : all) {
    nodes.deallocate(node);
  }
  EXPECT_EQ(nodes.destroy(), 0u);
  EXPECT_EQ(Node::made, 0u);
}

}  // namespace
}  // namespace slabmalloc
