// SPDX-License-Identifier: MIT
//
// Job `frames`: an early memory whose table grows into the memory of this machine, its hand-over,
// and memory at an address that goes offline, on all CPUs at once.
#include <cstddef>
#include <cstdint>

#include "kernel/cpus.hpp"
#include "kernel/heap.hpp"
#include "kernel/jobs.hpp"
#include "kernel/machine.hpp"
#include "slabmalloc/kernel.hpp"

namespace boot {
namespace {

struct OwnedFrameOptions : slabmalloc::FrameOptions {
  static constexpr bool has_owners = true;
};
using OwnedFrames =
    slabmalloc::FrameAllocator<Hooks, page_bytes, slabmalloc::HardwareAtomics, OwnedFrameOptions>;
constinit Room<OwnedFrames> room{};
constinit Barrier barrier;
constinit std::byte* places = nullptr;  ///< Free pages, some for each CPU.
constexpr std::size_t place_pages = 16;
constexpr std::size_t place_bytes = place_pages * page_bytes;

/// Hands the free memory over, but for some half pages. Returns how many.
std::size_t hand_over_most(OwnedFrames& frames) noexcept {
  constexpr std::size_t reservations = 60;
  slabmalloc::EarlyMemory<page_bytes, 8> early;
  Region largest{};
  for_each_free([&](Region region) {
    expect(static_cast<bool>(early.add({region.start, region.bytes})), "there is room for it");
    largest = region.bytes > largest.bytes ? region : largest;
  });
  early.allow_growth();
  for (std::size_t index = 0; index < reservations; ++index) {
    const std::uintptr_t at = largest.start + 2 * index * page_bytes;
    expect(static_cast<bool>(early.reserve({at, page_bytes / 2})), "the table grows");
  }
  expect(early.validate() == nullptr, "the early memory's invariants hold");
  const std::uintptr_t middle = largest.start + largest.bytes / 2;
  void* const low = early.allocate(3 * page_bytes, page_bytes, middle);
  expect(low != nullptr && reinterpret_cast<std::uintptr_t>(low) + 3 * page_bytes <= middle,
         "memory below a limit is below it");
  __builtin_memset(low, 0x5a, 3 * page_bytes);
  expect(early.deallocate(low, page_bytes), "a part of it comes back");
  expect(static_cast<bool>(early.hand_over(frames)), "the frame allocator takes the rest");
  expect(early.bytes(slabmalloc::EarlyUse::Used) == 0, "nothing is left");
  expect(frames.owns(low), "the part that came back is a frame");
  const auto* const kept = static_cast<const volatile std::byte*>(low) + page_bytes;
  expect(!frames.owns(const_cast<const std::byte*>(kept)), "the rest is its user's");
  expect(kept[0] == std::byte{0x5a} && kept[2 * page_bytes - 1] == std::byte{0x5a},
         "nobody writes to what is its user's");
  return reservations + 2;
}

/// Free memory for all CPUs: the start of the largest free block.
std::byte* find_places(const OwnedFrames& frames) noexcept {
  void* found = nullptr;
  std::size_t most = 0;
  frames.for_each_block([&](void* address, std::size_t bytes, slabmalloc::FrameUse use) {
    if (use == slabmalloc::FrameUse::Free && bytes > most) {
      most = bytes;
      found = address;
    }
  });
  expect(most >= cpu_count() * place_bytes, "there is room for all CPUs");
  return static_cast<std::byte*>(found);
}

void use_place(std::uint32_t number) noexcept {
  OwnedFrames& frames = room.content();
  std::byte* const place = places + number * place_bytes;
  const slabmalloc::MemoryRegion region{reinterpret_cast<std::uintptr_t>(place), place_bytes};
  bool is_right = true;
  barrier.wait();
  for (int round = 0; round < 100; ++round) {
    is_right &= frames.offline(region, [](const slabmalloc::PagerBlock&) noexcept {});
    is_right &= frames.allocate_run_at(place, page_bytes).address == nullptr;
    frames.online(region);
    is_right &= frames.allocate_run_at(place + page_bytes, 3 * page_bytes).address != nullptr;
    is_right &= frames.set_owner(place + 2 * page_bytes, number + 1);
    std::size_t in_use = 0;
    is_right &= !frames.offline(region, [&](const slabmalloc::PagerBlock& block) noexcept {
      in_use += frames.owner(block.address) == number + 1 ? block.bytes : 0;
    });
    is_right &= in_use == 3 * page_bytes;
    is_right &= frames.deallocate_run(place + page_bytes, 3 * page_bytes, page_bytes);
  }
  expect(is_right, "memory goes offline while it is free, and at no other time");
}

}  // namespace

void frames_job() {
  OwnedFrames& frames = room.make();
  const std::size_t kept = hand_over_most(frames);
  const slabmalloc::FrameStatistics before = frames.statistics();
  expect(before.managed_bytes + kept * page_bytes == free_bytes(), "each whole page is there");
  places = find_places(frames);
  run_on_all_cpus(use_place);
  const slabmalloc::FrameStatistics after = frames.statistics();
  expect(after.free_bytes == before.free_bytes && after.offline_bytes == 0, "all came back");
  expect(frames.validate() == nullptr, "the frames' invariants hold");
}

}  // namespace boot
