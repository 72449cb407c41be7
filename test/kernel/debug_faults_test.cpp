// SPDX-License-Identifier: MIT
// Tests of the debug mode: each fault is reported with its block, offset, value and last users.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "kernel/debug_fixture.hpp"

namespace slabmalloc {
namespace {

using test::debug_layout;
using test::DebugKernel;
using test::DebugReport;
using test::HostedCpu;
using Kind = MisuseKind;

class DebugFaultsTest : public test::DebugModeTest<> {
 protected:
  /// Allocates on CPU 1 and frees on CPU 2.
  std::byte* allocate_on_1(Layout layout) {
    HostedCpu::number = 1;
    std::byte* const block = allocate(layout);
    HostedCpu::number = 0;
    return block;
  }
  void free_on_2(void* block, Layout layout) {
    HostedCpu::number = 2;
    heap.deallocate(block, layout);
    heap.drain_this_cpu();
    HostedCpu::number = 0;
  }
  static void expect(const DebugReport& report, Kind kind, const void* block, Layout layout) {
    EXPECT_EQ(report.misuse.kind, kind);
    EXPECT_EQ(report.misuse.block, block);
    EXPECT_EQ(report.misuse.object_size, slot_bytes(layout));
    EXPECT_STREQ(report.history.heap, "test");
    EXPECT_EQ(report.history.size, layout.size());
    EXPECT_EQ(report.history.allocated.cpu, 1u);
    EXPECT_NE(report.history.allocated.caller, nullptr);
  }
};

TEST_F(DebugFaultsTest, a_write_at_each_offset_behind_a_block_of_each_class_is_an_overflow) {
  for (const Layout layout : all_layouts()) {
    for (std::size_t offset = layout.size(); offset < room(layout); ++offset) {
      std::byte* const block = allocate_on_1(layout);
      block[offset] = std::byte{0x41};
      free_on_2(block, layout);
      const DebugReport report = reports.take_one();
      ASSERT_NO_FATAL_FAILURE(expect(report, Kind::Overflow, block, layout));
      ASSERT_EQ(report.history.offset, static_cast<std::ptrdiff_t>(offset));
      ASSERT_EQ(report.history.value, 0x41);
      ASSERT_EQ(report.misuse.address, block + offset);
      ASSERT_EQ(report.misuse.state, BlockState::InUse);
      ASSERT_FALSE(HasFailure()) << layout.size() << " B, offset " << offset;
    }
  }
}

TEST_F(DebugFaultsTest, a_write_that_goes_on_into_the_record_is_an_overflow) {
  const Layout layout = debug_layout(100);
  // Up to each byte of the owner and the size, which come first.
  for (std::size_t end = room(layout) + 1; end <= room(layout) + 2 * sizeof(void*); ++end) {
    std::byte* const block = allocate_on_1(layout);
    std::vector<std::byte> before(block + layout.size(), block + end);
    std::memset(block + layout.size(), 0x41, end - layout.size());
    EXPECT_EQ(heap.check_blocks(), 1u);
    EXPECT_EQ(reports.take_one().misuse.kind, Kind::Overflow);
    EXPECT_EQ(heap.find_leaks(nullptr, 0, [](const Leak&) {}), 0u);
    free_on_2(block, layout);
    const DebugReport report = reports.take_one();
    EXPECT_EQ(report.misuse.kind, Kind::Overflow);
    EXPECT_EQ(report.misuse.block, block);
    EXPECT_STREQ(report.history.heap, "test");
    std::memcpy(block + layout.size(), before.data(), before.size());
    free_on_2(block, layout);
  }
}

TEST_F(DebugFaultsTest, a_bad_size_of_a_run_in_a_handler_is_reported) {
  const Layout layout = debug_layout(20000);
  std::byte* const run = allocate_on_1(layout);
  HostedCpu::number = 2;
  heap.deallocate(run, debug_layout(std::size_t{1} << 46), Context::Interrupt);
  EXPECT_EQ(reports.take_one().misuse.kind, Kind::ForeignPointer);
  heap.deallocate(run, layout, Context::Interrupt);
}

TEST_F(DebugFaultsTest, a_write_at_each_offset_before_a_block_of_each_class_is_an_underflow) {
  for (const Layout layout : all_layouts()) {
    // The first slot of a page and another.
    std::byte* const blocks[] = {allocate_on_1(layout), allocate_on_1(layout)};
    for (std::byte* const block : blocks) {
      for (std::ptrdiff_t offset = -16; offset < 0; ++offset) {
        block[offset] = std::byte{0x42};
        EXPECT_EQ(heap.check_blocks(), 1u);
        const DebugReport report = reports.take_one();
        expect(report, Kind::Underflow, block, layout);
        EXPECT_EQ(report.history.offset, offset);
        EXPECT_EQ(report.history.value, 0x42);
        ASSERT_FALSE(HasFailure()) << layout.size() << " B, offset " << offset;
      }
      block[-1] = std::byte{0};
      free_on_2(block, layout);
      expect(reports.take_one(), Kind::Underflow, block, layout);
    }
  }
}

TEST_F(DebugFaultsTest, a_write_at_each_offset_of_a_freed_block_of_each_class_is_found) {
  for (const Layout layout : all_layouts()) {
    for (std::size_t offset = 0; offset < room(layout); ++offset) {
      std::byte* const block = allocate_on_1(layout);
      HostedCpu::number = 2;
      heap.deallocate(block, layout);
      block[offset] = std::byte{0x43};
      heap.drain_this_cpu();
      HostedCpu::number = 0;
      const DebugReport report = reports.take_one();
      expect(report, Kind::WriteAfterFree, block, layout);
      EXPECT_EQ(report.history.offset, static_cast<std::ptrdiff_t>(offset));
      EXPECT_EQ(report.history.value, 0x43);
      EXPECT_EQ(report.history.freed.cpu, 2u);
      EXPECT_EQ(report.misuse.state, BlockState::Freed);
      ASSERT_FALSE(HasFailure()) << layout.size() << " B, offset " << offset;
    }
  }
}

TEST_F(DebugFaultsTest, a_write_into_a_block_of_the_size_class_is_found_by_its_next_allocation) {
  const Layout layout = debug_layout(100);
  std::byte* const neighbour = allocate(layout);  // Keeps the page in its class.
  std::byte* const block = allocate(layout);
  heap.deallocate(block, layout);
  heap.drain_this_cpu();
  block[76] = std::byte{0x43};
  EXPECT_EQ(heap.check_blocks(), 1u);
  EXPECT_EQ(reports.take_one().history.offset, 76);
  block[77] = std::byte{0x44};
  std::vector<std::byte*> taken;
  std::vector<DebugReport> found;
  while (found.empty()) {
    taken.push_back(allocate(layout));
    ASSERT_NE(taken.back(), nullptr) << "no allocation found it";
    found = reports.take();
  }
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].misuse.kind, Kind::WriteAfterFree);
  EXPECT_EQ(found[0].misuse.block, block);
  EXPECT_EQ(found[0].history.offset, 77);
  EXPECT_EQ(taken.back(), block) << "the block serves after the report";
  heap.deallocate(neighbour, layout);
  for (std::byte* const one : taken) {
    heap.deallocate(one, layout);
  }
}

