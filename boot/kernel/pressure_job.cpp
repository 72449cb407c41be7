// SPDX-License-Identifier: MIT
//
// Job `pressure`: all CPUs and their handlers use one heap and one cache until no memory is left,
// and in all ways at once. Allocations wait at the heap's limit. Shrink callbacks sleep while
// others wait for their turn. CPUs sleep with memory, which others take. Blocks are charged to tags
// that have limits. The memory lies on all NUMA nodes. Afterwards every frame must be back.
//
//   operations=N   turns of all CPUs; default 100,000
//   seed=N         of the random numbers
#include <cstddef>
#include <cstdint>

#include "kernel/cpus.hpp"
#include "kernel/heap.hpp"
#include "kernel/interrupts.hpp"
#include "kernel/jobs.hpp"
#include "kernel/node_memory.hpp"
#include "kernel/objects.hpp"

namespace boot {
namespace {

using slabmalloc::Context;
using slabmalloc::Layout;

/// A wait asks again after each interrupt, so wake() has nothing to do.
struct WaitingHooks : HooksWithNodes {
  static constexpr std::uint64_t most_ticks = 20;

  static bool wait(slabmalloc::WaitCondition condition) noexcept {
    const Cell<std::uint64_t>& ticks = interrupt_counts[boot::cpu()].ticks;
    if (*condition.deadline == 0) {
      *condition.deadline = ticks.load(Order::relaxed) + most_ticks;
    }
    while (!condition()) {
      if (ticks.load(Order::relaxed) >= *condition.deadline) {
        return false;
      }
      wait_for_interrupt();
    }
    return true;
  }
  static void wake() noexcept {}
  static std::uintptr_t thread() noexcept { return std::uintptr_t{1} + boot::cpu(); }
};
struct OwnedNodes : MachineNodes {
  static constexpr bool has_owners = true;
};
struct TaggedConfig : slabmalloc::GranuleKernelConfig<page_bytes> {
  static constexpr std::uint32_t tags = 4;
};
/// What a client keeps in the cache. Constructed: its pattern is there.
struct Inode {
  Inode() noexcept = default;
  Inode* next = nullptr;
  std::uint64_t pattern = 0x1D0D'E5CA'FE00'0001;
  std::uint64_t words[30] = {};
};
using Frames = slabmalloc::NodeFrames<WaitingHooks, OwnedNodes, page_bytes>;
using Heap = slabmalloc::CpuZones<WaitingHooks, Frames, TaggedConfig>;
using Inodes = slabmalloc::ObjectCache<Inode, WaitingHooks, Frames,
                                       slabmalloc::GranuleCacheOptions<page_bytes>>;

/// All memory of the job, and the most that the heap may have of it.
constexpr std::size_t memory_bytes = std::size_t{page_bytes < 65536 ? 3 : 12} << 20;
constexpr std::size_t heap_bytes = memory_bytes / 4 * 3;
/// Handlers have tag 0, and CPU n has tag 1 + n % 3. The last has little.
constexpr std::uint32_t last_tag = TaggedConfig::tags - 1;
constexpr std::size_t last_tag_bytes = 16 * 1024;
constexpr std::uint32_t handler_bytes = 64;
constexpr std::uint32_t turns_per_hoard = 4'000;

/// The heap as an Exchange uses it: each caller has a tag.
class TaggedHeap {
 public:
  explicit TaggedHeap(Heap& heap) noexcept : heap_(heap) {}
  slabmalloc::Result<void*> allocate(Layout layout, Context context) noexcept {
    const bool is_handler = context == Context::Interrupt;
    return heap_.allocate(layout, context, is_handler ? 0 : 1 + cpu() % last_tag);
  }
  void deallocate(void* object, Layout layout, Context context) noexcept {
    heap_.deallocate(object, layout, context);
  }

