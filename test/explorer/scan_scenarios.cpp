// SPDX-License-Identifier: MIT
//
// Scenarios of scans, by which memory goes back from pages in use.
#include "explorer/malloc_system.hpp"

namespace slabmalloc::explorer {

namespace {

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

}  // namespace

void add_scan_scenarios(Scenarios& all) {
  const auto add = [&all]<class S>(S* scenario) { all.emplace_back(scenario); };
  add(new Scans("a scavenger finds free memory of which it was told", Scans::Work::TellsOther, 2));
  add(new Scans("a scavenger scans pages while the owner hands slots off", Scans::Work::HandsOff,
                2));
  add(new Scans("a scavenger scans pages while the owner claims", Scans::Work::Claims, 2));
  add(new Scans("a scavenger scans pages that go back", Scans::Work::GivesBack, 2));
  add(new Scans("the owner scans pages that two threads free objects of", Scans::Work::ScansOwn,
                3));
}

}  // namespace slabmalloc::explorer
