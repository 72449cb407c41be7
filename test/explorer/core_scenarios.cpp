// SPDX-License-Identifier: MIT
//
// Scenarios of remote frees, drains, double frees, and pages that go back. Thread 0 is the owner.
#include <new>

#include "explorer/scenarios.hpp"
#include "explorer/tiny_pages.hpp"

namespace slabmalloc::explorer {

namespace {

/// Pages, and what their clients pass to each other.
template <unsigned Pages>
struct Heap : TinyHeap<Pages> {
  Passed passed;
};

/// Two threads free objects of one page, which goes back to the pager.
class FreesOfOnePage : public StateScenario<Heap<2>> {
 public:
  FreesOfOnePage(const char* name, unsigned first, unsigned second)
      : StateScenario(name, 3), slots_{first, second} {}

  void set_up() override {
    Heap<2>& heap = make_state();
    heap.fill();
    heap.keep(0, {slots_[0], slots_[1]});
  }
  void run(unsigned thread) override {
    Heap<2>& heap = state();
    if (thread != 0) {
      heap.free_remotely(heap.slot(0, slots_[thread - 1]));
      return;
    }
    heap.allocator.drain();
    heap.give_back_pages();
    heap.give_back_pages();
  }
  void check() override {
    state().expect_nothing_lost();
    expect(events() == 0, "a sound free was reported");
  }

 private:
  unsigned slots_[2];
};

/// Two threads push a page each, while the owner takes pages.
class TwoPushes : public StateScenario<Heap<3>> {
 public:
  TwoPushes() : StateScenario("two threads push a page each", 3) {}

  void set_up() override {
    Heap<3>& heap = make_state();
    heap.fill();
    heap.keep(0, {0});
    heap.keep(1, {0});
  }
  void run(unsigned thread) override {
    Heap<3>& heap = state();
    if (thread != 0) {
      heap.free_remotely(heap.slot(thread - 1, 0));
    } else {
      heap.give_back_pages();
    }
  }
  void check() override { state().expect_nothing_lost(); }
};

/// Each of two threads frees an object of each of two pages, in opposite order.
class FreesOfTwoPages : public StateScenario<Heap<3>> {
 public:
  FreesOfTwoPages() : StateScenario("two threads free objects of two words of two pages", 3) {}

  void set_up() override {
    Heap<3>& heap = make_state();
    heap.fill();
    heap.keep(0, {0, word_1});
    heap.keep(1, {1, word_1 + 1});
  }
  void run(unsigned thread) override {
    Heap<3>& heap = state();
    if (thread == 1) {
      heap.free_remotely(heap.slot(0, 0));
      heap.free_remotely(heap.slot(1, word_1 + 1));
    } else if (thread == 2) {
      heap.free_remotely(heap.slot(1, 1));
      heap.free_remotely(heap.slot(0, word_1));
    } else {
      heap.give_back_pages();
    }
  }
  void check() override { state().expect_nothing_lost(); }
};

/// Each of three threads frees an object of each of two pages.
class ThreeFreeingThreads : public StateScenario<Heap<3>> {
 public:
  ThreeFreeingThreads() : StateScenario("three threads free objects of two pages", 4) {}

  void set_up() override {
    Heap<3>& heap = make_state();
    heap.fill();
    heap.keep(0, {0, 1, word_1});
    heap.keep(1, {0, 1, word_1});
  }
  void run(unsigned thread) override {
    Heap<3>& heap = state();
    if (thread == 0) {
      heap.give_back_pages();
      heap.give_back_pages();
      return;
    }
    const unsigned number = thread == 3 ? word_1 : thread - 1;
    heap.free_remotely(heap.slot(thread % 2, number));
    heap.free_remotely(heap.slot(1 - thread % 2, number));
  }
  void check() override {
    state().expect_nothing_lost();
    expect(events() == 0, "a sound free was reported");
  }
};

/// A free that happens before an allocation, or a look for empty pages, is found by it.
class FreeBefore : public StateScenario<Heap<2>> {
 public:
  FreeBefore() : StateScenario("the owner finds a free of which it was told", 2) {}

