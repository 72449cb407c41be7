// SPDX-License-Identifier: MIT
//
// Scenarios of the malloc's parts that threads share without a mutex, and of its mutex.
#include <new>

#include "explorer/scenarios.hpp"
#include "explorer/tiny_pages.hpp"
#include "slabmalloc/zone/remote_buffer.hpp"
#include "slabmalloc/zone/zone.hpp"
#include "tunables.hpp"

// The malloc's sources name their atomics, and the mutex that owners wait for. From here on they
// get the explorer's. A mutex sleeps at once, since each look of a spin would be a step.
#define HardwareAtomics explorer::ExploredAtomics
#define mutex_spins scavenger_naps * 0
#include "arena/large_cache.hpp"
#include "malloc/asymmetric_lock.hpp"
#include "malloc/scavenger_mutex.hpp"
namespace slabmalloc {
static ScavengerMutex& explored_mutex() noexcept;
}
#define scavenger_mutex explored_mutex()
#include "malloc/hole_scan.hpp"
#include "malloc/scavenged_queue.hpp"

namespace slabmalloc {

namespace explorer {

namespace {

/// What the mutexes need of the system. At the end of the region.
struct System {
  ScavengerMutex mutex;
  ExploredAtomics::Cell<std::uint32_t> wakes;  ///< Calls of wake().
  ExploredAtomics::Cell<std::uint32_t> unused;
};
System& the_system() noexcept {
  return *reinterpret_cast<System*>(region() + region_bytes - sizeof(System));
}

/// The futex: it sleeps until a wake, unless the word has changed.
void wait(const std::uint32_t* word, std::uint32_t expected) {
  const auto& wakes = the_system().wakes;
  const std::uint32_t before = latest_value(reinterpret_cast<const std::uint32_t*>(&wakes));
  if (latest_value(word) == expected) {
    while (wakes.load(Order::relaxed) == before) {
      wait_for_change();
    }
  }
}
void wake(const std::uint32_t*, std::uint32_t) { the_system().wakes.fetch_add(1, Order::relaxed); }

os::Interface make_interface() noexcept {
  os::Interface result{};
  result.wait = wait;
  result.wake = wake;
  return result;
}
const os::Interface interface_of_tests = make_interface();

/// As os::Interface::fence_all_threads; the call's place is that of the fence.
struct Fence {
  bool operator()(Place where = Place::here()) const noexcept {
    fence_all(where);
    return true;
  }
};

template <class State>
class SystemScenario : public StateScenario<State> {
 public:
  using StateScenario<State>::StateScenario;

 protected:
  static_assert(sizeof(State) + sizeof(System) <= region_bytes);

  static State& make_state() noexcept {
    new (&the_system()) System;
    os::replace_interface(interface_of_tests);
    return StateScenario<State>::make_state();
  }
};

// ---- a zone that changes hands ------------------------------------------------------------------

struct Parked : TinyHeap<2> {
  os::Mutex mutex;
};

class Adoption : public SystemScenario<Parked> {
 public:
  Adoption() : SystemScenario("two threads own a zone in turn while one frees", 3) {}

  void set_up() override {
    Parked& heap = make_state();
    heap.fill();
    heap.keep(0, {0, 1});
  }
  void run(unsigned thread) override {
    Parked& heap = state();
    if (thread == 2) {
      heap.free_remotely(heap.slot(0, 0));
      return;
    }
    heap.mutex.lock();
    if (thread == 0) {
      heap.free(heap.slot(0, 1));
    }
    heap.give_back_pages();
    heap.mutex.unlock();
  }
  void check() override { state().expect_nothing_lost(); }
};

class Mutexes : public SystemScenario<Parked> {
 public:
  Mutexes() : SystemScenario("three threads lock the mutex", 3) {}

  void set_up() override { make_state(); }
  void run(unsigned) override {
    state().mutex.lock();
    auto* const count = static_cast<Object*>(state().slot(0, 0));
    ++*count;
    state().mutex.unlock();
  }
  void check() override {
    expect(*static_cast<Object*>(state().slot(0, 0)) == 3, "two threads held a mutex together");
  }
};

// ---- buffered frees and their scavenger ---------------------------------------------------------

/// Pages of one owner, and another thread's buffer of frees.
struct Buffered : TinyHeap<2> {
  using Buffer = RemoteBuffer<ExploredAtomics, 2, AsymmetricLock>;

