// SPDX-License-Identifier: MIT
//
// Tags beside others: blocks of other heaps, and allocations that are under way.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernel/tags_fixture.hpp"
#include "support/interrupting_atomics.hpp"

namespace slabmalloc {
namespace {

using test::HostedCpu;
using test::net;
using Kinds = std::vector<MisuseKind>;

constexpr Layout small = Layout::of<std::uint64_t[8]>();
constexpr Layout large = Layout::of<std::uint64_t[900]>();
constexpr Layout run = Layout::from_size_align(20'000, 8).value_or(small);

template <class Config>
class HeapTagsOthers : public test::TagsTest<Config> {};
using Configs =
    testing::Types<test::TaggedKernelConfig, test::TaggedDebugConfig, test::TaggedConfigOfOneCpu>;
TYPED_TEST_SUITE(HeapTagsOthers, Configs, );

// ---- other heaps --------------------------------------------------------------------------------

TYPED_TEST(HeapTagsOthers, blocks_of_another_heap_are_refused_and_keep_their_charge) {
  typename TestFixture::Heap other(this->frames);
  for (const Layout layout : {small, run}) {
    void* const block = other.allocate(layout, Context::MayWait, net).value();
    void* const kept = this->heap.allocate(layout, Context::MayWait, 1).value();
    const TagStatistics before = other.tag_statistics(net);
    this->heap.deallocate(block, layout);
    EXPECT_EQ(this->misuse.take_kinds(), Kinds{MisuseKind::MismatchedFree});
    this->heap.deallocate(block);
    EXPECT_EQ(this->misuse.take_kinds(), Kinds{MisuseKind::MismatchedFree});
    EXPECT_EQ(this->heap.usable_size(block), 0u);
    EXPECT_EQ(this->misuse.take_kinds(), Kinds{MisuseKind::MismatchedFree});
    for (const Layout wanted : {layout, large, run}) {
      const Result<void*> moved = this->heap.reallocate(block, wanted);
      ASSERT_FALSE(moved) << wanted.size();
      EXPECT_EQ(moved.error(), AllocationError::InvalidLayout);
      EXPECT_EQ(this->misuse.take_kinds(), Kinds{MisuseKind::MismatchedFree});
    }
    EXPECT_EQ(this->heap.tag_statistics(net).bytes_high_water, 0u) << "it charged nobody";
    EXPECT_EQ(other.tag_statistics(net).bytes, before.bytes);
    EXPECT_EQ(this->heap.validate(), nullptr);
    EXPECT_EQ(other.validate(), nullptr);
    other.deallocate(block, layout);
    EXPECT_EQ(other.tag_statistics(net).bytes, 0u);
    this->heap.deallocate(kept, layout);
  }
  EXPECT_EQ(this->misuse.take_kinds(), Kinds{});
  other.release_all();
}

TYPED_TEST(HeapTagsOthers, runs_of_other_clients_change_no_account) {
  typename TestFixture::Heap other(this->frames);
  void* const kept = this->heap.allocate(run, Context::MayWait, 1).value();
  const std::size_t bytes = this->bytes_of(run);
  void* const others[] = {other.allocate(run, Context::MayWait, net).value(),
                          this->frames.allocate_run(bytes, this->base_bytes).address};
  for (void* const block : others) {
    this->heap.deallocate(block, run, Context::Interrupt);
    this->heap.give_back();
    this->heap.deallocate(block, run);
    EXPECT_EQ(this->misuse.take_kinds().size(), 2u);
    EXPECT_EQ(this->frames.block_at(block).address, block) << "it is still its client's";
    EXPECT_EQ(this->heap.run_bytes(), bytes);
    EXPECT_EQ(this->heap.validate(), nullptr);
  }
  EXPECT_EQ(other.tag_statistics(net).bytes, bytes);
  EXPECT_TRUE(this->frames.deallocate_run(others[1], bytes, this->base_bytes));
  if constexpr (!TestFixture::Heap::is_debugged) {
    other.deallocate(others[0], run);
    EXPECT_EQ(other.frame_bytes(), 0u);
  } else {
    EXPECT_TRUE(this->frames.deallocate_run(others[0], bytes, this->base_bytes));
  }
  this->heap.deallocate(kept, run);
}

// ---- allocations under way ----------------------------------------------------------------------

TYPED_TEST(HeapTagsOthers, only_blocks_that_exist_are_charged) {
  struct State {
    typename TestFixture::Heap& heap;
    void* object;
  } state{this->heap, nullptr};
  void* const kept = this->heap.allocate(small).value();  // Its page has room for more.
  for (const Layout layout : {large, run}) {
    this->heap.set_tag_limit(net, this->bytes_of(layout));
    this->heap.set_limit(this->heap.frame_bytes());
    this->heap.set_reclaim(
        [](void* argument, const ReclaimRequest&) noexcept {
          State& self = *static_cast<State*>(argument);
          EXPECT_EQ(self.heap.tag_statistics(net).bytes, 0u);
          self.object = self.heap.allocate(small, Context::Interrupt, net).value_or(nullptr);
          return false;
        },
        &state);
    const std::size_t highest = this->heap.tag_statistics(net).bytes_high_water;
    EXPECT_FALSE(this->heap.allocate(layout, Context::MayWait, net));
    EXPECT_NE(state.object, nullptr) << "an allocation without memory takes no room from others";
    this->heap.deallocate(state.object, small);
    EXPECT_EQ(this->heap.tag_statistics(net).bytes_high_water,
              highest != 0 ? highest : this->bytes_of(small));
    // A debug mode tries again.
    EXPECT_TRUE(this->heap.tag_statistics(net).refused == 0 || TestFixture::Heap::is_debugged);
    this->heap.set_limit(TagStatistics::no_limit);
    this->heap.set_reclaim(nullptr, nullptr);
  }
  this->heap.deallocate(kept, small);
}

/// Another client takes the room of a tag while an allocation waits for memory.
TYPED_TEST(HeapTagsOthers, room_that_went_meanwhile_is_not_passed) {
  struct State {
    typename TestFixture::Heap& heap;
    void* object = nullptr;
    int calls = 0;
  };
  void* const kept = this->heap.allocate(small).value();  // Its page has room for more.
  for (const Layout layout : {large, run}) {
    for (const bool has_callback : {false, true}) {
      State state{this->heap};
      this->heap.set_limit(
          this->heap.frame_bytes(),
          [](void* argument) noexcept {
            State& self = *static_cast<State*>(argument);
            self.heap.set_limit(TagStatistics::no_limit);
            self.object = self.heap.allocate(small, Context::Interrupt, net).value_or(nullptr);
          },
          &state);
      this->heap.set_tag_limit(
          net, this->bytes_of(layout) + this->bytes_of(small) - 1,
          has_callback ? [](void* argument) noexcept {
            State& self = *static_cast<State*>(argument);
            self.heap.deallocate(self.object, small);
            self.object = nullptr;
            ++self.calls;
          } : LimitCallback{}, &state);
      const std::size_t refused = this->heap.tag_statistics(net).refused;
      const std::size_t failures = this->heap.failures();
      void* const block = this->heap.allocate(layout, Context::MayWait, net).value_or(nullptr);
      EXPECT_EQ(block != nullptr, has_callback);
      EXPECT_EQ(state.calls, has_callback ? 1 : 0);
      if (!TestFixture::Heap::is_debugged) {
        EXPECT_EQ(this->heap.failures() - failures, has_callback ? 0u : 1u);
        EXPECT_EQ(this->heap.tag_statistics(net).refused - refused, has_callback ? 0u : 1u);
      }
      this->heap.deallocate(block, layout);
      this->heap.deallocate(state.object, small);
      this->drain_all();
      this->heap.give_back();
      EXPECT_EQ(this->heap.run_bytes(), 0u);
      EXPECT_EQ(this->heap.validate(), nullptr);
      this->heap.set_limit(TagStatistics::no_limit);
    }
  }
  this->heap.deallocate(kept, small);
}

struct BusyTags : test::Tagged<KernelConfig, 4> {
  using Kernel = test::BusyKernel;
};
class HeapTagsBusy : public test::TagsTest<BusyTags> {};

TEST_F(HeapTagsBusy, a_second_free_while_its_run_serves_again_leaves_no_charge) {
  bool came = true;
  std::size_t reports = 0;
  for (int section = 1; came && !HasFailure(); ++section) {
    void* const before = heap.allocate(run, Context::MayWait, net).value();
    heap.deallocate(before, run);
    int left = section;
    test::BusyKernel::elsewhere = [&] {
      if (--left == 0) {
        heap.deallocate(before, run);
      }
    };
    void* const block = heap.allocate(run, Context::MayWait, net).value();
    test::BusyKernel::elsewhere = nullptr;
    came = left <= 0;
    EXPECT_EQ(block, before) << "the lowest block";
    reports += came ? 1u : 0u;
    EXPECT_EQ(misuse.take_kinds().size(), came ? 1u : 0u) << "section " << section;
    EXPECT_EQ(heap.tag_statistics(net).bytes, bytes_of(run));
    EXPECT_EQ(heap.run_bytes(), bytes_of(run));
    heap.deallocate(block, run);
    EXPECT_EQ(heap.tag_statistics(net).bytes, 0u);
  }
  EXPECT_GE(reports, 2u);
}

// ---- callbacks ----------------------------------------------------------------------------------

struct OpenTags
    : test::Tagged<GranuleKernelConfig<4 * kibibyte, test::InterruptingAtomics<HardwareAtomics>>> {
  using Kernel = test::SingleKernel;
};

// The hooks keep no handler out, so it comes in the middle of sections as well.
TEST(HeapTagsCallback, never_comes_in_the_middle_of_a_section) {
  using Fixture = test::TagsTest<OpenTags>;
  struct State {
    Fixture::Heap& heap;
    std::size_t calls = 0;
    std::size_t nested = 0;
  };
  std::size_t refused_at_once = 0;
  bool came = true;
  for (std::size_t access = 1; came && !testing::Test::HasFailure(); ++access) {
    HostedCpu::number = 0;
    test::PhysicalMemory memory(mebibyte);
    Fixture::Frames frames;
    const MemoryRegion region = memory.region(0, mebibyte);
    ASSERT_TRUE(frames.add(&region, 1));
    Fixture::Heap heap(frames);
    State state{heap};
    heap.set_tag_limit(
        net, 63,
        [](void* argument) noexcept {
          State& self = *static_cast<State*>(argument);
          ++self.calls;
          self.nested += self.heap.drain_this_cpu() ? 0u : 1u;
        },
        &state);
    test::Interruption::arm(access,
                            [&] { EXPECT_FALSE(heap.allocate(small, Context::MayNotWait, net)); });
    heap.deallocate(heap.allocate(small).value(), small);
    came = test::Interruption::disarm();
    ASSERT_EQ(state.nested, 0u) << "access " << access;
    refused_at_once += came && state.calls == 0 ? 1u : 0u;
    ASSERT_EQ(heap.tag_statistics(net).refused, came ? 1u : 0u);
    heap.release_all();
  }
  EXPECT_GT(refused_at_once, 3u);
}

}  // namespace
}  // namespace slabmalloc
