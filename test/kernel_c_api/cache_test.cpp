// SPDX-License-Identifier: MIT
//
// Object caches and the report by the C interface.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "kernel_c_api/hosted_hooks.hpp"

namespace {

using slabmalloc::test::fill;
using slabmalloc::test::HostedHooks;
using slabmalloc::test::MachineHeap;

/// Frames of this machine hold a cache's own memory as well, with all its CPUs.
constexpr std::size_t machine_bytes = std::size_t{32} * 1024 * 1024;

/// Objects that count how many are constructed.
struct Objects {
  static constexpr std::uint64_t mark = 0x5109;
  std::size_t constructed = 0, most = SIZE_MAX, shrinks = 0;
  std::vector<slabmalloc_context> contexts;

  slabmalloc_cache_parameters parameters(std::size_t bytes, std::size_t alignment) {
    return {"object", bytes, alignment, &construct, &destroy, &shrink, this};
  }

  static bool construct(void* place, slabmalloc_context context, void* self) noexcept {
    auto& it = *static_cast<Objects*>(self);
    it.contexts.push_back(context);
    *static_cast<std::uint64_t*>(place) = mark;
    return it.constructed < it.most && ++it.constructed != 0;
  }
  static void destroy(void* object, void* self) noexcept {
    EXPECT_EQ(*static_cast<std::uint64_t*>(object), mark);
    --static_cast<Objects*>(self)->constructed;
  }
  static std::size_t shrink(void* self, std::size_t) noexcept {
    ++static_cast<Objects*>(self)->shrinks;
    return 0;
  }
};

TEST(KernelCCache, keeps_objects_constructed_and_counts_those_in_use) {
  MachineHeap machine(machine_bytes);
  Objects objects;
  const slabmalloc_cache_parameters parameters = objects.parameters(200, 64);
  slabmalloc_cache* const cache = slabmalloc_cache_create(machine.heap, &parameters, nullptr);
  ASSERT_NE(cache, nullptr);
  EXPECT_EQ(slabmalloc_cache_allocate(cache, SLABMALLOC_INTERRUPT), nullptr);
  std::array<void*, 500> blocks{};
  ASSERT_EQ(slabmalloc_cache_allocate_many(cache, blocks.data(), 499, SLABMALLOC_MAY_NOT_WAIT),
            499u);
  blocks.back() = slabmalloc_cache_allocate(cache, SLABMALLOC_MAY_NOT_WAIT);
  EXPECT_EQ(objects.contexts.front(), SLABMALLOC_MAY_NOT_WAIT);
  for (void* const block : blocks) {
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(block) % 64, 0u);
    EXPECT_EQ(*static_cast<std::uint64_t*>(block), Objects::mark);
    fill(static_cast<unsigned char*>(block) + 8, 192, 7);
  }
  const slabmalloc_cache_counters counters = slabmalloc_cache_counters_of(cache);
  EXPECT_EQ(counters.objects_in_use, 500u);
  EXPECT_EQ(counters.object_bytes, 256u);
  EXPECT_EQ(counters.objects, objects.constructed);
  EXPECT_EQ(counters.pages * counters.objects_per_page, counters.objects);
  EXPECT_EQ(slabmalloc_cache_destroy(cache), 500u);
  slabmalloc_cpu_zones_deallocate(machine.heap, blocks[0], 256, 64, SLABMALLOC_MAY_WAIT);
  EXPECT_EQ(HostedHooks::take_misuse().reason, SLABMALLOC_MISUSE_FOREIGN_POINTER);
  HostedHooks::cpu = 5;
  slabmalloc_cache_deallocate(cache, blocks.back());
  slabmalloc_cache_deallocate(cache, blocks.back());
  EXPECT_EQ(HostedHooks::take_misuse().reason, SLABMALLOC_MISUSE_DOUBLE_FREE);
  slabmalloc_cache_deallocate_many(cache, blocks.data(), 499);
  slabmalloc_cpu_zones_reclaim(machine.heap, machine_bytes);
  EXPECT_EQ(objects.shrinks, 1u);
  EXPECT_EQ(slabmalloc_cache_validate(cache), nullptr);
  EXPECT_EQ(slabmalloc_cache_destroy(cache), 0u);
  EXPECT_EQ(objects.constructed, 0u);
  EXPECT_EQ(slabmalloc_cpu_zones_drain_all(machine.heap), 0u);
  EXPECT_EQ(machine.used_bytes(), 0u);
  HostedHooks::cpu = 0;
}

