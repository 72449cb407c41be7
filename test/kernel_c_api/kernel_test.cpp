// SPDX-License-Identifier: MIT
//
// The services of a kernel by the C interface: early memory, frames, zones of CPUs.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "kernel_c_api/hosted_hooks.hpp"

namespace {

using slabmalloc::test::fill;
using slabmalloc::test::HostedHooks;
using slabmalloc::test::is_filled;
using slabmalloc::test::Machine;
using slabmalloc::test::MachineHeap;
using slabmalloc::test::Memory;

constexpr std::size_t mebibyte = 1024 * 1024;
/// Frames of this machine hold a cache's own memory as well, with all its CPUs.
constexpr std::size_t machine_bytes = 32 * mebibyte;

extern "C" int use_whole_header(unsigned char* memory);

TEST(KernelC, serves_a_kernel_in_c_by_each_function) {
  const Memory memory(16 * mebibyte);
  HostedHooks::cpu = 0;
  EXPECT_EQ(use_whole_header(memory.at(0)), 0) << "of whole_header.c failed";
}

// ---- frames -------------------------------------------------------------------------------------

TEST(KernelCFrames, come_from_early_memory_without_what_is_reserved) {
  const Memory memory(4 * mebibyte);
  slabmalloc_early_memory early = {};
  slabmalloc_frame_allocator frames = {};
  EXPECT_EQ(slabmalloc_early_memory_reserve(
                &early, {reinterpret_cast<std::uintptr_t>(memory.at(4096)), 8192}),
            SLABMALLOC_OK);
  EXPECT_EQ(slabmalloc_early_memory_add(&early, memory.region()), SLABMALLOC_OK);
  void* const table = slabmalloc_early_memory_allocate(&early, 5000, 4096, ~std::uintptr_t{0});
  ASSERT_NE(table, nullptr);
  EXPECT_EQ(slabmalloc_early_memory_allocate(&early, 8, 24, ~std::uintptr_t{0}), nullptr);
  EXPECT_EQ(slabmalloc_early_memory_allocate(&early, 8, 8,
                                             reinterpret_cast<std::uintptr_t>(memory.at(0))),
            nullptr);
  ASSERT_EQ(slabmalloc_early_memory_hand_over(&early, &frames), SLABMALLOC_OK);
  EXPECT_TRUE(slabmalloc_frame_allocator_owns(&frames, memory.at(0)));
  EXPECT_FALSE(slabmalloc_frame_allocator_owns(&frames, memory.at(4096)));
  EXPECT_FALSE(slabmalloc_frame_allocator_owns(&frames, table));
  EXPECT_EQ(slabmalloc_frame_allocator_validate(&frames), nullptr);
}

TEST(KernelCFrames, are_given_until_none_is_left_and_come_back) {
  Machine machine(4 * mebibyte);
  ASSERT_TRUE(machine.is_sound);
  const slabmalloc_frame_counters before = slabmalloc_frame_allocator_counters(&machine.frames);
  EXPECT_EQ(before.managed_bytes, 4 * mebibyte);
  EXPECT_EQ(before.free_bytes, before.managed_bytes - before.metadata_bytes);
  std::vector<void*> frames;
  while (void* const frame = slabmalloc_frame_allocator_allocate_frame(&machine.frames, 4096)) {
    fill(frame, 4096, frames.size());
    frames.push_back(frame);
  }
  EXPECT_EQ(frames.size() * 4096, before.free_bytes);
  EXPECT_EQ(slabmalloc_frame_allocator_counters(&machine.frames).failures, 1u);
  for (std::size_t number = 0; number < frames.size(); ++number) {
    ASSERT_TRUE(is_filled(frames[number], 4096, number));
    slabmalloc_frame_allocator_deallocate_frame(&machine.frames, frames[number], 4096);
  }
  const slabmalloc_frame_counters after = slabmalloc_frame_allocator_counters(&machine.frames);
  EXPECT_EQ(after.used_bytes, 0u);
  EXPECT_EQ(after.used_bytes_high_water, before.free_bytes);
  EXPECT_EQ(after.allocations, after.frees);
}

TEST(KernelCFrames, are_found_and_protected_from_bad_frees) {
  Machine machine(4 * mebibyte);
  slabmalloc_frame_allocator* const frames = &machine.frames;
  auto* const run =
      static_cast<unsigned char*>(slabmalloc_frame_allocator_allocate_run(frames, 20'000, 65536));
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(run) % 65536, 0u);
  EXPECT_EQ(slabmalloc_frame_allocator_allocate_run(frames, 20'000, 3), nullptr);
  EXPECT_EQ(slabmalloc_frame_allocator_allocate_run_at(frames, run + 4096, 4096), nullptr);
  const slabmalloc_block found = slabmalloc_frame_allocator_find(frames, run + 5000);
  EXPECT_EQ(found.address, run);
  EXPECT_EQ(found.bytes, 20'480u);
  EXPECT_EQ(found.use, SLABMALLOC_USE_RUN);
  EXPECT_FALSE(slabmalloc_frame_allocator_deallocate_run(frames, run, 4096));
  EXPECT_EQ(HostedHooks::take_misuse().reason, SLABMALLOC_MISUSE_SIZE_MISMATCH);
  slabmalloc_frame_allocator_deallocate_frame(frames, run, 4096);
  EXPECT_EQ(HostedHooks::take_misuse().reason, SLABMALLOC_MISUSE_SIZE_MISMATCH);
  EXPECT_TRUE(slabmalloc_frame_allocator_deallocate_run(frames, run, 20'000));
  EXPECT_FALSE(slabmalloc_frame_allocator_deallocate_run(frames, run, 20'000));
  EXPECT_EQ(HostedHooks::take_misuse().reason, SLABMALLOC_MISUSE_DOUBLE_FREE);
  EXPECT_EQ(slabmalloc_frame_allocator_find(frames, run).use, SLABMALLOC_USE_FREE);
  EXPECT_EQ(slabmalloc_frame_allocator_allocate_run_at(frames, run + 4096, 4096), run + 4096);
}

// ---- zones of CPUs ------------------------------------------------------------------------------

TEST(KernelCHeap, refuses_memory_that_is_misaligned) {
  Machine machine(4 * mebibyte);
  EXPECT_EQ(slabmalloc_cpu_zones_create(machine.memory.at(8), "heap", &machine.pager), nullptr);
  EXPECT_EQ(slabmalloc_cpu_zones_create(nullptr, "heap", &machine.pager), nullptr);
  EXPECT_EQ(slabmalloc_maximum_cpus(), 64u);
}

TEST(KernelCHeap, does_as_a_model_does_with_random_calls_on_random_cpus) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  MachineHeap machine(machine_bytes);
  slabmalloc_cpu_zones* const heap = machine.heap;
  struct Block {
    unsigned char* first;
    std::size_t bytes, alignment, number;
  };
  std::vector<Block> model;
  const auto context = [&] { return static_cast<slabmalloc_context>(random() % 4); };
  for (std::size_t step = 0; step < 30'000 && !testing::Test::HasFatalFailure(); ++step) {
    HostedHooks::cpu = random() % 64;
    const std::size_t bytes = 1 + random() % (std::size_t{1} << (3 + random() % 15));
    const std::size_t alignment = std::size_t{1} << random() % 8;
    const bool is_zeroed = random() % 4 == 0;
    const std::uint32_t call = random() % 8;
    if (model.empty() || call < 4) {
      void* const block =
          is_zeroed ? slabmalloc_cpu_zones_allocate_zeroed(heap, bytes, alignment, context())
                    : slabmalloc_cpu_zones_allocate(heap, bytes, alignment, context());
      if (block == nullptr) {
        continue;  // A context that may not call the pager.
      }
      auto* const first = static_cast<unsigned char*>(block);
      ASSERT_EQ(reinterpret_cast<std::uintptr_t>(block) % alignment, 0u);
      ASSERT_TRUE(!is_zeroed ||
                  static_cast<std::size_t>(std::count(first, first + bytes, 0)) == bytes);
      fill(block, bytes, step);
      model.push_back({first, bytes, alignment, step});
      continue;
    }
    const std::size_t place = random() % model.size();
    Block& block = model[place];
    ASSERT_TRUE(is_filled(block.first, block.bytes, block.number));
    ASSERT_GE(slabmalloc_cpu_zones_usable_size(heap, block.first), block.bytes);
    if (call == 4) {
      void* const moved =
          slabmalloc_cpu_zones_reallocate(heap, block.first, bytes, alignment, context());
      if (moved != nullptr) {
        ASSERT_TRUE(is_filled(moved, std::min(bytes, block.bytes), block.number));
        block = {static_cast<unsigned char*>(moved), bytes, alignment, step};
        fill(moved, bytes, step);
      }
      continue;
    }
    if (call == 5) {
      slabmalloc_cpu_zones_free(heap, block.first, context());
    } else {
      slabmalloc_cpu_zones_deallocate(heap, block.first, block.bytes, block.alignment, context());
    }
    block = model.back();
    model.pop_back();
    if (random() % 64 == 0) {
      slabmalloc_cpu_zones_enter_idle(heap);
    }
  }
  std::sort(model.begin(), model.end(),
            [](const Block& one, const Block& other) { return one.first < other.first; });
  for (std::size_t place = 0; place < model.size(); ++place) {
    const Block& block = model[place];
    ASSERT_TRUE(place == 0 || model[place - 1].first + model[place - 1].bytes <= block.first);
    ASSERT_TRUE(is_filled(block.first, block.bytes, block.number));
    slabmalloc_cpu_zones_deallocate(heap, block.first, block.bytes, block.alignment,
                                    SLABMALLOC_MAY_WAIT);
  }
  EXPECT_EQ(slabmalloc_cpu_zones_drain_all(heap), 0u);
  EXPECT_EQ(slabmalloc_cpu_zones_validate(heap), nullptr);
  EXPECT_EQ(machine.used_bytes(), 0u);
  EXPECT_TRUE(HostedHooks::misuse.empty());
}

TEST(KernelCHeap, gives_handlers_their_reserve_and_emergencies_the_reserved_frames) {
  MachineHeap machine(machine_bytes);
  slabmalloc_cpu_zones* const heap = machine.heap;
  HostedHooks::cpu = 3;
  EXPECT_EQ(slabmalloc_cpu_zones_reserve_for_interrupts(heap, 64, 8, 9), SLABMALLOC_TOO_MANY);
  EXPECT_EQ(slabmalloc_cpu_zones_reserve_for_interrupts(heap, 9000, 8, 1),
            SLABMALLOC_INVALID_LAYOUT);
  EXPECT_EQ(slabmalloc_cpu_zones_reserve_for_interrupts(heap, 2048, 8, 3), SLABMALLOC_OK);
  EXPECT_EQ(slabmalloc_cpu_zones_reserve_frames(heap, 8000, 8, 2), SLABMALLOC_OK);
  EXPECT_EQ(slabmalloc_cpu_zones_counters_of(heap).reserved_frame_bytes, 2u * 65536);
  const std::size_t frame_bytes = slabmalloc_cpu_zones_frame_bytes(heap);
  slabmalloc_cpu_zones_set_limit(heap, frame_bytes, nullptr, nullptr);
  std::size_t blocks = 0;
  while (slabmalloc_cpu_zones_allocate(heap, 2048, 8, SLABMALLOC_MAY_WAIT) != nullptr) {
    ++blocks;
  }
  std::size_t for_handlers = 0;
  while (slabmalloc_cpu_zones_allocate(heap, 2048, 8, SLABMALLOC_INTERRUPT) != nullptr) {
    ++for_handlers;
  }
  EXPECT_EQ(for_handlers, 3u) << blocks;
  EXPECT_EQ(slabmalloc_cpu_zones_allocate(heap, 8000, 8, SLABMALLOC_INTERRUPT), nullptr);
  EXPECT_NE(slabmalloc_cpu_zones_allocate(heap, 8000, 8, SLABMALLOC_EMERGENCY), nullptr);
  EXPECT_EQ(slabmalloc_cpu_zones_frame_bytes(heap), frame_bytes);
}

/// A client that frees its block when it is asked to.
struct Client {
  slabmalloc_cpu_zones* heap = nullptr;
  void* block = nullptr;
  std::size_t bytes = 0, calls = 0;

  static void limit(void* self) noexcept { shrink(self, 0); }
  static std::size_t shrink(void* self, std::size_t) noexcept {
    auto& it = *static_cast<Client*>(self);
    ++it.calls;
    const std::size_t freed = it.block != nullptr ? it.bytes : 0;
    slabmalloc_cpu_zones_free(it.heap, std::exchange(it.block, nullptr), SLABMALLOC_MAY_WAIT);
    return freed;
  }
};

TEST(KernelCHeap, asks_clients_for_memory_at_its_limit_and_when_the_pager_has_none) {
  MachineHeap machine(4 * mebibyte);
  Client client{machine.heap};
  const auto take = [&](std::size_t bytes) {
    return slabmalloc_cpu_zones_allocate(machine.heap, bytes, 8, SLABMALLOC_MAY_WAIT);
  };
  client.bytes = mebibyte;
  client.block = take(client.bytes);
  slabmalloc_cpu_zones_set_limit(machine.heap, mebibyte + 4096, &Client::limit, &client);
  void* block = take(8192 + 4096);
  EXPECT_NE(block, nullptr);
  EXPECT_EQ(client.calls, 1u);
  slabmalloc_cpu_zones_free(machine.heap, block, SLABMALLOC_MAY_WAIT);
  slabmalloc_cpu_zones_set_limit(machine.heap, SIZE_MAX, nullptr, nullptr);
  slabmalloc_cpu_zones_set_shrink(machine.heap, &Client::shrink, &client);
  client.bytes = 2 * mebibyte;
  client.block = take(client.bytes);
  ASSERT_NE(client.block, nullptr);
  EXPECT_EQ(slabmalloc_cpu_zones_allocate(machine.heap, 3 * mebibyte, 8, SLABMALLOC_MAY_NOT_WAIT),
            nullptr);
  EXPECT_EQ(client.calls, 1u);
  block = take(3 * mebibyte);
  EXPECT_NE(block, nullptr);
  EXPECT_EQ(client.block, nullptr);
  EXPECT_EQ(client.calls, 2u);
  slabmalloc_cpu_zones_free(machine.heap, block, SLABMALLOC_INTERRUPT);
  EXPECT_EQ(slabmalloc_cpu_zones_counters_of(machine.heap).deferred_bytes, 3 * mebibyte);
  client.block = take(client.bytes = 100);
  EXPECT_GE(slabmalloc_cpu_zones_reclaim(machine.heap, machine_bytes), 4096u);
  EXPECT_EQ(client.calls, 3u);
  EXPECT_EQ(slabmalloc_cpu_zones_drain_all(machine.heap), 0u);
}

TEST(KernelCHeap, wakes_an_allocation_that_waits_for_memory) {
  MachineHeap machine(4 * mebibyte);
  slabmalloc_cpu_zones_set_waiting(machine.heap, true);
  slabmalloc_cpu_zones_set_limit(machine.heap, mebibyte, nullptr, nullptr);
  HostedHooks::cpu = 0;
  void* const block = slabmalloc_cpu_zones_allocate(machine.heap, mebibyte, 8, SLABMALLOC_MAY_WAIT);
  std::thread waiter([&] {
    HostedHooks::cpu = 1;
    EXPECT_NE(slabmalloc_cpu_zones_allocate(machine.heap, mebibyte, 8, SLABMALLOC_MAY_WAIT),
              nullptr);
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  slabmalloc_cpu_zones_deallocate(machine.heap, block, mebibyte, 8, SLABMALLOC_MAY_WAIT);
  waiter.join();
  EXPECT_LE(slabmalloc_cpu_zones_counters_of(machine.heap).sleeps, 1u);
}

TEST(KernelCHeap, reports_bad_frees_and_changes_nothing) {
  MachineHeap machine(machine_bytes), other(machine_bytes);
  slabmalloc_cpu_zones* const heap = machine.heap;
  const auto take = [](slabmalloc_cpu_zones* zones) {
    return static_cast<unsigned char*>(
        slabmalloc_cpu_zones_allocate(zones, 64, 8, SLABMALLOC_MAY_WAIT));
  };
  unsigned char* const block = take(heap);
  unsigned char* const foreign = take(other.heap);
  const auto expect = [&](slabmalloc_misuse_reason reason) {
    EXPECT_EQ(HostedHooks::misuse.size(), 1u);
    const slabmalloc_misuse told = HostedHooks::take_misuse();
    EXPECT_EQ(told.reason, reason) << slabmalloc_describe_misuse(told.reason);
    EXPECT_EQ(slabmalloc_cpu_zones_counters_of(heap).used_bytes, 64u);
    return told;
  };
  const auto free = [&](void* address, std::size_t bytes, std::size_t alignment) {
    slabmalloc_cpu_zones_deallocate(heap, address, bytes, alignment, SLABMALLOC_INTERRUPT);
  };
  free(block, 128, 8);
  EXPECT_EQ(expect(SLABMALLOC_MISUSE_SIZE_MISMATCH).address, block);
  free(block, 64, 12);
  EXPECT_EQ(expect(SLABMALLOC_MISUSE_SIZE_MISMATCH).given_bytes, 64u);
  free(block + 1, 64, 8);
  EXPECT_EQ(expect(SLABMALLOC_MISUSE_MISALIGNED_FREE).block, block);
  free(foreign, 64, 8);
  expect(SLABMALLOC_MISUSE_FOREIGN_POINTER);
  slabmalloc_cpu_zones_free(heap, foreign, SLABMALLOC_MAY_WAIT);
  expect(SLABMALLOC_MISUSE_FOREIGN_POINTER);
  EXPECT_EQ(slabmalloc_cpu_zones_usable_size(heap, block + 8), 0u);
  expect(SLABMALLOC_MISUSE_MISALIGNED_FREE);
  EXPECT_EQ(slabmalloc_cpu_zones_usable_size(heap, nullptr), 0u);
  unsigned char* const freed = take(heap);
  free(freed, 64, 8);
  free(freed, 64, 8);
  EXPECT_EQ(expect(SLABMALLOC_MISUSE_DOUBLE_FREE).address, freed);
  free(nullptr, 64, 12);
  EXPECT_TRUE(HostedHooks::misuse.empty());
}

TEST(KernelCHeap, over_a_pager_without_find_knows_the_runs_that_wait) {
  Machine frames(machine_bytes);
  slabmalloc_kernel_pager pager = frames.pager;
  pager.find = nullptr;
  MachineHeap machine(2 * mebibyte, &pager);
  void* const run = slabmalloc_cpu_zones_allocate(machine.heap, 100'000, 8, SLABMALLOC_MAY_WAIT);
  ASSERT_NE(run, nullptr);
  slabmalloc_cpu_zones_deallocate(machine.heap, run, 100'000, 8, SLABMALLOC_INTERRUPT);
  EXPECT_TRUE(HostedHooks::misuse.empty());
  slabmalloc_cpu_zones_deallocate(machine.heap, run, 100'000, 8, SLABMALLOC_MAY_WAIT);
  EXPECT_EQ(HostedHooks::take_misuse().reason, SLABMALLOC_MISUSE_DOUBLE_FREE);
}

TEST(KernelCHeap, over_a_pager_without_runs_writes_into_no_run_of_a_handler) {
  Machine frames(machine_bytes);
  slabmalloc_kernel_pager pager = frames.pager;
  pager.allocate_run = nullptr;
  pager.deallocate_run = nullptr;
  MachineHeap machine(2 * mebibyte, &pager);
  alignas(4096) static unsigned char memory[8192];
  fill(memory, sizeof(memory), 1);
  slabmalloc_cpu_zones_deallocate(machine.heap, memory, 100'000, 8, SLABMALLOC_INTERRUPT);
  EXPECT_EQ(HostedHooks::take_misuse().reason, SLABMALLOC_MISUSE_FOREIGN_POINTER);
  EXPECT_TRUE(is_filled(memory, sizeof(memory), 1));
}

/// A pager that allocates from the heap which calls it, as it may in a kernel.
struct NestingPager {
  slabmalloc_kernel_pager frames{}, pager{};
  slabmalloc_cpu_zones* heap = nullptr;
  std::vector<slabmalloc_context> contexts;
  std::vector<void*> nested;

  void over(const Machine& machine) {
    frames = pager = machine.pager;
    pager.argument = this;
    pager.allocate_run = nullptr;
    pager.deallocate_run = nullptr;
    pager.find = nullptr;
    pager.allocate_frame = [](void* self, std::size_t bytes,
                              slabmalloc_context context) noexcept -> void* {
      auto& it = *static_cast<NestingPager*>(self);
      it.contexts.push_back(context);
      it.nested.push_back(slabmalloc_cpu_zones_allocate(it.heap, 64, 8, SLABMALLOC_INTERRUPT));
      return it.frames.allocate_frame(it.frames.argument, bytes, context);
    };
    pager.deallocate_frame = [](void* self, void* frame, std::size_t bytes) noexcept {
      auto& it = *static_cast<NestingPager*>(self);
      it.frames.deallocate_frame(it.frames.argument, frame, bytes);
    };
  }
};

TEST(KernelCHeap, calls_a_pager_of_the_kernel_which_may_allocate_there) {
  NestingPager nesting;
  Machine frames(machine_bytes);
  nesting.over(frames);
  MachineHeap machine(2 * mebibyte, &nesting.pager);
  nesting.heap = machine.heap;
  const auto allocate = [&](std::size_t bytes, slabmalloc_context context) {
    return slabmalloc_cpu_zones_allocate(machine.heap, bytes, 8, context);
  };
  EXPECT_EQ(allocate(64, SLABMALLOC_INTERRUPT), nullptr);
  EXPECT_TRUE(nesting.contexts.empty());
  void* const block = allocate(64, SLABMALLOC_MAY_NOT_WAIT);
  ASSERT_NE(block, nullptr);
  EXPECT_EQ(nesting.contexts.front(), SLABMALLOC_MAY_NOT_WAIT);
  EXPECT_NE(allocate(1000, SLABMALLOC_MAY_WAIT), nullptr);
  EXPECT_EQ(nesting.contexts.back(), SLABMALLOC_MAY_WAIT);
  EXPECT_EQ(nesting.nested.front(), nullptr);
  EXPECT_NE(nesting.nested.back(), nullptr);
  EXPECT_EQ(allocate(100'000, SLABMALLOC_MAY_WAIT), nullptr);
  slabmalloc_cpu_zones_free(machine.heap, block, SLABMALLOC_MAY_WAIT);
  EXPECT_EQ(HostedHooks::take_misuse().reason, SLABMALLOC_MISUSE_FOREIGN_POINTER);
}

TEST(KernelCHeap, serves_threads_that_act_as_cpus) {
  constexpr std::size_t threads = 4, turns = 20'000, places = 512;
  MachineHeap machine(machine_bytes);
  std::vector<std::atomic<std::uint64_t*>> table(places);
  std::atomic<std::size_t> damaged = 0;
  const auto drop = [&](std::uint64_t* block) {
    if (block != nullptr) {
      const std::size_t words = block[0];
      damaged += block[words - 1] == words ? 0 : 1;
      slabmalloc_cpu_zones_deallocate(machine.heap, block, words * 8, 8, SLABMALLOC_MAY_WAIT);
    }
  };
  std::vector<std::thread> cpus;
  for (std::uint32_t cpu = 0; cpu < threads; ++cpu) {
    cpus.emplace_back([&, cpu] {
      HostedHooks::cpu = cpu;
      std::mt19937 random(cpu);
      for (std::size_t turn = 0; turn < turns; ++turn) {
        const std::size_t words = 1 + random() % (turn % 100 == 0 ? 4000 : 60);
        auto* const block = static_cast<std::uint64_t*>(
            slabmalloc_cpu_zones_allocate(machine.heap, words * 8, 8, SLABMALLOC_MAY_WAIT));
        if (block != nullptr) {
          block[words - 1] = words;
          block[0] = words;
        }
        drop(table[random() % places].exchange(block));
        if (turn % 1000 == 0) {
          slabmalloc_cpu_zones_enter_idle(machine.heap);
        }
      }
    });
  }
  for (std::thread& cpu : cpus) {
    cpu.join();
  }
  for (auto& place : table) {
    drop(place.exchange(nullptr));
  }
  EXPECT_EQ(damaged, 0u);
  EXPECT_TRUE(slabmalloc_cpu_zones_drain_this_cpu(machine.heap));
  slabmalloc_cpu_zones_trim(machine.heap);
  const slabmalloc_cpu_zones_counters counters = slabmalloc_cpu_zones_counters_of(machine.heap);
  EXPECT_GT(counters.remote_frees, 0u);
  EXPECT_GT(counters.allocations, threads * turns * 9 / 10);
  EXPECT_EQ(counters.failures, 0u);
  EXPECT_EQ(slabmalloc_cpu_zones_drain_all(machine.heap), 0u);
  EXPECT_EQ(slabmalloc_cpu_zones_validate(machine.heap), nullptr);
  EXPECT_EQ(machine.used_bytes(), 0u);
}

}  // namespace
