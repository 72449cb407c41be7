// SPDX-License-Identifier: MIT
//
// Memory: the stores to each location, and which of them each thread may still read.
//
//   location   store 0 │ store 1 │ store 2 │ …   in modification order; 0 is the value at the start
//                          ▲
//   view of a thread ──────┘  the oldest store that it may read
//
// A view has an entry for each location. A release store carries its thread's view, an acquire load
// joins it to its own. This is C++20's coherence and happens-before in operational form (Kang et
// al., "A Promising Semantics for Relaxed-Memory Concurrency", POPL 2017, without promises).
#pragma once

#include <array>
#include <cstdint>

#include "explorer/clock.hpp"

namespace slabmalloc::explorer {

inline constexpr bool acquires(Order order) noexcept {
  return order == Order::acquire || order == Order::acq_rel;
}
inline constexpr bool releases(Order order) noexcept {
  return order == Order::release || order == Order::acq_rel;
}

class Memory {
 public:
  static constexpr unsigned most_releases = 256;  ///< Release stores of one execution.

  /// The values at the start: of no location.
  void reset() noexcept {
    location_count_ = 0;
    release_count_ = 0;
    for (Thread& thread : threads_) {
      thread = {};
      for (std::uint16_t& time : thread.knows.clock.at) {
        time = 1;  // All that happened before the threads began.
      }
    }
    for (unsigned thread = 0; thread < most_threads; ++thread) {
      ++threads_[thread].knows.clock.at[thread];
    }
  }

  /// The number of a new location, whose value at the start is `value`.
  /// Pre: location_count() is less than most_locations.
  unsigned add(std::uint64_t value) noexcept {
    Location& location = locations_[location_count_];
    location.count = 1;
    location.stores[0] = {value, no_release};
    return location_count_++;
  }
  bool has_room(unsigned location) const noexcept {
    return locations_[location].count < most_stores && release_count_ < most_releases;
  }
  unsigned location_count() const noexcept { return location_count_; }

  unsigned store_count(unsigned location) const noexcept { return locations_[location].count; }
  std::uint64_t value(unsigned location, unsigned store) const noexcept {
    return locations_[location].stores[store].value;
  }
  /// The oldest store of `location` that `thread` may read.
  unsigned oldest(unsigned thread, unsigned location) const noexcept {
    return threads_[thread].knows.view[location];
  }
  void forget_older(unsigned thread, unsigned location, unsigned store) noexcept {
    std::uint8_t& oldest = threads_[thread].knows.view[location];
    oldest = oldest > store ? oldest : static_cast<std::uint8_t>(store);
  }
  /// A fence of all threads: what happened so far is in the past of each.
  void fence_all() noexcept {
    Knowledge all;
    for (unsigned thread = 0; thread < most_threads; ++thread) {
      all.join(threads_[thread].knows);
    }
    for (unsigned location = 0; location < location_count_; ++location) {
      all.view[location] = static_cast<std::uint8_t>(locations_[location].count - 1);
    }
    for (unsigned thread = 0; thread < most_threads; ++thread) {
      threads_[thread].knows = all;
      ++threads_[thread].knows.clock.at[thread];
    }
  }

  /// `thread` reads `store` of `location`.
  void read(unsigned thread, unsigned location, unsigned store, Order order) noexcept {
    forget_older(thread, location, store);
    const std::int16_t release = locations_[location].stores[store].release;
    if (acquires(order) && release != no_release) {
      threads_[thread].knows.join(releases_[release]);
    }
  }

  /// `thread` writes `location`. As the second half of a read-modify-write, the store continues the
  /// release sequence of the one before.
  void write(unsigned thread, unsigned location, std::uint64_t value, Order order,
             bool is_update) noexcept {
    Location& one = locations_[location];
    Thread& writer = threads_[thread];
    const std::int16_t before = is_update ? one.stores[one.count - 1].release : no_release;
    forget_older(thread, location, one.count);
    std::int16_t release = before;
    if (releases(order)) {
      release = static_cast<std::int16_t>(release_count_);
      Knowledge& carried = releases_[release_count_++];
      carried = writer.knows;
      if (before != no_release) {
        carried.join(releases_[before]);
      }
    }
    one.stores[one.count++] = {value, release};
    ++writer.knows.clock.at[thread];
  }

  /// What `thread` knows of plain memory, and its present moment.
  const Clock& clock(unsigned thread) const noexcept { return threads_[thread].knows.clock; }
  std::uint16_t now(unsigned thread) const noexcept { return clock(thread).at[thread]; }

 private:
  static constexpr std::int16_t no_release = -1;

  struct Store {
    std::uint64_t value;
    std::int16_t release;  ///< What an acquire gets to know.
  };
  struct Location {
    std::uint8_t count;
    Store stores[most_stores];
  };
  struct Knowledge {
    std::array<std::uint8_t, most_locations> view{};
    Clock clock;

    void join(const Knowledge& other) noexcept {
      for (unsigned location = 0; location < most_locations; ++location) {
        view[location] =
            view[location] > other.view[location] ? view[location] : other.view[location];
      }
      clock.join(other.clock);
    }
  };
  struct Thread {
    Knowledge knows;
  };

  Location locations_[most_locations];
  Knowledge releases_[most_releases];
  Thread threads_[most_threads];
  unsigned location_count_ = 0;
  unsigned release_count_ = 0;
};

}  // namespace slabmalloc::explorer