  Buffer buffer;
  Passed passed;

  static constexpr SlotGeometry geometry = TinyPage::geometry(object_bytes);
  /// Room for `slots` slots in each entry.
  static constexpr std::size_t limit_of(std::size_t slots) noexcept {
    return slots * 2 * object_bytes;
  }

  /// As Zone::deallocate_slot() of another owner's object.
  void free_buffered(unsigned page, unsigned number, std::size_t limit) noexcept {
    end_use(slot(page, number));
    buffer_free(slot(page, number), limit);
  }
  void buffer_free(void* object, std::size_t limit) noexcept {
    TinyHeader* const header = TinyPage::header_of(object);
    const std::uint32_t number = geometry.slot_at(TinyPage::offset_of(object, header));
    if (!buffer.merge(header, number)) {
      buffer.add(free_of_slot<TinyPage>(header, geometry, number), limit);
    }
  }
  /// Delivers the buffered frees; returns how many words had some.
  std::size_t scavenge() noexcept {
    const Buffer::BufferedFrees found = buffer.take_all(Fence{});
    found.deliver();
    return found.count;
  }
};

/// A thread buffers frees that others deliver meanwhile.
class BufferedFrees : public SystemScenario<Buffered> {
 public:
  struct Shape {
    std::initializer_list<unsigned> before;  ///< Slots that are buffered already.
    std::initializer_list<unsigned> freed;   ///< Slots that thread 0 frees.
    std::size_t room = 8;                    ///< For frees of one word.
    unsigned scavengers = 1;
    bool has_owner = false;  ///< The last thread is the owner of the pages.
    bool flushes = false;    ///< Thread 0 delivers what is buffered first.
  };

  BufferedFrees(const char* name, const Shape& shape)
      : SystemScenario(name, 1 + shape.scavengers + (shape.has_owner ? 1 : 0)), shape_(shape) {
    for (const unsigned slot : shape.before) {
      before_[before_count_++] = slot;
    }
    for (const unsigned slot : shape.freed) {
      freed_[freed_count_++] = slot;
    }
  }

  bool steps_at_plain_writes() const noexcept override {
    return shape_.scavengers == 1 && !shape_.has_owner;
  }
  void set_up() override {
    Buffered& heap = make_state();
    heap.fill();
    heap.keep(0, {0, 1, 2, word_1});
    for (unsigned index = 0; index < before_count_; ++index) {
      heap.free_buffered(0, before_[index], Buffered::limit_of(shape_.room));
    }
  }
  void run(unsigned thread) override {
    Buffered& heap = state();
    if (thread == 0) {
      if (shape_.flushes) {
        heap.buffer.flush_all();
      }
      for (unsigned index = 0; index < freed_count_; ++index) {
        heap.free_buffered(0, freed_[index], Buffered::limit_of(shape_.room));
      }
    } else if (thread <= shape_.scavengers) {
      heap.scavenge();
    } else {
      heap.give_back_pages();
    }
  }
  void check() override {
    Buffered& heap = state();
    heap.buffer.flush_all();
    expect(!heap.buffer.holds_some(), "frees stay in the buffer");
    heap.expect_nothing_lost();
    expect(events() == 0, "a sound free was reported");
  }

 private:
  Shape shape_;
  unsigned before_[4] = {};
  unsigned before_count_ = 0;
  unsigned freed_[4] = {};
  unsigned freed_count_ = 0;
};

/// A scavenger finds frees that were buffered before.
class BufferedBefore : public SystemScenario<Buffered> {
 public:
  BufferedBefore() : SystemScenario("a scavenger finds buffered frees of which it was told", 2) {}

