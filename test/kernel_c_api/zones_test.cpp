// SPDX-License-Identifier: MIT
//
// Allocators for one owner by the C interface: sc_allocator, zone_allocator and paged_zone.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <map>
#include <random>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "kernel_c_api/hosted_hooks.hpp"

namespace {

using slabmalloc::test::fill;
using slabmalloc::test::HostedHooks;
using slabmalloc::test::is_filled;
using slabmalloc::test::Machine;
using slabmalloc::test::Memory;

constexpr std::size_t base = SLABMALLOC_BASE_PAGE, large = SLABMALLOC_LARGE_PAGE;

void collect(void* list, void* page) noexcept {
  static_cast<std::vector<void*>*>(list)->push_back(page);
}

/// Fills, verifies, frees, fills again and reclaims, by functions of any of the allocators.
template <class Allocate, class Free>
void fill_twice(std::size_t bytes, std::size_t alignment, Allocate&& allocate, Free&& free) {
  std::size_t first_count = 0;
  for (int round = 0; round < 2; ++round) {
    std::vector<void*> blocks;
    while (void* const block = allocate()) {
      ASSERT_EQ(reinterpret_cast<std::uintptr_t>(block) % alignment, 0u);
      fill(block, bytes, blocks.size());
      blocks.push_back(block);
    }
    ASSERT_NE(blocks.size(), 0u);
    ASSERT_EQ(round == 0 ? blocks.size() : first_count, blocks.size());
    first_count = blocks.size();
    for (std::size_t number = 0; number < blocks.size(); ++number) {
      ASSERT_TRUE(is_filled(blocks[number], bytes, number));
      free(blocks[number]);
    }
  }
}

void check_sc(std::size_t bytes, std::size_t alignment, std::size_t page_bytes) {
  SCOPED_TRACE(testing::Message() << bytes << " B at " << alignment);
  constexpr std::size_t pages = 3;
  const Memory memory(pages * large);
  slabmalloc_sc_allocator allocator = SLABMALLOC_SC_ALLOCATOR(bytes, alignment, page_bytes);
  slabmalloc_error error = SLABMALLOC_OK;
  EXPECT_EQ(slabmalloc_sc_allocator_allocate(&allocator, bytes, alignment, &error), nullptr);
  EXPECT_EQ(error, SLABMALLOC_OUT_OF_MEMORY);
  std::set<void*> given;
  for (std::size_t page = 0; page < pages; ++page) {
    given.insert(memory.at(page * page_bytes));
    ASSERT_EQ(slabmalloc_sc_allocator_refill(&allocator, memory.at(page * page_bytes)),
              SLABMALLOC_OK);
  }
  EXPECT_GE(slabmalloc_sc_allocator_usable_size(&allocator), bytes);
  std::size_t live = 0;
  fill_twice(
      bytes, alignment,
      [&]() {
        void* const object =
            slabmalloc_sc_allocator_allocate(&allocator, bytes, alignment, nullptr);
        live += object != nullptr ? 1 : 0;
        return object;
      },
      [&](void* object) {
        // The seed used an eighth to a half of a page for large objects.
        if (live != 0) {
          EXPECT_GE(live * slabmalloc_sc_allocator_usable_size(&allocator), pages * page_bytes / 2);
          live = 0;
        }
        slabmalloc_sc_allocator_deallocate(&allocator, object, bytes, alignment);
      });
  EXPECT_EQ(slabmalloc_sc_allocator_counters(&allocator).used_bytes, 0u);
  EXPECT_EQ(slabmalloc_sc_allocator_counters(&allocator).page_bytes, pages * page_bytes);
  EXPECT_EQ(slabmalloc_sc_allocator_validate(&allocator), nullptr);
  std::vector<void*> reclaimed;
  EXPECT_EQ(slabmalloc_sc_allocator_try_reclaim_pages(&allocator, 1, collect, &reclaimed), 1u);
  EXPECT_EQ(slabmalloc_sc_allocator_try_reclaim_pages(&allocator, 9, collect, &reclaimed), 2u);
  EXPECT_EQ(std::set<void*>(reclaimed.begin(), reclaimed.end()), given);
}

TEST(KernelCSizes, fill_verify_free_and_reclaim_pages) {
  for (const std::size_t bytes : {8u, 12u, 13u, 14u, 15u, 16u, 24u, 32u, 64u, 512u, 1024u, 2000u}) {
    for (const std::size_t alignment : {1u, 8u, 64u}) {
      check_sc(bytes, alignment, base);
    }
  }
  check_sc(8, 8, large);
  for (std::size_t bytes = 4096; bytes <= 131072; bytes *= 2) {
    check_sc(bytes, 4096, large);
  }
}

TEST(KernelCSizes, zero_bytes_are_an_allocator_of_the_least_objects) {
  slabmalloc_sc_allocator allocator = {};
  const Memory memory(large);
  ASSERT_EQ(slabmalloc_sc_allocator_refill(&allocator, memory.at(0)), SLABMALLOC_OK);
  EXPECT_NE(slabmalloc_sc_allocator_allocate(&allocator, 8, 8, nullptr), nullptr);
  slabmalloc_error error = SLABMALLOC_OK;
  EXPECT_EQ(slabmalloc_sc_allocator_allocate(&allocator, 9, 8, &error), nullptr);
  EXPECT_EQ(error, SLABMALLOC_INVALID_LAYOUT);
}

// ---- zones --------------------------------------------------------------------------------------

/// A zone with all pages of a memory, by refills for what it lacks.
struct FedZone {
  explicit FedZone(std::size_t large_pages) : memory(large_pages * large), left(large_pages) {
    for (std::size_t page = 0; page < large / base; ++page) {
      base_pages.push_back(memory.at(page * base));
    }
    --left;
  }