TEST_F(DebugFaultsTest, a_double_free_is_told_from_a_free_of_a_block_that_was_never_allocated) {
  const Layout layout = debug_layout(100);
  std::byte* const block = allocate_on_1(layout);
  HostedCpu::number = 2;
  heap.deallocate(block, layout);
  const auto expect_double_free = [&] {
    const DebugReport report = reports.take_one();
    expect(report, Kind::DoubleFree, block, layout);
    EXPECT_EQ(report.misuse.state, BlockState::Freed);
    EXPECT_EQ(report.history.freed.cpu, 2u);
    EXPECT_EQ(report.history.allocated.time + 1, report.history.freed.time);
  };
  HostedCpu::number = 0;
  heap.deallocate(block, layout);
  expect_double_free();
  HostedCpu::number = 2;
  heap.drain_this_cpu();
  HostedCpu::number = 0;
  heap.deallocate(block, layout);  // It lies in the size class again.
  expect_double_free();
  heap.deallocate(static_cast<void*>(block));
  expect_double_free();
  std::byte* const next = block + slot_bytes(layout);
  heap.deallocate(next, layout);
  const DebugReport never = reports.take_one();
  EXPECT_EQ(never.misuse.kind, Kind::DoubleFree);
  EXPECT_EQ(never.misuse.state, BlockState::NeverAllocated);
  EXPECT_EQ(never.misuse.block, next);
}

TEST_F(DebugFaultsTest, a_free_inside_a_block_and_with_a_wrong_size_has_no_effect) {
  const Layout layout = debug_layout(100);
  std::byte* const block = allocate_on_1(layout);
  const std::size_t wrong[] = {99, 101, 1, 1000, 8000};
  for (const std::size_t size : wrong) {
    heap.deallocate(block, debug_layout(size));
    const DebugReport report = reports.take_one();
    if (size <= 1000) {  // Page kinds of larger blocks have their header elsewhere.
      const bool is_base_page = slot_bytes(debug_layout(size)) <= 256;
      EXPECT_EQ(report.misuse.kind, is_base_page ? Kind::SizeMismatch : Kind::ForeignPointer);
      if (is_base_page) {
        expect(report, Kind::SizeMismatch, block, layout);
        EXPECT_EQ(report.misuse.given_size, size);
      }
    }
  }
  for (std::size_t offset = 1; offset < slot_bytes(layout); ++offset) {
    heap.deallocate(block + offset, layout);
    const DebugReport report = reports.take_one();
    expect(report, Kind::MisalignedFree, block, layout);
    ASSERT_EQ(report.misuse.address, block + offset);
  }
  heap.deallocate(block, layout);
}