  void set_up() override { make_state().fill(); }
  void run(unsigned thread) override {
    Heap<2>& heap = state();
    if (thread == 1) {
      heap.free_remotely(heap.slot(0, 0));
      heap.passed.pass(0, &heap);
      return;
    }
    heap.passed.receive(0);
    expect(heap.issue() == heap.slot(0, 0), "a free that happened before was not found");
  }
  void check() override { state().expect_nothing_lost(); }
};

/// The owner allocates from pages that others free objects of.
class AllocationsMeanwhile : public StateScenario<Heap<2>> {
 public:
  AllocationsMeanwhile() : StateScenario("the owner issues slots that two threads free", 3) {}

  void set_up() override { make_state().fill(); }
  void run(unsigned thread) override {
    Heap<2>& heap = state();
    if (thread == 1) {
      heap.free_remotely(heap.slot(0, 0));
      heap.free_remotely(heap.slot(1, 5));
    } else if (thread == 2) {
      heap.free_remotely(heap.slot(0, 1));
    } else {
      heap.issue();
      heap.free(heap.slot(0, 2));
      heap.issue();
      heap.issue();
    }
  }
  void check() override {
    state().expect_nothing_lost();
    expect(events() == 0, "a sound free was reported");
  }
};

/// A slot of a full page is handed off while another thread frees in that page.
class HandOff : public StateScenario<Heap<2>> {
 public:
  HandOff() : StateScenario("the owner hands slots off while a thread frees in the page", 2) {}

  void set_up() override { make_state().fill(); }
  void run(unsigned thread) override {
    Heap<2>& heap = state();
    if (thread == 1) {
      heap.free_remotely(heap.slot(0, 0));
      heap.free_remotely(heap.slot(0, word_1));
      return;
    }
    heap.free(heap.slot(0, 2));
    heap.issue();
    heap.free(heap.slot(0, word_1 + 2));
    heap.issue();
    heap.issue();
  }
  void check() override {
    state().expect_nothing_lost();
    expect(events() == 0, "a sound free was reported");
  }
};

/// A slot is freed, issued and freed again by different threads.
class SlotInTurn : public StateScenario<Heap<2>> {
 public:
  SlotInTurn() : StateScenario("a slot is freed by one thread, issued, and freed by another", 3) {}

  void set_up() override { make_state().fill(); }
  void run(unsigned thread) override {
    Heap<2>& heap = state();
    if (thread == 1) {
      heap.free_remotely(heap.slot(0, 0));
    } else if (thread == 2) {
      if (void* const object = heap.passed.places[0].load(Order::acquire)) {
        heap.free_remotely(object);
      }
    } else {
      if (void* const object = heap.issue()) {
        heap.passed.pass(0, object);
      }
      heap.allocator.drain();
      heap.issue();
    }
  }
  void check() override {
    state().expect_nothing_lost();
    expect(events() == 0, "a sound free was reported");
  }
};

/// The first object of a new page is freed by another thread.
class NewPage : public StateScenario<Heap<1>> {
 public:
  NewPage() : StateScenario("a thread frees an object of a new page", 2) {}

  void set_up() override {
    Heap<1>& heap = make_state();
    for (std::byte& byte : heap.pages[0].bytes) {
      byte = std::byte{0xA5};
    }
  }
  void run(unsigned thread) override {
    Heap<1>& heap = state();
    if (thread == 1) {
      heap.free_remotely(heap.passed.receive(0));
      return;
    }
    (void)heap.allocator.refill(&heap.pages[0]);
    heap.passed.pass(0, heap.issue());
    heap.give_back_pages();
  }
  void check() override {
    state().expect_nothing_lost();
    expect(events() == 0, "a sound free was reported");
  }
};

/// A page goes back, comes again with other contents, and is used again, while others free.
class ReuseOfAPage : public StateScenario<Heap<2>> {
 public:
  ReuseOfAPage() : StateScenario("a page goes back and is used again", 3) {}