 private:
  Heap& heap_;
};

struct alignas(64) Deeds {
  std::uint64_t turns = 0;
  std::uint64_t refused = 0;
  std::uint64_t sleeps = 0;
  std::uint64_t shrunk = 0;  ///< Inodes that this CPU freed in the callback.
  std::uint64_t inodes = 0;
  Cell<std::uint64_t> in_handlers;
};

/// The job's objects. They exist from make() on.
struct Place {
  Place() noexcept {
    take_nodes(frames, memory_bytes / machine.nodes.nodes());
    heap.set_limit(heap_bytes);
    heap.set_waiting(true);
    heap.set_tag_limit(last_tag, last_tag_bytes);
    inodes_entry.set_shrink(&shrink, this);
    reclaimer.add(heap_entry);
    reclaimer.add(inodes_entry);
    heap.set_reclaim(&reclaimer.reclaim_for, &reclaimer);
    inodes.set_reclaim(&reclaimer.reclaim_for, &reclaimer);
  }

  void push(Inode* inode) noexcept {
    const slabmalloc::SpinLock<WaitingHooks>::Guard guard(lock);
    inode->next = first;
    first = inode;
  }
  Inode* pop() noexcept {
    const slabmalloc::SpinLock<WaitingHooks>::Guard guard(lock);
    Inode* const inode = first;
    if (inode != nullptr) {
      first = inode->next;
      inode->next = nullptr;
    }
    return inode;
  }
  static std::size_t shrink(void* self, std::size_t wanted) noexcept;

