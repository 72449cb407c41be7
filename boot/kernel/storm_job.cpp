// SPDX-License-Identifier: MIT
//
// Job `storm`: all CPUs allocate objects and free each other's. Timer interrupts and signals do so
// in the middle. Now and then one CPU takes all free memory. Afterwards every frame must be
// accounted for.
//
//   operations=N   allocations and frees by all CPUs, per heap; default 400,000
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

using slabmalloc::Context;

/// All memory of a storm. It is small, so that the storm uses it up.
constexpr std::size_t storm_bytes = std::size_t{page_bytes < 65536 ? 24 : 48} << 20;
/// Handlers allocate objects of this size.
constexpr std::uint32_t handler_bytes = 64;
constexpr std::uint32_t turns_per_tick = 8;
constexpr std::uint32_t turns_per_signal = 2;
/// A CPU takes all memory once in so many turns.
constexpr std::uint32_t turns_per_hoard = 20'000;

/// The counts of one CPU.
struct alignas(64) Deeds {
  std::uint64_t turns = 0;
  std::uint64_t refused = 0;  ///< Allocations that ended as OutOfMemory.
  std::uint64_t hoards = 0;
  std::uint64_t hoarded = 0;  ///< Objects of all hoards.
  Cell<std::uint64_t> in_handlers;
  Cell<std::uint64_t> refused_in_handlers;
};

template <class Heap>
class Storm {
 public:
  static void run(Text name) noexcept {
    KernelMemory<Heap>& memory = make_memory<Heap>(storm_bytes);
    heap_ = &memory.heap;
    static constinit Room<Exchange<Heap>> room{};
    exchange_ = &room.make(memory.heap);
    for (Deeds& one : deeds_) {
      ::new (static_cast<void*>(&one)) Deeds;
    }
    turns_ = machine.command_line.number("operations", 400'000) / 2 / cpu_count() + 1;
    seed_ = machine.command_line.number("seed", 1);
    print_line(name, ": ", turns_, " turns on each CPU, seed=", seed_);

    const auto kept = slabmalloc::Layout::from_size_align(handler_bytes, 8).value();
    expect(static_cast<bool>(heap_->reserve_for_interrupts(kept, 4)), "handlers get a reserve");
    run_amid_interrupts([]() noexcept { handle(turns_per_tick); },
                        []() noexcept { handle(turns_per_signal); },
                        [](std::uint32_t number) noexcept { work(number); });

    tell(memory);
    exchange_->clear();
    expect(exchange_->overwritten() == 0, "no object was written into by anyone else");
    expect(static_cast<bool>(heap_->reserve_for_interrupts(kept, 0)), "the reserves are given up");
    expect_all_is_back(memory);
  }

 private:
  static void work(std::uint32_t number) noexcept {
    Deeds& mine = deeds_[number];
    Random random(seed_ + number);
    while (mine.turns < turns_) {
      const std::uint32_t bytes = Object::draw_bytes(random, 256, 16);
      const Context context = random.one_in(2) ? Context::MayWait : Context::MayNotWait;
      if (!exchange_->turn(random.next(), bytes, context)) {
        ++mine.refused;
      }
      ++mine.turns;
      if (random.one_in(512)) {
        send_signal(random.below(cpu_count()));
      }
      if (random.one_in(turns_per_hoard) || mine.turns == turns_ / 2) {
        hoard(mine, random);
      }
    }
  }

  /// Takes memory until none is left, then gives it back.
  static void hoard(Deeds& mine, Random& random) noexcept {
    Object* first = nullptr;
    const std::uint32_t bytes = 256 << random.below(6);
    const auto layout = slabmalloc::Layout::from_size_align(bytes, 8).value();
    while (void* const memory = heap_->allocate(layout, Context::MayWait).value_or(nullptr)) {
      auto* const object = Object::make(memory, bytes, mine.hoards & 0xffff'ffff);
      object->words()[0] = reinterpret_cast<std::uintptr_t>(first);
      first = object;
      ++mine.hoarded;
    }
    ++mine.hoards;
    ++mine.refused;
    while (first != nullptr) {
      Object* const object = first;
      first = reinterpret_cast<Object*>(object->words()[0]);
      object->words()[0] = object->word(0);
      exchange_->dispose(object, Context::MayWait);
    }
    heap_->trim();
  }

  static void handle(std::uint32_t turns) noexcept {
    Deeds& mine = deeds_[cpu()];
    for (std::uint32_t turn = 0; turn < turns; ++turn) {
      const std::uint64_t number = mine.in_handlers.fetch_add(1, Order::relaxed);
      const std::uint64_t place = (number + cpu() * 7919) * 0x9E37'79B9'7F4A'7C15 >> 20;
      if (!exchange_->turn(place | number << 32, handler_bytes, Context::Interrupt)) {
        mine.refused_in_handlers.fetch_add(1, Order::relaxed);
      }
    }
  }

  static void tell(const KernelMemory<Heap>& memory) noexcept {
    std::uint64_t operations = 0;
    std::uint64_t hoards = 0;
    print_line("  CPU     turns  refused  hoards  hoarded  in handlers  refused");
    for (std::uint32_t number = 0; number < cpu_count(); ++number) {
      const Deeds& one = deeds_[number];
      const std::uint64_t in_handlers = one.in_handlers.load(Order::relaxed);
      print_line("  ", column(3, number), column(10, one.turns), column(9, one.refused),
                 column(8, one.hoards), column(9, one.hoarded), column(13, in_handlers),
                 column(9, one.refused_in_handlers.load(Order::relaxed)));
      operations += 2 * (one.turns + one.hoarded + in_handlers);
      hoards += one.hoards;
    }
    const slabmalloc::CpuZonesStatistics zones = memory.heap.statistics();
    print_line("  ", operations, " operations; ", zones.zones.remote_frees,
               " frees by other CPUs or handlers, ", zones.nested_allocations, " allocations and ",
               zones.nested_frees, " frees in the middle of a section");
    print_line("  frames: ", memory.frames.statistics().used_bytes_high_water / 1024, " of ",
               memory.frames.statistics().managed_bytes / 1024, " KiB used at most");
    expect(hoards >= cpu_count(), "memory was used up by each CPU");
  }

  static inline Heap* heap_ = nullptr;
  static inline Exchange<Heap>* exchange_ = nullptr;
  static inline Deeds deeds_[maximum_cpus];
  static inline std::uint64_t turns_ = 0;
  static inline std::uint64_t seed_ = 0;
};

}  // namespace

void storm_job() {
  Storm<ClosedHeap>::run("sections that keep interrupts out");
  Storm<OpenHeap>::run("sections that keep nothing out");
}

}  // namespace boot