  void set_up() override {
    Heap<2>& heap = make_state();
    heap.fill();
    heap.keep(0, {0});
    heap.keep(1, {1});
  }
  void run(unsigned thread) override {
    Heap<2>& heap = state();
    if (thread == 1) {
      heap.free_remotely(heap.slot(0, 0));
    } else if (thread == 2) {
      heap.free_remotely(heap.passed.receive(0));
    } else {
      TinyPage* freed = nullptr;
      heap.allocator.try_reclaim_pages(1, [&freed](TinyPage* page) {
        give_back(page, sizeof(*page));
        freed = page;
      });
      if (freed != nullptr) {
        take(freed, sizeof(*freed));
        (void)heap.allocator.refill(freed);
      }
      heap.passed.pass(0, heap.issue());
      heap.issue();
      heap.allocator.drain();
      heap.give_back_pages(1);
    }
  }
  void check() override {
    state().expect_nothing_lost();
    expect(events() == 0, "a sound free was reported");
  }
};

/// An interrupt on the owner's processor frees one of its objects at any step.
class Interrupt : public StateScenario<Heap<2>> {
 public:
  Interrupt() : StateScenario("an interrupt frees an object at any step of the owner", 2) {}

  void set_up() override {
    Heap<2>& heap = make_state();
    heap.fill();
    heap.keep(0, {0, 1, word_1});
  }
  void run(unsigned thread) override {
    Heap<2>& heap = state();
    if (thread == 1) {
      interrupt_once([](void* one) { free_one(*static_cast<Heap<2>*>(one), word_1); }, &heap);
      heap.free_remotely(heap.slot(0, 1));
      return;
    }
    interrupt_once([](void* one) { free_one(*static_cast<Heap<2>*>(one), 0); }, &heap);
    heap.allocator.drain();
    heap.give_back_pages();
  }
  void check() override {
    Heap<2>& heap = state();
    for (const unsigned number : {0u, word_1}) {
      if (*static_cast<Object*>(heap.slot(0, number)) == live) {
        heap.free_remotely(heap.slot(0, number));  // The interrupt never came.
      }
    }
    heap.expect_nothing_lost();
  }

 private:
  static void free_one(Heap<2>& heap, unsigned number) noexcept {
    heap.free_remotely(heap.slot(0, number));
  }
};

// ---- double frees -------------------------------------------------------------------------------

/// The same object is freed twice, at the same time. One of the two is reported.
class DoubleFree : public StateScenario<Heap<2>> {
 public:
  enum class By : std::uint8_t { TwoOthers, OwnerAndOther };

  DoubleFree(const char* name, By by, bool is_pinned)
      : StateScenario(name, by == By::TwoOthers ? 3 : 2), by_(by), is_pinned_(is_pinned) {}

  void set_up() override {
    Heap<2>& heap = make_state();
    heap.fill();
    if (is_pinned_) {
      heap.keep(0, {0, word_1});
    } else {
      heap.keep(0, {0});
    }
    end_use(heap.slot(0, 0));
  }
  void run(unsigned thread) override {
    Heap<2>& heap = state();
    if (thread != 0) {
      heap.free_again_remotely(heap.slot(0, 0));
      return;
    }
    heap.allocator.drain();
    if (by_ == By::OwnerAndOther) {
      heap.free_again(heap.slot(0, 0));
    }
  }
  void check() override {
    state().expect_nothing_lost();
    expect(events() == 1, "one of two frees of an object is reported");
  }

 private:
  By by_;
  bool is_pinned_;
};

/// The same object is freed twice, one call after the other, and its slot may be issued again. The
/// second call is reported, and two clients never get the slot.
class DoubleFreeInTurn : public StateScenario<Heap<2>> {
 public:
  enum class Page : std::uint8_t { Full, Current };

