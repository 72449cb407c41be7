// SPDX-License-Identifier: MIT
//
// Job `cost` counts the instructions of allocations and frees, and finds the longest. It needs a
// processor that counts (scripts/boot --icount). That is the only one, so it plays the other CPUs
// in turn.
//
//   operations=N   turns of the search for the longest; default 200,000
//   seed=N         of its random numbers
#include <cstddef>
#include <cstdint>

#include "kernel/counts.hpp"
#include "kernel/heap.hpp"
#include "kernel/jobs.hpp"
#include "kernel/objects.hpp"

namespace boot {
namespace {

using slabmalloc::Context;
using slabmalloc::Frame;
using slabmalloc::Layout;
using slabmalloc::Result;

// The kernel's bounds, in instructions.
constexpr std::uint64_t most_to_allocate = 25;
constexpr std::uint64_t most_to_deallocate = 35;
// A slow path reads the words of a page's bitmap, and larger pages have more words.
constexpr std::uint64_t most_on_a_slow_path = 2000 + (page_bytes / 4096 - 1) * 400;

struct Thing {
  std::byte bytes[64];
};

// ---- the fast path ------------------------------------------------------------------------------

// Calls as in a client's code, with the heap at a constant address.
constinit Room<KernelMemory<ClosedHeap>> things_room{};
KernelMemory<ClosedHeap>& things() noexcept { return things_room.content(); }

[[gnu::noinline]] Result<void*> allocate_thing() noexcept {
  return things().heap.allocate(Layout::of<Thing>(), Context::MayNotWait);
}
[[gnu::noinline]] void deallocate_thing(void* thing) noexcept {
  things().heap.deallocate(thing, Layout::of<Thing>());
}
[[gnu::noinline]] void deallocate_by_address(void* thing) noexcept {
  things().heap.deallocate(thing);
}

// Empty functions measure the call and the return.
[[gnu::noinline]] Result<void*> allocate_nothing() noexcept {
  void* nothing;
  asm volatile("" : "=r"(nothing));
  return nothing;
}
[[gnu::noinline]] void deallocate_nothing(void*) noexcept { asm volatile(""); }
/// Forces `result` into memory, so that the same store follows both kinds of calls.
[[gnu::always_inline]] inline void put_down(Result<void*>& result) noexcept {
  asm volatile("" : "+m"(result));
}

/// The least of several.
template <class Call>
std::uint64_t count_least(Call call) noexcept {
  Counts counts;
  for (int round = 0; round < 10; ++round) {
    counts.add(count(call));
  }
  return counts.least;
}

/// Batches of allocations and of frees, slow paths included.
void count_the_short_way() noexcept {
  constexpr std::uint32_t batch = 1000;
  static void* objects[batch];
  set_local<ClosedConfig::local_slot>(nullptr);
  things_room.make(std::size_t{16} << 20);
  Result<void*> result = slabmalloc::AllocationError::OutOfMemory;
  const std::uint64_t around_allocation = count_least([&] {
    result = allocate_nothing();
    put_down(result);
  });
  const std::uint64_t around_free = count_least([&] { deallocate_nothing(objects[0]); });
  Counts allocations;
  Counts frees;
  Counts frees_by_address;
  for (int round = 0; round < 20; ++round) {
    for (void*& place : objects) {
      const std::uint64_t all = count([&] {
        result = allocate_thing();
        put_down(result);
      });
      allocations.add(all - around_allocation);
      place = result.value_or(nullptr);
      expect(place != nullptr, "there is memory for a thousand things");
    }
    // Without a choice inside of what is counted.
    if (round % 2 == 0) {
      for (void* const place : objects) {
        frees.add(count([&] { deallocate_thing(place); }) - around_free);
      }
    } else {
      for (void* const place : objects) {
        frees_by_address.add(count([&] { deallocate_by_address(place); }) - around_free);
      }
    }
  }
  print_line("instructions for 64 B              least  mean");
  print_line("  allocate                      ", column(8, allocations.least),
             column(6, allocations.mean()));
  print_line("  deallocate                    ", column(8, frees.least), column(6, frees.mean()));
  print_line("  deallocate, by the address    ", column(8, frees_by_address.least),
             column(6, frees_by_address.mean()));
  expect(allocations.least <= most_to_allocate,
         "an allocation of 64 B takes at most 25 instructions");
  expect(frees.least <= most_to_deallocate, "a free of 64 B takes at most 35 instructions");
}

// ---- the longest path ---------------------------------------------------------------------------

/// Plays several CPUs on one.
struct PlayedHooks : Hooks {
  static constexpr std::uint32_t maximum_cpus = 4;
  static inline std::uint32_t played = 0;
  static std::uint32_t cpu() noexcept { return played; }
};

/// The same. Counts how long interrupts are saved.
struct CountingHooks : PlayedHooks {
  static inline Counts sections;

  static InterruptState save_interrupts() noexcept {
    const InterruptState before = boot::save_interrupts();
    if (depth_++ == 0) {
      began_ = instructions();
    }
    return before;
  }
  static void restore_interrupts(InterruptState state) noexcept {
    if (--depth_ == 0) {
      sections.add(instructions() - began_);
    }
    boot::restore_interrupts(state);
  }

 private:
  static inline std::uint32_t depth_ = 0;
  static inline std::uint64_t began_ = 0;
};

/// Frames, and the instructions that were spent on them.
class CountingFrames {
 public:
  explicit CountingFrames(Frames& frames) noexcept : frames_(frames) {}

