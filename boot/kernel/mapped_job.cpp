// SPDX-License-Identifier: MIT
//
// Job `mapped`: runs of virtual addresses over single frames, in this machine's page tables. All
// CPUs allocate runs, and free those of one another, in timer interrupts too. A flush reaches the
// other CPUs by signals. Then no block of the memory is larger than a frame, and a heap still gets
// a run of 1 MiB.
//
//   operations=N   fifty for each turn; default 40,000
//   seed=N         of the random numbers
#include <cstddef>
#include <cstdint>

#include "kernel/cpus.hpp"
#include "kernel/heap.hpp"
#include "kernel/interrupts.hpp"
#include "kernel/jobs.hpp"
#include "kernel/objects.hpp"
#include "translation.hpp"

namespace boot {
namespace {

using slabmalloc::Context;
using slabmalloc::Layout;

constexpr std::size_t mapped_bytes = std::size_t{page_bytes < 65536 ? 8 : 48} << 20;

/// The page tables below one entry of the root. Their tables are frames, and stay until clear().
class Map {
 public:
  constexpr explicit Map(Frames& frames) noexcept : frames_(frames) {}

  bool map(void* address, void* frame, std::size_t) noexcept {
    std::uint64_t* const entry = entry_of(address, true);
    if (entry != nullptr) {
      expect(*entry == 0, "no page is mapped twice");
      *entry = Translation::page_entry(reinterpret_cast<std::uintptr_t>(frame));
      Translation::publish();
    }
    return entry != nullptr;
  }
  void unmap(void* address, std::size_t bytes) noexcept {
    for (std::size_t offset = 0; offset < bytes; offset += page_bytes) {
      std::uint64_t* const entry = entry_of(static_cast<std::byte*>(address) + offset, false);
      if (expect(entry != nullptr && *entry != 0, "what is unmapped is mapped")) {
        *entry = 0;
      }
    }
  }
  /// Returns when each CPU has flushed. Order: acq_rel, here and in flush_here(): a CPU that shows
  /// the number has flushed after the entries changed.
  void flush() noexcept {
    const std::uint64_t number = wanted_.fetch_add(1, Order::acq_rel) + 1;
    flush_here();
    for (std::uint32_t other = 0; other < cpu_count(); ++other) {
      if (other != cpu()) {
        send_signal(other);
      }
    }
    for (std::uint32_t other = 0; other < cpu_count(); ++other) {
      while (done_[other].load(Order::acquire) < number) {
        relax();
      }
    }
  }
  void flush_here() noexcept {
    const std::uint64_t number = wanted_.load(Order::acquire);
    Translation::flush();
    // A signal in between may have flushed for a later number.
    std::uint64_t done = done_[cpu()].load(Order::relaxed);
    while (done < number && !done_[cpu()].compare_exchange(done, number, Order::release)) {
    }
  }

  std::uint64_t flushes() const noexcept { return wanted_.load(Order::relaxed); }
  bool is_mapped(void* address) noexcept {
    const std::uint64_t* const entry = entry_of(address, false);
    return entry != nullptr && *entry != 0;
  }
  /// Gives the tables back. Pre: nothing is mapped.
  void clear() noexcept {
    std::uint64_t& top = Translation::root()[index_at(Translation::range.start, root_shift)];
    clear(top, root_shift);
    flush();
  }

 private:
  static constexpr unsigned root_shift = Translation::root_shift;
  static constexpr std::size_t entries = std::size_t{1} << Translation::index_bits;
  static constexpr unsigned page_shift = slabmalloc::highest_bit(page_bytes);

