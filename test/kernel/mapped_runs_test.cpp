// SPDX-License-Identifier: MIT
#include "slabmalloc/kernel/mapped_runs.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "kernel/mapped_fixture.hpp"
#include "support/interrupting_atomics.hpp"
#include "support/misuse_recorder.hpp"
#include "support/pattern.hpp"
#include "support/random.hpp"
#include "support/run_threads.hpp"

template <>
inline constexpr bool slabmalloc::has_split_updates<
    slabmalloc::test::InterruptingAtomics<slabmalloc::SingleCpuAtomics>> = true;

namespace slabmalloc::test {
namespace {

constexpr std::size_t page = MemoryFileMap::page;
constexpr std::size_t waiting_pages = 16;
struct FewWaiting : MappedOptions {
  static constexpr std::size_t waiting_bytes = waiting_pages * page;
};
using Mapped = MappedRuns<PatientKernel, CheckedFrames, MemoryFileMap, FewWaiting>;

/// A map whose processors make each other forget, without software.
struct BroadcastMap : MemoryFileMap {
  using MemoryFileMap::MemoryFileMap;
  static constexpr bool flush_never_waits = true;
};

/// A test that must end with all memory back.
class MappedRunsTest : public testing::Test {
 protected:
  void SetUp() override { mapped.set_range(map.range()); }
  void TearDown() override {
    EXPECT_EQ(mapped.validate(), nullptr);
    EXPECT_EQ(mapped.used_bytes(), 0u);
    EXPECT_EQ(map.mapped_pages(), 0u);
    mapped.flush();
    EXPECT_EQ(frames.used_bytes(), mapped.metadata_bytes());
    EXPECT_EQ(mapped.validate(), nullptr);
    mapped.release();
    EXPECT_EQ(frames.used_bytes(), 0u);
    EXPECT_EQ(frames.frames.validate(), nullptr);
  }
  std::byte* allocate(std::size_t pages, Context context = Context::MayWait) {
    return static_cast<std::byte*>(mapped.allocate(pages * page, context).value_or(nullptr));
  }
  std::vector<MisuseKind> kinds_of_free(void* address) {
    EXPECT_FALSE(mapped.deallocate(address));
    return misuse.take_kinds();
  }
  void give_taken_back() {
    for (void* const frame : taken) {
      frames.deallocate_frame(frame, page);
    }
  }

