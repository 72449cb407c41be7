// SPDX-License-Identifier: MIT
//
// Job `nodes`: a heap over the NUMA nodes of the machine. Each CPU gets memory of its own node
// while there is some, then of the nearest other. Frees go home, and the accounts of each node are
// exact.
//
//   nodes=N     the machine must have that many nodes
#include <cstddef>
#include <cstdint>

#include "kernel/cpus.hpp"
#include "kernel/end.hpp"
#include "kernel/heap.hpp"
#include "kernel/jobs.hpp"
#include "kernel/machine.hpp"
#include "kernel/node_memory.hpp"
#include "kernel/print.hpp"
#include "slabmalloc/kernel.hpp"

namespace boot {
namespace {

using NodeFrames = slabmalloc::NodeFrames<HooksWithNodes, MachineNodes, page_bytes>;
using NodeHeap =
    slabmalloc::CpuZones<HooksWithNodes, NodeFrames, slabmalloc::GranuleKernelConfig<page_bytes>>;

constexpr auto layout = slabmalloc::Layout::from_size_align(256, 64).value();

constinit Room<NodeFrames> frames_room{};
constinit Room<NodeHeap> heap_room{};
constinit Barrier barrier;
/// The objects of each CPU: a list through their first words.
struct alignas(64) Objects {
  void* first;
  bool is_local;
};
constinit Objects objects[maximum_cpus]{};

std::uint32_t node_here() noexcept { return frames_room.content().node_here(); }

/// Free bytes of a node, by what the firmware told.
std::size_t bytes_of_node(std::uint32_t wanted) noexcept {
  std::size_t sum = 0;
  for_each_free_of_nodes(
      [&](Region region, std::uint32_t node) { sum += node == wanted ? region.bytes : 0; });
  return sum;
}

void allocate_objects(std::uint32_t number) noexcept {
  constexpr int count = 2000;
  bool is_local = true;
  barrier.wait();
  for (int index = 0; index < count; ++index) {
    void* const object = heap_room.content().allocate(layout).value_or(nullptr);
    is_local =
        is_local && object != nullptr && frames_room.content().node_at(object) == node_here();
    if (object != nullptr) {
      *static_cast<void**>(object) = objects[number].first;
      objects[number].first = object;
    }
  }
  expect(is_local, "each CPU gets memory of its node");
}
/// Frees those of the CPU half way round, which is on another node if there are two.
void free_objects(std::uint32_t number) noexcept {
  void*& first = objects[(number + cpu_count() / 2) % cpu_count()].first;
  while (void* const object = first) {
    first = *static_cast<void**>(object);
    heap_room.content().deallocate(object, layout);
  }
}

/// Takes all memory, frame by frame, on the first CPU of each node by turns.
void use_up(std::uint32_t number) noexcept {
  NodeFrames& frames = frames_room.content();
  for (std::uint32_t turn = 0; turn < cpu_count(); ++turn) {
    barrier.wait();
    const std::uint32_t here = node_here();
    if (turn != number || (number != 0 && machine.nodes.of_cpu(number - 1) == here)) {
      continue;
    }
    void* first = nullptr;
    std::uint32_t node = here;
    std::size_t changes = 0;
    bool has_low = false;
    bool is_low_last = true;
    while (void* const frame = frames.allocate_frame(page_bytes).address) {
      *static_cast<void**>(frame) = first;
      first = frame;
      const bool is_low = reinterpret_cast<std::uintptr_t>(frame) < low_end;
      is_low_last = is_low_last && (is_low || !has_low);
      has_low = has_low || is_low;
      if (!is_low && frames.node_at(frame) != node) {
        node = frames.node_at(frame);
        ++changes;
      }
    }
    expect(changes + 1 == machine.nodes.nodes(), "its own node first, then each of the others");
    expect(is_low_last, "low memory is last");
    expect(frames.statistics().free_bytes == 0, "no frame is left");
    while (first != nullptr) {
      void* const frame = first;
      first = *static_cast<void**>(frame);
      frames.deallocate_frame(frame, page_bytes);
    }
  }
}

void check_choices(NodeFrames& frames) noexcept {
  for (std::uint32_t node = 0; node < machine.nodes.nodes(); ++node) {
    void* const there =
        frames.allocate_run(3 * page_bytes, page_bytes, {.node = node, .only = true}).address;
    expect(there != nullptr && frames.node_at(there) == node, "a chosen node gives memory");
    frames.deallocate_run(there, 3 * page_bytes, page_bytes);
  }
  void* const low = frames.allocate_frame(page_bytes, {.below = low_end}).address;
  expect(low == nullptr || reinterpret_cast<std::uintptr_t>(low) < low_end,
         "memory below a limit is below it");
  frames.deallocate_frame(low, page_bytes);
}

void drain(std::uint32_t) noexcept {
  heap_room.content().run_deferred();
  expect(heap_room.content().drain_this_cpu(), "no CPU is in the middle of a section");
}

}  // namespace

void nodes_job() {
  NodeFrames& frames = frames_room.make();
  take_nodes(frames);
  NodeHeap& heap = heap_room.make(frames);
  expect(machine.command_line.number("nodes", machine.nodes.nodes()) == machine.nodes.nodes(),
         "the firmware tells of all nodes");
  for (std::uint32_t node = 0; node < machine.nodes.nodes(); ++node) {
    expect(frames.statistics(node).managed_bytes == bytes_of_node(node),
           "each node has its memory");
  }
  run_on_all_cpus(allocate_objects);
  run_on_all_cpus(free_objects);
  for (int round = 0; round < 2; ++round) {
    run_on_all_cpus(drain);
  }
  heap.give_back();
  for (std::uint32_t node = 0; node < machine.nodes.nodes(); ++node) {
    expect(frames.statistics(node).remote_allocations == 0, "no node was short of memory");
  }
  run_on_all_cpus(use_up);
  check_choices(frames);
  for (std::uint32_t node = 0; node < machine.nodes.nodes(); ++node) {
    const slabmalloc::NodeStatistics statistics = frames.statistics(node);
    expect(statistics.used_bytes == 0, "every frame came home");
    expect(
        statistics.allocations == statistics.frees &&
            statistics.allocations == statistics.local_allocations + statistics.remote_allocations,
        "the accounts of each node are exact");
    print_line("node ", node, ": ", size(statistics.managed_bytes), ", ",
               statistics.local_allocations, " local and ", statistics.remote_allocations,
               " remote allocations");
  }
  expect(frames.validate() == nullptr, "the nodes' invariants hold");
}

}  // namespace boot
