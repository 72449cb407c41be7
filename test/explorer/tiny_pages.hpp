// SPDX-License-Identifier: MIT
//
// Pages small enough to explore, and objects that show who owns them.
//
//   page of 256 B | 88 slots of 2 B | remote[1] remote[0] | local[1] local[0] | header |
//                   word 0: 0 … 63, word 1: 64 … 87
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>

#include "explorer/explored_atomics.hpp"
#include "explorer/explorer.hpp"
#include "slabmalloc/base/misuse.hpp"
#include "slabmalloc/zone/sc_allocator.hpp"

namespace slabmalloc::explorer {

using TinyPage = EmbeddedPage<256, ExploredAtomics>;
using TinyHeader = TinyPage::Header;
using Object = std::uint16_t;

inline constexpr std::size_t object_bytes = sizeof(Object);
inline constexpr std::uint32_t slots_of_page = TinyPage::geometry(object_bytes).slots;
static_assert(TinyPage::geometry(object_bytes).words == 2);

/// The first slot of word 1.
inline constexpr unsigned word_1 = 64;

inline constexpr Object live = 0x11FE;
inline constexpr Object dead = 0xDEAD;

/// What a client does with an object that was issued just now.
inline void begin_use(void* object) noexcept {
  auto* const contents = static_cast<Object*>(object);
  expect(*contents != live, "a slot was issued to two clients");
  *contents = live;
}
/// And before its free.
inline void end_use(void* object) noexcept {
  auto* const contents = static_cast<Object*>(object);
  expect(*contents == live, "an object lost its contents");
  *contents = dead;
}

inline Layout object_layout() noexcept {
  return Layout::from_size_align(object_bytes, object_bytes).value_or({});
}

/// Pages of one owner.
template <unsigned Pages>
struct TinyHeap {
  TinyPage pages[Pages];
  SCAllocator<TinyPage> allocator{object_bytes, object_bytes};

  void* slot(unsigned page, unsigned number) noexcept {
    return pages[page].bytes + number * object_bytes;
  }

  /// Makes every slot of every page an object in use. The last page is the current one.
  void fill() noexcept {
    for (TinyPage& page : pages) {
      (void)allocator.refill(&page);
      for (unsigned number = 0; number < slots_of_page; ++number) {
        (void)issue();
      }
    }
  }
  /// Frees the objects of a page but those in `kept`.
  void keep(unsigned page, std::initializer_list<unsigned> kept) noexcept {
    for (unsigned number = 0; number < slots_of_page; ++number) {
      bool is_kept = false;
      for (const unsigned one : kept) {
        is_kept = is_kept || one == number;
      }
      if (!is_kept) {
        free(slot(page, number));
      }
    }
  }

  // ---- the owner --------------------------------------------------------------------------------

  void free(void* object) noexcept {
    end_use(object);
    allocator.deallocate(object, object_layout());
  }
  void* issue() noexcept {
    void* const object = allocator.allocate(object_layout()).value_or(nullptr);
    if (object != nullptr) {
      begin_use(object);
    }
    return object;
  }
  /// Gives at most `limit` empty pages back, which nobody may touch any more.
  void give_back_pages(std::size_t limit = Pages) noexcept {
    allocator.try_reclaim_pages(limit, [](TinyPage* page) { give_back(page, sizeof(*page)); });
  }

  // ---- others -----------------------------------------------------------------------------------

  /// A free whose object another call has freed: without a look at the contents.
  void free_again(void* object) noexcept { allocator.deallocate(object, object_layout()); }
  void free_again_remotely(void* object) noexcept {
    allocator.deallocate_remote(object, object_layout());
  }

  void free_remotely(void* object) noexcept {
    end_use(object);
    allocator.deallocate_remote(object, object_layout());
  }

  /// Nothing is lost: after a drain all objects but those in use are free, and pages without any
  /// can go back. Thread: none is left.
  void expect_nothing_lost() noexcept {
    std::size_t used = 0;
    std::size_t used_pages = 0;
    for (TinyPage& page : pages) {
      std::size_t of_page = 0;
      for (unsigned number = 0; number < slots_of_page; ++number) {
        of_page += reinterpret_cast<const Object*>(page.bytes)[number] == live ? 1u : 0u;
      }
      used += of_page;
      used_pages += of_page != 0 ? 1 : 0;
    }
    allocator.drain();
    const char* const broken = allocator.validate();
    expect(broken == nullptr, broken);
    expect(allocator.statistics().used == used, "a free was lost, or counted twice");
    allocator.try_reclaim_pages(Pages, [](TinyPage*) {});
    expect(allocator.statistics().pages == used_pages, "an empty page is kept");
  }
};

/// Objects and news that pass between threads, by the client's own synchronisation.
struct Passed {
  ExploredAtomics::Cell<void*> places[3];

  void pass(unsigned place, void* object) noexcept { places[place].store(object, Order::release); }
  void* receive(unsigned place) noexcept {
    for (;;) {
      if (void* const object = places[place].load(Order::acquire)) {
        return object;
      }
      wait_for_change();
    }
  }
};

/// Of the latest report.
inline MisuseKind last_misuse{};

/// Counts reports of misuse by count_event().
inline void count_misuse() noexcept {
  set_misuse_handler([](const Misuse& misuse) noexcept {
    last_misuse = misuse.kind;
    count_event();
  });
}

/// A scenario whose threads share a `State`, which is made in set_up().
template <class State>
class StateScenario : public Scenario {
 public:
  using Scenario::Scenario;

 protected:
  static_assert(sizeof(State) <= region_bytes);

  static State& state() noexcept { return *reinterpret_cast<State*>(region()); }
  static State& make_state() noexcept {
    count_misuse();
    return *new (static_cast<void*>(region())) State;
  }
};

}  // namespace slabmalloc::explorer