  static std::size_t index_at(std::uintptr_t address, unsigned shift) noexcept {
    return (address >> shift) % entries;
  }
  static std::uint64_t* table_of(std::uint64_t entry) noexcept {
    return reinterpret_cast<std::uint64_t*>(Translation::address_of(entry));
  }
  /// The entry of a page; null where a table is lacking.
  std::uint64_t* entry_of(void* page, bool makes_tables) noexcept {
    const auto address = reinterpret_cast<std::uintptr_t>(page);
    const slabmalloc::SpinLock<Hooks>::Guard guard(lock_);
    std::uint64_t* table = Translation::root();
    for (unsigned shift = root_shift; shift != page_shift; shift -= Translation::index_bits) {
      std::uint64_t& entry = table[index_at(address, shift)];
      if (entry == 0) {
        void* const made = makes_tables ? frames_.allocate_frame(page_bytes).address : nullptr;
        if (made == nullptr) {
          return nullptr;
        }
        __builtin_memset(made, 0, page_bytes);
        entry = Translation::table_entry(reinterpret_cast<std::uintptr_t>(made));
      }
      table = table_of(entry);
    }
    return &table[index_at(address, page_shift)];
  }
  void clear(std::uint64_t& entry, unsigned shift) noexcept {
    if (entry == 0) {
      return;
    }
    std::uint64_t* const table = table_of(entry);
    for (std::size_t index = 0; index < entries; ++index) {
      const unsigned below = shift - Translation::index_bits;
      if (below != page_shift) {
        clear(table[index], below);
      } else {
        expect(table[index] == 0, "no page is left");
      }
    }
    frames_.deallocate_frame(table, page_bytes);
    entry = 0;
  }

