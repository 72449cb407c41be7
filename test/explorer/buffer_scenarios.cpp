// SPDX-License-Identifier: MIT
//
// Scenarios of buffered frees, which scavengers deliver too.
#include "explorer/malloc_system.hpp"

namespace slabmalloc::explorer {

namespace {

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

}  // namespace

void add_buffer_scenarios(Scenarios& all) {
  const auto add = [&all]<class S>(S* scenario) { all.emplace_back(scenario); };
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
}

}  // namespace slabmalloc::explorer
