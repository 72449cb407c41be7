// SPDX-License-Identifier: MIT
#include "slabmalloc/kernel/frame_supply.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernel/hosted_kernel.hpp"
#include "support/frames.hpp"
#include "support/misuse_recorder.hpp"

namespace slabmalloc::test {
namespace {

constexpr std::size_t frame_bytes = 4096;

/// Hears of frames, and refuses some.
struct LifeRecord {
  std::vector<void*> begun;
  std::vector<void*> ended;
  std::vector<Context> contexts;
  std::size_t refused = 0;  ///< So many of the next ones.
};
struct RecordingLife {
  LifeRecord* record;
  bool begin(void* frame, Context context) noexcept {
    EXPECT_EQ(HostedCpu::saved, 0u);
    record->contexts.push_back(context);
    if (record->refused != 0) {
      --record->refused;
      return false;
    }
    record->begun.push_back(frame);
    return true;
  }
  void end(void* frame) noexcept {
    EXPECT_EQ(HostedCpu::saved, 0u);
    record->ended.push_back(frame);
  }
};

class FrameSupplyTest : public testing::Test {
 protected:
  void TearDown() override {
    EXPECT_EQ(supply.account().bytes(), pager.live_bytes());
    EXPECT_EQ(supply.account().validate(), nullptr);
  }

  FrameSource pager;
  LifeRecord life;
  FrameSupply<OpenKernel, FrameSource, HardwareAtomics, RecordingLife> supply{pager, {&life}};
};

TEST_F(FrameSupplyTest, gets_frames_and_gives_them_back) {
  void* frames[4] = {};
  ASSERT_EQ(supply.get(frame_bytes, Context::MayNotWait, frames, 4), 4u);
  EXPECT_EQ(life.begun, std::vector<void*>(frames, frames + 4));
  EXPECT_EQ(life.contexts, std::vector<Context>(4, Context::MayNotWait));
  for (void* const frame : frames) {
    supply.give_back(frame, frame_bytes);
  }
  EXPECT_EQ(life.ended, life.begun);
  EXPECT_EQ(pager.live_bytes(), 0u);
  EXPECT_EQ(supply.growths(), 1u);
  EXPECT_EQ(supply.account().high_water(), 4 * frame_bytes);
}

/// A pager that tries to use the room of a frame while that goes back.
struct LookingPager : FrameSource {
  void deallocate_frame(void* frame, std::size_t bytes) noexcept {
    room = account->charge(bytes, 1);
    FrameSource::deallocate_frame(frame, bytes);
  }
  FrameAccount<OpenKernel, HardwareAtomics>* account = nullptr;
  std::uint32_t room = 0;
};

TEST(FrameSupplyOfLookingPager, ends_the_charge_of_a_frame_after_it_went_back) {
  LookingPager pager;
  FrameSupply<OpenKernel, LookingPager, HardwareAtomics, PlainFrames> supply{pager, {}};
  pager.account = &supply.account();
  supply.account().set_limit(frame_bytes, nullptr, nullptr);
  void* frame = nullptr;
  ASSERT_EQ(supply.get(frame_bytes, Context::MayWait, &frame, 1), 1u);
  supply.give_back(frame, frame_bytes);
  EXPECT_EQ(pager.room, 0u);
  EXPECT_EQ(supply.account().validate(), nullptr);
  EXPECT_EQ(supply.account().bytes(), 0u);
}

TEST_F(FrameSupplyTest, counts_what_it_did_not_get_no_more) {
  void* frames[4] = {};
  pager.set_limit(3 * frame_bytes);
  life.refused = 2;
  ASSERT_EQ(supply.get(frame_bytes, Context::MayWait, frames, 4), 1u) << "two of three are refused";
  EXPECT_EQ(life.begun, std::vector<void*>{frames[0]});
  EXPECT_TRUE(life.ended.empty()) << "what never began does not end";
  EXPECT_EQ(pager.live_bytes(), frame_bytes);
  pager.set_exhausted(true);
  EXPECT_EQ(supply.get(frame_bytes, Context::MayWait, frames + 1, 1), 0u);
  EXPECT_EQ(supply.growths(), 1u);
}

TEST_F(FrameSupplyTest, asks_no_pager_for_what_the_limit_forbids) {
  int told = 0;
  supply.account().set_limit(
      frame_bytes, [](void* argument) noexcept { ++*static_cast<int*>(argument); }, &told);
  void* const frame = supply.get_to_reserve(frame_bytes, Context::MayWait);
  ASSERT_NE(frame, nullptr);
  const std::size_t calls = pager.calls();
  EXPECT_EQ(supply.get_to_reserve(frame_bytes, Context::MayWait), nullptr);
  EXPECT_EQ(told, 0);
  EXPECT_EQ(supply.growths(), 0u);
  void* none = nullptr;
  EXPECT_EQ(supply.get(frame_bytes, Context::MayWait, &none, 1), 0u);
  EXPECT_EQ(told, 1);
  EXPECT_EQ(pager.calls(), calls);
}

/// A pager that gives addresses inside of frames.
struct CrookedPager : FrameSource {
  Frame allocate_frame(std::size_t bytes) noexcept {
    void* const address = frame(bytes);
    return address != nullptr ? static_cast<std::byte*>(address) + 64 : nullptr;
  }
  void deallocate_frame(void* address, std::size_t bytes) noexcept {
    FrameSource::deallocate_frame(static_cast<std::byte*>(address) - 64, bytes);
  }
};

TEST(FrameSupplyMisuse, frames_that_are_not_aligned_are_reported_and_go_back) {
  MisuseRecorder misuse;
  CrookedPager pager;
  FrameSupply<OpenKernel, CrookedPager, HardwareAtomics, PlainFrames> supply(pager, {});
  void* frames[2] = {};
  EXPECT_EQ(supply.get(frame_bytes, Context::MayWait, frames, 2), 0u);
  EXPECT_EQ(misuse.take_kinds(), std::vector(2, MisuseKind::InvalidPage));
  EXPECT_EQ(supply.account().bytes(), 0u);
  EXPECT_EQ(pager.live_bytes(), 0u);
}

}  // namespace
}  // namespace slabmalloc::test
