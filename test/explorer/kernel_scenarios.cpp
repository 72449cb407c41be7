// SPDX-License-Identifier: MIT
//
// Scenarios of the kernel services' shared parts. Threads are CPUs and their handlers.
#include <new>

#include "explorer/cpu_hooks.hpp"
#include "explorer/scenarios.hpp"
#include "explorer/tiny_pages.hpp"
#include "slabmalloc/kernel/cpu_parts.hpp"
#include "slabmalloc/kernel/deferred_runs.hpp"
#include "slabmalloc/kernel/frame_cache.hpp"
#include "slabmalloc/kernel/memory_waiters.hpp"
#include "slabmalloc/kernel/object_reserve.hpp"
#include "slabmalloc/kernel/part_owner.hpp"
#include "slabmalloc/kernel/spin_lock.hpp"

namespace slabmalloc::explorer {

namespace {

struct Hooks : CpuHooks<most_threads> {
  static void relax() noexcept { wait_for_change(); }
};

// ---- SpinLock -----------------------------------------------------------------------------------

struct Guarded {
  SpinLock<Hooks, ExploredAtomics> lock;
  unsigned count = 0;
};

class SpinLocks : public StateScenario<Guarded> {
 public:
  SpinLocks() : StateScenario("three CPUs take a spin lock", 3) {}

  void set_up() override { make_state(); }
  void run(unsigned) override {
    const SpinLock<Hooks, ExploredAtomics>::Guard guard(state().lock);
    ++state().count;
  }
  void check() override { expect(state().count == 3, "two CPUs held a lock together"); }
};

// ---- DeferredRuns -------------------------------------------------------------------------------

struct RunList {
  Passed passed;
  static constexpr unsigned count = 3;
  static constexpr std::size_t run_bytes = 64;

  DeferredRuns<Hooks, ExploredAtomics> runs;
  alignas(64) std::byte memory[count][run_bytes];

  static Layout layout() noexcept { return Layout::from_size_align(run_bytes, 16).value_or({}); }

  /// The last write of a run's client, then its free.
  bool push(unsigned number) noexcept {
    memory[number][run_bytes - 1] = std::byte{1};
    return runs.push(memory[number], layout());
  }
  /// Pops a run, which the caller owns from then on; false if there is none.
  bool pop() noexcept {
    const auto run = runs.pop();
    if (run.address == nullptr) {
      return false;
    }
    auto* const bytes = static_cast<std::byte*>(run.address);
    expect(run.layout == layout(), "a run goes back with another size");
    expect(bytes[run_bytes - 1] == std::byte{1}, "a run was popped twice");
    bytes[run_bytes - 1] = std::byte{2};
    count_event();
    return true;
  }
  void expect_popped(unsigned expected) noexcept {
    expect(runs.validate() == nullptr, "K4");
    while (pop()) {
    }
    expect(events() == expected, "a run was lost");
    expect(runs.bytes() == 0, "bytes of waiting runs");
  }
};

class Runs : public StateScenario<RunList> {
 public:
  Runs() : StateScenario("handlers push runs that CPUs pop", 4) {}

  void set_up() override {
    RunList& list = make_state();
    for (auto& run : list.memory) {
      DeferredRuns<Hooks, ExploredAtomics>::begin(run);
    }
    list.push(2);
  }
  void run(unsigned thread) override {
    RunList& list = state();
    if (thread < 2) {
      expect(list.push(thread), "a sound free was refused");
    } else {
      list.pop();
    }
  }
  void check() override { state().expect_popped(3); }
};

/// A push that happens before a pop is found by it.
class RunBefore : public StateScenario<RunList> {
 public:
  RunBefore() : StateScenario("a CPU pops a run of which it was told", 2) {}

  void set_up() override {
    RunList& list = make_state();
    DeferredRuns<Hooks, ExploredAtomics>::begin(list.memory[0]);
  }
  void run(unsigned thread) override {
    RunList& list = state();
    if (thread == 0) {
      list.push(0);
      list.passed.pass(0, &list);
    } else {
      list.passed.receive(0);
      expect(!list.runs.is_empty() && list.pop(), "a push that happened before was not found");
    }
  }
  void check() override { state().expect_popped(1); }
};

/// A run is popped and pushed again while another caller pops (ABA).
class RunsAgain : public StateScenario<RunList> {
 public:
  RunsAgain() : StateScenario("a run is popped and pushed again while another CPU pops", 2) {}

