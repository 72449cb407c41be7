// SPDX-License-Identifier: MIT
//
// Tags while several CPUs, and handlers at any point, allocate and free with them.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <vector>

#include "kernel/tags_fixture.hpp"
#include "support/interrupting_atomics.hpp"
#include "support/random.hpp"
#include "support/run_threads.hpp"

namespace slabmalloc {

template <>
inline constexpr bool has_split_updates<test::InterruptingAtomics<SingleCpuAtomics>> = true;

namespace {

using test::HostedCpu;
using test::Interruption;
using test::net;

constexpr Layout small = Layout::of<std::uint64_t[8]>();
constexpr Layout run = Layout::from_size_align(20'000, 8).value_or(small);
constexpr std::size_t cpus = 4;

struct PatientTags : test::Tagged<KernelConfig, 4> {
  using Kernel = test::PatientKernel;
};
struct PatientDebugTags : test::Tagged<DebugKernelConfig, 4> {
  using Kernel = test::PatientKernel;
};

template <class Config>
class HeapTagsThreads : public test::TagsTest<Config> {};
using Configs = testing::Types<PatientTags, PatientDebugTags>;
TYPED_TEST_SUITE(HeapTagsThreads, Configs, );

/// A block on its way to the CPU that frees it; its first bytes tell the rest.
struct Block {
  std::size_t size;
  std::uint32_t tag;
};

TYPED_TEST(HeapTagsThreads, no_limit_is_passed_at_any_moment) {
  constexpr std::array<std::size_t, 4> limits = {60'000, 9'000, 200'000, 100};
  for (std::uint32_t tag = 0; tag < limits.size(); ++tag) {
    this->heap.set_tag_limit(tag, limits.at(tag));
  }
  std::array<std::atomic<std::size_t>, limits.size()> live{};
  std::array<std::atomic<Block*>, 512> places{};
  std::atomic<std::size_t> refused = 0;
  std::atomic<std::size_t> passed = 0;
  const auto layout_of = [](std::size_t size) { return Layout::from_size_align(size, 8).value(); };
  const auto free_block = [&](Block* block, Context context) {
    if (block != nullptr) {
      const auto [size, tag] = *block;
      live.at(tag) -= this->bytes_of(layout_of(size));
      this->heap.deallocate(block, layout_of(size), context);
    }
  };
  test::Random seeds;
  std::vector<test::Random> randoms;
  for (std::size_t cpu = 0; cpu < cpus; ++cpu) {
    randoms.push_back(seeds.fork());
  }
  test::run_threads(cpus, [&](std::size_t cpu) {
    HostedCpu::number = static_cast<std::uint32_t>(cpu);
    test::Random& random = randoms[cpu];
    for (int turn = 0; turn < 20'000; ++turn) {
      const std::uint32_t tag = random.below(limits.size());
      const std::size_t size =
          random.one_in(32) ? 8'200 + random.below(20'000) : sizeof(Block) + random.below(300);
      const Context context = random.one_in(2) ? Context::MayWait : Context::Interrupt;
      auto* const block =
          static_cast<Block*>(this->heap.allocate(layout_of(size), context, tag).value_or(nullptr));
      if (block != nullptr) {
        const std::size_t bytes = this->bytes_of(layout_of(size));
        passed += live.at(tag).fetch_add(bytes) + bytes > limits.at(tag) ? 1 : 0;
        *block = {size, tag};
      } else {
        ++refused;
      }
      passed += this->heap.tag_statistics(tag).bytes > limits.at(tag) ? 1 : 0;
      free_block(places.at(random.below(places.size())).exchange(block), context);
    }
  });
  HostedCpu::number = 0;
  EXPECT_EQ(passed, 0u);
  EXPECT_GT(refused, 0u) << "the limits are meant to be reached";
  for (std::uint32_t tag = 0; tag < limits.size(); ++tag) {
    EXPECT_LE(this->heap.tag_statistics(tag).bytes_high_water, limits.at(tag));
  }
  for (auto& place : places) {
    free_block(place.exchange(nullptr), Context::MayWait);
  }
  this->heap.give_back();
}

TYPED_TEST(HeapTagsThreads, two_frees_at_once_discharge_once) {
  std::array<void*, 2'000> objects{};
  std::array<void*, 2'000> kept{};  // They keep the pages of the others.
  for (std::size_t index = 0; index < objects.size(); ++index) {
    objects.at(index) = this->heap.allocate(small, Context::MayWait, net).value_or(nullptr);
    kept.at(index) = this->heap.allocate(small, Context::MayWait, net).value_or(nullptr);
  }
  test::run_threads(2, [&](std::size_t cpu) {
    HostedCpu::number = static_cast<std::uint32_t>(cpu);
    for (void* const object : objects) {
      this->heap.deallocate(object, small);
    }
  });
  EXPECT_EQ(this->heap.tag_statistics(net).objects, kept.size());
  EXPECT_EQ(this->heap.tag_statistics(net).bytes, kept.size() * this->bytes_of(small));
  HostedCpu::number = 0;
  this->drain_all();
  this->heap.deallocate_many(kept.data(), kept.size(), small);
  EXPECT_EQ(this->misuse.take_count(MisuseKind::DoubleFree), objects.size());
}

TYPED_TEST(HeapTagsThreads, two_frees_of_a_run_at_once_discharge_once) {
  for (int round = 0; round < 200; ++round) {
    void* const block = this->heap.allocate(run, Context::MayWait, net).value_or(nullptr);
    test::run_threads(2, [&](std::size_t cpu) {
      HostedCpu::number = static_cast<std::uint32_t>(cpu);
      this->heap.deallocate(block);
    });
    ASSERT_EQ(this->heap.tag_statistics(net).objects, 0u);
  }
  HostedCpu::number = 0;
  EXPECT_EQ(this->misuse.take_count(MisuseKind::DoubleFree), 200u);
}

// ---- handlers -----------------------------------------------------------------------------------

template <class AtomicsT>
struct InterruptedTags : test::Tagged<GranuleKernelConfig<4 * kibibyte, AtomicsT>> {
  using Kernel = test::SingleKernel;
};
using Hardware = InterruptedTags<test::InterruptingAtomics<HardwareAtomics>>;
using Plain = InterruptedTags<test::InterruptingAtomics<SingleCpuAtomics>>;

/// Interrupts each access of allocations and frees of objects whose tags share a word with those of
/// the handler's objects.
template <class Config>
void interrupt_everywhere(bool (*is_kept_away)()) {
  std::size_t interrupts = 0;
  for (const bool has_pages : {false, true}) {
    bool came = true;
    for (std::size_t access = 1; came && !testing::Test::HasFailure(); ++access, ++interrupts) {
      HostedCpu::number = 0;
      test::PhysicalMemory memory(mebibyte);
      typename test::TagsTest<Config>::Frames frames;
      typename test::TagsTest<Config>::Heap heap(frames);
      test::MisuseRecorder misuse;
      const MemoryRegion region = memory.region(0, mebibyte);
      ASSERT_TRUE(frames.add(&region, 1));
      std::array<void*, 8> own{};
      for (std::size_t index = 0; has_pages && index < own.size(); ++index) {
        own.at(index) = heap.allocate(small, Context::MayWait, net).value_or(nullptr);
      }
      heap.set_tag_limit(net, 10 * 64);
      std::size_t handlers = 0;
      Interruption::arm(
          access,
          [&] {
            // It frees some of the thread's objects, and tries to pass the limit.
            for (std::size_t index = 0; index < 2; ++index) {
              heap.deallocate(own.at(index), small, Context::Interrupt);
              own.at(index) = nullptr;
            }
            void* objects[12];
            handlers = heap.allocate_many(small, objects, 12, Context::Interrupt, net);
            EXPECT_LE(heap.tag_statistics(net).bytes, 10 * 64u);
            heap.deallocate_many(objects, handlers, small, Context::Interrupt);
          },
          is_kept_away);
      for (std::size_t index = 2; index < own.size(); ++index) {
        heap.deallocate(own.at(index), small);
        own.at(index) = heap.allocate(small, Context::MayWait, net).value_or(nullptr);
        ASSERT_LE(heap.tag_statistics(net).bytes, 10 * 64u);
      }
      heap.deallocate(heap.allocate(run, Context::MayWait, 1).value_or(nullptr), run);
      came = Interruption::disarm();
      for (void* const object : own) {
        heap.deallocate(object, small);
      }
      ASSERT_EQ(heap.tag_statistics(net).bytes, 0u) << "interrupted at access " << access;
      ASSERT_EQ(heap.tag_statistics(net).objects, 0u);
      ASSERT_LE(heap.tag_statistics(net).bytes_high_water, 10 * 64u);
      ASSERT_EQ(heap.validate(), nullptr);
      heap.release_all();
    }
  }
  std::printf("%zu interrupts\n", interrupts);
  EXPECT_GT(interrupts, 500u);
}

TEST(HeapTagsInterrupts, come_at_any_access) { interrupt_everywhere<Hardware>(nullptr); }

TEST(HeapTagsInterrupts, come_at_any_access_outside_of_sections_without_atomics) {
  interrupt_everywhere<Plain>([] { return HostedCpu::saved != 0; });
}

}  // namespace
}  // namespace slabmalloc