  Frame allocate_frame(std::size_t bytes) noexcept {
    Frame frame;
    spent += count([&] { frame = frames_.allocate_frame(bytes); });
    return frame;
  }
  void deallocate_frame(void* frame, std::size_t bytes) noexcept {
    spent += count([&] { frames_.deallocate_frame(frame, bytes); });
  }
  Frame allocate_run(std::size_t bytes, std::size_t alignment) noexcept {
    Frame run;
    spent += count([&] { run = frames_.allocate_run(bytes, alignment); });
    return run;
  }
  void deallocate_run(void* run, std::size_t bytes, std::size_t alignment) noexcept {
    spent += count([&] { frames_.deallocate_run(run, bytes, alignment); });
  }

  std::uint64_t spent = 0;

 private:
  Frames& frames_;
};

template <class Hooks>
struct PlayedMemory {
  PlayedMemory() noexcept : counting(frames), heap(counting) {
    take_memory(frames, std::size_t{8} << 20);
  }

  Frames frames;
  CountingFrames counting;
  slabmalloc::CpuZones<Hooks, CountingFrames, slabmalloc::GranuleKernelConfig<page_bytes>> heap;
};

/// Allocations for which the pager had no memory.
struct Searches {
  Counts found;  ///< The search found memory elsewhere.
  Counts refused;
};

/// Calls, without the pager.
struct LongestWay {
  Counts allocations;  ///< Served with or without a call of the pager.
  Searches bounded;    ///< Of allocations that must not wait.
  Searches complete;   ///< Of allocations that may.
  Counts frees;
};

/// A storm of one CPU that plays four, until memory is used up and given back.
template <class Hooks>
LongestWay search_the_longest_way() noexcept {
  static constinit Room<PlayedMemory<Hooks>> room{};
  PlayedMemory<Hooks>& memory = room.make();
  constexpr std::uint32_t places = 4096;
  static Object* objects[places];
  for (Object*& object : objects) {
    object = nullptr;
  }
  Random random(machine.command_line.number("seed", 1));
  const std::uint64_t turns = machine.command_line.number("operations", 200'000);
  LongestWay way;
  std::uint32_t in_use = places;
  for (std::uint64_t turn = 0; turn < turns; ++turn) {
    // The number of places changes, so that memory is used up and given back.
    in_use = turn % 16384 == 0 ? (random.one_in(2) ? places : places / 16) : in_use;
    PlayedHooks::played = random.below(PlayedHooks::maximum_cpus);
    Object*& place = objects[random.below(places)];
    const InterruptsDisabled disabled;
    if (place != nullptr) {
      const std::uint64_t spent = memory.counting.spent;
      expect(place->is_intact(), "nobody else wrote into an object");
      const Layout layout = place->layout();
      // Runs that handlers free wait, and allocations give them back.
      const Context context = random.one_in(2) ? Context::Interrupt : Context::MayNotWait;
      const std::uint64_t all = count([&] { memory.heap.deallocate(place, layout, context); });
      way.frees.add(all - (memory.counting.spent - spent));
      place = nullptr;
    }
    if (&place - objects < in_use) {
      const std::uint32_t bytes = Object::draw_bytes(random, 64, 4);
      const Layout layout = Layout::from_size_align(bytes, 8).value();
      Result<void*> result = slabmalloc::AllocationError::OutOfMemory;
      const std::uint64_t spent = memory.counting.spent;
      const std::size_t searches_before = memory.heap.searches();
      const bool may_wait = random.one_in(2);
      const Context context = may_wait ? Context::MayWait : Context::MayNotWait;
      const std::uint64_t all = count([&] { result = memory.heap.allocate(layout, context); });
      Searches& searches = may_wait ? way.complete : way.bounded;
      Counts& counts = !result                                     ? searches.refused
                       : memory.heap.searches() != searches_before ? searches.found
                                                                   : way.allocations;
      counts.add(all - (memory.counting.spent - spent));
      place =
          result ? Object::make(result.value(), bytes, static_cast<std::uint32_t>(turn)) : nullptr;
    }
  }
  return way;
}

void print_counts(Text what, const Counts& counts) noexcept {
  print_line("  ", column(33, what), column(8, counts.number), column(6, counts.mean()),
             column(9, counts.most));
}

void print_bounded(Text what, const Counts& counts) noexcept {
  print_counts(what, counts);
  expect(counts.most <= most_on_a_slow_path,
         "what must not wait takes a bounded time without the pager");
}

void count_the_longest_way() noexcept {
  const LongestWay way = search_the_longest_way<PlayedHooks>();
  CountingHooks::sections = {};
  search_the_longest_way<CountingHooks>();
  print_line("instructions without the pager        calls  mean  longest; bound: ",
             most_on_a_slow_path);
  print_bounded("allocate", way.allocations);
  print_bounded("allocate, after a step of search", way.bounded.found);
  print_bounded("refused, after a step of search", way.bounded.refused);
  print_bounded("deallocate", way.frees);
  print_bounded("with interrupts saved", CountingHooks::sections);
  print_line("  of those that may wait, without a bound:");
  print_counts("allocate, after a search", way.complete.found);
  print_counts("refused, after a search", way.complete.refused);
  expect(way.bounded.refused.number != 0 && way.complete.refused.number != 0, "memory was used up");
}

}  // namespace

void cost_job() {
  if (machine.command_line.number("icount", 0) == 0) {
    print_line("  not counted: it takes scripts/boot --icount");
    return;
  }
  count_the_short_way();
  count_the_longest_way();
}

}  // namespace boot