  MisuseRecorder misuse;
  MemoryFileMap map{4 * mebibyte, 16 * mebibyte};
  CheckedFrames frames{map};
  Mapped mapped{frames, map};
  std::vector<void*> taken;  ///< Frames.
};

TEST_F(MappedRunsTest, a_run_is_in_a_row_over_scattered_frames) {
  std::vector<void*> all;
  while (void* frame = frames.allocate_frame(page).address) {
    all.push_back(frame);
  }
  // One frame of two is free, and a block for the meta-data.
  for (std::size_t index = 0; index < all.size(); ++index) {
    if (index % 2 == 0 || index < 8) {
      frames.deallocate_frame(all[index], page);
    }
  }
  ASSERT_EQ(frames.allocate_run(64 * page, page).address, nullptr);
  std::byte* const run = allocate(300);
  ASSERT_NE(run, nullptr);
  fill_pattern(run, 300 * page, 1);
  EXPECT_TRUE(holds_pattern(run, 300 * page, 1));
  EXPECT_EQ(mapped.usable_size(run), 300 * page);
  EXPECT_TRUE(MemoryFileMap::faults(run - 1) && MemoryFileMap::faults(run + 300 * page));
  EXPECT_FALSE(MemoryFileMap::faults(run) || MemoryFileMap::faults(run + 300 * page - 1));
  mapped.deallocate(run);
  EXPECT_TRUE(MemoryFileMap::faults(run)) << "unmapped at once";
  for (std::size_t index = 9; index < all.size(); index += 2) {
    frames.deallocate_frame(all[index], page);
  }
}

TEST_F(MappedRunsTest, runs_have_a_guard_on_each_side_and_their_alignment) {
  std::vector<std::byte*> runs;
  for (std::size_t pages = 1; pages <= 40; ++pages) {
    const std::size_t alignment = page << (pages % 5);
    auto* const run =
        static_cast<std::byte*>(mapped.allocate_run(pages * page - 7, alignment).address);
    ASSERT_NE(run, nullptr);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(run) % alignment, 0u);
    EXPECT_TRUE(MemoryFileMap::faults(run - 1) && MemoryFileMap::faults(run + pages * page));
    EXPECT_EQ(mapped.block_at(run + pages * page - 1).address, run);
    EXPECT_EQ(mapped.block_at(run).bytes, pages * page);
    EXPECT_EQ(mapped.block_at(run + pages * page).use, PagerUse::None) << "the guard";
    EXPECT_EQ(mapped.usable_size(run + page), 0u);
    runs.push_back(run);
  }
  for (std::byte* const run : runs) {
    EXPECT_TRUE(mapped.deallocate(run));
  }
  EXPECT_TRUE(mapped.deallocate(nullptr));
}

TEST_F(MappedRunsTest, frames_and_addresses_wait_for_one_flush) {
  std::vector<std::byte*> runs;
  for (std::size_t number = 0; number <= waiting_pages; ++number) {
    runs.push_back(allocate(1));
  }
  const std::size_t used = frames.used_bytes();
  for (std::size_t number = 0; number < waiting_pages; ++number) {
    mapped.deallocate(runs[number]);
    EXPECT_EQ(mapped.block_at(runs[number]).use, PagerUse::Free);
  }
  EXPECT_EQ(map.flushes, 0u);
  EXPECT_EQ(frames.used_bytes(), used);
  EXPECT_EQ(mapped.waiting_bytes(), waiting_pages * page);
  std::byte* const other = allocate(1);
  EXPECT_EQ(std::find(runs.begin(), runs.end(), other), runs.end()) << "not an address that waits";
  mapped.deallocate(runs.back());
  EXPECT_EQ(map.flushes, 1u);
  EXPECT_EQ(frames.used_bytes(), used - waiting_pages * page);
  EXPECT_EQ(mapped.waiting_bytes(), 0u);
  EXPECT_EQ(mapped.flush(), 0u);
  EXPECT_EQ(map.flushes, 1u) << "nothing waits";
  mapped.deallocate(other);
  std::byte* const again = allocate(1);
  EXPECT_EQ(map.flushes, 1u);
  mapped.deallocate(again);
}

TEST_F(MappedRunsTest, a_free_that_may_not_call_the_map_waits_for_one_that_may) {
  std::byte* const run = allocate(2 * waiting_pages);
  EXPECT_TRUE(mapped.deallocate(run, Context::Interrupt));
  EXPECT_EQ(map.mapped_pages(), 2 * waiting_pages);
  EXPECT_EQ(kinds_of_free(run), std::vector{MisuseKind::DoubleFree});
  EXPECT_EQ(allocate(1, Context::Interrupt), nullptr);
  std::byte* const other = allocate(1);
  mapped.deallocate(other);
  EXPECT_EQ(map.mapped_pages(), 0u);
  EXPECT_EQ(mapped.waiting_bytes(), 0u);
}

TEST_F(MappedRunsTest, reports_each_bad_free) {
  std::byte* const run = allocate(4);
  EXPECT_EQ(kinds_of_free(run + 8), std::vector{MisuseKind::MisalignedFree});
  EXPECT_EQ(kinds_of_free(run + page), std::vector{MisuseKind::MisalignedFree});
  EXPECT_EQ(kinds_of_free(run + 4 * page), std::vector{MisuseKind::MisalignedFree}) << "the guard";
  EXPECT_EQ(kinds_of_free(run + 5 * page), std::vector{MisuseKind::DoubleFree}) << "never used";
  EXPECT_EQ(kinds_of_free(&frames), std::vector{MisuseKind::ForeignPointer});
  EXPECT_EQ(kinds_of_free(reinterpret_cast<void*>(map.range().address)),
            std::vector{MisuseKind::ForeignPointer});
  EXPECT_FALSE(mapped.deallocate_run(run, 3 * page, page));
  EXPECT_EQ(misuse.take_kinds(), std::vector{MisuseKind::SizeMismatch});
  EXPECT_TRUE(mapped.deallocate_run(run, 4 * page - 1, page));
  EXPECT_EQ(kinds_of_free(run), std::vector{MisuseKind::DoubleFree}) << "it waits";
  EXPECT_EQ(kinds_of_free(run + page), std::vector{MisuseKind::DoubleFree});
  mapped.flush();
  EXPECT_EQ(kinds_of_free(run), std::vector{MisuseKind::DoubleFree});
}

TEST_F(MappedRunsTest, a_free_of_a_run_that_is_not_whole_yet_is_a_double_free) {
  void* run = nullptr;
  map.on_map = [&](void* address) {
    run = run != nullptr ? run : address;
    EXPECT_FALSE(mapped.deallocate(run, Context::Interrupt));
    EXPECT_EQ(misuse.take_kinds(), std::vector{MisuseKind::DoubleFree});
  };
  void* const whole = mapped.allocate(3 * page).value_or(nullptr);
  map.on_map = nullptr;
  EXPECT_EQ(whole, run);
  EXPECT_TRUE(mapped.deallocate(whole));
}

TEST_F(MappedRunsTest, a_failure_at_any_call_changes_nothing) {
  for (CallPlan* const plan : {&frames.plan, &map.plan}) {
    for (std::size_t call = 1;; ++call) {
      std::byte* const kept = call % 2 == 0 ? allocate(2) : nullptr;
      const std::size_t used = frames.used_bytes() - mapped.metadata_bytes();
      const std::size_t calls = plan->calls();
      plan->fail_call(call);
      std::byte* const run = allocate(30);
      const bool had_failure = plan->calls() - calls >= call;
      plan->fail_call(0);
      // Without the meta-data for a large span, a smaller one serves.
      const bool has_smaller_span = plan == &frames.plan && call == 1;
      ASSERT_EQ(run == nullptr, had_failure && !has_smaller_span) << "call " << call;
      ASSERT_EQ(mapped.validate(), nullptr);
      if (run == nullptr) {
        ASSERT_EQ(frames.used_bytes() - mapped.metadata_bytes(), used);
        ASSERT_EQ(map.mapped_pages(), used / page);
      }
      mapped.deallocate(run);
      mapped.deallocate(kept);
      mapped.flush();
      if (!had_failure) {
        EXPECT_GT(call, 30u);
        break;
      }
    }
    mapped.release();
  }
}

TEST_F(MappedRunsTest, there_is_no_run_without_memory_for_meta_data) {
  std::vector<void*> all;
  while (void* frame = frames.allocate_frame(page).address) {
    all.push_back(frame);
  }
  EXPECT_EQ(allocate(1), nullptr);
  EXPECT_EQ(mapped.metadata_bytes(), 0u);
  for (void* const frame : all) {
    frames.deallocate_frame(frame, page);
  }
}

TEST_F(MappedRunsTest, waiting_memory_serves_an_allocation_that_lacks_frames) {
  std::vector<std::byte*> runs;
  while (std::byte* const run = allocate(8)) {
    runs.push_back(run);
  }
  EXPECT_EQ(mapped.validate(), nullptr);
  mapped.deallocate(runs.back());
  EXPECT_EQ(mapped.waiting_bytes(), 8 * page);
  runs.back() = allocate(8);
  ASSERT_NE(runs.back(), nullptr);
  for (std::byte* const run : runs) {
    mapped.deallocate(run);
  }
}

TEST_F(MappedRunsTest, a_call_that_may_not_wait_flushes_only_where_that_never_waits) {
  for (const std::size_t pages : {waiting_pages + 1, waiting_pages + 2}) {
    mapped.deallocate(allocate(pages), Context::MayNotWait);
  }
  EXPECT_EQ(map.flushes, 0u);
  while (void* const frame = frames.allocate_frame(page).address) {
    taken.push_back(frame);
  }
  EXPECT_EQ(allocate(1, Context::MayNotWait), nullptr) << "the frames wait for a flush";
  EXPECT_EQ(map.flushes, 0u);
  EXPECT_EQ(mapped.validate(), nullptr);
  std::byte* const run = allocate(1, Context::MayWait);
  EXPECT_NE(run, nullptr);
  EXPECT_EQ(map.flushes, 1u);
  mapped.deallocate(run);
  give_taken_back();

  BroadcastMap other_map(mebibyte, mebibyte);
  CheckedFrames other_frames(other_map);
  MappedRuns<PatientKernel, CheckedFrames, BroadcastMap, FewWaiting> other(other_frames, other_map);
  other.set_range(other_map.range());
  other.deallocate(other.allocate((waiting_pages + 1) * page).value(), Context::MayNotWait);
  EXPECT_EQ(other_map.flushes, 1u);
  other.deallocate(other.allocate((waiting_pages + 1) * page).value(), Context::Interrupt);
  EXPECT_EQ(other_map.flushes, 1u) << "a handler flushes nowhere";
  other.flush();
  other.release();
}

TEST_F(MappedRunsTest, a_run_that_lacks_page_tables_waits_where_it_may_not_flush) {
  map.plan.fail_call(3);
  EXPECT_EQ(allocate(5, Context::MayNotWait), nullptr);
  EXPECT_EQ(map.flushes, 0u);
  EXPECT_EQ(mapped.waiting_bytes(), 5 * page);
  EXPECT_EQ(mapped.validate(), nullptr);
  EXPECT_EQ(mapped.flush(), 5 * page);
  map.plan.fail_call(1);
  EXPECT_EQ(allocate(5, Context::MayNotWait), nullptr);
  EXPECT_EQ(mapped.waiting_bytes(), 0u) << "nothing was mapped";
}

TEST_F(MappedRunsTest, an_impossible_size_takes_nothing) {
  const std::uintptr_t range_pages = map.range().bytes / page;
  EXPECT_EQ(allocate(range_pages - 1), nullptr) << "no room for two guards";
  const std::size_t alignment = std::size_t{1} << 40;
  Mapped between(frames, map);
  between.set_range({alignment, 16 * mebibyte});
  EXPECT_EQ(between.allocate_run(page, alignment).address, nullptr) << "the guard has that address";
  EXPECT_EQ(frames.plan.calls(), 0u);
  MappedRuns<PatientKernel, Frames, MemoryFileMap> direct(frames.frames, map);
  direct.set_range(map.range());
  EXPECT_EQ(direct.allocate(map.memory().bytes + page).error(), AllocationError::OutOfMemory);
  EXPECT_EQ(frames.frames.statistics().allocations, 0u) << "more than all memory";
  EXPECT_EQ(direct.metadata_bytes(), 0u);
}

TEST_F(MappedRunsTest, a_range_may_end_with_the_address_space) {
  for (const std::size_t bytes : {16 * page - 1, 16 * page, ~std::size_t{0}}) {
    Mapped high(frames, map);
    const std::uintptr_t begin = 0 - 16 * page;
    high.set_range({begin, bytes});
    EXPECT_FALSE(high.owns(reinterpret_cast<void*>(begin))) << "the guard";
    EXPECT_TRUE(high.owns(reinterpret_cast<void*>(begin + page)));
    EXPECT_TRUE(high.owns(reinterpret_cast<void*>(begin + 14 * page)));
    EXPECT_FALSE(high.owns(reinterpret_cast<void*>(begin + 15 * page))) << "no address behind it";
    EXPECT_FALSE(high.owns(nullptr));
  }
  EXPECT_DEATH(mapped.set_range({0 - std::uintptr_t{8}, 8}), "0 < pages of the range");
}

TEST_F(MappedRunsTest, uses_the_whole_range_and_refuses_what_it_lacks) {
  MemoryFileMap small_map(mebibyte, 64 * page);
  CheckedFrames small_frames(small_map);
  Mapped small(small_frames, small_map);
  small.set_range(small_map.range());
  EXPECT_EQ(small.allocate_run(63 * page, page).address, nullptr) << "no room for two guards";
  void* const all = small.allocate_run(62 * page, page).address;
  ASSERT_NE(all, nullptr);
  EXPECT_EQ(small.allocate_run(page, page).address, nullptr);
  small.deallocate(all);
  std::vector<void*> runs;
  while (void* const run = small.allocate_run(page, page).address) {
    runs.push_back(run);
  }
  EXPECT_EQ(runs.size(), 31u);
  EXPECT_EQ(small.allocate_run(~std::size_t{0}, page).address, nullptr);
  EXPECT_EQ(small.allocate_run(page, ~(~std::size_t{0} >> 1)).address, nullptr);
  for (void* const run : runs) {
    small.deallocate(run);
  }
  small.release();
  EXPECT_EQ(small_frames.used_bytes(), 0u);
}

TEST_F(MappedRunsTest, random_runs_keep_their_contents) {
  struct Run {
    std::byte* address;
    std::size_t pages;
    std::uint64_t key;
  };
  Random random;
  std::vector<Run> runs;
  const auto free_one = [&] {
    const std::size_t index = random.below(runs.size());
    const Run run = runs[index];
    for (std::size_t number = 0; number < run.pages; ++number) {
      ASSERT_TRUE(holds_pattern(run.address + number * page, 32, run.key + number));
    }
    mapped.deallocate(run.address, random.one_in(3) ? Context::Interrupt : Context::MayNotWait);
    runs[index] = runs.back();
    runs.pop_back();
  };
  for (int step = 0; step < 4000; ++step) {
    if (!runs.empty() && random.one_in((step / 300) % 2 == 0 ? 3 : 2)) {
      free_one();
      continue;
    }
    const std::size_t pages = random.one_in(20) ? random.between(1, 400) : random.between(1, 12);
    if (random.one_in(4)) {
      (random.one_in(2) ? frames.plan : map.plan).fail_call(random.between(1, pages));
    }
    const std::size_t alignment = page << random.below(5);
    auto* const run = static_cast<std::byte*>(mapped.allocate_run(pages * page, alignment).address);
    if (run != nullptr) {
      ASSERT_EQ(reinterpret_cast<std::uintptr_t>(run) % alignment, 0u);
      for (const Run& other : runs) {
        ASSERT_TRUE(run + pages * page < other.address || other.address + other.pages * page < run);
      }
      runs.push_back({run, pages, random.next()});
      for (std::size_t number = 0; number < pages; ++number) {
        fill_pattern(run + number * page, 32, runs.back().key + number);
      }
    }
    if (step % 100 == 0) {
      ASSERT_EQ(mapped.validate(), nullptr);
    }
  }
  while (!runs.empty()) {
    free_one();
  }
  mapped.flush();
}

TEST_F(MappedRunsTest, cpus_allocate_and_free_each_others_runs) {
  constexpr std::size_t places = 16;
  std::atomic<std::byte*> exchange[places] = {};
  std::vector<Random> randoms;
  Random random;
  for (int thread = 0; thread < 4; ++thread) {
    randoms.push_back(random.fork());
  }
  const auto dispose = [&](std::byte* run, Context context) {
    if (run != nullptr) {
      std::uint64_t pages = 0;
      std::memcpy(&pages, run, sizeof pages);
      EXPECT_EQ(mapped.usable_size(run), pages * page);
      EXPECT_TRUE(holds_pattern(run + pages * page - 64, 64, pages));
      EXPECT_TRUE(mapped.deallocate(run, context));
    }
  };
  run_threads(4, [&](std::size_t thread) {
    HostedCpu::number = static_cast<std::uint32_t>(thread);
    Random& mine = randoms[thread];
    for (int step = 0; step < 600; ++step) {
      const std::uint64_t pages = mine.between(1, 30);
      std::byte* const run = allocate(pages);
      if (run != nullptr) {
        fill_pattern(run + pages * page - 64, 64, pages);
        std::memcpy(run, &pages, sizeof pages);
      }
      dispose(exchange[mine.below(places)].exchange(run),
              mine.one_in(4) ? Context::Interrupt : Context::MayNotWait);
    }
  });
  for (auto& place : exchange) {
    dispose(place.exchange(nullptr), Context::MayWait);
  }
  mapped.flush();
}

TEST_F(MappedRunsTest, one_of_two_frees_of_a_run_at_the_same_time_is_reported) {
  std::vector<std::byte*> runs;
  for (int number = 0; number < 50; ++number) {
    runs.push_back(allocate(2));
  }
  run_threads(2, [&](std::size_t) {
    for (std::byte* const run : runs) {
      mapped.deallocate(run);
    }
  });
  EXPECT_EQ(misuse.take_count(MisuseKind::DoubleFree), runs.size());
}

TEST(MappedRunsInterrupts, come_at_any_access_without_atomics) {
  using Plain = InterruptingAtomics<SingleCpuAtomics>;
  using PlainFrames = FrameAllocator<SingleKernel, page, Plain>;
  std::size_t interrupts = 0;
  for (bool came = true; came && !testing::Test::HasFailure(); ++interrupts) {
    MisuseRecorder misuse;
    MemoryFileMap map(mebibyte, mebibyte);
    PlainFrames frames;
    const MemoryRegion memory = map.memory();
    ASSERT_TRUE(frames.add(&memory, 1));
    MappedRuns<SingleKernel, PlainFrames, MemoryFileMap, FewWaiting, Plain> mapped(frames, map);
    mapped.set_range(map.range());
    void* const given = mapped.allocate(3 * page).value();
    Interruption::arm(
        interrupts + 1, [&] { mapped.deallocate(given, Context::Interrupt); },
        [] { return HostedCpu::saved != 0; });
    void* const run = mapped.allocate(2 * page).value();
    mapped.deallocate(run);
    mapped.flush();
    came = Interruption::disarm();
    ASSERT_EQ(mapped.used_bytes(), came ? 0u : 3 * page) << "access " << interrupts + 1;
    ASSERT_EQ(mapped.validate(), nullptr);
    if (!came) {
      mapped.deallocate(given);
    }
    mapped.release();
    EXPECT_EQ(frames.statistics().used_bytes, 0u);
  }
  EXPECT_GT(interrupts, 20u);
}

// ---- FallbackRuns -------------------------------------------------------------------------------

using Pager = FallbackRuns<CheckedFrames, Mapped>;
static_assert(FindingPager<Pager>);

TEST_F(MappedRunsTest, a_heap_gets_a_mapped_run_where_no_block_holds_it) {
  Pager pager(frames, mapped);
  CpuZones<PatientKernel, Pager> heap(pager);
  std::vector<void*> all;
  while (void* frame = frames.allocate_frame(page).address) {
    all.push_back(frame);
  }
  for (std::size_t index = 0; index < all.size(); ++index) {
    if (index % 2 == 0 || index < 64) {
      frames.deallocate_frame(all[index], page);
    }
  }
  const Layout large = Layout::from_size_align(mebibyte, 8).value();
  void* const run = heap.allocate(large).value_or(nullptr);
  ASSERT_NE(run, nullptr);
  EXPECT_TRUE(mapped.owns(run));
  std::memset(run, 0x5A, large.size());
  EXPECT_EQ(heap.usable_size(run), large.size());
  const Layout few = Layout::from_size_align(3 * page, 8).value();
  void* const direct = heap.allocate(few).value_or(nullptr);
  EXPECT_FALSE(mapped.owns(direct)) << "a block holds it";
  heap.deallocate(run);
  heap.deallocate(run);
  EXPECT_EQ(misuse.take_kinds(), std::vector{MisuseKind::DoubleFree});
  void* const deferred = heap.allocate(large).value_or(nullptr);
  heap.deallocate(deferred, large, Context::Interrupt);
  heap.deallocate(direct, few);
  heap.trim();
  EXPECT_EQ(heap.frame_bytes(), 0u);
  mapped.flush();
  EXPECT_EQ(heap.validate(), nullptr);
  for (std::size_t index = 65; index < all.size(); index += 2) {
    frames.deallocate_frame(all[index], page);
  }
}

/// Frees a mapped run, and once more in a handler: before the flush, and after it.
template <class Config>
void free_again_in_a_handler(CheckedFrames& frames, Mapped& mapped, MisuseRecorder& misuse) {
  Pager pager(frames, mapped, page);
  CpuZones<PatientKernel, Pager, Config> heap(pager);
  const Layout layout = Layout::from_size_align(4 * page, 8).value();
  const auto kinds_of_free = [&](void* run, Context context) {
    heap.deallocate(run, layout, context);
    return misuse.take_kinds();
  };
  for (const Context first : {Context::MayWait, Context::MayNotWait, Context::Interrupt}) {
    void* const other = heap.allocate(layout).value();
    void* const run = heap.allocate(layout).value();
    ASSERT_TRUE(mapped.owns(run));
    EXPECT_TRUE(kinds_of_free(run, first).empty());
    EXPECT_EQ(MemoryFileMap::faults(run), first != Context::Interrupt);
    const std::size_t bytes = heap.frame_bytes();
    EXPECT_EQ(kinds_of_free(run, Context::Interrupt), std::vector{MisuseKind::DoubleFree});
    mapped.flush();
    EXPECT_EQ(kinds_of_free(run, Context::Interrupt), std::vector{MisuseKind::DoubleFree});
    EXPECT_EQ(kinds_of_free(run, Context::MayWait), std::vector{MisuseKind::DoubleFree});
    EXPECT_EQ(heap.frame_bytes(), bytes) << "a bad free changes nothing";
    EXPECT_EQ(heap.validate(), nullptr);
    heap.deallocate(other, layout, first);
  }
  mapped.flush();
  EXPECT_EQ(heap.frame_bytes(), 0u);
}
TEST_F(MappedRunsTest, a_handler_that_frees_a_run_again_is_reported) {
  free_again_in_a_handler<KernelConfig>(frames, mapped, misuse);
}
TEST_F(MappedRunsTest, a_handler_that_frees_a_run_again_is_reported_in_a_debug_mode) {
  free_again_in_a_handler<DebugKernelConfig>(frames, mapped, misuse);
}

TEST_F(MappedRunsTest, larger_runs_than_a_threshold_are_mapped_at_once) {
  Pager pager(frames, mapped, 8 * page);
  void* const direct = pager.allocate_run(8 * page, page).address;
  void* const far = pager.allocate_run(8 * page + 1, page).address;
  EXPECT_FALSE(mapped.owns(direct));
  EXPECT_TRUE(mapped.owns(far));
  EXPECT_EQ(pager.block_at(direct).address, direct);
  EXPECT_EQ(pager.block_at(far).address, far);
  EXPECT_TRUE(pager.deallocate_run(direct, 8 * page, page));
  EXPECT_TRUE(pager.deallocate_run(far, 9 * page, page));
}

}  // namespace
}  // namespace slabmalloc::test
