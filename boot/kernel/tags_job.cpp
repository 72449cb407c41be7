// SPDX-License-Identifier: MIT
//
// Job `tags`: all CPUs, their timer interrupts and signals allocate with the tags of three clients,
// and free each other's blocks. No client may pass its limit, at no moment. At the end nothing is
// charged. With --icount it counts the instructions of a tag.
//
//   operations=N   turns of all CPUs; default 200,000
//   seed=N         of the random numbers
#include <cstddef>
#include <cstdint>

#include "kernel/counts.hpp"
#include "kernel/cpus.hpp"
#include "kernel/heap.hpp"
#include "kernel/interrupts.hpp"
#include "kernel/jobs.hpp"
#include "kernel/objects.hpp"

namespace boot {
namespace {

using slabmalloc::Context;
using slabmalloc::Layout;

struct OwnedFrames : slabmalloc::FrameOptions {
  static constexpr bool has_owners = true;
};
struct TaggedConfig : slabmalloc::GranuleKernelConfig<page_bytes> {
  static constexpr std::uint32_t local_slot = 0;
  static constexpr std::uint32_t tags = 4;
};
using TaggedFrames =
    slabmalloc::FrameAllocator<Hooks, page_bytes, slabmalloc::HardwareAtomics, OwnedFrames>;
using Heap = slabmalloc::CpuZones<Hooks, TaggedFrames, TaggedConfig>;

/// The clients. Tag 0 is the kernel itself.
enum Client : std::uint32_t { Net = 1, Disk = 2, Sound = 3 };
constexpr std::size_t limits[TaggedConfig::tags] = {~std::size_t{0}, 60'000, 40'000, 2'000};

constexpr Layout packet = Layout::of<std::uint64_t[8]>();

/// The counts of one CPU.
struct alignas(64) Deeds {
  Cell<std::uint64_t> turns;
  Cell<std::uint64_t> refused;
};
struct State {
  Heap* heap;
  Cell<Object*> places[256];
  Deeds deeds[maximum_cpus];
  Cell<std::size_t> live[TaggedConfig::tags];  ///< Bytes that clients know of.
  Cell<std::uint64_t> passed;                  ///< Looks that found a client beyond its limit.
  Cell<std::uint64_t> overwritten;
  std::uint64_t turns;
  std::uint64_t seed;
};
constinit State state{};

constexpr std::size_t charged_bytes(Layout layout) noexcept {
  const std::size_t bytes = Heap::usable_size(layout);
  return bytes != 0 ? bytes : slabmalloc::align_up(layout.size(), page_bytes);
}

void dispose(Object* object, Context context) noexcept {
  if (object != nullptr) {
    state.overwritten.fetch_add(object->is_intact() ? 0 : 1, Order::relaxed);
    const Layout layout = object->layout();
    state.live[object->key].fetch_sub(charged_bytes(layout), Order::relaxed);
    state.heap->deallocate(object, layout, context);
  }
}

/// Puts a block of `tag` in the place of another, which it frees. Thread: any context.
void replace(std::uint64_t place, std::uint32_t bytes, std::uint32_t tag,
             Context context) noexcept {
  const Layout layout = Layout::from_size_align(bytes, 8).value_or(packet);
  void* const memory = state.heap->allocate(layout, context, tag).value_or(nullptr);
  Object* object = nullptr;
  if (memory != nullptr) {
    const std::size_t all = charged_bytes(layout);
    const std::size_t before = state.live[tag].fetch_add(all, Order::relaxed);
    state.passed.fetch_add(all > limits[tag] - before ? 1 : 0, Order::relaxed);
    object = Object::make(memory, bytes, tag);
  } else {
    state.deeds[cpu()].refused.fetch_add(1, Order::relaxed);
  }
  const bool has_passed = state.heap->tag_statistics(tag).bytes > limits[tag];
  state.passed.fetch_add(has_passed ? 1 : 0, Order::relaxed);
  dispose(state.places[place % 256].exchange(object, Order::acq_rel), context);
}

void handle() noexcept {
  const std::uint64_t turn = state.deeds[cpu()].turns.fetch_add(1, Order::relaxed);
  const auto tag = static_cast<std::uint32_t>(Net + turn % 3);
  replace((turn + cpu() * 7919) * 0x9E37'79B9'7F4A'7C15 >> 20, 64, tag, Context::Interrupt);
}

void work(std::uint32_t number) noexcept {
  Random random(state.seed + number);
  for (std::uint64_t turn = 0; turn < state.turns; ++turn) {
    state.deeds[number].turns.fetch_add(1, Order::relaxed);
    const std::uint32_t bytes = Object::draw_bytes(random, 64, 16);
    replace(random.next(), bytes, random.below(TaggedConfig::tags),
            random.one_in(2) ? Context::MayWait : Context::MayNotWait);
    if (random.one_in(256)) {
      send_signal(random.below(cpu_count()));
    }
  }
}

/// The instructions of an allocation and of a free, with the reading of the counter.
void count_instructions(Heap& heap) noexcept {
  constexpr std::uint32_t batch = 200;
  static void* blocks[batch];
  Counts allocations;
  Counts frees;
  for (void*& block : blocks) {
    allocations.add(
        count([&] { block = heap.allocate(packet, Context::MayNotWait, Net).value_or(nullptr); }));
  }
  for (void* const block : blocks) {
    frees.add(count([&] { heap.deallocate(block, packet); }));
  }
  print_line("  instructions for 64 B with a tag, least: allocate ", allocations.least,
             ", deallocate ", frees.least);
}

void set_up(Heap& heap) noexcept {
  state.heap = &heap;
  heap.set_tag_name(0, "kernel");
  heap.set_tag_name(Net, "net");
  heap.set_tag_name(Disk, "disk");
  for (std::uint32_t tag = Net; tag <= Sound; ++tag) {
    heap.set_tag_limit(tag, limits[tag]);
  }
  for (auto& live : state.live) {
    live.store(0, Order::relaxed);
  }
}

}  // namespace

void tags_job() {
  KernelMemory<Heap>& memory = make_memory<Heap>(std::size_t{page_bytes < 65536 ? 8 : 32} << 20);
  Heap& heap = memory.heap;
  set_up(heap);
  if (machine.command_line.number("icount", 0) != 0) {
    count_instructions(heap);
  }
  state.turns = machine.command_line.number("operations", 200'000) / cpu_count() + 1;
  state.seed = machine.command_line.number("seed", 1);
  expect(static_cast<bool>(heap.reserve_for_interrupts(packet, 4)), "handlers get a reserve");
  run_amid_interrupts(handle, handle, work);

  expect(state.passed.load(Order::relaxed) == 0, "no client passes its limit");
  expect(state.overwritten.load(Order::relaxed) == 0, "nobody else wrote into a block");
  slabmalloc::TagLine line;
  for (std::uint32_t tag = 0; tag < TaggedConfig::tags; ++tag) {
    const slabmalloc::TagStatistics one = heap.tag_statistics(tag);
    print_line("  ", Text::zero_terminated(line.of(one)));
    expect(tag == 0 || one.refused != 0, "the limits are reached");
    expect(one.bytes_high_water <= limits[tag], "no limit was passed");
  }
  for (auto& place : state.places) {
    dispose(place.exchange(nullptr, Order::acq_rel), Context::MayWait);
  }
  expect(static_cast<bool>(heap.reserve_for_interrupts(packet, 0)), "the reserves are given up");
  expect_all_is_back(memory);
  for (std::uint32_t tag = 0; tag < TaggedConfig::tags; ++tag) {
    const slabmalloc::TagStatistics one = heap.tag_statistics(tag);
    expect(one.bytes == 0 && one.objects == 0, "nothing is charged at the end");
  }
}

}  // namespace boot
