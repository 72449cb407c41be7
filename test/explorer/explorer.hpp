// SPDX-License-Identifier: MIT
//
// Explorer: runs the library's own code under the interleavings and stale reads that C++20 allows,
// within bounds.
//
//   struct Frees : explorer::Scenario { … };
//   const explorer::Outcome outcome = explorer::explore(scenario, {});
//   outcome.failure                       // null, or what went wrong in one execution
//
// A scenario has up to four threads. Each is a fibre of the one real thread. The code under test
// uses ExploredAtomics (explored_atomics.hpp). Each operation on a cell that two threads use, and
// one writes, is a step. The explorer chooses which thread takes the next step, and which store a
// load reads. It runs the scenario again from its start for each choice, until all are done.
//
// The memory model. The stores to a cell are in the order in which they execute. A load may read
// any of them that is not older than one it knows. A thread knows what it read and wrote itself,
// and by an acquire what the releasing thread knew. A read-modify-write reads the latest store, and
// continues the release sequence of that store. This is C++20 without three things: a load never
// reads a store that executes later (no load buffering), two threads' stores to one cell never take
// the opposite order of their execution (no 2+2W), and a compare-exchange never fails if the values
// are equal. fence_all() is the system's fence on all processors: what every thread did before
// happens before all that comes after.
//
// Plain memory. The scenarios are compiled with the compiler's instrumentation for data races. So
// each plain access to the region reports itself (instrumentation.cpp). Two that conflict, and of
// which none happens before the other, fail the execution, as does an access to memory that was
// given back.
//
// The search leaves out interleavings that only swap independent steps, by dynamic partial-order
// reduction with source sets and sleep sets (Abdulla, Aronis, Jonsson, Sagonas, "Optimal Dynamic
// Partial Order Reduction", POPL 2014). A load may miss a store only if that store is in its past;
// else the execution in which the load comes first is the same one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "slabmalloc/base/atomics.hpp"

namespace slabmalloc::explorer {

inline constexpr unsigned most_threads = 4;
inline constexpr unsigned most_locations = 96;  ///< Cells that threads share, in one execution.
inline constexpr unsigned most_stores = 48;     ///< Of one location.
/// The memory that is explored: a scenario puts everything there that its threads share.
inline constexpr std::size_t region_bytes = std::size_t{16} << 10;

/// The place of an operation in the source.
struct Place {
  const char* file;
  const char* function;
  int line;

  static constexpr Place here(const char* file = __builtin_FILE(),
                              const char* function = __builtin_FUNCTION(),
                              int line = __builtin_LINE()) noexcept {
    return {file, function, line};
  }
};

enum class Operation : std::uint8_t {
  Load,
  Store,
  Toggle,
  Exchange,
  CompareExchange,
  FetchAdd,
  FetchSub,
  FetchOr,
  Fence,
};
const char* describe(Operation operation) noexcept;
const char* describe(Order order) noexcept;

/// An operation in the source of the code under test.
struct Site {
  std::string file;  ///< From include/ or src/ on; empty for code of the tests.
  std::string function;
  int line = 0;
  Operation operation = Operation::Load;
  Order order = Order::relaxed;
  bool is_confirmed = false;  ///< A load whose value a compare-exchange tested next.
  bool is_shared = false;     ///< One thread wrote here what another one read, or the reverse.
};
/// All sites so far. Their numbers, the places in this list, do not change.
const std::vector<Site>& sites() noexcept;

/// The ways to break a site.
enum class Mutation : std::uint8_t {
  None,
  NoAcquire,  ///< The order without its acquire.
  NoRelease,  ///< The order without its release.
  Omit,       ///< The operation is not done. One that returns a value returns the cell's.
  Blind,      ///< A load returns 0.
  Split,      ///< A read-modify-write is a load and a store.
};
const char* describe(Mutation mutation) noexcept;

/// Breaks site number `site` from now on; Mutation::None restores all.
void mutate(std::size_t site, Mutation mutation) noexcept;

/// Threads, and what they share.
class Scenario {
 public:
  constexpr Scenario(const char* name, unsigned threads) noexcept
      : name_(name), threads_(threads) {}
  Scenario(const Scenario&) = delete;
  Scenario& operator=(const Scenario&) = delete;
  virtual ~Scenario() = default;

  const char* name() const noexcept { return name_; }
  unsigned threads() const noexcept { return threads_; }

  /// Makes the state at the start, in region(). Called once; its bytes are copied for each
  /// execution.
  virtual void set_up() = 0;
  /// What thread `thread` does.
  virtual void run(unsigned thread) = 0;
  /// True if plain writes are steps too: fence_all() may come before one and after the operation
  /// before it.
  virtual bool steps_at_plain_writes() const noexcept { return false; }
  /// Looks at the state at the end of all threads.
  virtual void check() {}

 private:
  const char* name_;
  unsigned threads_;
};

/// Bounds of a search.
struct Bounds {
  std::size_t executions = std::size_t{1} << 40;
  unsigned stale_reads = 4;  ///< Loads in one execution that do not read the latest store.
  bool is_reduced = true;    ///< Leaves out executions that are like others.
};

struct Outcome {
  const char* failure = nullptr;  ///< Of the last execution; null if all were sound.
  std::size_t executions = 0;
  bool is_complete = false;  ///< All executions within the bound on stale reads were run.
  std::string trace;         ///< The steps of the execution that failed.
  std::vector<bool> used;    ///< The sites that threads came to, by number.
};

/// Searches until an execution fails, or there is no other, or the bound is reached.
Outcome explore(Scenario& scenario, const Bounds& bounds);

// ---- for scenarios ------------------------------------------------------------------------------

std::byte* region() noexcept;

/// Fails the execution if `condition` does not hold.
void expect(bool condition, const char* what) noexcept;
/// Waits until another thread writes the cell that this thread looked at last.
void wait_for_change() noexcept;
/// The latest value of a cell, as the system sees it: a step, without an order.
std::uint32_t latest_value(const std::uint32_t* word) noexcept;
/// The system's fence on all processors.
void fence_all(Place where) noexcept;
/// A free choice from 0 to count - 1. The search makes each.
unsigned choose(unsigned count) noexcept;
/// Calls `handler(context)` once before one of the thread's next steps, or not at all: an interrupt
/// on the thread's processor.
void interrupt_once(void (*handler)(void*), void* context) noexcept;
/// Counts events of the execution, such as reports of misuse.
void count_event() noexcept;
unsigned events() noexcept;

/// From now on nobody may touch `bytes` at `start`, until take(). All accesses so far must happen
/// before. Then the contents are lost.
void give_back(const void* start, std::size_t bytes) noexcept;
void take(const void* start, std::size_t bytes) noexcept;

/// A plain access. Instrumented code calls it by itself.
void plain_access(const void* start, std::size_t bytes, bool is_write) noexcept;

// ---- for ExploredAtomics ------------------------------------------------------------------------

std::uint64_t load(const void* cell, std::size_t bytes, Order order, Place where) noexcept;
void store(void* cell, std::size_t bytes, std::uint64_t value, Order order, Place where) noexcept;
void toggle(void* cell, std::size_t bytes, std::uint64_t mask, Place where) noexcept;
/// Any read-modify-write but a compare-exchange; returns the value before.
std::uint64_t update(Operation operation, void* cell, std::size_t bytes, std::uint64_t operand,
                     Order order, Place where) noexcept;
bool compare_exchange(void* cell, std::size_t bytes, std::uint64_t& expected, std::uint64_t desired,
                      Order order, Place where) noexcept;

}  // namespace slabmalloc::explorer
