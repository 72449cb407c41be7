// SPDX-License-Identifier: MIT
// Tests of the debug mode: the calls of a heap agree with its layout; delays, contexts, failures,
// shadow, trace, leaks.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "kernel/debug_fixture.hpp"
#include "support/pattern.hpp"
#include "support/random.hpp"

namespace slabmalloc {
namespace {

using test::debug_layout;
using test::DebugKernel;
using test::DebugReport;
using test::HostedCpu;
using test::InSection;
using Kind = MisuseKind;

class DebugCallsTest : public test::DebugModeTest<> {};
class DebugPromptTest : public test::DebugModeTest<test::PromptConfig> {};

TEST_F(DebugCallsTest, a_block_has_exactly_the_bytes_that_the_client_asked_for) {
  for (std::size_t size = 0; size <= 20000; size += size < 600 ? 1 : 97) {
    const Layout layout = debug_layout(size);
    std::byte* const block = static_cast<std::byte*>(heap.allocate_zeroed(layout).value());
    EXPECT_TRUE(test::holds_zeroes(block, size));
    EXPECT_EQ(heap.usable_size(block), std::max<std::size_t>(size, 1));
    if (Heap::usable_size(layout) != 0) {
      EXPECT_EQ(Heap::usable_size(layout), std::max<std::size_t>(size, 1));
    }
    test::fill_pattern(block, size, size);
    if (size % 2 == 0) {
      heap.deallocate(block);
    } else {
      heap.deallocate(block, layout);
    }
    ASSERT_TRUE(reports.take().empty()) << size;
  }
}

TEST_F(DebugCallsTest, each_alignment_is_kept) {
  for (std::size_t align = 1; align <= 16384; align *= 2) {
    for (const std::size_t size : {std::size_t{1}, std::size_t{100}, align, 2 * align, 3 * align}) {
      const Layout layout = debug_layout(size, align);
      std::byte* const block = allocate(layout);
      ASSERT_NE(block, nullptr);
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(block) % align, 0u);
      test::fill_pattern(block, size, align);
      heap.deallocate(block, layout);
    }
  }
}

TEST_F(DebugCallsTest, a_block_that_grows_in_place_has_its_red_zone_behind_the_new_end) {
  for (const auto& [from, to] : {std::pair<std::size_t, std::size_t>{100, 104},
                                 {104, 98},
                                 {100, 5000},
                                 {5000, 30},
                                 {20000, 20100},
                                 {20000, 60000},
                                 {100, 20000}}) {
    std::byte* block = allocate(debug_layout(from));
    test::fill_pattern(block, from, 1);
    block = static_cast<std::byte*>(heap.reallocate(block, debug_layout(to)).value());
    EXPECT_TRUE(test::holds_pattern(block, std::min(from, to), 1));
    EXPECT_EQ(heap.usable_size(block), to);
    block[to] = std::byte{1};
    heap.deallocate(block, debug_layout(to));
    EXPECT_EQ(reports.take_one().history.offset, static_cast<std::ptrdiff_t>(to));
  }
}

TEST_F(DebugCallsTest, many_blocks_are_checked_as_one_is) {
  const Layout layout = debug_layout(40);
  std::array<void*, 100> blocks{};
  EXPECT_EQ(heap.allocate_many(layout, blocks.data(), blocks.size()), blocks.size());
  static_cast<std::byte*>(blocks[57])[40] = std::byte{1};
  heap.deallocate_many(blocks.data(), blocks.size(), layout);
  EXPECT_EQ(reports.take_one().misuse.block, blocks[57]);
}

// ---- delayed reuse ------------------------------------------------------------------------------

TEST_F(DebugCallsTest, a_cpu_delays_its_last_frees_and_no_more) {
  const Layout layout = debug_layout(8);
  std::vector<void*> blocks;
  for (int count = 0; count < 100; ++count) {
    blocks.push_back(allocate(layout));
  }
  for (std::size_t count = 0; count < blocks.size(); ++count) {
    heap.deallocate(blocks[count], layout);
    EXPECT_EQ(heap.debug().delayed_blocks(), std::min<std::size_t>(count + 1, 32));
  }
  const Layout large = debug_layout(8000);  // Slots of 8 KiB: four fit 32 KiB.
  for (int count = 0; count < 10; ++count) {
    heap.deallocate(allocate(large), large);
    EXPECT_EQ(heap.validate(), nullptr);
  }
  EXPECT_EQ(heap.debug().delayed_blocks(), 4u);
  EXPECT_TRUE(heap.drain_this_cpu());
  EXPECT_EQ(heap.debug().delayed_blocks(), 0u);
}

TEST_F(DebugCallsTest, drain_later_ends_the_delay_in_the_next_call_of_each_cpu) {
  const Layout layout = debug_layout(8);
  void* const kept = allocate(layout);
  heap.deallocate(allocate(layout), layout);
  HostedCpu::number = 1;
  heap.drain_later();
  EXPECT_EQ(heap.debug().delayed_blocks(), 1u);
  HostedCpu::number = 0;
  heap.deallocate(kept, layout);
  EXPECT_EQ(heap.debug().delayed_blocks(), 1u) << "that of this free alone";
}

TEST_F(DebugCallsTest, a_cpu_that_goes_idle_delays_no_block_so_others_get_its_memory) {
  const Layout layout = debug_layout(200);
  heap.deallocate(allocate(layout), layout);
  EXPECT_TRUE(heap.enter_idle());
  EXPECT_EQ(heap.debug().delayed_blocks(), 0u);
  EXPECT_TRUE(heap.enter_idle()) << "of an idle CPU it does nothing";
  HostedCpu::number = 1;
  heap.trim();
  EXPECT_EQ(frames.statistics().used_bytes, 0u);
  HostedCpu::number = 0;
}

TEST_F(DebugCallsTest, a_block_that_a_handler_frees_while_its_cpu_goes_idle_is_not_delayed) {
  const Layout layout = debug_layout(4000);
  std::array<std::byte*, 200> blocks;
  for (std::byte*& block : blocks) {
    block = allocate(layout);
  }
  std::byte* last = allocate(layout);
  for (std::byte* const block : blocks) {
    heap.deallocate(block, layout);
  }
  // Excess frames go back between the flush and the end of the call.
  DebugKernel::tracer = [&](const HeapEvent& event) {
    if (event.kind == HeapEvent::Kind::GiveBack && last != nullptr) {
      heap.deallocate(std::exchange(last, nullptr), layout, Context::Interrupt);
      EXPECT_EQ(heap.debug().delayed_blocks(), 1u);
    }
  };
  EXPECT_TRUE(heap.enter_idle());
  DebugKernel::tracer = nullptr;
  EXPECT_EQ(last, nullptr);
  EXPECT_EQ(heap.debug().delayed_blocks(), 0u);
}

TEST_F(DebugCallsTest, delayed_blocks_serve_before_memory_is_exhausted) {
  const Layout layout = debug_layout(2000);
  heap.set_limit(64 * kibibyte);
  std::vector<void*> blocks;
  while (void* const block = allocate(layout)) {
    blocks.push_back(block);
  }
  const std::size_t failures = heap.failures();
  for (void* const block : blocks) {
    heap.deallocate(block, layout);
    void* const again = allocate(layout);
    ASSERT_NE(again, nullptr);
    EXPECT_EQ(again, block);
  }
  EXPECT_EQ(heap.failures(), failures);
  for (void* const block : blocks) {
    heap.deallocate(block, layout);
  }
}

TEST_F(DebugCallsTest, an_allocation_does_not_sleep_while_its_cpu_delays_blocks) {
  const Layout layout = debug_layout(2000);
  heap.set_limit(64 * kibibyte);
  std::vector<void*> blocks;
  while (void* const block = allocate(layout)) {
    blocks.push_back(block);
  }
  heap.set_waiting(true);
  for (void*& block : blocks) {
    heap.deallocate(block, layout);
    block = allocate(layout);
    ASSERT_NE(block, nullptr);
  }
  EXPECT_EQ(heap.statistics().sleeps, 0u);
  heap.set_waiting(false);
  for (void* const block : blocks) {
    heap.deallocate(block, layout);
  }
}

TEST(DebugCallsThreads, a_free_on_another_cpu_ends_a_wait) {
  using Kernel = test::SleepingKernel;
  using Frames = FrameAllocator<Kernel>;
  test::PhysicalMemory memory(4 * mebibyte);
  Frames frames;
  const MemoryRegion region = memory.region(0, 4 * mebibyte);
  ASSERT_TRUE(frames.add(&region, 1));
  CpuZones<Kernel, Frames, DebugKernelConfig> heap(frames);
  const Layout layout = debug_layout(7000);
  heap.set_limit(256 * kibibyte);
  HostedCpu::number = 0;
  std::vector<void*> blocks;
  while (void* const block = heap.allocate(layout, Context::MayNotWait).value_or(nullptr)) {
    blocks.push_back(block);
  }
  heap.set_waiting(true);
  Kernel::waits = 0;
  std::thread other([&] {
    HostedCpu::number = 1;
    while (Kernel::waits == 0) {
      std::this_thread::yield();
    }
    heap.deallocate(blocks.back(), layout);
    blocks.pop_back();
  });
  void* const found = heap.allocate(layout).value_or(nullptr);
  other.join();
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(heap.statistics().sleeps, 1u);
  heap.deallocate(found, layout);
  for (void* const block : blocks) {
    heap.deallocate(block, layout);
  }
  heap.drain_and_leave_current();
  heap.release_all();
}

TEST_F(DebugCallsTest, a_drain_in_the_middle_of_a_section_ends_the_delay_later) {
  const Layout layout = debug_layout(100);
  for (const bool is_nested_free : {false, true}) {
    void* const block = allocate(layout);
    void* const handlers = allocate(layout);
    heap.deallocate(block, layout);
    ASSERT_EQ(heap.debug().delayed_blocks(), 1u);
    {
      const InSection handler;
      if (is_nested_free) {
        heap.drain_later();
        heap.deallocate(handlers, layout);
      } else {
        EXPECT_FALSE(heap.drain_this_cpu());
      }
    }
    void* const last = allocate(layout);
    EXPECT_EQ(heap.debug().delayed_blocks(), 0u);
    heap.deallocate(last, layout);
    if (!is_nested_free) {
      heap.deallocate(handlers, layout);
    }
    EXPECT_TRUE(heap.drain_this_cpu());
  }
}

TEST_F(DebugCallsTest, a_free_in_the_middle_of_a_section_is_checked_and_not_delayed) {
  const Layout layout = debug_layout(100);
  std::byte* const block = allocate(layout);
  block[100] = std::byte{1};
  {
    const InSection handler;
    heap.deallocate(block, layout);
    EXPECT_EQ(reports.take_one().misuse.kind, Kind::Overflow);
    heap.deallocate(block, layout);
    EXPECT_EQ(reports.take_one().misuse.kind, Kind::DoubleFree);
  }
  EXPECT_EQ(heap.debug().delayed_blocks(), 0u);
}

TEST_F(DebugCallsTest, objects_reserved_for_handlers_are_checked_blocks) {
  const Layout layout = debug_layout(100);
  EXPECT_TRUE(heap.reserve_for_interrupts(layout, 2));
  std::byte* block = nullptr;
  {
    const InSection handler;
    block = allocate(layout, Context::Interrupt);
    ASSERT_NE(block, nullptr);
  }
  block[100] = std::byte{1};
  heap.deallocate(block, layout);
  EXPECT_EQ(reports.take_one().history.offset, 100);
  EXPECT_TRUE(heap.reserve_for_interrupts(layout, 0));
}

TEST_F(DebugPromptTest, without_delay_a_freed_block_serves_again_at_once) {
  const Layout layout = debug_layout(3000);
  std::byte* const block = allocate(layout);
  heap.deallocate(block, layout);
  EXPECT_EQ(heap.debug().delayed_blocks(), 0u);
  EXPECT_EQ(heap.statistics().zones.used_bytes, 0u);
}

// ---- contexts -----------------------------------------------------------------------------------

TEST_F(DebugCallsTest, a_call_that_may_wait_where_it_must_not_is_reported) {
  const Layout layout = debug_layout(100);
  DebugKernel::sleeps = false;
  std::byte* const block = allocate(layout, Context::MayWait);
  EXPECT_EQ(reports.take_one().misuse.kind, Kind::WrongContext);
  heap.deallocate(block, layout);  // An object's free does not wait.
  EXPECT_TRUE(reports.take().empty());
  std::byte* const run = allocate(debug_layout(20000), Context::MayNotWait);
  EXPECT_TRUE(reports.take().empty());
  heap.deallocate(run, debug_layout(20000), Context::MayWait);
  EXPECT_EQ(reports.take_one().misuse.kind, Kind::WrongContext);
  DebugKernel::sleeps = true;
}

TEST_F(DebugCallsTest, a_handler_in_the_middle_of_a_section_must_not_call_the_pager) {
  const Layout layout = debug_layout(100);
  void* const first = allocate(layout);
  ASSERT_TRUE(heap.reserve_for_interrupts(layout, 1));
  void* run = nullptr;
  {
    const InSection handler;
    heap.give_back();
    EXPECT_EQ(reports.take_one().misuse.kind, Kind::WrongContext);
    heap.run_deferred();
    EXPECT_EQ(reports.take_one().misuse.kind, Kind::WrongContext);
    run = allocate(debug_layout(20000), Context::MayNotWait);
    EXPECT_EQ(reports.take_one().misuse.kind, Kind::WrongContext) << "a run is the pager's";
    void* const reserved = allocate(layout, Context::MayNotWait);
    EXPECT_NE(reserved, nullptr) << "what the CPU keeps for handlers";
    EXPECT_EQ(allocate(layout, Context::Interrupt), nullptr);
    heap.deallocate(reserved, layout);
    EXPECT_TRUE(reports.take().empty());
  }
  heap.deallocate(run, debug_layout(20000));
  heap.deallocate(first, layout);
  ASSERT_TRUE(heap.reserve_for_interrupts(layout, 0));
}

/// Its caches are larger than any size class, so a heap in debug mode has them as runs.
struct WideKernel : test::PatientKernel {
  static constexpr std::uint32_t maximum_cpus = 32;
  static inline bool sleeps = true;
  static bool may_sleep() noexcept { return sleeps; }
};

TEST(DebugCalls, a_caller_that_must_not_sleep_destroys_a_cache_in_a_heap) {
  using Memory = FrameAllocator<WideKernel>;
  using Caches = Cache<WideKernel, Memory>;
  using Heap = CpuZones<WideKernel, Memory, DebugKernelConfig>;
  static_assert(sizeof(Caches) > Heap::MAX_ALLOC_SIZE);
  test::MisuseRecorder misuse;
  test::PhysicalMemory memory(std::size_t{4} << 20);
  Memory frames;
  const MemoryRegion region = memory.region(0, std::size_t{4} << 20);
  ASSERT_TRUE(frames.add(&region, 1));
  const auto heap = std::make_unique<Heap>(frames);
  WideKernel::sleeps = false;
  const auto made = Caches::create_in(*heap, frames, {"cache", 64}, Context::MayNotWait);
  ASSERT_TRUE(made);
  EXPECT_EQ(made.cache->destroy_in(*heap, Context::MayNotWait), 0u);
  EXPECT_EQ(heap->run_bytes(), 0u);
  EXPECT_EQ(misuse.take_kinds(), std::vector<MisuseKind>());
  WideKernel::sleeps = true;
}

// ---- failures on purpose ------------------------------------------------------------------------

TEST_F(DebugCallsTest, allocations_fail_by_plan_in_each_context) {
  const Layout layout = debug_layout(16);
  auto& plan = heap.debug().failure_plan();
  const auto fails = [&](Context context) {
    void* const block = allocate(layout, context);
    if (block != nullptr) {
      heap.deallocate(block, layout);
    }
    return block == nullptr;
  };
  for (const Context context :
       {Context::MayWait, Context::MayNotWait, Context::Interrupt, Context::Emergency}) {
    for (std::uint32_t call = 1; call <= 5; ++call) {
      plan.fail_after(call);
      for (std::uint32_t number = 1; number <= 8; ++number) {
        EXPECT_EQ(fails(context), number == call);
      }
    }
    plan.fail_every(3);
    for (std::uint32_t number = 1; number <= 9; ++number) {
      EXPECT_EQ(fails(context), number % 3 == 0);
    }
  }
  const auto draw = [&](std::uint32_t seed) {
    plan.fail_randomly(250'000, seed);
    std::vector<bool> result;
    for (int number = 0; number < 4000; ++number) {
      result.push_back(fails(Context::MayWait));
    }
    return result;
  };
  const std::vector<bool> once = draw(7);
  EXPECT_EQ(once, draw(7));
  EXPECT_NE(once, draw(8));
  const auto count = std::count(once.begin(), once.end(), true);
  EXPECT_TRUE(count > 850 && count < 1150) << count;
  plan.stop();
  EXPECT_FALSE(fails(Context::MayWait));
}

// ---- shadow and trace, beside a model -----------------------------------------------------------

/// What a kernel's KASAN would know.
class Shadow {
 public:
  explicit Shadow(const test::PhysicalMemory& memory) : memory_(memory) {
    DebugKernel::shadow = [this](void* address, std::size_t bytes, bool poisons) {
      std::fill_n(poisoned_.begin() + static_cast<std::ptrdiff_t>(memory_.offset_of(address)),
                  bytes, poisons);
    };
  }
  Shadow(const Shadow&) = delete;
  Shadow& operator=(const Shadow&) = delete;
  ~Shadow() { DebugKernel::shadow = nullptr; }

  bool is_poisoned(const std::byte* at) const { return poisoned_[memory_.offset_of(at)]; }
  bool is_clear() const {
    return std::find(poisoned_.begin(), poisoned_.end(), true) == poisoned_.end();
  }

 private:
  const test::PhysicalMemory& memory_;
  std::vector<bool> poisoned_ = std::vector<bool>(16 * mebibyte);
};

TEST_F(DebugCallsTest, a_random_load_has_the_blocks_the_shadow_and_the_events_of_a_model) {
  test::Random random;
  const Shadow shadow(memory);
  std::map<std::byte*, std::pair<Layout, std::uint64_t>> live;
  std::map<const void*, std::size_t> traced;
  std::map<const void*, std::size_t> frames_held;
  DebugKernel::tracer = [&](const HeapEvent& event) {
    EXPECT_STREQ(event.heap, "test");
    switch (event.kind) {
      case HeapEvent::Kind::Allocate:
        EXPECT_TRUE(event.address == nullptr || traced.emplace(event.address, event.bytes).second);
        break;
      case HeapEvent::Kind::Free:
        EXPECT_EQ(traced[event.address], event.bytes);
        traced.erase(event.address);
        break;
      case HeapEvent::Kind::Grow:
        EXPECT_TRUE(frames_held.emplace(event.address, event.bytes).second);
        break;
      case HeapEvent::Kind::GiveBack:
        EXPECT_EQ(frames_held[event.address], event.bytes);
        frames_held.erase(event.address);
        break;
    }
  };
  for (int turn = 0; turn < 40'000; ++turn) {
    HostedCpu::number = random.below(DebugKernel::maximum_cpus);
    if (!live.empty() && random.one_in(2)) {
      auto it = live.lower_bound(memory.at(random.below(16 * mebibyte)));
      it = it != live.end() ? it : live.begin();
      auto [block, known] = *it;
      auto [layout, key] = known;
      ASSERT_TRUE(test::holds_pattern(block, layout.size(), key));
      EXPECT_FALSE(shadow.is_poisoned(block) || shadow.is_poisoned(block + layout.size() - 1));
      EXPECT_TRUE(shadow.is_poisoned(block + layout.size()));
      live.erase(it);
      if (random.one_in(4)) {
        const Layout next = debug_layout(1 + random.below(random.one_in(8) ? 30000 : 500));
        auto* const moved = static_cast<std::byte*>(heap.reallocate(block, next).value());
        ASSERT_TRUE(test::holds_pattern(moved, std::min(layout.size(), next.size()), key));
        test::fill_pattern(moved, next.size(), key);
        live[moved] = {next, key};
        traced[moved] = next.size();
      } else if (random.one_in(2)) {
        heap.deallocate(block);
      } else {
        const InSection* const handler = random.one_in(3) ? new InSection : nullptr;
        heap.deallocate(block, layout, Context::Interrupt);
        delete handler;
      }
    } else if (live.size() < 400) {
      const Layout layout =
          debug_layout(1 + random.below(random.one_in(8) ? 30000 : 500), 1u << random.below(9));
      std::byte* const block = allocate(layout);
      ASSERT_NE(block, nullptr);
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(block) % layout.align(), 0u);
      const std::uint64_t key = random.next();
      test::fill_pattern(block, layout.size(), key);
      ASSERT_TRUE(live.emplace(block, std::pair{layout, key}).second);
    }
    if (turn % 1000 == 0) {
      EXPECT_EQ(heap.check_blocks(), 0u);
      EXPECT_EQ(heap.validate(), nullptr);
      EXPECT_EQ(traced.size(), live.size());
    }
    ASSERT_TRUE(reports.take().empty() && !HasFailure()) << "turn " << turn;
  }
  for (const auto& [block, known] : live) {
    heap.deallocate(block, known.first);
  }
  TearDown();
  EXPECT_TRUE(traced.empty());
  EXPECT_TRUE(frames_held.empty());
  EXPECT_TRUE(shadow.is_clear()) << "the pager has unpoisoned memory";
  DebugKernel::tracer = nullptr;
}

// ---- leaks --------------------------------------------------------------------------------------

TEST_F(DebugCallsTest, blocks_that_no_root_leads_to_are_leaks_with_their_users) {
  test::Random random;
  struct Node {
    void* to[4];
  };
  constexpr std::size_t count = 300;
  std::array<void*, count> blocks{};
  std::array<Layout, count> layouts;
  for (std::size_t number = 0; number < count; ++number) {
    layouts[number] = debug_layout(number % 50 == 0 ? 20000 : sizeof(Node) + random.below(300));
    HostedCpu::number = random.below(DebugKernel::maximum_cpus);
    blocks[number] = heap.allocate_zeroed(layouts[number]).value();
  }
  HostedCpu::number = 0;
  std::array<std::array<std::size_t, 4>, count> edges;
  for (std::size_t number = 0; number < count; ++number) {
    for (std::size_t edge = 0; edge < 4; ++edge) {
      edges[number][edge] = random.one_in(3) ? random.below(count) : count;
      if (edges[number][edge] != count) {
        const std::size_t to = edges[number][edge];
        // Into the block, at its first byte, or just behind its last.
        const std::size_t at = random.one_in(3) ? 0 : random.below(layouts[to].size() + 1);
        static_cast<Node*>(blocks[number])->to[edge] = static_cast<std::byte*>(blocks[to]) + at;
      }
    }
  }
  std::vector<void*> freed;
  for (int number = 0; number < 20; ++number) {  // Free blocks that hold pointers to all.
    void** const block = static_cast<void**>(heap.allocate(debug_layout(count * 8)).value());
    std::copy(blocks.begin(), blocks.end(), block);
    heap.deallocate(block);
  }
  for (int round = 0; round < 3; ++round) {
    std::array<void*, 5> pointers{};
    std::vector<std::size_t> stack;
    for (void*& pointer : pointers) {
      stack.push_back(random.below(count));
      pointer = blocks[stack.back()];
    }
    std::vector<bool> is_reached(count);
    while (!stack.empty()) {
      const std::size_t number = stack.back();
      stack.pop_back();
      if (number != count && !is_reached[number]) {
        is_reached[number] = true;
        stack.insert(stack.end(), edges[number].begin(), edges[number].end());
      }
    }
    std::map<void*, Leak> found;
    const LeakRoot roots[] = {{pointers.data(), 2 * sizeof(void*)},
                              {pointers.data() + 2, 3 * sizeof(void*)}};
    const std::size_t leaks =
        heap.find_leaks(roots, 2, [&](const Leak& leak) { found.emplace(leak.block, leak); });
    EXPECT_EQ(leaks, found.size());
    for (std::size_t number = 0; number < count; ++number) {
      const bool is_run = layouts[number].size() == 20000;
      ASSERT_EQ(found.contains(blocks[number]), !is_reached[number] && !is_run) << number;
      if (found.contains(blocks[number])) {
        const Leak& leak = found.at(blocks[number]);
        EXPECT_EQ(leak.size, layouts[number].size());
        EXPECT_STREQ(leak.heap, "test");
        EXPECT_EQ(leak.allocated.time, number + 1);
        EXPECT_NE(leak.allocated.caller, nullptr);
      }
    }
  }
  for (std::size_t number = 0; number < count; ++number) {
    heap.deallocate(blocks[number], layouts[number]);
  }
}

}  // namespace
}  // namespace slabmalloc