  void set_up() override { make_state().fill(); }
  void run(unsigned thread) override {
    Buffered& heap = state();
    if (thread == 0) {
      heap.free_buffered(0, 0, Buffered::limit_of(8));
      heap.free_buffered(0, 1, Buffered::limit_of(8));
      heap.passed.pass(0, &heap);
      heap.passed.receive(1);
      heap.free_buffered(0, 2, Buffered::limit_of(8));
      heap.buffer.flush_all();
      heap.passed.pass(2, &heap);
    } else {
      heap.passed.receive(0);
      expect(heap.scavenge() == 1, "frees that were buffered before were not found");
      expect(!heap.buffer.holds_some(), "an empty buffer invites scavengers");
      heap.passed.pass(1, &heap);
      heap.passed.receive(2);
      expect(!heap.buffer.holds_some(), "an empty buffer invites scavengers");
    }
  }
  void check() override { state().expect_nothing_lost(); }
};

/// A buffered free of an object that its owner frees too.
class BufferedDoubleFree : public SystemScenario<Buffered> {
 public:
  BufferedDoubleFree() : SystemScenario("a buffered object's page goes back meanwhile", 2) {}

  void set_up() override {
    Buffered& heap = make_state();
    heap.fill();
    heap.keep(0, {0});
    // The first of the two frees is buffered.
    heap.free_buffered(0, 0, Buffered::limit_of(2));
  }
  void run(unsigned thread) override {
    Buffered& heap = state();
    if (thread == 1) {
      heap.scavenge();
    } else {
      heap.free_again(heap.slot(0, 0));
      heap.allocator.drain();
    }
  }
  void check() override {
    Buffered& heap = state();
    heap.buffer.flush_all();
    heap.expect_nothing_lost();
    expect(events() == 1, "one of two frees of an object is reported");
  }
};

/// An object is freed, freed again into a buffer, and that is delivered before its slot is issued.
class BufferedDoubleFreeInTurn : public SystemScenario<Buffered> {
 public:
  /// The second free is added to a word that is buffered already if `is_merged`.
  BufferedDoubleFreeInTurn(const char* name, bool is_owner_first, bool is_merged)
      : SystemScenario(name, 2), is_owner_first_(is_owner_first), is_merged_(is_merged) {}

  void set_up() override {
    Buffered& heap = make_state();
    heap.fill();
    if (is_merged_) {
      heap.free_buffered(0, 0, Buffered::limit_of(8));
    }
  }
  void run(unsigned thread) override {
    Buffered& heap = state();
    void* const object = heap.slot(0, 1);
    if (thread == 1) {
      if (is_owner_first_) {
        heap.free(object);
        heap.passed.pass(0, object);
      }
      heap.passed.receive(1);
      expect(heap.issue() != nullptr, "a free slot is issued");
      return;
    }
    if (is_owner_first_) {
      heap.passed.receive(0);
    } else {
      heap.free_remotely(object);
    }
    heap.buffer_free(object, Buffered::limit_of(8));
    heap.buffer.flush_all();
    heap.passed.pass(1, object);
  }
  void check() override {
    Buffered& heap = state();
    heap.buffer.flush_all();
    heap.expect_nothing_lost();
    expect(events() == 1, "the second free of an object is reported");
  }

 private:
  bool is_owner_first_;
  bool is_merged_;
};

// ---- memory that goes back from pages in use ----------------------------------------------------

/// The slots that the last scan found free, by page: each slot stands for an OS page.
struct Seen {
  Word words[2] = {};
};

class HolePage;
Seen& seen_of(const TinyHeader* header) noexcept;

class HolePage : public TinyPage {
 public:
  static bool claim(TinyHeader* header, std::uint32_t, std::uint32_t first,
                    std::uint32_t end) noexcept {
    for (std::uint32_t slot = first; slot < end; ++slot) {
      seen_of(header).words[slot / word_bits] &= ~(Word{1} << slot % word_bits);
    }
    return false;
  }
  static const char* check_holes(TinyHeader*, const SlotGeometry&, std::uint32_t, Word) noexcept {
    return nullptr;
  }
};
static_assert(HoleTracking<HolePage>);

struct ScannedHeap {
  using Class = SizeClass<HolePage, ScavengedQueue>;
  static constexpr unsigned count = 2;

  TinyPage pages[count];
  Seen seen[count];
  ScavengedQueue queue;
  Class size_class;
  Passed passed;