  void set_up() override {
    RunList& list = make_state();
    for (auto& run : list.memory) {
      DeferredRuns<Hooks, ExploredAtomics>::begin(run);
    }
    list.push(0);
    list.push(1);
  }
  void run(unsigned thread) override {
    RunList& list = state();
    if (thread == 0) {
      list.pop();
      return;
    }
    const auto first = list.runs.pop();
    kept_ = list.runs.pop().address != nullptr ? 1 : 0;
    if (first.address != nullptr) {
      list.runs.push(first.address, RunList::layout());
    }
  }
  void check() override {
    RunList& list = state();
    unsigned left = 0;
    while (list.runs.pop().address != nullptr) {
      ++left;
    }
    expect(left + events() + kept_ == 2, "a run was lost, or popped twice");
    expect(list.runs.bytes() == 0, "bytes of waiting runs");
  }

 private:
  unsigned kept_ = 0;  ///< Runs that thread 1 kept.
};

/// The same run is freed twice.
class DoubleRun : public StateScenario<RunList> {
 public:
  DoubleRun() : StateScenario("two CPUs free the same run", 2) {}

  void set_up() override {
    RunList& list = make_state();
    DeferredRuns<Hooks, ExploredAtomics>::begin(list.memory[0]);
    list.memory[0][RunList::run_bytes - 1] = std::byte{1};
  }
  void run(unsigned thread) override {
    was_taken_[thread] = state().runs.push(state().memory[0], RunList::layout());
  }
  void check() override {
    expect(was_taken_[0] != was_taken_[1], "one of two frees of a run is refused");
    state().expect_popped(1);
  }

 private:
  bool was_taken_[2] = {};
};

// ---- ObjectReserve ------------------------------------------------------------------------------

struct Reserve {
  Passed passed;
  static constexpr unsigned count = 5;

  ObjectReserve<ExploredAtomics, 2, 2> reserve;
  Object objects[count] = {};
  unsigned next = 0;  ///< Of the CPU that adjusts.

  void* get() noexcept {
    if (next == count) {
      return nullptr;
    }
    Object* const object = &objects[next++];
    *object = dead;
    return object;
  }
  void give(void* object) noexcept {
    expect(*static_cast<Object*>(object) == dead, "an object is in the reserve and in use");
    *static_cast<Object*>(object) = live;
  }
  bool take() noexcept {
    void* const object = reserve.take(0);
    if (object != nullptr) {
      begin_use(object);
    }
    return object != nullptr;
  }
  void adjust() noexcept {
    reserve.adjust_one([this](std::uint32_t) { return get(); },
                       [this](std::uint32_t, void* object) { give(object); });
  }
};

class Reserves : public StateScenario<Reserve> {
 public:
  Reserves(const char* name, unsigned wanted_later)
      : StateScenario(name, 3), later_(wanted_later) {}

  void set_up() override {
    Reserve& state = make_state();
    state.reserve.want(0, 2);
    state.adjust();
  }
  void run(unsigned thread) override {
    Reserve& one = state();
    if (thread == 0) {
      one.adjust();
      one.adjust();
    } else {
      if (thread == 2 && later_ != 2) {
        one.reserve.want(0, later_);
      }
      one.take();
    }
  }
  void check() override {
    Reserve& one = state();
    while (one.reserve.has_work()) {
      one.adjust();
    }
    expect(one.reserve.size(0) == later_, "the reserve lacks an object, and nobody noted it");
  }

 private:
  unsigned later_;
};

/// Each side finds what the other side did before.
class ReserveBefore : public StateScenario<Reserve> {
 public:
  ReserveBefore() : StateScenario("a CPU replaces an object of whose use it was told", 2) {}

  void set_up() override {
    make_state().reserve.want(0, 1);
    state().reserve.want(1, 1);
  }
  void run(unsigned thread) override {
    Reserve& one = state();
    if (thread == 0) {
      one.adjust();
      one.adjust();
      expect(one.reserve.size(1) == 1, "the note of another class was lost");
      one.passed.pass(0, &one);
      one.passed.receive(1);
      expect(one.reserve.has_work(), "a note that happened before was not found");
      one.adjust();
      expect(one.reserve.size(0) == 1, "an object that was taken before was not replaced");
      expect(!one.reserve.has_work(), "a note stays without a reason");
    } else {
      one.passed.receive(0);
      expect(one.take(), "an object that was put before was not found");
      one.passed.pass(1, &one);
    }
  }
};

// ---- FrameCache ---------------------------------------------------------------------------------

using Frames = FrameCache<Hooks, PageKind<TinyPage, 16>>;

struct FrameSet {
  static constexpr unsigned count = 3;

