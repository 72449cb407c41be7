// SPDX-License-Identifier: MIT
//
// Job `percpu`: each CPU and its timer's handler count in the copies that the CPU has of shared
// counters. Meanwhile all CPUs allocate and free other objects with a copy for each CPU. No count
// may be lost, and no copy may change.
//
//   operations=N   turns of all CPUs; default 8,000
//   seed=N         of the random numbers
#include <cstddef>
#include <cstdint>

#include "kernel/cpus.hpp"
#include "kernel/heap.hpp"
#include "kernel/interrupts.hpp"
#include "kernel/jobs.hpp"
#include "kernel/objects.hpp"

namespace boot {
namespace {

using PerCpuHeap = slabmalloc::PerCpuHeap<Hooks, Frames, slabmalloc::PerCpuConfig<page_bytes>>;
using slabmalloc::Context;
using slabmalloc::Layout;

struct Counts {
  std::uint64_t turns = 0;
  std::uint64_t ticks = 0;  ///< Of the handler alone.
  std::uint64_t refused = 0;
};

struct State {
  PerCpuHeap* heap;
  PerCpuHeap::Pointer<Counts> counts;
  Cell<std::uint64_t> ticks;  ///< Of all CPUs: what the copies must add up to.
  Cell<std::uint64_t> changed;
  std::uint64_t turns;
  std::uint64_t seed;
};
constinit State state{};

constexpr std::size_t object_count = 40;
using Objects = PerCpuHeap::Pointer<void>[object_count];

constexpr Layout layout_at(std::size_t index) {
  return Layout::from_size_align(24 * (index + 1), 8).value_or(Layout());
}

void handle() noexcept {
  state.counts.here()->ticks += 1;
  state.ticks.fetch_add(1, Order::relaxed);
  // In a handler an object comes from the pages that there are. The emulator's CPUs wait long for a
  // lock where they share the host's.
  if (state.counts.here()->ticks % 16 == 0) {
    const auto object = state.heap->allocate<std::uint64_t>(Context::Interrupt);
    state.heap->deallocate(object, Context::Interrupt);
  }
}

std::uint64_t word_of(std::uint32_t owner, std::uint32_t copy, std::size_t index) {
  return std::uint64_t{owner} << 40 | std::uint64_t{copy} << 20 | index;
}

/// Replaces an object of this CPU after a look at all its copies.
void replace(Objects& objects, std::size_t index, Context context) noexcept {
  const Layout layout = layout_at(index);
  auto& object = objects[index];
  for (std::uint32_t copy = 0; object && copy < cpu_count(); ++copy) {
    auto* const words = static_cast<std::uint64_t*>(object.on(copy));
    for (std::size_t word = 0; word < layout.size() / 8; ++word) {
      if (words[word] != word_of(cpu(), copy, index)) {
        state.changed.fetch_add(1, Order::relaxed);
      }
    }
  }
  state.heap->deallocate(object, layout, context);
  object = state.heap->allocate(layout, context).value_or({});
  state.counts.here()->refused += object ? 0u : 1u;
  for (std::uint32_t copy = 0; object && copy < cpu_count(); ++copy) {
    auto* const words = static_cast<std::uint64_t*>(object.on(copy));
    for (std::size_t word = 0; word < layout.size() / 8; ++word) {
      if (words[word] != 0) {
        state.changed.fetch_add(1, Order::relaxed);
      }
      words[word] = word_of(cpu(), copy, index);
    }
  }
}

void work(std::uint32_t number) noexcept {
  Random random(state.seed + number);
  Objects objects{};
  for (std::uint64_t turn = 0; turn < state.turns; ++turn) {
    state.counts.here()->turns += 1;
    if (random.one_in(8)) {
      replace(objects, random.below(object_count),
              random.one_in(4) ? Context::Interrupt : Context::MayNotWait);
    }
  }
  for (std::size_t index = 0; index < object_count; ++index) {
    state.heap->deallocate(objects[index], layout_at(index));
  }
}

}  // namespace

void percpu_job() {
  static constinit Room<Frames> frames_room{};
  static constinit Room<PerCpuHeap> heap_room{};
  Frames& frames = frames_room.make();
  take_memory(frames, std::size_t{8} << 20);
  PerCpuHeap& heap = heap_room.make(frames);
  heap.set_cpus(cpu_count());
  state.heap = &heap;
  state.counts = heap.allocate<Counts>();
  state.ticks.store(0, Order::relaxed);
  state.changed.store(0, Order::relaxed);
  state.turns = machine.command_line.number("operations", 8'000) / cpu_count() + 1;
  state.seed = machine.command_line.number("seed", 1);
  expect(static_cast<bool>(state.counts), "there is memory for counters");
  set_timer_handler(handle);
  run_on_all_cpus(work);
  set_timer_handler(nullptr);
  // A tick may still be on its way.
  run_on_all_cpus([](std::uint32_t) noexcept { count_down(100'000); });

  Counts sum;
  for (std::uint32_t number = 0; number < cpu_count(); ++number) {
    const Counts& one = *state.counts.on(number);
    expect(one.turns == state.turns, "a CPU counts each of its turns");
    sum.turns += one.turns;
    sum.ticks += one.ticks;
    sum.refused += one.refused;
  }
  print_line("  ", sum.turns, " turns, ", sum.refused, " of them refused, and ", sum.ticks,
             " ticks; copies ", PerCpuHeap::stride, " bytes apart; at most ",
             frames.statistics().used_bytes_high_water / 1024, " KiB used");
  expect(sum.ticks == state.ticks.load(Order::relaxed), "no tick is lost");
  expect(state.changed.load(Order::relaxed) == 0, "new copies are zero, and none changes");
  heap.deallocate(state.counts);
  expect(heap.validate() == nullptr, "the heap's invariants hold");
  heap.trim();
  expect(frames.statistics().used_bytes == 0, "every frame is accounted for");
  expect(frames.validate() == nullptr, "the frames' invariants hold");
}

}  // namespace boot