  void* allocate(std::size_t bytes, std::size_t alignment) {
    slabmalloc_error error = SLABMALLOC_OK;
    void* block = slabmalloc_zone_allocator_allocate(&zone, bytes, alignment, &error);
    if (error == SLABMALLOC_OUT_OF_MEMORY && refill(bytes, alignment)) {
      block = slabmalloc_zone_allocator_allocate(&zone, bytes, alignment, nullptr);
    }
    return block;
  }
  bool refill(std::size_t bytes, std::size_t alignment) {
    if (slabmalloc_zone_allocator_page_bytes(bytes, alignment) == base) {
      if (base_pages.empty()) {
        return false;
      }
      void* const page = base_pages.back();
      base_pages.pop_back();
      EXPECT_EQ(slabmalloc_zone_allocator_refill_large(&zone, bytes, alignment, page),
                SLABMALLOC_INVALID_LAYOUT);
      return slabmalloc_zone_allocator_refill(&zone, bytes, alignment, page) == SLABMALLOC_OK;
    }
    return left != 0 && slabmalloc_zone_allocator_refill_large(
                            &zone, bytes, alignment, memory.at(left-- * large)) == SLABMALLOC_OK;
  }
  void free(void* block, std::size_t bytes, std::size_t alignment) {
    slabmalloc_zone_allocator_deallocate(&zone, block, bytes, alignment);
  }