  Frames frames;
  Heap heap{frames};
  Inodes inodes{"inode", frames};
  slabmalloc::Reclaimer<WaitingHooks> reclaimer;
  slabmalloc::Reclaimable heap_entry{"heap", heap};
  slabmalloc::Reclaimable inodes_entry{inodes};
  TaggedHeap tagged{heap};
  Exchange<TaggedHeap> exchange{tagged};
  slabmalloc::SpinLock<WaitingHooks> lock;
  Inode* first = nullptr;  ///< The inodes of the cache, the youngest first.
  Deeds deeds[maximum_cpus];
  std::uint64_t turns = 0;
  std::uint64_t seed = 0;
};
constinit Room<Place> room{};

Place& place() noexcept { return room.content(); }

/// Frees inodes, and sleeps after each 64th.
std::size_t Place::shrink(void* self, std::size_t wanted) noexcept {
  auto& here = *static_cast<Place*>(self);
  std::size_t bytes = 0;
  for (std::size_t count = 1; bytes < wanted; ++count) {
    Inode* const inode = here.pop();
    if (inode == nullptr) {
      break;
    }
    expect(inode->pattern == Inode().pattern, "an inode stays as it was made");
    here.inodes.deallocate(inode);
    bytes += sizeof(Inode);
    ++here.deeds[cpu()].shrunk;
    if (count % 64 == 0) {
      wait_for_interrupt();
    }
  }
  return bytes;
}

/// Takes blocks of the heap until it refuses one, then frees them.
void hoard(Random& random) noexcept {
  Object* first = nullptr;
  const std::uint32_t bytes = 256 << random.below(6);
  const Layout layout = Layout::from_size_align(bytes, 8).value();
  while (void* const memory = place().tagged.allocate(layout, Context::MayWait).value_or(nullptr)) {
    auto* const object = Object::make(memory, bytes, 1);
    object->words()[0] = reinterpret_cast<std::uintptr_t>(first);
    first = object;
  }
  while (first != nullptr) {
    Object* const object = first;
    first = reinterpret_cast<Object*>(object->words()[0]);
    object->words()[0] = object->word(0);
    place().exchange.dispose(object, Context::MayWait);
  }
}

/// Leaves the CPU's memory to the others until an interrupt comes.
void sleep() noexcept {
  expect(place().reclaimer.enter_idle(), "a CPU that goes idle is in no section");
  wait_for_interrupt();
}

void work(std::uint32_t number) noexcept {
  Deeds& mine = place().deeds[number];
  Random random(place().seed + number);
  for (; mine.turns < place().turns; ++mine.turns) {
    const std::uint32_t choice = random.below(64);
    const Context context = random.one_in(2) ? Context::MayWait : Context::MayNotWait;
    if (choice == 0) {
      sleep();
      ++mine.sleeps;
    } else if (choice < 24) {
      Inode* const inode = place().inodes.allocate(context);
      if (inode != nullptr) {
        ++mine.inodes;
        place().push(inode);
      } else {
        ++mine.refused;
      }
    } else if (!place().exchange.turn(random.next(), Object::draw_bytes(random, 128, 16),
                                      context)) {
      ++mine.refused;
    }
    if (random.one_in(turns_per_hoard) || mine.turns == place().turns / 2) {
      hoard(random);
    }
    if (random.one_in(256)) {
      send_signal(random.below(cpu_count()));
      expect(place().heap.tag_statistics(last_tag).bytes <= last_tag_bytes,
             "no tag has more than its limit");
    }
  }
}

void handle() noexcept {
  Deeds& mine = place().deeds[cpu()];
  const std::uint64_t number = mine.in_handlers.fetch_add(1, Order::relaxed);
  (void)place().exchange.turn((number + cpu() * 7919) * 0x9E37'79B9'7F4A'7C15 >> 20, handler_bytes,
                              Context::Interrupt);
}

void tell() noexcept {
  std::uint64_t operations = 0;
  std::uint64_t shrunk = 0;
  print_line("  CPU     turns  refused   sleeps   inodes   shrunk  in handlers");
  for (std::uint32_t number = 0; number < cpu_count(); ++number) {
    const Deeds& one = place().deeds[number];
    print_line("  ", column(3, number), column(10, one.turns), column(9, one.refused),
               column(9, one.sleeps), column(9, one.inodes), column(9, one.shrunk),
               column(13, one.in_handlers.load(Order::relaxed)));
    operations += 2 * (one.turns + one.in_handlers.load(Order::relaxed));
    shrunk += one.shrunk;
  }
  const slabmalloc::CpuZonesStatistics zones = place().heap.statistics();
  const slabmalloc::TagStatistics last = place().heap.tag_statistics(last_tag);
  print_line("  ", operations, " operations; ", zones.sleeps, " allocations waited; ",
             zones.idle_drains, " drains for idle CPUs; the last tag was refused ", last.refused,
             " times");
  expect(shrunk != 0, "callbacks freed memory");
  expect(zones.sleeps != 0, "allocations waited at the limit");
  expect(last.refused != 0 || cpu_count() < last_tag, "the limit of a tag was met");
  for (std::uint32_t node = 0; node < machine.nodes.nodes(); ++node) {
    const slabmalloc::NodeStatistics statistics = place().frames.statistics(node);
    print_line("  node ", node, ": ", statistics.local_allocations, " local and ",
               statistics.remote_allocations, " remote allocations");
    expect(machine.nodes.nodes() == 1 || statistics.remote_allocations != 0,
           "CPUs took memory of other nodes");
  }
}

void give_all_back() noexcept {
  place().exchange.clear();
  expect(place().exchange.overwritten() == 0, "no object was written into by anyone else");
  place().heap.set_waiting(false);
  while (Inode* const inode = place().pop()) {
    place().inodes.deallocate(inode);
  }
  for (int round = 0; round < 2; ++round) {
    run_on_all_cpus([](std::uint32_t) noexcept {
      place().heap.run_deferred();
      expect(place().reclaimer.drain_this_cpu(), "no CPU is in the middle of a section");
    });
  }
  place().reclaimer.trim();
  expect(place().inodes.destroy() == 0, "no inode is left");
  expect(place().heap.frame_bytes() == 0, "the heap gave all frames back");
  for (std::uint32_t tag = 0; tag < TaggedConfig::tags; ++tag) {
    expect(place().heap.tag_statistics(tag).bytes == 0, "nothing is charged to a tag");
  }
  expect(place().frames.statistics().used_bytes == 0, "every frame is accounted for");
  const char* const equations[] = {place().heap.validate(), place().inodes.validate(),
                                   place().reclaimer.validate(), place().frames.validate()};
  for (const char* const broken : equations) {
    expect(broken == nullptr, Text::zero_terminated(broken != nullptr ? broken : ""));
  }
}

}  // namespace

void pressure_job() {
  Place& here = room.make();
  here.turns = machine.command_line.number("operations", 100'000) / cpu_count() + 1;
  here.seed = machine.command_line.number("seed", 1);
  print_line(here.turns, " turns on each CPU, seed=", here.seed);
  run_amid_interrupts(&handle, &handle, &work);
  tell();
  give_all_back();
}

}  // namespace boot