  TinyPage pages[count];
  Frames caches[2];
  ExploredAtomics::Cell<std::uint32_t> least{1};

  /// The user of a frame, from taking it until putting it back.
  static void use(void* frame) noexcept {
    auto* const contents = static_cast<Object*>(frame);
    expect(*contents != live, "a frame has two users");
    *contents = live;
  }
  static void end(void* frame) noexcept { *static_cast<Object*>(frame) = dead; }
};

class CachedFrames : public StateScenario<FrameSet> {
 public:
  CachedFrames() : StateScenario("CPUs put frames into caches and take them", 3) {}

  void set_up() override {
    FrameSet& set = make_state();
    for (unsigned number = 0; number < 2; ++number) {
      void* const frame = &set.pages[number];
      set.caches[number].push(&frame, 1);
    }
  }
  void run(unsigned thread) override {
    FrameSet& set = state();
    void* frame = nullptr;
    if (thread == 0) {
      frame = &set.pages[2];
      FrameSet::end(frame);
      set.caches[0].push(&frame, 1);
      return;
    }
    if (thread == 1) {
      frame = set.caches[0].pop();
    } else if (set.caches[1].move_or_take(set.caches[0], set.least, frame) && frame == nullptr) {
      frame = set.caches[1].take();
    }
    if (frame != nullptr) {
      FrameSet::use(frame);
      FrameSet::end(frame);
      set.caches[thread - 1].push_below(3, frame);
    }
  }
  void check() override {
    FrameSet& set = state();
    unsigned found = 0;
    for (Frames& cache : set.caches) {
      expect(cache.validate() == nullptr, "K3");
      while (void* const frame = cache.pop()) {
        FrameSet::use(frame);
        ++found;
      }
    }
    expect(found == FrameSet::count, "a frame was lost");
  }
};

// ---- PartOwner ----------------------------------------------------------------------------------

/// The part of a CPU, which is thread 0, and its part pointer.
struct IdlePart {
  struct Part {
    PartOwner<ExploredAtomics> owner;
    unsigned uses = 0;
  };
  struct PartPointer {
    ExploredAtomics::Cell<Part*>* cell;
    Part* load() const noexcept { return cell->load(Order::relaxed); }
    void store(Part* part) const noexcept { cell->store(part, Order::relaxed); }
  };

  Passed passed;
  Part part;
  ExploredAtomics::Cell<Part*> pointer;

  void use() noexcept {
    ++part.uses;
    count_event();
  }
  /// A section of the CPU; false if the part is in use. At its end the CPU is idle if `offers`.
  bool section(PartWait wait, bool offers) noexcept {
    const PartPointer behind{&pointer};
    Part* own = take_from(behind);
    if (own == nullptr) {
      own = take_back<Hooks>(behind, part, wait);
    }
    if (own == nullptr) {
      return false;
    }
    use();
    if (offers) {
      own->owner.offer();
    } else {
      put_back(behind, own);
    }
    return true;
  }
  /// A step of another CPU.
  void step() noexcept {
    if (part.owner.begin_step()) {
      use();
      part.owner.end_step();
    }
  }
  void expect_all_uses() noexcept {
    expect(part.uses == events(), "two CPUs used a part together");
    expect(part.owner.validate() == nullptr, "K6");
    expect(part.owner.is_its_cpu() == (pointer.load(Order::relaxed) != nullptr), "K7");
  }
};

class IdleCpus : public StateScenario<IdlePart> {
 public:
  IdleCpus(const char* name, unsigned threads, bool has_interrupt)
      : StateScenario(name, threads), has_interrupt_(has_interrupt) {}

  void set_up() override { make_state(); }
  void run(unsigned thread) override {
    IdlePart& idle = state();
    if (thread != 0) {
      idle.step();
      return;
    }
    if (has_interrupt_) {
      interrupt_once(
          [](void* one) { static_cast<IdlePart*>(one)->section(PartWait::Unbounded, false); },
          &idle);
    }
    expect(idle.section(PartWait::Unbounded, true), "a CPU did not get its part");
    expect(idle.section(PartWait::Unbounded, false), "a CPU did not get its part back");
    idle.section(PartWait::None, true);
  }
  void check() override { state().expect_all_uses(); }