  Memory memory;
  std::vector<void*> base_pages;
  std::size_t left;
  slabmalloc_zone_allocator zone{};
};

TEST(KernelCZone, fills_verifies_frees_and_reclaims_pages) {
  for (const std::size_t bytes : {8u, 48u, 256u, 257u, 4096u, 32768u, 131072u}) {
    FedZone fed(3);
    const std::size_t alignment = bytes % 4096 == 0 ? 4096 : 8;
    fill_twice(
        bytes, alignment, [&]() { return fed.allocate(bytes, alignment); },
        [&](void* block) { fed.free(block, bytes, alignment); });
    EXPECT_EQ(slabmalloc_zone_allocator_validate(&fed.zone), nullptr);
    EXPECT_EQ(slabmalloc_zone_allocator_counters(&fed.zone).used_bytes, 0u);
    std::vector<void*> reclaimed;
    if (bytes <= SLABMALLOC_MAX_BASE_ALLOC_SIZE) {
      EXPECT_EQ(
          slabmalloc_zone_allocator_try_reclaim_base_pages(&fed.zone, 999, collect, &reclaimed),
          512u);
    } else {
      EXPECT_EQ(
          slabmalloc_zone_allocator_try_reclaim_large_pages(&fed.zone, 999, collect, &reclaimed),
          2u);
    }
    EXPECT_EQ(std::set<void*>(reclaimed.begin(), reclaimed.end()).size(), reclaimed.size());
    EXPECT_EQ(slabmalloc_zone_allocator_counters(&fed.zone).page_bytes, 0u);
  }
}

TEST(KernelCZone, names_the_reason_of_a_failure) {
  slabmalloc_zone_allocator zone = {};
  slabmalloc_error error = SLABMALLOC_OK;
  EXPECT_EQ(slabmalloc_zone_allocator_allocate(&zone, 131072, 1, &error), nullptr);
  EXPECT_EQ(error, SLABMALLOC_OUT_OF_MEMORY);
  for (const auto& [bytes, alignment] : {std::pair<std::size_t, std::size_t>{131073, 1},
                                         {8, 262144},
                                         {8, 24},
                                         {8, 0},
                                         {~std::size_t{0}, 8}}) {
    error = SLABMALLOC_OK;
    EXPECT_EQ(slabmalloc_zone_allocator_allocate(&zone, bytes, alignment, &error), nullptr);
    EXPECT_EQ(error, SLABMALLOC_INVALID_LAYOUT);
    EXPECT_EQ(slabmalloc_zone_allocator_page_bytes(bytes, alignment), 0u);
  }
  EXPECT_STREQ(slabmalloc_describe_error(SLABMALLOC_OUT_OF_MEMORY), "no memory");
  EXPECT_EQ(slabmalloc_get_max_size(131072), 131072u);
  EXPECT_EQ(slabmalloc_get_max_size(131073), 0u);
  for (std::size_t bytes = 1; bytes <= 131072; bytes += 97) {
    EXPECT_GE(slabmalloc_get_max_size(bytes), bytes);
    EXPECT_EQ(slabmalloc_get_max_size(slabmalloc_get_max_size(bytes)),
              slabmalloc_get_max_size(bytes));
  }
}

TEST(KernelCZone, does_as_a_model_does_with_random_calls) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  struct Block {
    std::size_t bytes, alignment, number;
  };
  FedZone fed(60);
  std::map<unsigned char*, Block> model;
  const auto check = [&](std::map<unsigned char*, Block>::iterator at) {
    ASSERT_TRUE(is_filled(at->first, at->second.bytes, at->second.number));
  };
  const auto add = [&](void* memory, Block block) {
    auto* const first = static_cast<unsigned char*>(memory);
    const auto next = model.lower_bound(first);
    ASSERT_TRUE(next == model.end() || first + block.bytes <= next->first);
    ASSERT_TRUE(next == model.begin() ||
                std::prev(next)->first + std::prev(next)->second.bytes <= first);
    ASSERT_EQ(reinterpret_cast<std::uintptr_t>(first) % block.alignment, 0u);
    fill(first, block.bytes, block.number);
    model[first] = block;
  };
  const auto some_bytes = [&] { return 1 + random() % (std::size_t{1} << (3 + random() % 14)); };
  for (std::size_t step = 0; step < 20'000 && !testing::Test::HasFatalFailure(); ++step) {
    auto at = model.lower_bound(fed.memory.at(random() % (60 * large)));
    const Block wanted{some_bytes(), std::size_t{1} << random() % 8, step};
    if (at == model.end() || random() % 5 < 2) {
      if (void* const memory = fed.allocate(wanted.bytes, wanted.alignment)) {
        add(memory, wanted);
      }
    } else if (random() % 3 != 0) {
      check(at);
      fed.free(at->first, at->second.bytes, at->second.alignment);
      model.erase(at);
    } else {
      const Block old = at->second;
      void* const moved = slabmalloc_zone_allocator_reallocate(
          &fed.zone, at->first, old.bytes, wanted.bytes, old.alignment, nullptr);
      if (moved != nullptr) {
        ASSERT_TRUE(is_filled(moved, std::min(old.bytes, wanted.bytes), old.number));
        model.erase(at);
        add(moved, {wanted.bytes, old.alignment, step});
      }
    }
  }
  EXPECT_EQ(slabmalloc_zone_allocator_validate(&fed.zone), nullptr);
  for (auto at = model.begin(); at != model.end(); ++at) {
    check(at);
    fed.free(at->first, at->second.bytes, at->second.alignment);
  }
  EXPECT_EQ(slabmalloc_zone_allocator_counters(&fed.zone).used_bytes, 0u);
  EXPECT_TRUE(HostedHooks::misuse.empty());
}