  static constexpr SlotGeometry geometry = TinyPage::geometry(object_bytes);

  void* slot(unsigned page, unsigned number) noexcept {
    return pages[page].bytes + number * object_bytes;
  }
  void* issue() noexcept {
    void* object = size_class.allocate_fast();
    object = object != nullptr ? object : size_class.claim();
    if (object == nullptr) {
      drain();
      object = size_class.allocate_from_pages();
    }
    if (object != nullptr) {
      begin_use(object);
    }
    return object;
  }
  void free(void* object) noexcept {
    end_use(object);
    TinyHeader* const page = TinyPage::header_of(object);
    size_class.free_in_any_state<false>(page, geometry.slot_at(TinyPage::offset_of(object, page)),
                                        object);
  }
  void free_remotely(void* object) noexcept {
    end_use(object);
    TinyHeader* const page = TinyPage::header_of(object);
    free_of_slot<TinyPage>(page, geometry, geometry.slot_at(TinyPage::offset_of(object, page)))
        .deliver();
  }

  /// A scan of all pages. Pre: the calling thread holds the queue's lock.
  void scan() noexcept {
    for (unsigned number = 0; number < count; ++number) {
      TinyHeader* const page = TinyPage::header_of(&pages[number]);
      if (ScavengedQueue::of(page->tag.load(Order::relaxed)) != &queue) {
        continue;
      }
      Word free[2];
      find_free_slots(free, *page, geometry.words, size_class.latest_claim());
      for (unsigned word = 0; word < geometry.words; ++word) {
        Word due = free[word] & seen[number].words[word] & geometry.word_mask(word);
        seen[number].words[word] = free[word];
        for (; due != 0; due &= due - 1) {
          // The system takes the memory: from now on it reads as zero.
          *static_cast<Object*>(slot(number, word * word_bits + lowest_bit(due))) = 0;
        }
      }
    }
  }
  /// As ThreadZones::scan_others().
  void scan_as_other() noexcept {
    const os::Lock lock(scavenger_mutex);
    if (queue.scavenger_lock().try_lock_scavenger(Fence{})) {
      scan();
      queue.scavenger_lock().unlock_scavenger();
    }
  }
  /// As scan_own_pages().
  void scan_own() noexcept {
    queue.lock();
    scan();
    queue.unlock();
  }
  void drain() noexcept {
    while (TinyHeader* const page = queue.take()) {
      size_class.drain_page(page);
    }
  }
};

Seen& seen_of(const TinyHeader* header) noexcept {
  auto& heap = *reinterpret_cast<ScannedHeap*>(region());
  return heap.seen[reinterpret_cast<const std::byte*>(header) >=
                           reinterpret_cast<const std::byte*>(&heap.pages[1])
                       ? 1
                       : 0];
}

class Scans : public SystemScenario<ScannedHeap> {
 public:
  enum class Work : std::uint8_t {
    Claims,     ///< The owner claims slots that the last scan saw free.
    HandsOff,   ///< It hands a slot of a full page off, and then lists the page.
    GivesBack,  ///< It gives a page back.
    ScansOwn,   ///< It scans its pages itself, while two threads free.
    TellsOther  ///< It frees, and then the other thread must find the memory.
  };

  Scans(const char* name, Work work, unsigned threads)
      : SystemScenario(name, threads), work_(work) {}

