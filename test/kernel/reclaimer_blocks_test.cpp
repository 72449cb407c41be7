// SPDX-License-Identifier: MIT
//
// Reclaim over a real frame allocator, in which free memory lies scattered.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include "kernel/hosted_kernel.hpp"
#include "slabmalloc/kernel/cpu_zones.hpp"
#include "slabmalloc/kernel/frame_allocator.hpp"
#include "slabmalloc/kernel/reclaimer.hpp"
#include "support/random.hpp"

namespace slabmalloc::test {
namespace {

constexpr std::size_t page = 4 * kibibyte;

/// All memory of a machine: frames in use, a cache of frames that can be dropped, and a heap with
/// empty pages.
class Machine {
 public:
  using Frames = FrameAllocator<OpenKernel>;
  using Heap = CpuZones<OpenKernel, Frames>;

  explicit Machine(std::size_t bytes)
      : memory_(static_cast<std::byte*>(::operator new(bytes, alignment))) {
    HostedCpu::number = 0;
    const MemoryRegion region{reinterpret_cast<std::uintptr_t>(memory_.get()), bytes};
    EXPECT_TRUE(frames.add(&region, 1));
    entry.set_shrink(
        [](void* self, const ReclaimRequest& request) noexcept {
          return static_cast<Machine*>(self)->drop(request);
        },
        this);
    reclaimer.add(idle_entry);
    reclaimer.add(entry);
    heap.set_reclaim(&reclaimer.reclaim_for, &reclaimer);
  }

  void* frame() { return frames.allocate_frame(page).address; }
  /// Puts all memory into the cache, and allocates an object. Expects one callback, which drops
  /// what the first request asks for.
  void expect_least_drop() {
    while (void* const one = frame()) {
      cache.push_back(one);
    }
    const std::size_t cached = cache.size();
    EXPECT_TRUE(heap.allocate(layout, Context::MayWait));
    EXPECT_EQ(shrinks, 1u);
    EXPECT_EQ((cached - cache.size()) * page, 256 * kibibyte);
  }
  std::size_t drop(const ReclaimRequest& request) {
    ++shrinks;
    std::size_t dropped = 0;
    for (; dropped < request.bytes && !cache.empty(); dropped += page) {
      frames.deallocate_frame(cache.back(), page);
      cache.pop_back();
    }
    return dropped;
  }
  /// The objects of a page of the idle heap, which the caller frees.
  void use_idle_page(std::vector<void*>& objects) {
    for (std::size_t count = 0; count < ObjectPage::geometry(layout.size()).slots; ++count) {
      objects.push_back(idle.allocate(layout, Context::MayWait).value());
    }
  }

  static constexpr Layout layout = Layout::of<std::uint64_t[32]>();

 private:
  static constexpr std::align_val_t alignment{2 * mebibyte};
  struct Release {
    void operator()(std::byte* memory) const noexcept { ::operator delete(memory, alignment); }
  };
  std::unique_ptr<std::byte, Release> memory_;

