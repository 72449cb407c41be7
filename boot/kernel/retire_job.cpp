// SPDX-License-Identifier: MIT
//
// Job `retire`: all CPUs read objects without a lock while others replace and retire them. Timer
// interrupts and signals replace objects too. Memory is short, so allocations wait for readers.
// No reader may see an object change, and every frame must be accounted for at the end.
//
// Then they do the same with a type-stable cache, whose objects serve again at once. A reader may
// find another object there, and nothing that is none.
//
//   operations=N   turns of all CPUs; default 400,000
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

constexpr std::size_t memory_bytes = std::size_t{page_bytes < 65536 ? 2 : 16} << 20;

/// Read sections by epochs. All steps are read-modify-writes of the reader's cell, so either the
/// reader sees what was unlinked, or the grace period sees the reader.
struct ReadingHooks : Hooks {
  static std::uintptr_t grace_period_begin() noexcept {
    return epoch.fetch_add(1, Order::acq_rel) + 1;
  }
  static bool has_passed(std::uintptr_t number) noexcept {
    for (std::uint32_t reader = 0; reader < cpu_count(); ++reader) {
      const std::uintptr_t began = sections[reader].began.fetch_add(0, Order::acq_rel);
      if (began != 0 && began < number) {
        return false;
      }
    }
    return true;
  }
  static void open_section() noexcept {
    sections[cpu()].began.exchange(epoch.load(Order::acquire), Order::acq_rel);
  }
  static void close_section() noexcept { sections[cpu()].began.exchange(0, Order::acq_rel); }

  struct alignas(64) SectionOfCpu {
    Cell<std::uintptr_t> began{0};  ///< The epoch, or 0.
  };
  static constinit SectionOfCpu sections[maximum_cpus];
  static constinit Cell<std::uintptr_t> epoch;
};
constinit ReadingHooks::SectionOfCpu ReadingHooks::sections[maximum_cpus];
constinit Cell<std::uintptr_t> ReadingHooks::epoch{1};

using Heap = slabmalloc::CpuZones<ReadingHooks, Frames, ClosedConfig>;
using Retired = slabmalloc::RetiredObjects<Heap>;

struct Entry {
  std::uint64_t words[24];
  slabmalloc::RetiredLink retired;
};
constexpr auto entry_layout = slabmalloc::Layout::of<Entry>();
constexpr auto entry_kind = slabmalloc::RetiredKind::of<Entry>(offsetof(Entry, retired));

/// The counts of one CPU.
struct alignas(64) Deeds {
  Cell<std::uint64_t> turns;
  Cell<std::uint64_t> refused;
  std::uint64_t reads = 0;
  std::uint64_t changed = 0;  ///< Objects that changed under a reader.
};

struct State {
  Heap* heap;
  Retired* retired;
  Cell<Entry*> places[64];
  Deeds deeds[maximum_cpus];
  std::uint64_t turns;
  std::uint64_t seed;
};
constinit State state{};

/// Puts a new entry in the place of another, which it retires. Thread: any context.
void replace(std::uint64_t number, Context context) noexcept {
  void* const memory = state.heap->allocate(entry_layout, context).value_or(nullptr);
  Entry* entry = nullptr;
  if (memory != nullptr) {
    entry = ::new (memory) Entry;
    for (std::uint64_t& word : entry->words) {
      word = number;
    }
  } else {
    state.deeds[cpu()].refused.fetch_add(1, Order::relaxed);
  }
  Entry* const before = state.places[number % 64].exchange(entry, Order::acq_rel);
  if (before != nullptr &&
      (number % 3 == 0 || !state.retired->retire(before, entry_layout, context))) {
    state.retired->retire(before, entry_kind, context);
  }
}

void read(std::uint64_t place, Deeds& mine) noexcept {
  ReadingHooks::open_section();
  const Entry* const entry = state.places[place % 64].load(Order::acquire);
  for (int look = 0; entry != nullptr && look < 2; ++look) {
    for (const std::uint64_t word : entry->words) {
      mine.changed += word != entry->words[0] ? 1u : 0u;
    }
  }
  ReadingHooks::close_section();
  ++mine.reads;
}