  void set_up() override {
    ScannedHeap& heap = make_state();
    heap.size_class.configure(ScannedHeap::geometry, 0, heap.queue);
    for (TinyPage& page : heap.pages) {
      heap.size_class.add_page(TinyPage::header_of(&page), false);
      for (unsigned number = 0; number < slots_of_page; ++number) {
        heap.issue();
      }
    }
    if (work_ == Work::Claims || work_ == Work::GivesBack) {
      heap.free(heap.slot(0, 3));
      heap.free(heap.slot(0, 4));  // Else the first is handed off.
      heap.free(heap.slot(1, word_1 + 1));
      heap.scan_own();
    }
    if (work_ == Work::GivesBack) {
      for (unsigned number = 1; number < slots_of_page; ++number) {
        if (number != 3 && number != 4) {
          heap.free(heap.slot(0, number));
        }
      }
    }
  }
  void run(unsigned thread) override {
    ScannedHeap& heap = state();
    if (thread == 0) {
      run_owner(heap);
    } else if (work_ == Work::ScansOwn) {
      heap.free_remotely(heap.slot(0, thread));
    } else if (work_ == Work::TellsOther) {
      heap.free_remotely(heap.slot(0, word_1));
      heap.passed.receive(0);
      heap.scan_as_other();
      heap.scan_as_other();
      expect(*static_cast<Object*>(heap.slot(1, 0)) == 0 &&
                 *static_cast<Object*>(heap.slot(0, word_1)) == 0,
             "memory that was freed before was not found");
    } else {
      heap.scan_as_other();
    }
  }
  void check() override {
    ScannedHeap& heap = state();
    heap.drain();
    const char* const broken = heap.size_class.validate();
    expect(broken == nullptr, broken);
    std::size_t used = 0;
    for (unsigned page = 0; page < ScannedHeap::count; ++page) {
      for (unsigned number = 0; number < slots_of_page; ++number) {
        const bool is_used = *static_cast<Object*>(heap.slot(page, number)) == live;
        used += is_used ? 1 : 0;
        expect(!is_used || !is_set(heap.seen[page].words[number / word_bits], number),
               "H1: a hole, dropped or seen, holds no slot in use");
      }
    }
    expect(heap.size_class.statistics().used == used, "an object in use lost its memory");
  }

 private:
  void run_owner(ScannedHeap& heap) noexcept {
    switch (work_) {
      case Work::Claims: {
        void* const object = heap.issue();
        heap.free(object);
        heap.issue();
        heap.issue();
        break;
      }
      case Work::HandsOff:
        heap.free(heap.slot(0, 2));
        heap.issue();
        heap.free(heap.slot(0, word_1));
        heap.free(heap.slot(0, word_1 + 1));
        break;
      case Work::GivesBack:
        heap.free(heap.slot(0, 0));
        heap.size_class.remove_empty_pages(ScannedHeap::count, [](TinyHeader* page) {
          // The malloc's page headers lie beside the frames, and stay.
          give_back(TinyPage::frame_of(page), slots_of_page * object_bytes);
        });
        break;
      case Work::ScansOwn:
        heap.scan_own();
        heap.scan_own();
        heap.drain();
        heap.scan_own();
        break;
      case Work::TellsOther:
        heap.free(heap.slot(1, 0));
        heap.passed.pass(0, &heap);
        break;
    }
  }

  Work work_;
};

// ---- LargeCache ---------------------------------------------------------------------------------

struct LargeObjects {
  static constexpr unsigned count = 4;

  LargeCache cache;
  Passed passed;
  Object objects[count];

  static CachedRun run(unsigned number) noexcept {
    return {(number + 1) * chunk_bytes, large_step_bytes};
  }
  /// A run that somebody has now.
  void use(CachedRun run) noexcept {
    if (run.bytes != 0) {
      begin_use(&objects[run.address / chunk_bytes - 1]);
    }
  }
  void put(unsigned number) noexcept {
    end_use(&objects[number]);
    use(cache.put(run(number)));
  }
};

/// A run that was put before is found.
class LargeBefore : public SystemScenario<LargeObjects> {
 public:
  LargeBefore() : SystemScenario("a thread takes a cached object of which it was told", 2) {}

  void set_up() override {
    LargeObjects& all = make_state();
    for (Object& object : all.objects) {
      object = live;
    }
  }
  void run(unsigned thread) override {
    LargeObjects& all = state();
    if (thread == 0) {
      all.put(0);
      all.put(1);
      all.passed.pass(0, &all);
    } else {
      all.passed.receive(0);
      const CachedRun taken = all.cache.take(large_step_bytes);
      expect(taken.bytes != 0, "a run that was put before was not found");
      all.use(taken);
      const CachedRun cleared = all.cache.clear(1, false);
      expect(cleared.bytes != 0, "a run that was put before was not found");
      all.use(cleared);
    }
  }
};

/// Two puts into a full cache evict the two runs that were there.
class LargeEvictions : public SystemScenario<LargeObjects> {
 public:
  LargeEvictions() : SystemScenario("two threads put large objects into a full cache", 2) {}

