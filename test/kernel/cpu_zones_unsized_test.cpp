// SPDX-License-Identifier: MIT
// Tests of the calls of CpuZones that take a block by its address alone.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <vector>

#include "kernel/frame_fixture.hpp"
#include "slabmalloc/kernel.hpp"
#include "support/misuse_recorder.hpp"
#include "support/random.hpp"

namespace slabmalloc {
namespace {

using test::HostedCpu;
using test::Random;

struct Cpus : test::PatientKernel {
  static constexpr std::uint32_t maximum_cpus = 3;
};
using Kinds = std::vector<MisuseKind>;
constexpr std::size_t page = 4 * kibibyte;

Layout layout_of(std::size_t size, std::size_t align = 8) {
  return Layout::from_size_align(size, align).value();
}

/// A heap, and another client of its frames.
class UnsizedTest : public testing::Test {
 protected:
  using Frames = FrameAllocator<Cpus>;
  using Heap = CpuZones<Cpus, Frames>;

  UnsizedTest() {
    // With a hole.
    const MemoryRegion regions[] = {memory.region(0, 6 * mebibyte),
                                    memory.region(6 * mebibyte + 16 * page, mebibyte)};
    EXPECT_TRUE(frames.add(regions, 2));
  }
  void TearDown() override {
    for (int round = 0; round < 2; ++round) {
      for (HostedCpu::number = 0; HostedCpu::number < Cpus::maximum_cpus; ++HostedCpu::number) {
        heap.run_deferred();
        EXPECT_TRUE(heap.drain_this_cpu());
      }
    }
    HostedCpu::number = 0;
    EXPECT_EQ(misuse.take_kinds(), Kinds());
    EXPECT_EQ(heap.validate(), nullptr);
    EXPECT_EQ(heap.statistics().zones.used_bytes, 0u);
    heap.trim();
    heap.release_all();
    EXPECT_EQ(frames.statistics().used_bytes, 0u) << "every frame is back";
    EXPECT_EQ(frames.validate(), nullptr);
  }

  std::byte* allocate(Layout layout) {
    return static_cast<std::byte*>(heap.allocate(layout).value_or(nullptr));
  }
  /// All three calls report `kind`, and change nothing.
  void expect_refused(void* address, MisuseKind kind) {
    const std::size_t used = frames.statistics().used_bytes;
    heap.deallocate(address);
    EXPECT_EQ(misuse.take_kinds(), Kinds{kind}) << "deallocate";
    heap.deallocate(address, Context::Interrupt);
    EXPECT_EQ(misuse.take_kinds(), Kinds{kind}) << "deallocate in a handler";
    EXPECT_EQ(heap.usable_size(address), 0u);
    EXPECT_EQ(misuse.take_kinds(), Kinds{kind}) << "usable_size";
    EXPECT_EQ(heap.reallocate(address, layout_of(8)).error(), AllocationError::InvalidLayout);
    EXPECT_EQ(misuse.take_kinds(), Kinds{kind}) << "reallocate";
    EXPECT_EQ(frames.statistics().used_bytes, used);
  }