void handle() noexcept {
  const std::uint64_t turn = state.deeds[cpu()].turns.fetch_add(1, Order::relaxed);
  replace((turn + cpu() * 7919) * 0x9E37'79B9'7F4A'7C15 >> 20, Context::Interrupt);
}

void work(std::uint32_t number) noexcept {
  Deeds& mine = state.deeds[number];
  Random random(state.seed + number);
  for (std::uint64_t turn = 0; turn < state.turns; ++turn) {
    if (random.one_in(2)) {
      read(random.next(), mine);
    } else {
      mine.turns.fetch_add(1, Order::relaxed);
      replace(random.next(), random.one_in(4) ? Context::MayNotWait : Context::MayWait);
    }
    if (random.one_in(256)) {
      send_signal(random.below(cpu_count()));
    }
  }
}

void tell(const KernelMemory<Heap>& memory) noexcept {
  std::uint64_t replaced = 0;
  std::uint64_t reads = 0;
  print_line("  CPU  replaced  refused     read");
  for (std::uint32_t number = 0; number < cpu_count(); ++number) {
    const Deeds& one = state.deeds[number];
    print_line("  ", column(3, number), column(10, one.turns.load(Order::relaxed)),
               column(9, one.refused.load(Order::relaxed)), column(9, one.reads));
    expect(one.changed == 0, "no object changes while it is read");
    replaced += one.turns.load(Order::relaxed) - one.refused.load(Order::relaxed);
    reads += one.reads;
  }
  // Half of the turns read, and the others replace.
  const std::uint64_t turns = state.turns * cpu_count();
  expect(replaced >= turns / 4, "most objects are replaced by others");
  expect(reads >= turns / 4, "CPUs read objects");
  print_line("  grace periods: ", ReadingHooks::epoch.load(Order::relaxed),
             "; frames: ", memory.frames.statistics().used_bytes_high_water / 1024,
             " KiB used at most");
}

// ---- a type-stable cache ------------------------------------------------------------------------

constexpr std::uint64_t session_mark = 0x5E55'1044;

/// An object that readers find by its key. They check the key after they found it.
struct Session {
  Session() noexcept { mark.store(session_mark, Order::relaxed); }
  ~Session() { mark.store(0, Order::relaxed); }

  Cell<std::uint64_t> mark{0};
  Cell<std::uint64_t> key{0};  ///< 0: it is free.
  Cell<std::uint64_t> value{0};
  std::uint64_t rest[21] = {};
};

struct SessionOptions : slabmalloc::GranuleCacheOptions<page_bytes> {
  static constexpr bool type_stable = true;
  static constexpr std::uint32_t cached_frames = 1;
};
using Sessions = slabmalloc::ObjectCache<Session, ReadingHooks, Frames, SessionOptions>;

struct Table {
  static constexpr std::uint64_t keys = 512;
  Sessions* sessions;
  Cell<Session*> places[keys];
  Cell<std::uint64_t> found;   ///< Reads that found the session of their key.
  Cell<std::uint64_t> reused;  ///< Those that found that its memory was free, or another's.
};
constinit Table table{};

void drop_session(Session* session) noexcept {
  if (session != nullptr) {
    session->key.store(0, Order::release);
    table.sessions->deallocate(session);
  }
}

/// Puts a new session in the place of another, and frees that one at once. Thread: any context.
void replace_session(std::uint64_t number, Context context) noexcept {
  const std::uint64_t key = number % Table::keys;
  Session* const session =
      number / Table::keys % 3 != 0 ? table.sessions->allocate(context) : nullptr;
  if (session != nullptr) {
    expect(session->mark.load(Order::relaxed) == session_mark, "it stayed constructed");
    // Release: a reader that sees this value sees that the former key is gone.
    session->value.store(~key, Order::release);
    session->key.store(key + 1, Order::release);
  }
  drop_session(table.places[key].exchange(session, Order::acq_rel));
}

void read_session(std::uint64_t key) noexcept {
  ReadingHooks::open_section();
  if (Session* const session = table.places[key].load(Order::acquire)) {
    const bool is_object = session->mark.load(Order::relaxed) == session_mark;
    expect(is_object, "where a reader looks, there is an object of the cache");
    const bool is_of_key = session->key.load(Order::acquire) == key + 1;
    const std::uint64_t value = session->value.load(Order::acquire);
    // Its key did not change meanwhile, so the value is that of the key.
    if (is_of_key && session->key.load(Order::relaxed) == key + 1) {
      table.found.fetch_add(1, Order::relaxed);
      expect(value == ~key, "what is found by a key belongs to it");
    } else {
      table.reused.fetch_add(1, Order::relaxed);
    }
  }
  ReadingHooks::close_section();
}

void handle_sessions() noexcept {
  const std::uint64_t turn = state.deeds[cpu()].turns.fetch_add(1, Order::relaxed);
  replace_session((turn + cpu() * 7919) * 0x9E37'79B9'7F4A'7C15 >> 20, Context::Interrupt);
}

void work_on_sessions(std::uint32_t number) noexcept {
  Random random(state.seed + number);
  for (std::uint64_t turn = 0; turn < state.turns / 2; ++turn) {
    if (random.one_in(2)) {
      read_session(random.below(Table::keys));
    } else {
      replace_session(random.next() >> 8,
                      random.one_in(4) ? Context::MayNotWait : Context::MayWait);
    }
    if (random.one_in(256)) {
      send_signal(random.below(cpu_count()));
    }
    if (random.one_in(512)) {
      for (auto& place : table.places) {
        drop_session(place.exchange(nullptr, Order::acq_rel));
      }
      table.sessions->zones().trim();
    }
  }
}

void check_sessions(Frames& frames) noexcept {
  static constinit Room<Sessions> room{};
  Sessions& sessions = room.make("session", frames);
  table.sessions = &sessions;
  table.found.store(0, Order::relaxed);
  table.reused.store(0, Order::relaxed);
  expect(static_cast<bool>(sessions.reserve_for_interrupts(4)), "handlers get a reserve");
  run_amid_interrupts(handle_sessions, handle_sessions, work_on_sessions);
  print_line("  sessions: ", table.found.load(Order::relaxed), " found, ",
             table.reused.load(Order::relaxed), " reused meanwhile; at most ",
             sessions.statistics().pages_high_water, " pages, ",
             sessions.zones().parked_frame_bytes() / Sessions::page_bytes, " parked");
  expect(table.found.load(Order::relaxed) != 0, "readers found sessions");
  for (auto& place : table.places) {
    drop_session(place.exchange(nullptr, Order::acq_rel));
  }
  expect(static_cast<bool>(sessions.reserve_for_interrupts(0)), "the reserves are given up");
  expect(sessions.validate() == nullptr, "the cache's invariants hold");
  // Once the readers have left, it waits for nobody.
  expect(sessions.destroy() == 0, "all frames of the cache went back");
}

}  // namespace

void retire_job() {
  KernelMemory<Heap>& memory = make_memory<Heap>(memory_bytes);
  static constinit Room<Retired> room{};
  Retired& retired = room.make(memory.heap);
  state.heap = &memory.heap;
  state.retired = &retired;
  state.turns = machine.command_line.number("operations", 400'000) / cpu_count() + 1;
  state.seed = machine.command_line.number("seed", 1);
  memory.heap.set_deferred_work(Retired::step, &retired);
  memory.heap.set_reclaim(Retired::reclaim, &retired);
  memory.heap.set_limit(memory_bytes / 2);
  expect(static_cast<bool>(memory.heap.reserve_for_interrupts(entry_layout, 4)),
         "handlers get a reserve");
  run_amid_interrupts(handle, handle, work);

  tell(memory);
  for (auto& place : state.places) {
    memory.heap.deallocate(place.exchange(nullptr, Order::acq_rel), entry_layout);
  }
  expect(retired.drain(), "all retired objects are free");
  expect(retired.validate() == nullptr, "the invariants of retired objects hold");
  expect(static_cast<bool>(memory.heap.reserve_for_interrupts(entry_layout, 0)),
         "the reserves are given up");
  memory.heap.set_deferred_work(nullptr, nullptr);
  check_sessions(memory.frames);
  expect_all_is_back(memory);
}

}  // namespace boot
