// SPDX-License-Identifier: MIT
//
// Job `debug`: a heap and an object cache in debug mode. All CPUs use them without a report. Then
// faults on purpose must be reported with their blocks and offsets, those of the cache with its
// name, and a leak must be found. With --icount it also counts the instructions of an allocation
// and a free.
#include <cstddef>
#include <cstdint>

#include "kernel/counts.hpp"
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

/// Objects of a cache, constructed while they are free.
struct Entry {
  std::uint64_t words[13] = {};
};
using DebugCache =
    slabmalloc::ObjectCache<Entry, Hooks, Frames, slabmalloc::GranuleDebugCacheOptions<page_bytes>>;

/// The last report.
struct Report {
  MisuseKind kind{};
  const void* block = nullptr;
  std::ptrdiff_t offset = 0;
  const char* heap = nullptr;
};
constinit Report report{};
constinit Cell<std::uint32_t> reports{0};

void take_report(const Misuse& misuse) noexcept {
  reports.fetch_add(1, Order::relaxed);
  report = {misuse.kind, misuse.block, 0, nullptr};
  if (misuse.history != nullptr) {
    report.offset = misuse.history->offset;
    report.heap = misuse.history->heap;
  }
}

void expect_report(MisuseKind kind, const void* block, std::ptrdiff_t offset) noexcept {
  expect(reports.exchange(0, Order::relaxed) == 1, "there is one report");
  expect(report.kind == kind && report.block == block && report.offset == offset,
         "the report names the fault, its block and its offset");
}

constexpr Layout thing = Layout::of<std::byte[100]>();

void use_heap(DebugHeap& heap, std::uint32_t cpu) noexcept {
  constexpr std::uint32_t places = 64;
  std::uint32_t allocations = 0;
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
    allocations += block != nullptr ? 1 : 0;
  }
  expect(allocations >= 1900, "nearly all allocations find memory");
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

// ---- the cache ----------------------------------------------------------------------------------

constexpr const char* cache_name = "entry";

void use_cache(DebugCache& cache, std::uint32_t cpu) noexcept {
  constexpr std::uint32_t places = 64;
  Entry* entries[places] = {};
  Random random(machine.command_line.number("seed", 1) + cpu);
  const auto drop = [&](Entry* entry) {
    if (entry != nullptr) {
      *entry = Entry{};
      cache.deallocate(entry);
    }
  };
  for (std::uint32_t turn = 0; turn < 2000; ++turn) {
    Entry*& place = entries[random.below(places)];
    drop(place);
    place = cache.allocate();
    for (std::uint32_t word = 0; place != nullptr && word < 13; ++word) {
      expect(place->words[word] == 0, "an object stays constructed while it is free");
      place->words[word] = turn;
    }
  }
  for (Entry* const entry : entries) {
    drop(entry);
  }
}

void make_faults(DebugCache& cache) noexcept {
  Entry* entry = cache.allocate();
  reinterpret_cast<std::byte*>(entry)[sizeof(Entry)] = std::byte{1};
  cache.deallocate(entry);
  expect_report(MisuseKind::Overflow, entry, sizeof(Entry));
  expect(report.heap == cache_name, "the report names the cache");
  cache.deallocate(entry);
  expect_report(MisuseKind::DoubleFree, entry, 0);
  entry->words[5] = 1;
  cache.zones().drain_this_cpu();
  const auto* const byte = reinterpret_cast<const std::byte*>(&entry->words[5]);
  const std::ptrdiff_t first = *byte == std::byte{1} ? 40 : 47;  // By the order of bytes.
  expect_report(MisuseKind::WriteAfterFree, entry, first);

  Entry* const found = cache.allocate();
  Entry* const lost = cache.allocate();
  found->words[0] = 0;
  const slabmalloc::LeakRoot root{&found, sizeof(found)};
  static constinit const void* leak = nullptr;
  leak = nullptr;
  const std::size_t leaks = cache.zones().find_leaks(
      &root, 1, [](const slabmalloc::Leak& one) noexcept { leak = one.block; });
  expect(leaks == 1 && leak == lost, "the object that no root leads to is a leak");
  cache.deallocate(found);
  cache.deallocate(lost);
  cache.zones().debug().failure_plan().fail_after(2);
  entry = cache.allocate();
  expect(entry != nullptr && cache.allocate() == nullptr, "the second allocation fails by plan");
  cache.deallocate(entry);
}

void check_cache(Frames& frames) noexcept {
  static constinit Room<DebugCache> room{};
  static DebugCache* cache;
  cache = &room.make(cache_name, frames);
  run_on_all_cpus([](std::uint32_t cpu) noexcept { use_cache(*cache, cpu); });
  expect(reports.load(Order::relaxed) == 0, "a sound client of a cache gets no report");
  make_faults(*cache);
  expect(cache->zones().check_blocks() == 0, "each fault was reported once");
  expect(cache->validate() == nullptr, "the cache's invariants hold");
  expect(cache->destroy() == 0, "no object of the cache is in use");
}

void count_instructions(DebugHeap& heap) noexcept {
  constexpr std::uint32_t batch = 200;
  static void* blocks[batch];
  Counts allocations;
  Counts frees;
  for (void*& block : blocks) {
    allocations.add(
        count([&] { block = heap.allocate(thing, Context::MayNotWait).value_or(nullptr); }));
  }
  for (void* const block : blocks) {
    frees.add(count([&] { heap.deallocate(block, thing); }));
  }
  print_line("  instructions for 100 B, least: allocate ", allocations.least, ", deallocate ",
             frees.least);
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
  check_cache(memory.frames);
  expect_all_is_back(memory);
  slabmalloc::set_misuse_handler(before);
}

}  // namespace boot
