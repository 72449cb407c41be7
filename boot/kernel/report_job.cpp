// SPDX-License-Identifier: MIT
//
// Job `report` lets all CPUs use a heap and an object cache. Then it prints them: a table in the
// manner of slabinfo, the frames, and a picture of memory by use.
#include <cstddef>
#include <cstdint>

#include "kernel/cpus.hpp"
#include "kernel/heap.hpp"
#include "kernel/jobs.hpp"
#include "kernel/memory_picture.hpp"
#include "kernel/objects.hpp"

namespace boot {
namespace {

using slabmalloc::Context;

constexpr std::uint32_t objects_per_cpu = 4000;
constexpr std::uint32_t tasks_per_cpu = 100;

/// A kernel has many of these, and needs each as it left it.
struct Task {
  Task() noexcept : stack_pointer(this) {}
  void* stack_pointer;
  slabmalloc::SpinLock<Hooks> lock;
  std::uint64_t registers[40];
};

using Tasks =
    slabmalloc::ObjectCache<Task, Hooks, Frames, slabmalloc::GranuleCacheOptions<page_bytes>>;

struct State {
  Object* objects[maximum_cpus][objects_per_cpu];
  Task* tasks[maximum_cpus][tasks_per_cpu];
  ClosedHeap* heap;
  Tasks* cache;
};
constinit State state{};

/// Fills the places of a CPU, and replaces every other object of the next one.
void use_memory(std::uint32_t number) noexcept {
  static constinit Barrier barrier;
  Random random(number + 1);
  for (Object*& object : state.objects[number]) {
    const std::uint32_t bytes =
        random.one_in(8) ? 256 + 8 * random.below(993) : Object::smallest + 8 * random.below(31);
    const auto layout = slabmalloc::Layout::from_size_align(bytes, 8).value();
    void* const memory = state.heap->allocate(layout, Context::MayWait).value_or(nullptr);
    object = memory == nullptr ? nullptr : Object::make(memory, bytes, number);
  }
  for (Task*& task : state.tasks[number]) {
    task = state.cache->allocate(Context::MayWait);
    expect(task != nullptr && task->stack_pointer == task, "a task is constructed");
  }
  barrier.wait();
  const std::uint32_t next = (number + 1) % cpu_count();
  for (std::uint32_t index = 0; index < objects_per_cpu; index += 2) {
    Object*& object = state.objects[next][index];
    if (object != nullptr) {
      expect(object->is_intact(), "nobody else wrote into an object");
      state.heap->deallocate(object, object->layout());
      object = nullptr;
    }
  }
}

void free_all(std::uint32_t number) noexcept {
  for (Object* object : state.objects[number]) {
    if (object != nullptr) {
      state.heap->deallocate(object, object->layout());
    }
  }
  state.cache->deallocate_many(state.tasks[number], tasks_per_cpu);
}

}  // namespace

void report_job() {
  KernelMemory<ClosedHeap>& memory = make_memory<ClosedHeap>(report_bytes);
  static constinit Room<Tasks> tasks_room{};
  Tasks& tasks = tasks_room.make("task", memory.frames);
  state.heap = &memory.heap;
  state.cache = &tasks;
  slabmalloc::Reclaimer<Hooks> reclaimer;
  slabmalloc::Reclaimable heap_entry("heap", memory.heap);
  slabmalloc::Reclaimable tasks_entry(tasks);
  reclaimer.add(heap_entry);
  reclaimer.add(tasks_entry);
  // The run is easy to see in the picture.
  const auto run = slabmalloc::Layout::from_size_align(3 << 19, page_bytes).value();
  void* const large = memory.heap.allocate(run, Context::MayWait).value_or(nullptr);
  expect(large != nullptr, "there is room for a run");
  run_on_all_cpus(use_memory);

  slabmalloc::log_slabinfo(reclaimer);
  const slabmalloc::CpuZonesStatistics heap = memory.heap.statistics();
  print_line("the heap:");
  slabmalloc::write_counters(heap, Hooks::log);
  print_line("its zones:");
  slabmalloc::write_counters(heap.zones, Hooks::log);
  print_line("the frame allocator:");
  slabmalloc::write_counters(memory.frames.statistics(), Hooks::log);
  MemoryPicture::print(memory.frames, ClosedConfig::MiddlePage::size_bytes);

  memory.heap.deallocate(large, run);
  run_on_all_cpus(free_all);
  expect(reclaimer.remove(heap_entry) && reclaimer.remove(tasks_entry),
         "the entries leave the list");
  expect(tasks.destroy() == 0, "no task is left");
  expect_all_is_back(memory);
}

}  // namespace boot