TEST_F(DebugFaultsTest, a_free_by_another_heap_names_both) {
  Heap other(frames);
  other.debug().set_name("other");
  const Layout layout = debug_layout(100);
  std::byte* const block = allocate_on_1(layout);
  std::vector<std::string> lines;
  HostedCpu::lines = &lines;
  void* const own = std::exchange(DebugKernel::parts[0], nullptr);
  other.deallocate(block, layout, Context::Interrupt);
  DebugKernel::parts[0] = own;
  HostedCpu::lines = nullptr;
  const DebugReport report = reports.take_one();
  expect(report, Kind::MismatchedFree, block, layout);
  EXPECT_STREQ(report.misuse.allocated_by, "test");
  ASSERT_GE(lines.size(), 3u);
  EXPECT_EQ(lines[0], "slabmalloc: free by a function of another kind");
  EXPECT_EQ(lines[1], "  heap       test");
  EXPECT_EQ(lines.back(), "  in         other");
  heap.deallocate(block, layout);
}

TEST_F(DebugFaultsTest, a_run_has_a_red_zone_and_last_users) {
  const Layout layout = debug_layout(20000);
  std::byte* block = allocate_on_1(layout);
  block[20000] = std::byte{0x45};
  HostedCpu::number = 2;
  heap.deallocate(block, layout);
  DebugReport report = reports.take_one();
  EXPECT_EQ(report.misuse.kind, Kind::Overflow);
  EXPECT_EQ(report.misuse.block, block);
  EXPECT_EQ(report.history.offset, 20000);
  EXPECT_EQ(report.history.allocated.cpu, 1u);
  HostedCpu::number = 0;

  block = allocate_on_1(layout);
  heap.deallocate(block, debug_layout(20001));
  report = reports.take_one();
  EXPECT_EQ(report.misuse.kind, Kind::SizeMismatch);
  EXPECT_EQ(report.history.size, 20000u);
  HostedCpu::number = 2;
  heap.deallocate(block, layout, Context::Interrupt);
  HostedCpu::number = 0;
  heap.deallocate(block, layout, Context::Interrupt);  // It waits for the pager.
  report = reports.take_one();
  EXPECT_EQ(report.misuse.kind, Kind::DoubleFree);
  EXPECT_EQ(report.history.freed.cpu, 2u);
}

TEST_F(DebugFaultsTest, a_report_has_a_line_for_each_fact) {
  const Layout layout = debug_layout(100);
  std::byte* const block = allocate_on_1(layout);
  HostedCpu::number = 2;
  heap.deallocate(block, layout);
  block[9] = std::byte{0x46};
  std::vector<std::string> lines;
  HostedCpu::lines = &lines;
  heap.drain_this_cpu();
  HostedCpu::lines = nullptr;
  const DebugReport report = reports.take_one();
  const auto hexadecimal = [](const void* address) {
    char text[32];
    std::snprintf(text, sizeof text, "%p", address);
    return std::string(text);
  };
  EXPECT_EQ(
      lines,
      (std::vector<std::string>{
          "slabmalloc: write into freed memory", "  heap       test",
          "  block      " + hexadecimal(block) + ", 100 bytes, free",
          "  damage     0x46 at offset 9",
          "  allocated  by " + hexadecimal(report.history.allocated.caller) + " on CPU 1 at 1",
          "  freed      by " + hexadecimal(report.history.freed.caller) + " on CPU 2 at 2",
          "  in         test"}));
}

[[gnu::noinline]] void* allocate_here(
    CpuZones<DebugKernel, FrameAllocator<DebugKernel>, test::TestConfig>& heap, Layout layout) {
  void* const block = heap.allocate(layout).value_or(nullptr);
  EXPECT_NE(block, nullptr);
  return block;
}

TEST_F(DebugFaultsTest, the_caller_is_an_address_in_the_function_that_calls_the_heap) {
  const Layout layout = debug_layout(100);
  void* const block = allocate_here(heap, layout);
  heap.deallocate(block, debug_layout(99));
  const auto caller = reinterpret_cast<std::uintptr_t>(reports.take_one().history.allocated.caller);
  const auto function = reinterpret_cast<std::uintptr_t>(&allocate_here);
  EXPECT_TRUE(caller > function && caller < function + 4096);
  heap.deallocate(block, layout);
}

}  // namespace
}  // namespace slabmalloc