 private:
  bool has_interrupt_;
};

/// A CPU that waits keeps the others from another step.
class WantedPart : public StateScenario<IdlePart> {
 public:
  WantedPart() : StateScenario("a CPU that waits for its part gets it before others", 2) {}

  void set_up() override { make_state(); }
  void run(unsigned thread) override {
    IdlePart& idle = state();
    if (thread == 0) {
      idle.part.owner.set_wanted(true);
      idle.passed.pass(0, &idle);
      idle.passed.receive(1);
      idle.part.owner.set_wanted(false);
    } else {
      idle.passed.receive(0);
      expect(!idle.part.owner.begin_step(), "a CPU began a step that another one waits for");
      idle.passed.pass(1, &idle);
    }
  }
  void check() override { state().expect_all_uses(); }
};

// ---- MemoryWaiters ------------------------------------------------------------------------------

/// Blocks of memory, for which callers wait.
struct WaitedMemory {
  /// As Hooks, for callers that sleep until a wake-up.
  struct SleepHooks : Hooks {
    static bool wait(WaitCondition condition) noexcept {
      while (!condition()) {
        wait_for_change();
      }
      return true;
    }
    static void wake() noexcept {}
    static std::uintptr_t thread() noexcept { return 1; }
  };

  MemoryWaiters<SleepHooks, ExploredAtomics> waiters;
  ExploredAtomics::Cell<unsigned> blocks;

  bool take() noexcept {
    unsigned found = blocks.load(Order::relaxed);
    while (found != 0) {
      if (blocks.compare_exchange(found, found - 1, Order::relaxed)) {
        count_event();
        return true;
      }
    }
    return false;
  }
  bool wait() noexcept {
    return waiters.wait([this] { return take(); }, [] {});
  }
  void free() noexcept {
    blocks.fetch_add(1, Order::relaxed);
    waiters.note_change();
  }
};

/// A caller needs what two others free, each a half.
class NeedyWaiter : public StateScenario<WaitedMemory> {
 public:
  NeedyWaiter() : StateScenario("a CPU waits for memory that two others free", 3) {}

  void set_up() override { make_state().waiters.set_enabled(true); }
  void run(unsigned thread) override {
    WaitedMemory& memory = state();
    if (thread == 0) {
      const auto look = [&] { return memory.blocks.load(Order::relaxed) == 2; };
      expect(memory.waiters.wait(look, [] {}), "a wait ends with memory");
    } else {
      memory.free();
    }
  }
};

class Waiters : public StateScenario<WaitedMemory> {
 public:
  Waiters(const char* name, unsigned waiters) : StateScenario(name, waiters + 1) {}

  void set_up() override { make_state().waiters.set_enabled(true); }
  void run(unsigned thread) override {
    WaitedMemory& memory = state();
    if (thread == 0) {
      for (unsigned count = 1; count < threads(); ++count) {
        memory.free();
      }
    } else {
      expect(memory.wait(), "a wait ends with memory");
    }
  }
  void check() override {
    expect(events() == threads() - 1, "a waiter got no memory");
    expect(!state().waiters.has_some(), "a waiter is counted that does not wait");
  }
};

}  // namespace

void add_kernel_scenarios(Scenarios& all) {
  const auto add = [&all]<class S>(S* scenario) { all.emplace_back(scenario); };
  add(new SpinLocks);
  add(new DoubleRun);
  add(new RunBefore);
  add(new RunsAgain);
  add(new Runs);
  add(new Reserves("handlers take objects that a CPU replaces", 2));
  add(new Reserves("a handler takes an object of a reserve that shrinks", 1));
  add(new ReserveBefore);
  add(new CachedFrames);
  add(new IdleCpus("two CPUs drain an idle one that wakes", 3, false));
  add(new IdleCpus("an interrupt wakes a CPU at any step while another one drains it", 2, true));
  add(new WantedPart);
  add(new Waiters("a CPU waits for memory that another one frees", 1));
  add(new NeedyWaiter);
  add(new Waiters("two CPUs wait for memory that a third one frees", 2));
}

}  // namespace slabmalloc::explorer
