// SPDX-License-Identifier: MIT
// Tests of memory at given addresses: allocated there, taken offline, and put online.
#include <gtest/gtest.h>

#include <cstddef>
#include <vector>

#include "kernel/frame_fixture.hpp"
#include "support/misuse_recorder.hpp"

namespace slabmalloc::test {
namespace {

constexpr std::size_t frame = 4 * kibibyte;

class FramePlacesTest : public testing::Test {
 protected:
  /// Frames 0 … 63 and 64 … 127 of two spans that adjoin, and 1024 … 1087 far behind. No meta-data
  /// lies where the first two meet: frame 64 is in use until it has found its place.
  FramePlacesTest() {
    for (const std::size_t first : {64u, 0u, 1024u}) {
      const MemoryRegion region = memory_.region(first * frame, 64 * frame);
      EXPECT_TRUE(frames_.add(&region, 1));
      EXPECT_EQ(frame_at(64, 1) != nullptr, first == 64);
    }
    frames_.deallocate_frame(memory_.at(64 * frame), frame);
    failures_ = frames_.statistics().failures;
  }
  void TearDown() override { EXPECT_EQ(frames_.validate(), nullptr); }

  void* frame_at(std::size_t number, std::size_t frames) {
    return frames_.allocate_frame_at(memory_.at(number * frame), frames * frame).address;
  }
  void* run_at(std::size_t number, std::size_t frames) {
    return frames_.allocate_run_at(memory_.at(number * frame), frames * frame).address;
  }
  bool offline(std::size_t number, std::size_t frames) {
    in_use_.clear();
    return frames_.offline(memory_.region(number * frame, frames * frame),
                           [this](const PagerBlock& block) { in_use_.push_back(block); });
  }
  std::vector<PagerBlock> metadata() {
    std::vector<PagerBlock> result;
    frames_.for_each_block([&](void* address, std::size_t bytes, FrameUse use) {
      if (use == FrameUse::Metadata) {
        result.push_back({address, bytes, PagerUse::None});
      }
    });
    return result;
  }