 public:
  Frames frames;
  Heap heap{frames};
  Heap idle{frames};
  Reclaimable entry{"heap", heap};
  Reclaimable idle_entry{"idle", idle};
  Reclaimer<OpenKernel> reclaimer;
  std::vector<void*> cache;
  std::size_t shrinks = 0;
};

TEST(ReclaimOfBlocks, goes_on_where_scattered_frames_are_free) {
  for (const std::size_t bytes :
       {std::size_t{64}, std::size_t{8000}, std::size_t{300'000}, std::size_t{1} * mebibyte}) {
    Machine machine(32 * mebibyte);
    std::vector<void*> objects;
    for (int count = 0; count < 256; ++count) {
      machine.use_idle_page(objects);
      machine.cache.push_back(machine.frame());
    }
    while (void* const frame = machine.frame()) {
      machine.cache.push_back(frame);
    }
    for (void* object : objects) {
      machine.idle.deallocate(object, Machine::layout);
    }
    const Layout layout = Layout::from_size_align(bytes, 8).value();
    EXPECT_FALSE(machine.heap.allocate(layout, Context::MayNotWait));
    EXPECT_TRUE(machine.heap.allocate(layout, Context::MayWait)) << bytes;
  }
}

TEST(ReclaimOfBlocks, fails_only_where_all_that_can_be_dropped_is_not_enough) {
  Random random;
  std::size_t failures = 0;
  for (int round = 0; round < 300; ++round) {
    Machine machine(4 * mebibyte);
    std::vector<void*> objects;
    std::vector<void*> used;
    // Memory in use, idle and cached lies in a random order. The less of it is in use, the larger
    // are the blocks that can form.
    const std::size_t one_in = std::size_t{1} << random.between(2, 10);
    while (void* const frame = machine.frame()) {
      if (random.one_in(one_in)) {
        used.push_back(frame);
      } else if (random.one_in(8)) {
        machine.frames.deallocate_frame(frame, page);
        machine.use_idle_page(objects);
      } else {
        machine.cache.push_back(frame);
      }
    }
    for (std::size_t left = machine.cache.size(); left > 1; --left) {
      std::swap(machine.cache[left - 1], machine.cache[random.below(left)]);
    }
    for (void* object : objects) {
      machine.idle.deallocate(object, Machine::layout);
    }
    // A run, or an object of a class on pages of 64 KiB.
    const bool is_run = !random.one_in(4);
    const std::size_t bytes = is_run ? std::size_t{1} << random.between(14, 21) : 64 * kibibyte;
    const Layout layout = Layout::from_size_align(is_run ? bytes : 8000, 8).value();
    if (machine.heap.allocate(layout, Context::MayWait)) {
      continue;
    }
    ++failures;
    EXPECT_TRUE(machine.cache.empty()) << "bytes " << bytes;
    machine.idle.trim();
    EXPECT_EQ(machine.frames.allocate_run(bytes, is_run ? page : bytes).address, nullptr);
  }
  EXPECT_GT(failures, 0u);
  EXPECT_LT(failures, 300u);
}

/// A client may round a request up to its pages, that for everything too.
TEST(ReclaimOfBlocks, asks_for_everything_by_a_number_that_can_be_rounded_up) {
  constexpr std::size_t everything = ReclaimRequest::everything;
  static_assert((everything + page - 1) / page >= everything / page);
  Machine machine(32 * mebibyte);
  std::vector<std::size_t> wanted;
  machine.entry.set_shrink(
      [](void* argument, std::size_t bytes) noexcept {
        static_cast<std::vector<std::size_t>*>(argument)->push_back(bytes);
        return std::size_t{1};
      },
      &wanted);
  EXPECT_FALSE(machine.heap.allocate(Layout::from_size_align(64 * mebibyte, 8).value()));
  ASSERT_FALSE(wanted.empty());
  EXPECT_EQ(wanted.back(), everything) << "whatever was freed before";
}

TEST(ReclaimOfBlocks, stops_where_callbacks_freed_enough_at_the_pager) {
  Machine machine(32 * mebibyte);
  struct Other {
    Machine* machine;
    Machine::Heap heap{machine->frames};
    Reclaimable entry{"other", heap};
  };
  std::vector<std::unique_ptr<Other>> others;
  for (int count = 0; count < 8; ++count) {
    Other& other = *others.emplace_back(new Other{&machine});
    other.entry.set_shrink(
        [](void* self, const ReclaimRequest& request) noexcept {
          return static_cast<Machine*>(self)->drop(request);
        },
        &machine);
    machine.reclaimer.add(other.entry);
  }
  machine.expect_least_drop();
}

TEST(ReclaimOfBlocks, leaves_what_is_not_needed) {
  Machine machine(32 * mebibyte);
  machine.expect_least_drop();
}

}  // namespace
}  // namespace slabmalloc::test
