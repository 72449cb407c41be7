// SPDX-License-Identifier: MIT
//
// The scheduler of fibres, and plain memory. The operations on cells are in cells.cpp.
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

#include "explorer/execution.hpp"
#include "explorer/sites.hpp"

namespace slabmalloc::explorer {

Memory memory;
Search search;
RaceDetector races;
Bounds bounds;
unsigned self = main_fibre;

namespace {

using Access = RaceDetector::Access;

constexpr std::size_t stack_bytes = std::size_t{128} << 10;
constexpr unsigned most_plain_accesses = 200'000;
constexpr unsigned nobody = Search::nobody;

std::byte* const region_memory = [] {
  void* const wanted = reinterpret_cast<void*>(region_address);
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
  bool has_written = false;  ///< A plain write since its last step is a step already.
};

Fibre fibres[most_threads + 1];
Scenario* scenario = nullptr;
bool is_starting = false;
End end = End::Complete;
const char* failure = nullptr;
unsigned plain_accesses = 0;
unsigned event_counter = 0;
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

}  // namespace

[[noreturn]] void leave(End how) noexcept {
  end = how;
  self = main_fibre;
  _longjmp(fibres[main_fibre].point, 1);
}

[[noreturn]] void fail(const char* what) noexcept {
  failure = what;
  leave(End::Failed);
}

namespace {

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

}  // namespace

void come_to(const Step& step) noexcept {
  fibres[self].step = step;
  fibres[self].has_written = step.kind == Step::Kind::PlainWrite;
  dispatch();
}

void note(std::size_t site, const void* cell, std::uint64_t value) noexcept {
  if (trace_length < std::size(trace)) {
    trace[trace_length++] = {static_cast<std::uint8_t>(self), static_cast<std::uint16_t>(site),
                             cell != nullptr ? offset_of(cell) : 0, value};
  }
}

namespace {

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
  memory.reset();
  search.begin_execution();
  begin_cells();
  races.begin_execution();
  plain_accesses = event_counter = trace_length = 0;
  failure = nullptr;
  end = End::Complete;
  for (unsigned thread = 0; thread < scenario->threads(); ++thread) {
    Fibre& fibre = fibres[thread];
    fibre.step = {};
    fibre.is_over = false;
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
  forget_sharing();
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
    forget_cell(offset);
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

}  // namespace slabmalloc::explorer
