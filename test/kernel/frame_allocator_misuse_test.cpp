// SPDX-License-Identifier: MIT
// Tests that bad frees are reported exactly and change nothing.
#include <gtest/gtest.h>

#include <cstddef>
#include <vector>

#include "kernel/frame_fixture.hpp"
#include "support/misuse_recorder.hpp"

namespace slabmalloc::test {
namespace {

constexpr std::size_t frame = 4 * kibibyte;
using Kinds = std::vector<MisuseKind>;

class FrameMisuseTest : public testing::Test {
 protected:
  /// Two regions with a hole of 16 frames.
  FrameMisuseTest() {
    const MemoryRegion regions[] = {memory_.region(0, 64 * frame),
                                    memory_.region(80 * frame, 48 * frame)};
    EXPECT_TRUE(frames_.add(regions, 2));
  }
  void TearDown() override { EXPECT_EQ(frames_.validate(), nullptr); }

  /// `bad_call` must only cause a report.
  template <class F>
  void expect_report(MisuseKind kind, const void* address, std::size_t bytes, F&& bad_call) {
    const FrameStatistics before = frames_.statistics();
    bad_call();
    const std::vector<Misuse> reports = misuse_.take();
    ASSERT_EQ(reports.size(), 1u);
    EXPECT_EQ(reports[0].kind, kind);
    EXPECT_EQ(reports[0].address, address);
    EXPECT_EQ(reports[0].object_size, bytes);
    const FrameStatistics after = frames_.statistics();
    EXPECT_EQ(after.used_bytes, before.used_bytes);
    EXPECT_EQ(after.frees, before.frees);
    EXPECT_TRUE(std::equal(std::begin(before.free_blocks), std::end(before.free_blocks),
                           std::begin(after.free_blocks)));
    EXPECT_EQ(frames_.validate(), nullptr);
  }
  std::byte* allocate(std::size_t bytes) {
    return static_cast<std::byte*>(frames_.allocate_frame(bytes).address);
  }