  Frames& frames_;
  slabmalloc::SpinLock<Hooks> lock_;
  Cell<std::uint64_t> wanted_{0};
  Cell<std::uint64_t> done_[maximum_cpus]{};
};

using Mapped = slabmalloc::MappedRuns<Hooks, Frames, Map>;
using Pager = slabmalloc::FallbackRuns<Frames, Mapped>;
using Heap = slabmalloc::CpuZones<Hooks, Pager, slabmalloc::GranuleKernelConfig<page_bytes>>;

constexpr std::size_t places = 16;
struct State {
  Map* map;
  Mapped* mapped;
  Cell<std::uint64_t*> runs[places];
  Cell<std::uint64_t> refused;
  std::uint64_t turns;
  std::uint64_t seed;
};
constinit State state{};

/// A run has its pages and a key in its first words, and the key in each page.
std::uint64_t* make_run(std::uint64_t pages, std::uint64_t key) noexcept {
  auto* const run = static_cast<std::uint64_t*>(
      state.mapped->allocate(pages * page_bytes, Context::MayWait).value_or(nullptr));
  for (std::uint64_t page = 0; run != nullptr && page < pages; ++page) {
    run[page * page_bytes / 8 + 1] = key + page;
  }
  if (run != nullptr) {
    run[0] = pages;
  }
  return run;
}
void end_run(std::uint64_t* run, Context context) noexcept {
  if (run == nullptr) {
    return;
  }
  bool is_intact = state.mapped->usable_size(run) == run[0] * page_bytes;
  for (std::uint64_t page = 0; is_intact && page < run[0]; ++page) {
    is_intact = run[page * page_bytes / 8 + 1] == run[1] + page;
  }
  expect(is_intact, "a run keeps its contents");
  expect(state.mapped->deallocate(run, context), "a run is freed once");
}

void work(std::uint32_t number) noexcept {
  Random random(state.seed + number);
  for (std::uint64_t turn = 0; turn < state.turns; ++turn) {
    std::uint64_t* const run = make_run(1 + random.below(40), random.next() >> 8);
    if (run == nullptr) {
      state.refused.fetch_add(1, Order::relaxed);
    }
    // Order: acq_rel, with itself: the taker sees all writes into the run.
    end_run(state.runs[random.below(places)].exchange(run, Order::acq_rel), Context::MayWait);
  }
}
void handle() noexcept {
  static constinit Cell<std::uint32_t> ticks{0};
  const std::uint32_t tick = ticks.fetch_add(1, Order::relaxed);
  if (tick % 8 == 0) {
    end_run(state.runs[tick / 8 % places].exchange(nullptr, Order::acq_rel), Context::Interrupt);
  }
}

/// Takes all frames, and frees those of even numbers.
void fragment(Frames& frames, void**& kept) noexcept {
  kept = nullptr;
  void** freed = nullptr;
  while (void* const frame = frames.allocate_frame(page_bytes).address) {
    const bool is_odd = reinterpret_cast<std::uintptr_t>(frame) / page_bytes % 2 != 0;
    void**& list = is_odd ? kept : freed;
    *static_cast<void**>(frame) = list;
    list = static_cast<void**>(frame);
  }
  while (freed != nullptr) {
    void** const next = static_cast<void**>(*freed);
    frames.deallocate_frame(freed, page_bytes);
    freed = next;
  }
}

/// A heap's run of 1 MiB where no block holds it.
void run_without_blocks(Frames& frames, Heap& heap) noexcept {
  const Layout layout = Layout::from_size_align(std::size_t{1} << 20, 8).value();
  void** kept = nullptr;
  state.mapped->flush();
  fragment(frames, kept);
  expect(frames.allocate_run(2 * page_bytes, page_bytes).address == nullptr, "memory is scattered");
  auto* const run = static_cast<std::byte*>(heap.allocate(layout).value_or(nullptr));
  if (expect(run != nullptr && state.mapped->owns(run), "a run of 1 MiB is mapped")) {
    __builtin_memset(run, 0x5a, layout.size());
    expect(!state.map->is_mapped(run - page_bytes) && !state.map->is_mapped(run + layout.size()),
           "a run has guards");
    heap.deallocate(run, layout);
    expect(!state.map->is_mapped(run), "a freed run is unmapped");
  }
  while (kept != nullptr) {
    void** const next = static_cast<void**>(*kept);
    frames.deallocate_frame(kept, page_bytes);
    kept = next;
  }
}

}  // namespace

void mapped_job() {
  static constinit Room<Frames> frames_room{};
  static constinit Room<Map> map_room{};
  static constinit Room<Mapped> mapped_room{};
  static constinit Room<Pager> pager_room{};
  static constinit Room<Heap> heap_room{};
  Frames& frames = frames_room.make();
  take_memory(frames, mapped_bytes);
  state.map = &map_room.make(frames);
  Mapped& mapped = mapped_room.make(frames, *state.map);
  state.mapped = &mapped;
  mapped.set_range({Translation::range.start, Translation::range.bytes});
  state.turns = machine.command_line.number("operations", 40'000) / 50 / cpu_count() + 1;
  state.seed = machine.command_line.number("seed", 1);
  Translation::begin();
  run_on_all_cpus([](std::uint32_t) noexcept { Translation::begin(); });
  set_signal_handler([]() noexcept { state.map->flush_here(); });
  set_timer_handler(handle);
  run_on_all_cpus(work);
  set_timer_handler(nullptr);
  // A tick may still be on its way.
  run_on_all_cpus([](std::uint32_t) noexcept { count_down(100'000); });
  for (auto& place : state.runs) {
    end_run(place.exchange(nullptr, Order::acq_rel), Context::MayWait);
  }
  expect(mapped.validate() == nullptr, "the invariants of mapped runs hold");
  const std::uint64_t flushes = state.map->flushes();

  Heap& heap = heap_room.make(pager_room.make(frames, mapped));
  run_without_blocks(frames, heap);
  heap.trim();
  print_line("  ", state.turns * cpu_count(), " turns, ", state.refused.load(Order::relaxed),
             " of them refused, ", flushes, " flushes; meta-data of ",
             mapped.metadata_bytes() / 1024, " KiB");
  expect(mapped.used_bytes() == 0, "no run is left");
  mapped.release();
  state.map->clear();
  set_signal_handler(nullptr);
  run_on_all_cpus([](std::uint32_t) noexcept { Translation::end(); });
  expect(heap.frame_bytes() == 0, "the heap gave all back");
  expect(frames.statistics().used_bytes == 0, "every frame is accounted for");
  expect(frames.validate() == nullptr, "the frames' invariants hold");
}

}  // namespace boot