TEST(KernelCCache, names_the_reason_why_there_is_none) {
  MachineHeap machine(machine_bytes);
  const auto reason = [&](std::size_t bytes, std::size_t alignment) {
    const slabmalloc_cache_parameters parameters{"bad",   bytes,   alignment, nullptr,
                                                 nullptr, nullptr, nullptr};
    slabmalloc_error error = SLABMALLOC_OK;
    EXPECT_EQ(slabmalloc_cache_create(machine.heap, &parameters, &error), nullptr);
    EXPECT_EQ(slabmalloc_cache_create(machine.heap, &parameters, nullptr), nullptr);
    return error;
  };
  EXPECT_EQ(reason(0, 8), SLABMALLOC_NO_SIZE);
  EXPECT_EQ(reason(8, 24), SLABMALLOC_ALIGNMENT_NOT_POWER);
  EXPECT_EQ(reason(8193, 8), SLABMALLOC_TOO_LARGE);
  slabmalloc_cpu_zones_set_limit(machine.heap, 4096, nullptr, nullptr);
  EXPECT_EQ(reason(8192, 0), SLABMALLOC_OUT_OF_MEMORY);
  EXPECT_STREQ(slabmalloc_describe_error(SLABMALLOC_NO_SIZE), "objects of no size");
}

TEST(KernelCCache, gives_objects_from_its_reserves_at_its_limit_and_without_a_constructor) {
  MachineHeap machine(machine_bytes);
  Objects objects;
  const slabmalloc_cache_parameters parameters = objects.parameters(64, 0);
  slabmalloc_cache* const cache = slabmalloc_cache_create(machine.heap, &parameters, nullptr);
  EXPECT_EQ(slabmalloc_cache_reserve(cache, 10), SLABMALLOC_OK);
  EXPECT_EQ(slabmalloc_cache_reserve_for_interrupts(cache, 2), SLABMALLOC_OK);
  EXPECT_EQ(slabmalloc_cache_reserve_for_interrupts(cache, 99), SLABMALLOC_TOO_MANY);
  objects.most = objects.constructed;
  std::size_t count = 0;
  while (slabmalloc_cache_allocate(cache, SLABMALLOC_INTERRUPT) != nullptr) {
    ++count;
  }
  EXPECT_GE(count, 10u);
  EXPECT_EQ(count, slabmalloc_cache_counters_of(cache).objects);
  objects.most = SIZE_MAX;
  std::size_t limits = 0;
  slabmalloc_cache_set_waiting(cache, false);
  slabmalloc_cache_set_limit(
      cache, count, [](void* calls) noexcept { ++*static_cast<std::size_t*>(calls); }, &limits);
  EXPECT_EQ(slabmalloc_cache_allocate(cache, SLABMALLOC_MAY_NOT_WAIT), nullptr);
  EXPECT_EQ(limits, 1u);
  slabmalloc_cache_set_limit(cache, SIZE_MAX, nullptr, nullptr);
  EXPECT_NE(slabmalloc_cache_allocate(cache, SLABMALLOC_MAY_NOT_WAIT), nullptr);
}

TEST(KernelCCache, stands_in_the_report_of_its_heap) {
  MachineHeap machine(machine_bytes);
  const slabmalloc_cache_parameters parameters{"inode", 600, 0, nullptr, nullptr, nullptr, nullptr};
  slabmalloc_cache* const cache = slabmalloc_cache_create(machine.heap, &parameters, nullptr);
  EXPECT_NE(slabmalloc_cache_allocate(cache, SLABMALLOC_MAY_WAIT), nullptr);
  EXPECT_NE(slabmalloc_cpu_zones_allocate(machine.heap, 64, 8, SLABMALLOC_MAY_WAIT), nullptr);
  std::vector<std::string> lines;
  slabmalloc_cpu_zones_slabinfo(
      machine.heap,
      [](void* list, const char* line) noexcept {
        static_cast<std::vector<std::string>*>(list)->emplace_back(line);
      },
      &lines);
  HostedHooks::lines.clear();
  slabmalloc_cpu_zones_slabinfo(machine.heap, nullptr, nullptr);
  EXPECT_EQ(lines, HostedHooks::lines);
  const auto has = [&](const std::string& begin) {
    return std::any_of(lines.begin(), lines.end(),
                       [&](const std::string& line) { return line.rfind(begin, 0) == 0; });
  };
  EXPECT_TRUE(has("name  ") && has("heap-64  ") && has("heap-runs  ") && has("heap  "));
  EXPECT_TRUE(has("inode                     1 "));
}

}  // namespace