  MisuseRecorder misuse_;
  PhysicalMemory memory_{mebibyte};
  Frames frames_;
};

TEST_F(FrameMisuseTest, a_null_pointer_is_no_frame) {
  frames_.deallocate_frame(nullptr, frame);
  frames_.deallocate_run(nullptr, frame, frame);
  EXPECT_EQ(misuse_.take_kinds(), Kinds());
}

TEST_F(FrameMisuseTest, a_double_free_is_found_with_whatever_size) {
  std::byte* freed = allocate(4 * frame);
  frames_.deallocate_frame(freed, 4 * frame);
  for (const std::size_t bytes : {1u, 2u, 4u, 8u, 1024u}) {
    expect_report(MisuseKind::DoubleFree, freed, 0,
                  [&] { frames_.deallocate_frame(freed, bytes * frame); });
  }
  expect_report(MisuseKind::DoubleFree, freed + frame, 0,
                [&] { frames_.deallocate_run(freed + frame, frame, 1); });
}

TEST_F(FrameMisuseTest, a_double_free_is_found_when_its_frame_has_merged_and_been_split_again) {
  std::byte* first = allocate(frame);
  std::byte* second = allocate(frame);
  frames_.deallocate_frame(first, frame);
  frames_.deallocate_frame(second, frame);
  std::byte* again = allocate(frame);
  ASSERT_EQ(again, first);
  expect_report(MisuseKind::DoubleFree, second, 0,
                [&] { frames_.deallocate_frame(second, frame); });
}

TEST_F(FrameMisuseTest, a_free_with_the_wrong_size_names_the_right_one) {
  std::byte* block = allocate(4 * frame);
  for (const std::size_t bytes : {1u, 2u, 8u, 16u, 4096u}) {
    expect_report(MisuseKind::SizeMismatch, block, 4 * frame,
                  [&] { frames_.deallocate_frame(block, bytes * frame); });
  }
  expect_report(MisuseKind::SizeMismatch, block, 4 * frame,
                [&] { frames_.deallocate_frame(block, ~std::size_t{0}); });
  expect_report(MisuseKind::SizeMismatch, block, 4 * frame,
                [&] { frames_.deallocate_run(block, 3 * frame, 1); });
  frames_.deallocate_frame(block, 4 * frame);
}

TEST_F(FrameMisuseTest, a_frame_is_no_run_and_a_run_no_frame) {
  for (const std::size_t bytes : {frame, 4 * frame}) {
    std::byte* const block = allocate(bytes);
    expect_report(MisuseKind::SizeMismatch, block, bytes,
                  [&] { EXPECT_FALSE(frames_.deallocate_run(block, bytes, 1)); });
    frames_.deallocate_frame(block, bytes);
    void* const run = frames_.allocate_run(bytes, 1).address;
    expect_report(MisuseKind::SizeMismatch, run, bytes,
                  [&] { frames_.deallocate_frame(run, bytes); });
    EXPECT_TRUE(frames_.deallocate_run(run, bytes, 1));
  }
}

TEST_F(FrameMisuseTest, a_run_is_freed_as_a_whole) {
  auto* run = static_cast<std::byte*>(frames_.allocate_run(7 * frame, 1).address);
  expect_report(MisuseKind::SizeMismatch, run, 7 * frame,
                [&] { frames_.deallocate_frame(run, 4 * frame); });
  expect_report(MisuseKind::SizeMismatch, run, 7 * frame,
                [&] { frames_.deallocate_run(run, 8 * frame, 1); });
  expect_report(MisuseKind::SizeMismatch, run, 7 * frame,
                [&] { frames_.deallocate_run(run, 6 * frame, 1); });
  for (std::size_t inside = 1; inside < 7; ++inside) {
    expect_report(MisuseKind::MisalignedFree, run + inside * frame, 7 * frame,
                  [&] { frames_.deallocate_frame(run + inside * frame, frame); });
  }
  frames_.deallocate_run(run, 6 * frame + 1, 1);
  expect_report(MisuseKind::DoubleFree, run, 0, [&] { frames_.deallocate_run(run, 7 * frame, 1); });
}

TEST_F(FrameMisuseTest, two_runs_side_by_side_are_not_one) {
  auto* first = static_cast<std::byte*>(frames_.allocate_run(4 * frame, 1).address);
  auto* second = static_cast<std::byte*>(frames_.allocate_run(2 * frame, 1).address);
  ASSERT_EQ(second, first + 4 * frame);
  expect_report(MisuseKind::SizeMismatch, first, 4 * frame,
                [&] { frames_.deallocate_run(first, 6 * frame, 1); });
  frames_.deallocate_run(first, 4 * frame, 1);
  frames_.deallocate_run(second, 2 * frame, 1);
}

TEST_F(FrameMisuseTest, an_address_inside_a_frame_is_found_at_every_byte) {
  std::byte* block = allocate(2 * frame);
  for (std::size_t offset = 1; offset < 2 * frame; offset += 61) {
    expect_report(MisuseKind::MisalignedFree, block + offset, 2 * frame,
                  [&] { frames_.deallocate_frame(block + offset, frame); });
  }
  frames_.deallocate_frame(block, 2 * frame);
}

TEST_F(FrameMisuseTest, addresses_of_nothing_are_foreign) {
  const int local = 0;
  std::vector<const void*> addresses = {&local,
                                        reinterpret_cast<void*>(frame),
                                        reinterpret_cast<void*>(~std::uintptr_t{0}),
                                        memory_.at(64 * frame),   // in the hole
                                        memory_.at(79 * frame),   // the same
                                        memory_.at(63 * frame),   // meta-data
                                        memory_.at(128 * frame),  // behind all
                                        memory_.at(0) - frame};
  for (const void* address : addresses) {
    expect_report(MisuseKind::ForeignPointer, address, 0,
                  [&] { frames_.deallocate_frame(const_cast<void*>(address), frame); });
  }
}

TEST_F(FrameMisuseTest, the_hook_is_called_with_interrupts_as_they_were_and_may_free) {
  static Frames* frames;
  static std::byte* other;
  static std::uint32_t saved;
  frames = &frames_;
  other = allocate(frame);
  std::byte* freed = allocate(frame);
  frames_.deallocate_frame(freed, frame);
  HostedCpu::saved = 0;
  const MisuseHandler recorder = set_misuse_handler([](const Misuse&) noexcept {
    saved = HostedCpu::saved;
    frames->deallocate_frame(other, frame);
  });
  frames_.deallocate_frame(freed, frame);
  set_misuse_handler(recorder);
  EXPECT_EQ(saved, 0u);
  EXPECT_EQ(frames_.statistics().used_bytes, 0u);
}

}  // namespace
}  // namespace slabmalloc::test