  DoubleFreeInTurn(const char* name, bool is_owner_first, Page page)
      : StateScenario(name, 2),
        is_owner_first_(is_owner_first),
        page_(page == Page::Full ? 0 : 1),
        slot_(page == Page::Full ? 0 : word_1) {}

  void set_up() override {
    Heap<2>& heap = make_state();
    heap.fill();
    end_use(heap.slot(page_, slot_));
  }
  void run(unsigned thread) override {
    Heap<2>& heap = state();
    void* const object = heap.slot(page_, slot_);
    if (thread == 1) {
      if (is_owner_first_) {
        heap.passed.receive(0);
      }
      heap.free_again_remotely(object);
      heap.passed.pass(1, object);
      return;
    }
    if (is_owner_first_) {
      heap.free_again(object);
      heap.passed.pass(0, object);
      heap.passed.receive(1);
    } else {
      heap.passed.receive(1);
      heap.free_again(object);
    }
    heap.issue();
    heap.issue();
  }
  void check() override {
    state().expect_nothing_lost();
    expect(events() == 1, "the second free of an object is reported");
  }

 private:
  bool is_owner_first_;
  unsigned page_;
  unsigned slot_;  ///< Of the current page, one of the selected word.
};

/// An object is freed after its page went back.
class FreeAfterThePage : public StateScenario<Heap<2>> {
 public:
  FreeAfterThePage() : StateScenario("a thread frees an object whose page went back", 2) {}

  void set_up() override {
    Heap<2>& heap = make_state();
    heap.fill();
    heap.keep(0, {});
  }
  void run(unsigned thread) override {
    Heap<2>& heap = state();
    if (thread == 1) {
      heap.passed.receive(0);
      heap.free_again_remotely(heap.slot(0, 0));
      return;
    }
    heap.allocator.try_reclaim_pages(1, [](TinyPage*) {});
    heap.passed.pass(0, &heap);
  }
  void check() override {
    Heap<2>& heap = state();
    heap.expect_nothing_lost();
    expect(events() == 1 && last_misuse == MisuseKind::ForeignPointer,
           "a free of an object without a page is reported");
    expect(TinyPage::header_of(heap.slot(0, 0))->announced.load(Order::relaxed) == 0,
           "a reported free wrote to the frame");
  }
};

}  // namespace

void add_core_scenarios(Scenarios& all) {
  const auto add = [&all]<class S>(S* scenario) { all.emplace_back(scenario); };
  add(new FreesOfOnePage("two threads free objects of one word", 0, 1));
  add(new FreesOfOnePage("two threads free objects of two words", 0, word_1));
  add(new TwoPushes);
  add(new FreeBefore);
  add(new NewPage);
  add(new SlotInTurn);
  add(new HandOff);
  add(new DoubleFree("two threads free the same object beside another one",
                     DoubleFree::By::TwoOthers, true));
  add(new DoubleFree("two threads free the only object of a page", DoubleFree::By::TwoOthers,
                     false));
  add(new DoubleFree("the owner and a thread free the same object beside another one",
                     DoubleFree::By::OwnerAndOther, true));
  add(new DoubleFree("the owner and a thread free the only object of a page",
                     DoubleFree::By::OwnerAndOther, false));
  add(new DoubleFreeInTurn("the owner frees an object of a full page, then a thread", true,
                           DoubleFreeInTurn::Page::Full));
  add(new DoubleFreeInTurn("the owner frees an object of its current page, then a thread", true,
                           DoubleFreeInTurn::Page::Current));
  add(new DoubleFreeInTurn("a thread frees an object of a full page, then the owner", false,
                           DoubleFreeInTurn::Page::Full));
  add(new DoubleFreeInTurn("a thread frees an object of the current page, then the owner", false,
                           DoubleFreeInTurn::Page::Current));
  add(new FreeAfterThePage);
  add(new Interrupt);
  add(new ReuseOfAPage);
  add(new AllocationsMeanwhile);
  add(new FreesOfTwoPages);
  add(new ThreeFreeingThreads);
}

}  // namespace slabmalloc::explorer