  MisuseRecorder misuse_;
  PhysicalMemory memory_{8 * mebibyte};
  Frames frames_;
  std::size_t failures_ = 0;
  std::vector<PagerBlock> in_use_;
};

TEST_F(FramePlacesTest, a_run_may_lie_across_spans_and_comes_back_whole) {
  const std::vector<std::size_t> before = free_blocks(frames_);
  ASSERT_EQ(run_at(50, 15), memory_.at(50 * frame)) << "to frame 64";
  EXPECT_EQ(run_at(40, 11), nullptr) << "frame 50 is in use";
  EXPECT_EQ(frame_at(64, 1), nullptr) << "it is a part of the run";
  EXPECT_TRUE(frames_.deallocate_run(memory_.at(50 * frame), 15 * frame, 1));
  EXPECT_EQ(free_blocks(frames_), before);
}

TEST_F(FramePlacesTest, refuses_what_is_no_free_memory) {
  EXPECT_EQ(frame_at(200, 1), nullptr) << "no memory";
  EXPECT_EQ(run_at(120, 16), nullptr) << "no memory at the end";
  EXPECT_EQ(frame_at(2, 4), nullptr) << "not aligned";
  EXPECT_EQ(frames_.allocate_run_at(memory_.at(frame + 8), frame).address, nullptr);
  EXPECT_EQ(frames_.allocate_run_at(nullptr, frame).address, nullptr);
  EXPECT_EQ(run_at(1024, ~std::size_t{0} / frame), nullptr);
  for (const PagerBlock& block : metadata()) {
    EXPECT_EQ(frames_.allocate_run_at(block.address, 1).address, nullptr) << "meta-data";
  }
  EXPECT_EQ(frames_.statistics().used_bytes, 0u);
  EXPECT_EQ(frames_.statistics().failures - failures_, 6 + metadata().size());
}

TEST_F(FramePlacesTest, a_frame_at_an_address_is_freed_as_any_other) {
  ASSERT_EQ(frame_at(16, 8), memory_.at(16 * frame));
  EXPECT_EQ(frames_.block_at(memory_.at(20 * frame)).use, PagerUse::Frame);
  frames_.deallocate_frame(memory_.at(16 * frame), 8 * frame);
  frames_.deallocate_frame(memory_.at(16 * frame), 8 * frame);
  EXPECT_EQ(misuse_.take_kinds(), std::vector{MisuseKind::DoubleFree});
}

TEST_F(FramePlacesTest, offline_memory_is_given_to_nobody_until_it_is_online) {
  const FrameStatistics before = frames_.statistics();
  ASSERT_TRUE(offline(1024, 32));
  EXPECT_EQ(frames_.statistics().offline_bytes, 32 * frame);
  EXPECT_EQ(frames_.statistics().managed_bytes, before.managed_bytes - 32 * frame);
  EXPECT_TRUE(frames_.owns(memory_.at(1024 * frame)));
  EXPECT_EQ(frames_.block_at(memory_.at(1024 * frame)).use, PagerUse::None);
  const MemoryRegion region = memory_.region(1024 * frame, 32 * frame);
  EXPECT_TRUE(frames_.add(&region, 1)) << "which does not bring it back";
  for (const std::byte* one : drain(frames_)) {
    EXPECT_FALSE(one >= memory_.at(1024 * frame) && one < memory_.at(1056 * frame));
    frames_.deallocate_frame(const_cast<std::byte*>(one), frame);
  }
  frames_.deallocate_frame(memory_.at(1030 * frame), frame);
  EXPECT_EQ(misuse_.take_kinds(), std::vector{MisuseKind::DoubleFree});
  frames_.online(region);
  EXPECT_EQ(frames_.statistics().managed_bytes, before.managed_bytes);
  EXPECT_EQ(free_blocks(frames_),
            std::vector(std::begin(before.free_blocks), std::end(before.free_blocks)));
}

TEST_F(FramePlacesTest, what_is_in_use_keeps_memory_online_and_is_named) {
  ASSERT_NE(frame_at(1028, 1), nullptr);
  ASSERT_NE(run_at(1030, 6), nullptr);
  const std::vector<std::size_t> before = free_blocks(frames_);
  EXPECT_FALSE(offline(1024, 8));
  ASSERT_EQ(in_use_.size(), 2u);
  EXPECT_EQ(in_use_[0].address, memory_.at(1028 * frame));
  EXPECT_EQ(in_use_[0].use, PagerUse::Frame);
  EXPECT_EQ(in_use_[1].address, memory_.at(1030 * frame));
  EXPECT_EQ(in_use_[1].bytes, 6 * frame) << "whole, although it ends outside";
  EXPECT_EQ(in_use_[1].use, PagerUse::Run);
  EXPECT_EQ(free_blocks(frames_), before);
  // The callback may free: then the next call succeeds.
  EXPECT_FALSE(frames_.offline(memory_.region(1024 * frame, 8 * frame), [&](PagerBlock block) {
    block.use == PagerUse::Run ? void(frames_.deallocate_run(block.address, block.bytes, 1))
                               : frames_.deallocate_frame(block.address, block.bytes);
  }));
  EXPECT_TRUE(offline(1024, 8));
}

TEST_F(FramePlacesTest, meta_data_keeps_its_memory_online) {
  const std::vector<PagerBlock> all = metadata();
  ASSERT_FALSE(all.empty());
  for (const PagerBlock& one : all) {
    EXPECT_FALSE(frames_.offline({reinterpret_cast<std::uintptr_t>(one.address), 1},
                                 [this](const PagerBlock& block) { in_use_.push_back(block); }));
    ASSERT_EQ(in_use_.size(), 1u);
    EXPECT_EQ(in_use_[0].address, one.address);
    EXPECT_EQ(in_use_[0].use, PagerUse::None);
    in_use_.clear();
  }
}

TEST_F(FramePlacesTest, holes_and_single_bytes_go_offline_too) {
  EXPECT_TRUE(offline(128, 800)) << "there is no memory";
  EXPECT_EQ(frames_.statistics().offline_bytes, 0u);
  EXPECT_TRUE(frames_.offline(memory_.region(1024 * frame + 77, 1), [](const PagerBlock&) {}));
  EXPECT_EQ(frames_.statistics().offline_bytes, frame) << "a bad byte takes its frame along";
  EXPECT_TRUE(frames_.offline(memory_.region(1030 * frame + 77, 0), [](const PagerBlock&) {}));
  EXPECT_EQ(frames_.statistics().offline_bytes, frame);
}

}  // namespace
}  // namespace slabmalloc::test
