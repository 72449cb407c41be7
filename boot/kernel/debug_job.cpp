// SPDX-License-Identifier: MIT
//
// Job `debug`: a heap in debug mode. All CPUs use it without a report. Then faults on purpose must
// be reported with their blocks and offsets. With --icount it also counts the instructions of an
// allocation and a free.
#include <cstddef>
#include <cstdint>

#include "kernel/heap.hpp"
#include "kernel/jobs.hpp"
#include "kernel/objects.hpp"

namespace boot {
namespace {

using slabmalloc::Context;
using slabmalloc::Layout;
using slabmalloc::Misuse;
using slabmalloc::MisuseKind;

struct DebugConfig : slabmalloc::GranuleDebugConfig<page_bytes> {
  static constexpr std::uint32_t local_slot = 0;
};
using DebugHeap = slabmalloc::CpuZones<Hooks, Frames, DebugConfig>;

/// The last report.
struct Report {
  MisuseKind kind{};
  const void* block = nullptr;
  std::ptrdiff_t offset = 0;
};
constinit Report report{};
constinit Cell<std::uint32_t> reports{0};

void take_report(const Misuse& misuse) noexcept {
  reports.fetch_add(1, Order::relaxed);
  report = {misuse.kind, misuse.block, misuse.history != nullptr ? misuse.history->offset : 0};
}

void expect_report(MisuseKind kind, const void* block, std::ptrdiff_t offset) noexcept {
  expect(reports.exchange(0, Order::relaxed) == 1, "there is one report");
  expect(report.kind == kind && report.block == block && report.offset == offset,
         "the report names the fault, its block and its offset");
}

constexpr Layout thing = Layout::of<std::byte[100]>();

void use_heap(DebugHeap& heap, std::uint32_t cpu) noexcept {
  constexpr std::uint32_t places = 64;
  Object* objects[places] = {};
  Random random(machine.command_line.number("seed", 1) + cpu);
  for (std::uint32_t turn = 0; turn < 2000; ++turn) {
    Object*& place = objects[random.below(places)];
    if (place != nullptr) {
      expect(place->is_intact(), "nobody else wrote into an object");
      heap.deallocate(place, place->layout());
    }
    const std::uint32_t bytes = Object::draw_bytes(random, 64, 4);
    void* const block = heap.allocate(Layout::from_size_align(bytes, 8).value()).value_or(nullptr);
    place = block != nullptr ? Object::make(block, bytes, turn) : nullptr;
  }
  for (Object* const object : objects) {
    if (object != nullptr) {
      heap.deallocate(object, object->layout());
    }
  }
}

void make_faults(DebugHeap& heap) noexcept {
  auto* block = static_cast<std::byte*>(heap.allocate(thing).value());
  block[100] = std::byte{1};
  heap.deallocate(block, thing);
  expect_report(MisuseKind::Overflow, block, 100);
  heap.deallocate(block, thing);
  expect_report(MisuseKind::DoubleFree, block, 0);
  block[9] = std::byte{1};
  heap.drain_this_cpu();
  expect_report(MisuseKind::WriteAfterFree, block, 9);
  block = static_cast<std::byte*>(heap.allocate(thing).value());
  block[-1] = std::byte{1};
  heap.deallocate(block, thing);
  expect_report(MisuseKind::Underflow, block, -1);
}

void count_instructions(DebugHeap& heap) noexcept {
  constexpr std::uint32_t batch = 200;
  static void* blocks[batch];
  std::uint64_t least_to_allocate = ~std::uint64_t{0};
  std::uint64_t least_to_free = ~std::uint64_t{0};
  for (void*& block : blocks) {
    const std::uint64_t before = instructions();
    block = heap.allocate(thing, Context::MayNotWait).value_or(nullptr);
    const std::uint64_t spent = instructions() - before;
    least_to_allocate = spent < least_to_allocate ? spent : least_to_allocate;
  }
  for (void* const block : blocks) {
    const std::uint64_t before = instructions();
    heap.deallocate(block, thing);
    const std::uint64_t spent = instructions() - before;
    least_to_free = spent < least_to_free ? spent : least_to_free;
  }
  print_line("  instructions for 100 B, least: allocate ", least_to_allocate, ", deallocate ",
             least_to_free);
}

}  // namespace

void debug_job() {
  KernelMemory<DebugHeap>& memory = make_memory<DebugHeap>();
  static DebugHeap* heap;
  heap = &memory.heap;
  heap->debug().set_name("debugged");
  const slabmalloc::MisuseHandler before = slabmalloc::set_misuse_handler(take_report);
  run_on_all_cpus([](std::uint32_t cpu) noexcept { use_heap(*heap, cpu); });
  expect(reports.load(Order::relaxed) == 0, "a sound client gets no report");
  make_faults(*heap);
  if (machine.command_line.number("icount", 0) != 0) {
    count_instructions(*heap);
  }
  expect_all_is_back(memory);
  slabmalloc::set_misuse_handler(before);
}

}  // namespace boot
