// SPDX-License-Identifier: MIT
#include "slabmalloc/kernel/run_supply.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <utility>
#include <vector>

#include "kernel/frame_fixture.hpp"
#include "kernel/hosted_kernel.hpp"
#include "support/frames.hpp"
#include "support/misuse_recorder.hpp"

namespace slabmalloc::test {
namespace {

constexpr Layout large = Layout::from_size_align(100'000, 8).value_or(Layout());
constexpr Layout tiny = Layout::of<char>();

/// A pager that asks for the context of runs.
struct ContextPager : FrameSource {
  Frame allocate_run(std::size_t bytes, std::size_t alignment, Context context) noexcept {
    contexts.push_back(context);
    return FrameSource::allocate_run(bytes, alignment);
  }
  using FrameSource::allocate_run;
  std::vector<Context> contexts;
};

class RunSupplyTest : public testing::Test {
 protected:
  void TearDown() override {
    EXPECT_EQ(runs.validate(), nullptr);
    EXPECT_EQ(account.validate(), nullptr);
    EXPECT_EQ(account.bytes(), 0u);
    EXPECT_EQ(runs.bytes(), 0u);
    EXPECT_EQ(pager.live_bytes(), 0u);
  }
  void* allocate(Layout layout, Context context = Context::MayWait) {
    return runs.allocate(layout, context).value_or(nullptr);
  }

  MisuseRecorder misuse;
  ContextPager pager;
  FrameAccount<OpenKernel, HardwareAtomics> account;
  RunSupply<OpenKernel, ContextPager, HardwareAtomics> runs{pager, account};
};

TEST_F(RunSupplyTest, tells_the_pager_the_context_that_asks_for_it) {
  for (const Context context : {Context::MayNotWait, Context::MayWait}) {
    void* const run = allocate(large, context);
    ASSERT_NE(run, nullptr);
    runs.deallocate(run, large, context);
  }
  EXPECT_EQ(pager.contexts, (std::vector{Context::MayNotWait, Context::MayWait}));
  pager.set_exhausted(true);
  EXPECT_EQ(runs.allocate(large, Context::MayWait).error(), AllocationError::OutOfMemory);
}

TEST_F(RunSupplyTest, defers_a_free_where_the_pager_cannot_be_called) {
  void* const first = allocate(large);
  void* const second = allocate(tiny);
  runs.deallocate(first, large, Context::Interrupt);
  runs.deallocate(second, tiny, Context::Emergency);
  EXPECT_TRUE(runs.has_deferred());
  EXPECT_EQ(runs.deferred_bytes(), pager.live_bytes());
  EXPECT_EQ(account.bytes(), pager.live_bytes()) << "runs that wait are charged";
  EXPECT_EQ(runs.bytes(), pager.live_bytes());
  EXPECT_EQ(runs.validate(), nullptr);
  std::size_t given = 0;
  while (runs.has_deferred()) {
    given += runs.give_back(runs.take_deferred());
  }
  EXPECT_GE(given, large.size() + 5 * sizeof(void*)) << "a tiny run has room for a link";
  EXPECT_EQ(runs.give_back(runs.take_deferred()), 0u) << "there is none";
  runs.deallocate(nullptr, large, Context::MayWait);
}

TEST_F(RunSupplyTest, reports_the_second_free_of_a_run_that_waits) {
  void* const run = allocate(large);
  runs.deallocate(run, large, Context::Interrupt);
  for (const Context context : {Context::Interrupt, Context::MayWait}) {
    runs.deallocate(run, large, context);
    EXPECT_EQ(misuse.take_kinds(), std::vector{MisuseKind::DoubleFree});
  }
  EXPECT_EQ(runs.give_back(runs.take_deferred()), large.size());
}

TEST_F(RunSupplyTest, asks_no_pager_for_a_run_beyond_the_limit) {
  struct Held {
    decltype(runs)& supply;
    void* address;
  };
  account.set_limit(2 * large.size() - 1, nullptr, nullptr);
  void* const run = allocate(large);
  ASSERT_NE(run, nullptr);
  EXPECT_EQ(runs.allocate(large, Context::MayWait).error(), AllocationError::OutOfMemory);
  EXPECT_EQ(pager.contexts.size(), 1u);
  Held held{runs, run};
  account.set_limit(
      account.limit(),
      [](void* argument) noexcept {
        auto& [supply, address] = *static_cast<Held*>(argument);
        supply.deallocate(std::exchange(address, nullptr), large, Context::MayWait);
      },
      &held);
  void* const next = allocate(large);
  EXPECT_NE(next, nullptr) << "the callback made room";
  EXPECT_EQ(runs.bytes_high_water(), large.size());
  runs.deallocate(next, large, Context::MayWait);
}

TEST_F(RunSupplyTest, ends_the_charge_of_a_run_that_the_pager_does_not_have) {
  pager.set_exhausted(true);
  EXPECT_EQ(allocate(large), nullptr);
  EXPECT_EQ(account.validate(), nullptr);
  EXPECT_EQ(account.high_water(), 0u);
  pager.set_exhausted(false);
}

/// A pager that tries to use the room of a run while that goes back.
struct LookingPager : FrameSource {
  bool deallocate_run(void* run, std::size_t bytes, std::size_t alignment) noexcept {
    room = account->charge(bytes, 1);
    return FrameSource::deallocate_run(run, bytes, alignment), true;
  }
  FrameAccount<OpenKernel, HardwareAtomics>* account = nullptr;
  std::uint32_t room = 0;
};

TEST(RunSupplyOfLookingPager, ends_the_charge_of_a_run_after_it_went_back) {
  LookingPager pager;
  FrameAccount<OpenKernel, HardwareAtomics> account;
  pager.account = &account;
  account.set_limit(large.size(), nullptr, nullptr);
  RunSupply<OpenKernel, LookingPager, HardwareAtomics> runs(pager, account);
  void* const run = runs.allocate(large, Context::MayWait).value();
  runs.deallocate(run, large, Context::MayWait);
  EXPECT_EQ(pager.room, 0u);
  EXPECT_EQ(account.validate(), nullptr);
  EXPECT_EQ(account.bytes(), 0u);
}

/// Charges whole frames, and only a free that the pager accepted ends a charge.
TEST(RunSupplyOfFrames, charges_exactly_the_frames_that_the_pager_uses) {
  MisuseRecorder misuse;
  PhysicalMemory memory(mebibyte);
  const MemoryRegion region = memory.region(0, mebibyte);
  Frames frames;
  ASSERT_TRUE(frames.add(&region, 1));
  FrameAccount<PatientKernel, HardwareAtomics> account;
  RunSupply<PatientKernel, Frames, HardwareAtomics> runs(frames, account);
  const auto expect_exact = [&] {
    EXPECT_EQ(account.bytes(), frames.statistics().used_bytes);
    EXPECT_EQ(runs.bytes(), frames.statistics().used_bytes);
    EXPECT_EQ(account.validate(), nullptr);
  };
  void* const run = runs.allocate(large, Context::MayWait).value_or(nullptr);
  ASSERT_NE(run, nullptr);
  expect_exact();
  EXPECT_EQ(account.bytes(), 25 * 4 * kibibyte);
  const Layout wrong = Layout::from_size_align(50'000, 8).value();
  runs.deallocate(run, wrong, Context::MayWait);
  EXPECT_EQ(misuse.take_kinds(), std::vector{MisuseKind::SizeMismatch});
  expect_exact();
  // A free that waits: the pager judges it when it gets the run.
  runs.deallocate(run, wrong, Context::Interrupt);
  EXPECT_EQ(runs.give_back(runs.take_deferred()), 0u) << "nothing went back";
  EXPECT_EQ(misuse.take_kinds(), std::vector{MisuseKind::SizeMismatch});
  expect_exact();
  // An address inside a run is refused before anything is written there.
  auto* const inside = static_cast<std::byte*>(run) + 64;
  *inside = std::byte{7};
  runs.deallocate(inside, large, Context::Interrupt);
  EXPECT_EQ(misuse.take_kinds(), std::vector{MisuseKind::MisalignedFree});
  EXPECT_EQ(*inside, std::byte{7});
  EXPECT_FALSE(runs.has_deferred());
  runs.deallocate(run, large, Context::MayWait);
  expect_exact();
  runs.deallocate(run, large, Context::MayWait);
  EXPECT_EQ(misuse.take_kinds(), std::vector{MisuseKind::DoubleFree});
  expect_exact();
  EXPECT_EQ(account.bytes(), 0u);
}

TEST_F(RunSupplyTest, has_none_of_a_pager_without_runs) {
  struct FramesOnly {
    Frame allocate_frame(std::size_t) noexcept { return {}; }
    void deallocate_frame(void*, std::size_t) noexcept {}
  } frames;
  RunSupply<OpenKernel, FramesOnly, HardwareAtomics> none(frames, account);
  EXPECT_EQ(none.allocate(large, Context::MayWait).error(), AllocationError::InvalidLayout);
  int object = 0;
  none.deallocate(&object, large, Context::Interrupt);
  EXPECT_EQ(misuse.take_kinds(), std::vector{MisuseKind::SizeMismatch});
  EXPECT_FALSE(none.has_deferred());
}

}  // namespace
}  // namespace slabmalloc::test