TEST(KernelCZone, takes_frees_of_another_thread) {
  FedZone fed(2);
  std::vector<void*> blocks(1000);
  std::generate(blocks.begin(), blocks.end(), [&] { return fed.allocate(64, 8); });
  std::thread([&] {
    for (void* const block : blocks) {
      slabmalloc_zone_allocator_deallocate_remote(block, 64, 8);
    }
  }).join();
  std::vector<void*> reclaimed;
  EXPECT_GT(slabmalloc_zone_allocator_try_reclaim_base_pages(&fed.zone, 99, collect, &reclaimed),
            14u);
  EXPECT_EQ(slabmalloc_zone_allocator_counters(&fed.zone).remote_frees, 1000u);
}

TEST(KernelCZone, reports_bad_frees_and_changes_nothing) {
  FedZone fed(2);
  auto* const block = static_cast<unsigned char*>(fed.allocate(64, 8));
  const auto expect = [&](slabmalloc_misuse_reason reason, const void* address) {
    ASSERT_EQ(HostedHooks::misuse.size(), 1u);
    const slabmalloc_misuse told = HostedHooks::take_misuse();
    EXPECT_EQ(told.reason, reason) << slabmalloc_describe_misuse(told.reason);
    EXPECT_EQ(told.address, address);
    EXPECT_FALSE(told.is_late);
    EXPECT_EQ(slabmalloc_zone_allocator_counters(&fed.zone).used_bytes, 64u);
  };
  fed.free(block + 8, 64, 8);
  expect(SLABMALLOC_MISUSE_MISALIGNED_FREE, block + 8);
  fed.free(block, 128, 8);
  expect(SLABMALLOC_MISUSE_SIZE_MISMATCH, block);
  fed.free(block, 64, 24);
  expect(SLABMALLOC_MISUSE_SIZE_MISMATCH, block);
  fed.free(block, 64, 0);
  expect(SLABMALLOC_MISUSE_SIZE_MISMATCH, block);
  slabmalloc_zone_allocator_deallocate_remote(block, 200'000, 8);
  expect(SLABMALLOC_MISUSE_SIZE_MISMATCH, block);
  EXPECT_EQ(slabmalloc_zone_allocator_refill(&fed.zone, 64, 8, fed.memory.at(8)),
            SLABMALLOC_INVALID_LAYOUT);
  expect(SLABMALLOC_MISUSE_INVALID_PAGE, fed.memory.at(8));
  void* const other = fed.allocate(64, 8);
  fed.free(other, 64, 8);
  fed.free(other, 64, 8);
  const slabmalloc_misuse told = HostedHooks::misuse.at(0);
  EXPECT_EQ(told.block, other);
  EXPECT_EQ(told.object_bytes, 64u);
  expect(SLABMALLOC_MISUSE_DOUBLE_FREE, other);
  fed.free(nullptr, 64, 24);
  fed.free(block, 64, 8);
  EXPECT_TRUE(HostedHooks::misuse.empty());
}

// ---- paged zones --------------------------------------------------------------------------------

/// A pager that has nothing after `left` calls.
struct FailingPager {
  explicit FailingPager(Machine& machine) : frames(machine.pager), pager(machine.pager) {
    pager.argument = this;
    pager.allocate_frame = [](void* self, std::size_t bytes,
                              slabmalloc_context context) noexcept -> void* {
      auto& it = *static_cast<FailingPager*>(self);
      return it.fails() ? nullptr : it.frames.allocate_frame(it.frames.argument, bytes, context);
    };
    pager.allocate_run = [](void* self, std::size_t bytes, std::size_t alignment,
                            slabmalloc_context context) noexcept -> void* {
      auto& it = *static_cast<FailingPager*>(self);
      return it.fails() ? nullptr
                        : it.frames.allocate_run(it.frames.argument, bytes, alignment, context);
    };
    pager.deallocate_frame = [](void* self, void* frame, std::size_t bytes) noexcept {
      auto& it = *static_cast<FailingPager*>(self);
      it.frames.deallocate_frame(it.frames.argument, frame, bytes);
    };
    pager.deallocate_run = [](void* self, void* run, std::size_t bytes) noexcept {
      auto& it = *static_cast<FailingPager*>(self);
      return it.frames.deallocate_run(it.frames.argument, run, bytes);
    };
  }
  bool fails() { return left == 0 || --left == 0; }

  slabmalloc_kernel_pager frames;
  slabmalloc_kernel_pager pager;
  std::size_t left = 0;
};

TEST(KernelCPagedZone, loses_nothing_at_any_failure_of_its_pager) {
  constexpr std::size_t sizes[] = {8, 100, 300, 5000, 9000, 100'000, 131'072, 200'000, 3'000'000};
  Machine machine(16 * large);
  for (std::size_t point = 1;; ++point) {
    FailingPager failing(machine);
    failing.left = point;
    slabmalloc_paged_zone zone = SLABMALLOC_PAGED_ZONE(&failing.pager);
    std::vector<std::pair<void*, std::size_t>> blocks;
    bool has_failed = false;
    for (const std::size_t bytes : sizes) {
      void* const block = bytes % 2 == 0 ? slabmalloc_paged_zone_allocate_zeroed(&zone, bytes, 8)
                                         : slabmalloc_paged_zone_allocate(&zone, bytes, 8);
      has_failed = has_failed || block == nullptr;
      if (block != nullptr) {
        EXPECT_TRUE(bytes % 2 != 0 ||
                    std::count(static_cast<char*>(block), static_cast<char*>(block) + bytes, 0) ==
                        static_cast<std::ptrdiff_t>(bytes));
        fill(block, bytes, bytes);
        blocks.emplace_back(block, bytes);
      }
    }
    EXPECT_EQ(slabmalloc_paged_zone_validate(&zone), nullptr);
    for (auto& [block, bytes] : blocks) {
      EXPECT_TRUE(is_filled(block, bytes, bytes));
      slabmalloc_paged_zone_deallocate(&zone, block, bytes, 8);
    }
    EXPECT_EQ(slabmalloc_paged_zone_counters(&zone).used_bytes, 0u);
    slabmalloc_paged_zone_trim(&zone);
    EXPECT_EQ(machine.used_bytes(), 0u) << "point " << point;
    if (!has_failed) {
      EXPECT_GT(point, 5u);
      break;
    }
  }
  EXPECT_TRUE(HostedHooks::misuse.empty());
}

TEST(KernelCPagedZone, reallocates_frees_remotely_and_releases_all) {
  Machine machine(16 * large);
  slabmalloc_paged_zone zone = SLABMALLOC_PAGED_ZONE(&machine.pager);
  void* block = slabmalloc_paged_zone_reallocate(&zone, nullptr, 0, 50, 8);
  fill(block, 50, 1);
  EXPECT_EQ(slabmalloc_paged_zone_reallocate(&zone, block, 50, 51, 8), block);
  block = slabmalloc_paged_zone_reallocate(&zone, block, 50, 300'000, 8);
  EXPECT_TRUE(is_filled(block, 50, 1));
  slabmalloc_paged_zone_deallocate(&zone, block, 300'000, 8);
  slabmalloc_paged_zone_deallocate_remote(slabmalloc_paged_zone_allocate(&zone, 64, 8), 64, 8);
  EXPECT_NE(slabmalloc_paged_zone_allocate(&zone, 64, 8), nullptr);
  EXPECT_NE(machine.used_bytes(), 0u);
  slabmalloc_paged_zone_release_all(&zone);
  EXPECT_EQ(machine.used_bytes(), 0u);
}

TEST(KernelCPagedZone, has_no_memory_without_a_pager) {
  slabmalloc_paged_zone zone = {};
  EXPECT_EQ(slabmalloc_paged_zone_allocate(&zone, 64, 8), nullptr);
  EXPECT_EQ(slabmalloc_paged_zone_allocate(&zone, 1 << 20, 8), nullptr);
  unsigned char byte = 0;
  slabmalloc_paged_zone_deallocate(&zone, &byte, 1 << 20, 8);
  EXPECT_EQ(HostedHooks::take_misuse().reason, SLABMALLOC_MISUSE_FOREIGN_POINTER);
}

}  // namespace