  test::MisuseRecorder misuse;
  test::PhysicalMemory memory{8 * mebibyte};
  Frames frames;
  Heap heap{frames};
};

TEST_F(UnsizedTest, blocks_of_each_size_class_and_runs_are_freed_by_their_address) {
  for (std::uint32_t index = 0; index < Heap::SizeClasses::count; ++index) {
    const std::size_t size = Heap::SizeClasses::size_of(index);
    std::byte* const block = allocate(layout_of(size, 1));
    EXPECT_EQ(heap.usable_size(block), size);
    heap.deallocate(block);
    expect_refused(block, MisuseKind::DoubleFree);
  }
  for (const std::size_t size : {8193u, 9000u, 65536u, 65537u, 1000000u}) {
    std::byte* const run = allocate(layout_of(size));
    EXPECT_EQ(heap.usable_size(run), align_up(size, page));
    heap.deallocate(run);
  }
  std::byte* const aligned = allocate(layout_of(1, 64 * kibibyte));
  EXPECT_EQ(heap.usable_size(aligned), page);
  heap.deallocate(aligned, Context::Interrupt);
  EXPECT_EQ(heap.statistics().deferred_bytes, page);
  heap.deallocate(nullptr);
  EXPECT_EQ(heap.usable_size(nullptr), 0u);
}

TEST_F(UnsizedTest, every_address_of_a_page_but_that_of_a_live_object_is_refused) {
  for (const std::size_t size : {48u, 512u, 8192u}) {
    const Layout layout = layout_of(size);
    std::byte* const freed = allocate(layout);
    std::byte* const live = allocate(layout);
    heap.deallocate(freed);
    const PagerBlock frame = frames.block_at(live);
    ASSERT_EQ(frame.use, PagerUse::Frame);
    std::byte* const first = static_cast<std::byte*>(frame.address);
    std::size_t frees = 0;
    for (std::size_t offset = 0; offset < frame.bytes; offset += size > 48 ? 8 : 1) {
      if (first + offset == live) {
        EXPECT_EQ(heap.usable_size(live), size);
        continue;
      }
      const bool is_slot = offset % size == 0 && offset / size < Heap::Zone::slots_per_page(
                                                                     Heap::Zone::class_for(layout));
      frees += is_slot ? 1 : 0;
      expect_refused(first + offset, is_slot ? MisuseKind::DoubleFree : MisuseKind::MisalignedFree);
    }
    EXPECT_GT(frees, 0u);
    heap.deallocate(live);
  }
}

TEST_F(UnsizedTest, addresses_that_are_no_block_of_the_heap_are_refused) {
  expect_refused(&memory, MisuseKind::ForeignPointer);
  expect_refused(memory.at(6 * mebibyte + page), MisuseKind::ForeignPointer);  // In the hole.
  void* metadata = nullptr;
  frames.for_each_block([&](void* address, std::size_t, FrameUse use) {
    metadata = use == FrameUse::Metadata ? address : metadata;
  });
  expect_refused(metadata, MisuseKind::ForeignPointer);
  expect_refused(memory.at(5 * mebibyte), MisuseKind::DoubleFree);  // Free at the pager.
  // Others' frames, of sizes of pages and not. One was a page of the heap before.
  std::byte* const block = allocate(layout_of(64));
  heap.deallocate(block);
  EXPECT_TRUE(heap.drain_this_cpu());
  heap.give_back();
  for (const std::size_t bytes : {1 * page, 2 * page, 16 * page}) {
    auto* const frame = static_cast<std::byte*>(frames.allocate_frame(bytes).address);
    std::memset(frame, 0x5A, bytes);
    if (bytes == page) {
      auto* const header = ObjectPage::header_of(frame);
      header->seal.store(header->seal_for(64) ^ 2, Order::relaxed);  // Almost a seal.
    }
    for (const std::size_t offset : {std::size_t{0}, std::size_t{8}, bytes - 8}) {
      expect_refused(frame + offset, MisuseKind::ForeignPointer);
    }
    frames.deallocate_frame(frame, bytes);
  }
}

TEST_F(UnsizedTest, objects_of_another_heap_are_refused) {
  Heap other(frames);
  for (const std::size_t size : {8u, 100u, 5'000u}) {
    void* const object = other.allocate(layout_of(size)).value();
    heap.deallocate(object);
    EXPECT_EQ(misuse.take_kinds(), Kinds{MisuseKind::ForeignPointer});
    EXPECT_EQ(heap.usable_size(object), 0u);
    EXPECT_EQ(misuse.take_kinds(), Kinds{MisuseKind::ForeignPointer});
    for (const std::size_t wanted : {8u, 100u, 5'000u, 20'000u}) {
      EXPECT_FALSE(heap.reallocate(object, layout_of(wanted)));
      EXPECT_EQ(misuse.take_kinds(), Kinds{MisuseKind::ForeignPointer}) << wanted;
    }
    other.deallocate(object);
  }
  EXPECT_EQ(other.validate(), nullptr);
  other.release_all();
}

TEST_F(UnsizedTest, a_run_is_freed_once_and_at_its_beginning) {
  std::byte* const run = allocate(layout_of(5 * page));
  for (const std::size_t offset : {std::size_t{1}, std::size_t{8}, page, 4 * page, 5 * page - 1}) {
    expect_refused(run + offset, MisuseKind::MisalignedFree);
  }
  EXPECT_EQ(heap.usable_size(run), 5 * page);
  heap.deallocate(run, Context::Emergency);
  expect_refused(run, MisuseKind::DoubleFree);  // It waits.
  heap.run_deferred();
  expect_refused(run, MisuseKind::DoubleFree);  // It is free at the pager.
  expect_refused(run + page, MisuseKind::DoubleFree);
}

TEST_F(UnsizedTest, a_run_that_looks_like_a_page_is_a_run) {
  const Layout large = layout_of(8 * kibibyte);
  std::byte* const object = allocate(large);
  const PagerBlock frame = frames.block_at(object);
  std::vector<std::byte> image(frame.bytes);
  std::memcpy(image.data(), frame.address, frame.bytes);
  heap.deallocate(object);
  EXPECT_TRUE(heap.drain_this_cpu());
  heap.give_back();
  // The client finds the old page in its run, or writes it there.
  std::byte* const run = allocate(layout_of(frame.bytes, frame.bytes));
  ASSERT_EQ(run, frame.address);
  std::memcpy(run, image.data(), frame.bytes);
  EXPECT_EQ(heap.usable_size(run), frame.bytes);
  expect_refused(run + 8 * kibibyte, MisuseKind::MisalignedFree);
  heap.deallocate(run);
}

TEST_F(UnsizedTest, objects_of_frames_that_the_heap_keeps_empty_are_refused) {
  std::byte* const object = allocate(layout_of(8 * kibibyte));
  heap.deallocate(object);
  EXPECT_TRUE(heap.drain_this_cpu());
  EXPECT_NE(heap.statistics().cached_frame_bytes, 0u);
  EXPECT_EQ(frames.block_at(object).use, PagerUse::Frame);
  expect_refused(object, MisuseKind::ForeignPointer);  // As a free with the size.
}

TEST_F(UnsizedTest, a_reallocation_that_fails_leaves_the_block) {
  std::byte* const block = allocate(layout_of(100));
  std::memset(block, 0x77, 100);
  EXPECT_EQ(heap.reallocate(block, layout_of(64 * mebibyte)).error(), AllocationError::OutOfMemory);
  EXPECT_EQ(heap.usable_size(block), 112u);
  EXPECT_EQ(block[99], std::byte{0x77});
  heap.deallocate(block);
}

TEST_F(UnsizedTest, a_reallocation_moves_only_blocks_that_need_it) {
  const auto reallocate = [this](void* block, std::size_t size) {
    return heap.reallocate(block, layout_of(size)).value_or(nullptr);
  };
  void* block = reallocate(nullptr, 97);
  EXPECT_EQ(reallocate(block, 112), block);
  void* run = reallocate(block, 5 * page);
  EXPECT_NE(run, block);
  EXPECT_EQ(reallocate(run, 4 * page + 1), run);
  block = reallocate(run, 4 * page);
  EXPECT_NE(block, run) << "a later free may name the new size";
  heap.deallocate(block, layout_of(4 * page));
}

/// Random calls by several CPUs, half of them with sizes; a model has each block's size.
TEST_F(UnsizedTest, random_blocks_keep_their_contents_and_sizes) {
  struct Block {
    Layout layout;
    std::byte mark;
  };
  Random random;
  std::map<std::byte*, Block> blocks;
  const auto draw = [&] {
    const std::size_t most = random.one_in(8) ? 100000 : random.one_in(2) ? 300 : 9000;
    return layout_of(1 + random.below(most), std::size_t{1} << random.below(13));
  };
  const auto expect_contents = [](const std::byte* block, std::byte mark, std::size_t size) {
    EXPECT_TRUE(block[0] == mark && block[size / 2] == mark && block[size - 1] == mark);
  };
  for (int turn = 0; turn < 20000; ++turn) {
    HostedCpu::number = random.below(Cpus::maximum_cpus);
    const Layout layout = draw();
    if (blocks.size() < 60 || random.one_in(3)) {
      std::byte* const block = allocate(layout);
      if (block != nullptr) {
        std::memset(block, turn, layout.size());
        EXPECT_TRUE(blocks.emplace(block, Block{layout, std::byte(turn)}).second);
        continue;
      }
    }
    auto at = blocks.lower_bound(memory.at(random.below(8 * mebibyte)));
    at = at != blocks.end() ? at : blocks.begin();
    const auto [block, model] = *at;
    const std::size_t usable = Heap::usable_size(model.layout);
    EXPECT_EQ(heap.usable_size(block), usable != 0 ? usable : align_up(model.layout.size(), page));
    expect_contents(block, model.mark, model.layout.size());
    const Context context = random.one_in(2) ? Context::MayWait : Context::Interrupt;
    if (random.one_in(3)) {
      auto* const moved = static_cast<std::byte*>(heap.reallocate(block, layout).value_or(nullptr));
      if (moved != nullptr) {
        const std::size_t common = std::min(layout.size(), model.layout.size());
        expect_contents(moved, model.mark, common);
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(moved) % layout.align(), 0u);
        std::memset(moved, turn, layout.size());
        blocks.erase(at);
        EXPECT_TRUE(blocks.emplace(moved, Block{layout, std::byte(turn)}).second);
      }
      continue;
    }
    random.one_in(2) ? heap.deallocate(block, context)
                     : heap.deallocate(block, model.layout, context);
    blocks.erase(at);
  }
  for (const auto& [block, model] : blocks) {
    expect_contents(block, model.mark, model.layout.size());
    heap.deallocate(block);
  }
}

/// A run in several blocks of a region, and across regions that adjoin.
TEST(UnsizedRuns, of_several_blocks_and_regions_are_found_from_each_of_their_frames) {
  HostedCpu::number = 0;
  for (const std::size_t regions : {1u, 2u, 3u}) {
    test::MisuseRecorder misuse;
    test::PhysicalMemory memory{4 * mebibyte};
    FrameAllocator<Cpus> frames;
    CpuZones<Cpus, FrameAllocator<Cpus>> heap(frames);
    for (std::size_t number = regions; number-- != 0;) {
      const MemoryRegion region = memory.region(number * mebibyte, mebibyte);
      ASSERT_TRUE(frames.add(&region, 1));
    }
    const std::vector<std::size_t> before = free_blocks(frames);
    const std::size_t bytes = regions * mebibyte - 56 * page;
    for (const Context context : {Context::MayWait, Context::Interrupt}) {
      auto* const run = static_cast<std::byte*>(heap.allocate(layout_of(bytes)).value_or(nullptr));
      ASSERT_EQ(run, memory.at(0)) << "no block is as large";
      EXPECT_EQ(heap.usable_size(run), bytes);
      EXPECT_EQ(heap.reallocate(run, layout_of(bytes - 9)).value_or(nullptr), run);
      EXPECT_EQ(heap.frame_bytes(), bytes);
      std::size_t parts = 0;
      frames.for_each_block([&](void* address, std::size_t part, FrameUse use) {
        parts += use == FrameUse::Allocated ? 1 : 0;
        EXPECT_TRUE(use != FrameUse::Allocated || (address == run && part == bytes));
      });
      EXPECT_EQ(parts, 1u);
      for (std::size_t offset = 8; offset < bytes; offset += page / 2) {
        const PagerBlock block = frames.block_at(run + offset);
        ASSERT_TRUE(block.use == PagerUse::Run && block.address == run && block.bytes == bytes)
            << "offset " << offset;
        const std::size_t inside = offset / page * page;
        inside != 0 ? heap.deallocate(run + inside) : heap.deallocate(run + offset);
        EXPECT_EQ(heap.usable_size(run + offset), 0u);
        (void)frames.deallocate_run(run + offset, bytes, 1);
        (void)frames.deallocate_run(run + inside, 1, 1);
        const std::vector<Misuse> reports = misuse.take();
        ASSERT_EQ(reports.size(), 4u);
        for (const Misuse& report : reports) {
          const bool is_at_start = report.address == run;
          EXPECT_EQ(report.kind,
                    is_at_start ? MisuseKind::SizeMismatch : MisuseKind::MisalignedFree);
          EXPECT_EQ(report.object_size, bytes) << "the whole run";
        }
      }
      EXPECT_EQ(heap.run_bytes(), bytes);
      heap.deallocate(run, context);
      EXPECT_EQ(heap.statistics().deferred_bytes, context == Context::Interrupt ? bytes : 0);
      EXPECT_EQ(heap.run_bytes(), context == Context::Interrupt ? bytes : 0) << "it is charged";
      heap.run_deferred();
      EXPECT_EQ(heap.run_bytes(), 0u);
      EXPECT_EQ(heap.frame_bytes(), 0u);
      EXPECT_EQ(heap.validate(), nullptr);
      EXPECT_EQ(free_blocks(frames), before);
      EXPECT_EQ(frames.validate(), nullptr);
    }
  }
}

TEST(FrameAllocatorByAddress, tells_a_frame_across_regions_from_a_run_there) {
  test::PhysicalMemory memory{4 * mebibyte, 4 * mebibyte};
  test::Frames frames;
  for (const std::size_t number : {2u, 1u, 0u}) {
    const MemoryRegion region = memory.region(number * mebibyte, mebibyte);
    ASSERT_TRUE(frames.add(&region, 1));
  }
  for (const bool is_run : {false, true, false}) {
    void* const block = is_run ? frames.allocate_run(2 * mebibyte, 1).address
                               : frames.allocate_frame(2 * mebibyte).address;
    ASSERT_EQ(block, memory.at(0));
    for (std::size_t offset = 0; offset < 2 * mebibyte; offset += page) {
      const PagerBlock found = frames.block_at(memory.at(offset + 1));
      EXPECT_TRUE(found.use == (is_run ? PagerUse::Run : PagerUse::Frame));
      EXPECT_TRUE(found.address == block && found.bytes == 2 * mebibyte);
    }
    EXPECT_NE(frames.block_at(memory.at(2 * mebibyte)).address, block);
    EXPECT_EQ(frames.validate(), nullptr);
    if (is_run) {
      EXPECT_TRUE(frames.deallocate_run(block, 2 * mebibyte, 1));
    } else {
      frames.deallocate_frame(block, 2 * mebibyte);
    }
  }
}

TEST(FrameAllocatorByAddress, owns_what_it_was_given_and_no_hole) {
  test::PhysicalMemory memory{mebibyte};
  test::Frames frames;
  EXPECT_FALSE(frames.owns(memory.at(0)));
  const MemoryRegion regions[] = {memory.region(page, 63 * page),
                                  memory.region(80 * page, 48 * page)};
  ASSERT_TRUE(frames.add(regions, 2));
  void* const run = frames.allocate_run(3 * page, 1).address;
  void* const frame = frames.allocate_frame(2 * page).address;
  for (std::size_t number = 0; number < 256; ++number) {
    const bool is_given = (number >= 1 && number < 64) || (number >= 80 && number < 128);
    for (const std::size_t offset : {std::size_t{0}, page - 1}) {
      std::byte* const address = memory.at(number * page + offset);
      EXPECT_EQ(frames.owns(address), is_given) << number;
      const PagerBlock block = frames.block_at(address);
      const auto lies_in = [&](void* first, std::size_t frame_count) {
        return address >= first && address < static_cast<std::byte*>(first) + frame_count * page;
      };
      if (lies_in(run, 3)) {
        EXPECT_TRUE(block.use == PagerUse::Run && block.address == run && block.bytes == 3 * page);
      } else if (lies_in(frame, 2)) {
        EXPECT_TRUE(block.use == PagerUse::Frame && block.address == frame &&
                    block.bytes == 2 * page);
      } else {
        EXPECT_TRUE(block.use == PagerUse::None || block.use == PagerUse::Free);
        EXPECT_TRUE(is_given || block.use == PagerUse::None);
      }
    }
  }
  EXPECT_EQ(frames.validate(), nullptr);
}

}  // namespace
}  // namespace slabmalloc
