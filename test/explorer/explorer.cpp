// SPDX-License-Identifier: MIT
//
// The scheduler of fibres, and the operations on cells.
#undef _FORTIFY_SOURCE  // Its longjmp refuses to change stacks.

#include "explorer/explorer.hpp"

#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <utility>

#include "explorer/memory.hpp"
#include "explorer/race_detector.hpp"
#include "explorer/search.hpp"
#include "explorer/sites.hpp"

namespace slabmalloc::explorer {

namespace {

using Access = RaceDetector::Access;

constexpr std::size_t stack_bytes = std::size_t{128} << 10;
constexpr unsigned most_plain_accesses = 200'000;
constexpr unsigned nobody = Search::nobody;
constexpr unsigned no_location = ~0u;

/// The same address in each run: the library hashes addresses.
std::byte* const region_memory = [] {
  void* const wanted = reinterpret_cast<void*>(std::uintptr_t{0x2000'0000'0000});
  void* const memory_there = mmap(wanted, region_bytes, PROT_READ | PROT_WRITE,
                                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  if (memory_there != wanted) {
    std::fprintf(stderr, "The explorer needs the memory at %p, which is not to be had.\n", wanted);
    std::abort();
  }
  return static_cast<std::byte*>(memory_there);
}();
std::byte region_at_start[region_bytes];

/// A thread of the scenario, or the explorer's own (the last).
struct Fibre {
  jmp_buf start;
  jmp_buf point;
  jmp_buf* resume = nullptr;  ///< Null: it has not run yet.
  ucontext_t context;
  alignas(64) std::byte stack[stack_bytes];

  Step step;
  bool is_at_step = false;
  bool is_over = false;
  bool has_written = false;    ///< A plain write since its last step is a step already.
  unsigned last_location = 0;  ///< The latest one that it looked at, and the store it found.
  unsigned last_store = 0;
  std::size_t last_load_site = 0;  ///< Of the latest load, at last_location.
  const void* last_private_cell = nullptr;
  void (*handler)(void*) = nullptr;
  void* handler_context = nullptr;
};

/// How an execution ended.
enum class End : std::uint8_t { Complete, Failed, Known, Restart };

/// What the threads of this search did with a byte of the region.
struct Sharing {
  std::uint8_t threads = 0;
  bool is_written = false;
  bool is_shared = false;  ///< By two threads, and written: operations are steps.
};

Memory memory;
Search search;
RaceDetector races;
Fibre fibres[most_threads + 1];
constexpr unsigned main_fibre = most_threads;
unsigned self = main_fibre;
Scenario* scenario = nullptr;
Bounds bounds;
bool is_starting = false;
End end = End::Complete;
const char* failure = nullptr;
unsigned stale_reads = 0;
unsigned plain_accesses = 0;
unsigned event_counter = 0;
Sharing sharing[region_bytes];

/// The location of the cell at each offset.
struct KnownCell {
  std::uint32_t execution = 0;
  std::uint16_t location = 0;
};
KnownCell cells[region_bytes];
std::uint32_t execution = 0;

/// The operation that made each store but the first.
struct Writer {
  std::uint8_t thread = 0;
  std::uint16_t site = 0;
};
Writer writers[most_locations][most_stores];

/// The steps of the execution, for the trace of a failure.
struct TraceEntry {
  std::uint8_t thread;
  std::uint16_t site;
  std::uint32_t offset;
  std::uint64_t value;
};
TraceEntry trace[Search::most_events];
unsigned trace_length = 0;

// ---- fibres -------------------------------------------------------------------------------------

void dispatch() noexcept;

/// Runs on the fibre's own stack, for all executions. A new execution begins at `start`.
void fibre_main() {
  (void)_setjmp(fibres[self].start);
  scenario->run(self);
  fibres[self].is_over = true;
  dispatch();
  std::abort();
}

void switch_to(unsigned next) noexcept {
  const unsigned from = self;
  if (_setjmp(fibres[from].point) == 0) {
    fibres[from].resume = &fibres[from].point;
    self = next;
    if (fibres[next].resume == nullptr) {
      setcontext(&fibres[next].context);
    }
    _longjmp(*fibres[next].resume, 1);
  }
}

[[noreturn]] void leave(End how) noexcept {
  end = how;
  self = main_fibre;
  _longjmp(fibres[main_fibre].point, 1);
}

[[noreturn]] void fail(const char* what) noexcept {
  failure = what;
  leave(End::Failed);
}

ThreadSet threads_that_can_go() noexcept {
  ThreadSet result = 0;
  for (unsigned thread = 0; thread < scenario->threads(); ++thread) {
    const Fibre& fibre = fibres[thread];
    if (!fibre.is_over && (fibre.step.waits_for == Step::no_store ||
                           memory.store_count(fibre.step.location) > fibre.step.waits_for)) {
      result = static_cast<ThreadSet>(result | set_of(thread));
    }
  }
  return result;
}

/// Lets the thread of the next step run.
void dispatch() noexcept {
  if (is_starting) {
    switch_to(main_fibre);
    return;
  }
  const ThreadSet ready = threads_that_can_go();
  if (ready == 0) {
    for (unsigned thread = 0; thread < scenario->threads(); ++thread) {
      if (!fibres[thread].is_over) {
        fail("deadlock");
      }
    }
    leave(End::Complete);
  }
  if (search.is_full()) {
    fail("an execution without end");
  }
  Step steps[most_threads];
  for (unsigned thread = 0; thread < most_threads; ++thread) {
    steps[thread] = fibres[thread].step;
  }
  const unsigned next = search.choose_thread(ready, steps, self);
  if (next == nobody) {
    leave(End::Known);
  }
  if (next != self) {
    switch_to(next);
  }
}

/// Returns when the calling thread may take `step`.
void come_to(const Step& step) noexcept {
  fibres[self].step = step;
  fibres[self].has_written = step.kind == Step::Kind::PlainWrite;
  dispatch();
}

/// Calls the handler of an interrupt that may come now.
void may_be_interrupted() noexcept {
  Fibre& fibre = fibres[self];
  if (fibre.handler != nullptr && search.choose(2) == 1) {
    std::exchange(fibre.handler, nullptr)(fibre.handler_context);
  }
}

// ---- cells --------------------------------------------------------------------------------------

bool is_explored(const void* address) noexcept {
  const auto* const byte = static_cast<const std::byte*>(address);
  return self != main_fibre && byte >= region_memory && byte < region_memory + region_bytes;
}
unsigned offset_of(const void* address) noexcept {
  return static_cast<unsigned>(static_cast<const std::byte*>(address) - region_memory);
}

std::uint64_t read_memory(const void* cell, std::size_t bytes) noexcept {
  std::uint64_t value = 0;
  std::memcpy(&value, cell, bytes);
  return value;
}
void write_memory(void* cell, std::size_t bytes, std::uint64_t value) noexcept {
  std::memcpy(cell, &value, bytes);
}

/// The location of a cell, or no_location if no other thread uses it, or all only read it.
unsigned touch(const void* cell, std::size_t bytes, bool is_write) noexcept {
  const unsigned offset = offset_of(cell);
  if (const char* const race = races.access(offset, Access::Atomic, self, memory.clock(self))) {
    fail(race);
  }
  Sharing& one = sharing[offset];
  one.threads = static_cast<std::uint8_t>(one.threads | set_of(self));
  one.is_written = one.is_written || is_write;
  if (!one.is_shared) {
    if ((one.threads & (one.threads - 1)) == 0 || !one.is_written) {
      fibres[self].last_private_cell = cell;
      return no_location;
    }
    one.is_shared = true;
    leave(End::Restart);
  }
  fibres[self].last_private_cell = nullptr;
  KnownCell& known = cells[offset];
  if (known.execution != execution) {
    if (memory.location_count() == most_locations) {
      fail("more locations than there is room for");
    }
    known.execution = execution;
    known.location = static_cast<std::uint16_t>(memory.add(read_memory(cell, bytes)));
    search.begin_location(known.location);
  }
  return known.location;
}

void note(std::size_t site, const void* cell, std::uint64_t value) noexcept {
  if (trace_length < std::size(trace)) {
    trace[trace_length++] = {static_cast<std::uint8_t>(self), static_cast<std::uint16_t>(site),
                             cell != nullptr ? offset_of(cell) : 0, value};
  }
}

/// The thread looks at a store: it may be another thread's.
void look_at(unsigned location, unsigned store, std::size_t site) noexcept {
  fibres[self].last_location = location;
  fibres[self].last_store = store;
  const Writer& writer = writers[location][store];
  if (store != 0 && writer.thread != self) {
    note_shared(site);
    note_shared(writer.site);
  }
}

std::uint64_t load_shared(const void* cell, unsigned location, Order order,
                          std::size_t site) noexcept {
  come_to({Step::Kind::Read, location, Step::no_store});
  const unsigned latest = memory.store_count(location) - 1;
  unsigned choices = 1;
  if (stale_reads < bounds.stale_reads) {
    // It may miss a store that is in its past. A store that is not was missed in an execution in
    // which this load comes first.
    const unsigned oldest = memory.oldest(self, location);
    while (choices <= latest - oldest && search.was_in_past(location, latest - choices + 1)) {
      ++choices;
    }
  }
  const unsigned missed = choices > 1 ? search.choose(choices) : 0;
  stale_reads += missed != 0 ? 1 : 0;
  const unsigned found = latest - missed;
  memory.read(self, location, found, order);
  look_at(location, found, site);
  fibres[self].last_load_site = site;
  const std::uint64_t value = memory.value(location, found);
  note(site, cell, value);
  return value;
}

void write_shared(void* cell, std::size_t bytes, unsigned location, std::uint64_t value,
                  Order order, bool is_update, std::size_t site) noexcept {
  if (!memory.has_room(location)) {
    fail("an execution without end");
  }
  search.note_store(location, memory.store_count(location));
  writers[location][memory.store_count(location)] = {static_cast<std::uint8_t>(self),
                                                     static_cast<std::uint16_t>(site)};
  memory.write(self, location, value, order, is_update);
  write_memory(cell, bytes, value);
  note(site, cell, value);
}

std::uint64_t truncated(std::uint64_t value, std::size_t bytes) noexcept {
  return bytes == 8 ? value : value & ((std::uint64_t{1} << (bytes * 8)) - 1);
}

std::uint64_t result_of(Operation operation, std::uint64_t before, std::uint64_t operand,
                        std::size_t bytes) noexcept {
  switch (operation) {
    case Operation::FetchAdd:
      return truncated(before + operand, bytes);
    case Operation::FetchSub:
      return truncated(before - operand, bytes);
    case Operation::FetchOr:
      return before | operand;
    default:
      return operand;
  }
}

/// The value of the latest store; the second half of the operation must follow at once.
std::uint64_t begin_update(unsigned location, Order order, std::size_t site) noexcept {
  come_to({Step::Kind::Write, location, Step::no_store});
  const unsigned latest = memory.store_count(location) - 1;
  memory.read(self, location, latest, order);
  look_at(location, latest, site);
  return memory.value(location, latest);
}

// ---- an execution -------------------------------------------------------------------------------

/// Each thread comes to its first step. False if one did not.
bool start_threads() noexcept {
  is_starting = true;
  for (unsigned thread = 0; thread < scenario->threads() && end == End::Complete; ++thread) {
    switch_to(thread);
  }
  is_starting = false;
  return end == End::Complete;
}

void run_once() noexcept {
  std::memcpy(region_memory, region_at_start, region_bytes);
  ++execution;
  memory.reset();
  search.begin_execution();
  races.begin_execution();
  stale_reads = plain_accesses = event_counter = trace_length = 0;
  failure = nullptr;
  end = End::Complete;
  for (unsigned thread = 0; thread < scenario->threads(); ++thread) {
    Fibre& fibre = fibres[thread];
    fibre.step = {};
    fibre.is_over = false;
    fibre.handler = nullptr;
    fibre.last_private_cell = nullptr;
    fibre.last_location = no_location;
    if (fibre.resume != nullptr) {
      fibre.resume = &fibre.start;
    }
  }
  if (!start_threads()) {
    return;
  }
  if (_setjmp(fibres[main_fibre].point) == 0) {
    fibres[main_fibre].resume = &fibres[main_fibre].point;
    dispatch();
  }
  if (end == End::Complete) {
    self = main_fibre;
    if (_setjmp(fibres[main_fibre].point) == 0) {
      scenario->check();
    }
  }
}

void on_crash(int) {
  if (scenario == nullptr) {
    std::abort();
  }
  failure = "the code under test crashed";
  leave(End::Failed);
}

/// A broken library may crash: that is a failed execution.
class CrashGuard {
 public:
  CrashGuard() noexcept {
    stack_t stack{};
    stack.ss_sp = alternate_;
    stack.ss_size = sizeof(alternate_);
    sigaltstack(&stack, nullptr);
    struct sigaction action{};
    action.sa_handler = on_crash;
    action.sa_flags = SA_ONSTACK | SA_NODEFER;
    for (std::size_t index = 0; index < std::size(signals); ++index) {
      sigaction(signals[index], &action, &before_[index]);
    }
  }
  ~CrashGuard() {
    for (std::size_t index = 0; index < std::size(signals); ++index) {
      sigaction(signals[index], &before_[index], nullptr);
    }
  }
  CrashGuard(const CrashGuard&) = delete;
  CrashGuard& operator=(const CrashGuard&) = delete;

 private:
  static constexpr int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE};
  static inline std::byte alternate_[std::size_t{64} << 10];
  struct sigaction before_[std::size(signals)];
};

void prepare_fibres() noexcept {
  for (unsigned thread = 0; thread < most_threads; ++thread) {
    Fibre& fibre = fibres[thread];
    if (fibre.context.uc_stack.ss_sp == nullptr) {
      getcontext(&fibre.context);
      fibre.context.uc_stack.ss_sp = fibre.stack;
      fibre.context.uc_stack.ss_size = stack_bytes;
      fibre.context.uc_link = nullptr;
      makecontext(&fibre.context, fibre_main, 0);
    }
  }
}

std::string print_trace() {
  std::string text;
  for (unsigned index = 0; index < trace_length; ++index) {
    const TraceEntry& entry = trace[index];
    const Site& site = sites()[entry.site];
    text += "thread " + std::to_string(entry.thread) + "  " + describe(site.operation) + " " +
            describe(site.order) + " at " + std::to_string(entry.offset) + ": " +
            std::to_string(entry.value) + "  " + site.function + " " + site.file + ":" +
            std::to_string(site.line) + "\n";
  }
  return text;
}

}  // namespace

// ---- the search ---------------------------------------------------------------------------------

Outcome explore(Scenario& one, const Bounds& limits) {
  const CrashGuard guard;
  Outcome outcome;
  prepare_fibres();
  std::memset(region_memory, 0, region_bytes);
  std::memset(static_cast<void*>(sharing), 0, sizeof(sharing));
  bounds = limits;
  self = main_fibre;
  one.set_up();
  std::memcpy(region_at_start, region_memory, region_bytes);
  scenario = &one;
  search.restart(limits.is_reduced);
  forget_used_sites();
  for (;;) {
    run_once();
    if (end == End::Restart) {
      search.restart(limits.is_reduced);
      continue;
    }
    outcome.executions += end != End::Known ? 1 : 0;
    if (end == End::Failed) {
      outcome.failure = failure;
      outcome.trace = print_trace();
      break;
    }
    if (!search.advance()) {
      outcome.is_complete = true;
      break;
    }
    if (outcome.executions >= limits.executions) {
      break;
    }
  }
  scenario = nullptr;
  self = main_fibre;
  outcome.used = used_sites();
  return outcome;
}

std::byte* region() noexcept { return region_memory; }

// ---- for scenarios ------------------------------------------------------------------------------

void expect(bool condition, const char* what) noexcept {
  if (!condition) {
    fail(what);
  }
}

void wait_for_change() noexcept {
  Fibre& fibre = fibres[self];
  if (fibre.last_private_cell != nullptr) {
    // Another thread is going to write it.
    sharing[offset_of(fibre.last_private_cell)].is_shared = true;
    leave(End::Restart);
  }
  const unsigned awaited = fibre.last_store + 1;
  come_to({Step::Kind::Read, fibre.last_location, awaited});
  memory.forget_older(self, fibre.last_location, awaited);
}

std::uint32_t latest_value(const std::uint32_t* word) noexcept {
  if (is_explored(word)) {
    const unsigned location = touch(word, sizeof(*word), false);
    if (location != no_location) {
      come_to({Step::Kind::Read, location, Step::no_store});
    }
  }
  return static_cast<std::uint32_t>(read_memory(word, sizeof(*word)));
}

void fence_all(Place where) noexcept {
  const std::size_t site = site_of(Operation::Fence, Order::acq_rel, where);
  if (self == main_fibre || is_mutated(site, Mutation::Omit)) {
    return;
  }
  note_shared(site);
  come_to({Step::Kind::Fence, 0, Step::no_store});
  memory.fence_all();
  note(site, nullptr, 0);
}

unsigned choose(unsigned count) noexcept { return search.choose(count); }

void interrupt_once(void (*handler)(void*), void* context) noexcept {
  fibres[self].handler = handler;
  fibres[self].handler_context = context;
}

void count_event() noexcept { ++event_counter; }
unsigned events() noexcept { return event_counter; }

void give_back(const void* start, std::size_t bytes) noexcept {
  if (self == main_fibre) {
    return;
  }
  for (unsigned offset = offset_of(start); offset < offset_of(start) + bytes; ++offset) {
    if (const char* race = races.access(offset, Access::Write, self, memory.clock(self))) {
      fail(race);
    }
    races.set_given_back(offset, true);
  }
}
void take(const void* start, std::size_t bytes) noexcept {
  if (self == main_fibre) {
    return;
  }
  for (unsigned offset = offset_of(start); offset < offset_of(start) + bytes; ++offset) {
    races.set_given_back(offset, false);
    cells[offset].execution = 0;
    region_memory[offset] = std::byte{0xA5};
    if (const char* race = races.access(offset, Access::Write, self, memory.clock(self))) {
      fail(race);
    }
  }
}

void plain_access(const void* start, std::size_t bytes, bool is_write) noexcept {
  // The last check may loop too.
  if (scenario != nullptr && ++plain_accesses > most_plain_accesses) {
    fail("an execution without end");
  }
  if (!is_explored(start)) {
    return;
  }
  if (is_write && scenario->steps_at_plain_writes() && !fibres[self].has_written) {
    come_to({Step::Kind::PlainWrite, 0, Step::no_store});
  }
  const unsigned first = offset_of(start);
  for (unsigned offset = first; offset < first + bytes && offset < region_bytes; ++offset) {
    if (const char* race = races.access(offset, is_write ? Access::Write : Access::Read, self,
                                        memory.clock(self))) {
      fail(race);
    }
  }
}

// ---- for ExploredAtomics ------------------------------------------------------------------------

std::uint64_t load(const void* cell, std::size_t bytes, Order order, Place where) noexcept {
  if (!is_explored(cell)) {
    return read_memory(cell, bytes);
  }
  may_be_interrupted();
  const std::size_t site = site_of(Operation::Load, order, where);
  const unsigned location = touch(cell, bytes, false);
  if (is_mutated(site, Mutation::Blind)) {
    return 0;
  }
  return location == no_location ? read_memory(cell, bytes)
                                 : load_shared(cell, location, mutated(site, order), site);
}

void store(void* cell, std::size_t bytes, std::uint64_t value, Order order, Place where) noexcept {
  if (!is_explored(cell)) {
    write_memory(cell, bytes, value);
    return;
  }
  may_be_interrupted();
  const std::size_t site = site_of(Operation::Store, order, where);
  const unsigned location = touch(cell, bytes, true);
  if (is_mutated(site, Mutation::Omit)) {
    return;
  }
  if (location == no_location) {
    write_memory(cell, bytes, value);
    return;
  }
  come_to({Step::Kind::Write, location, Step::no_store});
  write_shared(cell, bytes, location, value, mutated(site, order), false, site);
}

void toggle(void* cell, std::size_t bytes, std::uint64_t mask, Place where) noexcept {
  if (!is_explored(cell)) {
    write_memory(cell, bytes, read_memory(cell, bytes) ^ mask);
    return;
  }
  may_be_interrupted();
  const std::size_t site = site_of(Operation::Toggle, Order::relaxed, where);
  const unsigned location = touch(cell, bytes, true);
  if (is_mutated(site, Mutation::Omit)) {
    return;
  }
  // The cell has one writer, which reads what it wrote.
  const std::uint64_t value = read_memory(cell, bytes) ^ mask;
  if (location == no_location) {
    write_memory(cell, bytes, value);
    return;
  }
  come_to({Step::Kind::Write, location, Step::no_store});
  write_shared(cell, bytes, location, value, Order::relaxed, false, site);
}

std::uint64_t update(Operation operation, void* cell, std::size_t bytes, std::uint64_t operand,
                     Order order, Place where) noexcept {
  if (!is_explored(cell)) {
    const std::uint64_t before = read_memory(cell, bytes);
    write_memory(cell, bytes, result_of(operation, before, operand, bytes));
    return before;
  }
  may_be_interrupted();
  const std::size_t site = site_of(operation, order, where);
  const unsigned location = touch(cell, bytes, true);
  if (location == no_location) {
    const std::uint64_t before = read_memory(cell, bytes);
    if (!is_mutated(site, Mutation::Omit)) {
      write_memory(cell, bytes, result_of(operation, before, operand, bytes));
    }
    return before;
  }
  const Order effective = mutated(site, order);
  if (is_mutated(site, Mutation::Omit)) {
    return load_shared(cell, location, effective, site);
  }
  if (is_mutated(site, Mutation::Split)) {
    const std::uint64_t before = load_shared(cell, location, effective, site);
    come_to({Step::Kind::Write, location, Step::no_store});
    write_shared(cell, bytes, location, result_of(operation, before, operand, bytes), effective,
                 false, site);
    return before;
  }
  const std::uint64_t before = begin_update(location, effective, site);
  write_shared(cell, bytes, location, result_of(operation, before, operand, bytes), effective, true,
               site);
  return before;
}

bool compare_exchange(void* cell, std::size_t bytes, std::uint64_t& expected, std::uint64_t desired,
                      Order order, Place where) noexcept {
  if (!is_explored(cell)) {
    const std::uint64_t before = read_memory(cell, bytes);
    const bool is_equal = before == expected;
    if (is_equal) {
      write_memory(cell, bytes, desired);
    }
    expected = before;
    return is_equal;
  }
  may_be_interrupted();
  const std::size_t site = site_of(Operation::CompareExchange, order, where);
  const unsigned location = touch(cell, bytes, true);
  const Order effective = mutated(site, order);
  const bool is_omitted = is_mutated(site, Mutation::Omit);
  const bool is_split = is_mutated(site, Mutation::Split);
  std::uint64_t before = 0;
  if (location == no_location) {
    before = read_memory(cell, bytes);
  } else if (is_omitted || is_split) {
    before = load_shared(cell, location, effective, site);
  } else {
    if (fibres[self].last_location == location) {
      note_confirmed(fibres[self].last_load_site);
    }
    // A failed one is relaxed.
    come_to({Step::Kind::Write, location, Step::no_store});
    const unsigned latest = memory.store_count(location) - 1;
    before = memory.value(location, latest);
    memory.read(self, location, latest, before == expected ? effective : Order::relaxed);
    look_at(location, latest, site);
  }
  const bool is_equal = before == expected;
  expected = before;
  if (!is_equal || is_omitted) {
    if (location != no_location) {
      note(site, cell, before);
    }
    return is_equal;
  }
  if (location == no_location) {
    write_memory(cell, bytes, desired);
    return true;
  }
  if (is_split) {
    come_to({Step::Kind::Write, location, Step::no_store});
  }
  write_shared(cell, bytes, location, desired, effective, !is_split, site);
  return true;
}

}  // namespace slabmalloc::explorer