  void set_up() override {
    LargeObjects& all = make_state();
    for (Object& object : all.objects) {
      object = live;
    }
    all.put(0);
    all.put(1);
  }
  void run(unsigned thread) override { state().put(2 + thread); }
  void check() override {
    LargeObjects& all = state();
    expect(all.objects[0] == live && all.objects[1] == live, "a put evicts what was just put");
  }
};

class LargeCaches : public SystemScenario<LargeObjects> {
 public:
  LargeCaches() : SystemScenario("threads put, take and clear cached large objects", 3) {}

  void set_up() override {
    LargeObjects& all = make_state();
    for (Object& object : all.objects) {
      object = live;
    }
    all.put(0);
  }
  void run(unsigned thread) override {
    LargeObjects& all = state();
    if (thread == 0) {
      all.put(1);
      all.put(2);
    } else if (thread == 1) {
      all.put(3);
      all.use(all.cache.take(large_step_bytes));
    } else {
      all.use(all.cache.clear(0, false));
      all.use(all.cache.clear(1, true));
      all.use(all.cache.clear(1, true));
    }
  }
  void check() override {
    LargeObjects& all = state();
    for (std::uint32_t place = 0; place < Tunables::large_cache_places; ++place) {
      all.use(all.cache.clear(place, false));
    }
    for (const Object object : all.objects) {
      expect(object == live, "a run was lost");
    }
  }
};

}  // namespace

void add_malloc_scenarios(Scenarios& all) {
  const auto add = [&all]<class S>(S* scenario) { all.emplace_back(scenario); };
  add(new Mutexes);
  add(new Adoption);
  add(new BufferedDoubleFree);
  add(new BufferedBefore);
  add(new BufferedFrees("a thread adds to a buffered word that a scavenger delivers",
                        {.before = {0}, .freed = {1}}));
  add(new BufferedFrees("a thread buffers another word while a scavenger delivers",
                        {.before = {0}, .freed = {word_1}}));
  add(new BufferedFrees("a thread fills a buffered word while a scavenger delivers",
                        {.before = {0}, .freed = {1, 2}, .room = 2}));
  add(new BufferedFrees("a thread delivers and buffers again while a scavenger delivers",
                        {.before = {0}, .freed = {1}, .flushes = true}));
  add(new BufferedDoubleFreeInTurn("the owner frees an object, then a thread buffers its free",
                                   true, false));
  add(new BufferedDoubleFreeInTurn("the owner frees an object, then a thread adds its free", true,
                                   true));
  add(new BufferedDoubleFreeInTurn("a thread frees an object, then buffers its free", false,
                                   false));
  add(new BufferedDoubleFreeInTurn("a thread frees an object, then adds its free", false, true));
  add(new BufferedFrees("two scavengers deliver while a thread buffers",
                        {.before = {0}, .freed = {1}, .scavengers = 2}));
  add(new BufferedFrees("a scavenger delivers while a thread buffers and the owner drains",
                        {.before = {0}, .freed = {1, word_1}, .has_owner = true}));
  add(new Scans("a scavenger finds free memory of which it was told", Scans::Work::TellsOther, 2));
  add(new Scans("a scavenger scans pages while the owner hands slots off", Scans::Work::HandsOff,
                2));
  add(new Scans("a scavenger scans pages while the owner claims", Scans::Work::Claims, 2));
  add(new Scans("a scavenger scans pages that go back", Scans::Work::GivesBack, 2));
  add(new Scans("the owner scans pages that two threads free objects of", Scans::Work::ScansOwn,
                3));
  add(new LargeBefore);
  add(new LargeEvictions);
  add(new LargeCaches);
}

}  // namespace explorer

static ScavengerMutex& explored_mutex() noexcept { return explorer::the_system().mutex; }

namespace os::detail {
constinit explorer::ExploredAtomics::Cell<const Interface*> current{nullptr};
}

}  // namespace slabmalloc
