// SPDX-License-Identifier: MIT
//
// Search: the choices of the executions so far, and which execution comes next.
//
//   decision   thread 0 │ store 2 of 3 │ thread 1 │ thread 1 │ …
//                                          ▲
//              the same in each execution  └── the last one with an alternative changes
//
// Each decision on a thread has a set of threads that must be tried there (`backtrack`), and a set
// of those that need not, since the executions that begin with them were run (`sleep`). A step that
// conflicts with an earlier one of another thread, and could have come first, adds to `backtrack`
// of that one.
#pragma once

#include <cstdint>

#include "explorer/clock.hpp"

namespace slabmalloc::explorer {

using ThreadSet = std::uint8_t;
constexpr ThreadSet set_of(unsigned thread) noexcept {
  return static_cast<ThreadSet>(1u << thread);
}

/// A step that a thread is about to take.
struct Step {
  enum class Kind : std::uint8_t {
    Read,
    Write,
    Fence,
    PlainWrite,  ///< The first since another step. Only fences tell whether it comes before them.
  };

  static constexpr unsigned no_store = ~0u;

  Kind kind = Kind::Read;
  unsigned location = 0;
  unsigned waits_for = no_store;  ///< It comes after that store of the location.

  bool conflicts_with(const Step& other) const noexcept {
    if (kind == Kind::Fence || other.kind == Kind::Fence) {
      return true;
    }
    return kind != Kind::PlainWrite && other.kind != Kind::PlainWrite &&
           location == other.location && (kind == Kind::Write || other.kind == Kind::Write);
  }
};

class Search {
 public:
  static constexpr unsigned most_decisions = 2000;
  static constexpr unsigned most_events = 1000;

  void restart(bool is_reduced) noexcept {
    length_ = fresh_from_ = 0;
    is_reduced_ = is_reduced;
  }

  /// Prepares the next execution; false if there is none.
  bool advance() noexcept {
    for (; length_ != 0; --length_) {
      Decision& last = decisions_[length_ - 1];
      if (last.is_on_thread) {
        last.done = static_cast<ThreadSet>(last.done | set_of(last.chosen));
        const unsigned left = last.backtrack & ~(last.done | last.sleep) & 0xFFu;
        if (left != 0) {
          last.chosen = static_cast<std::uint8_t>(__builtin_ctz(left));
          break;
        }
      } else if (last.chosen + 1 < last.count) {
        ++last.chosen;
        break;
      }
    }
    fresh_from_ = length_ != 0 ? length_ - 1 : 0;
    return length_ != 0;
  }

  void begin_execution() noexcept {
    depth_ = 0;
    event_count_ = 0;
    sleep_ = 0;
    last_fence_ = 0;
    for (unsigned thread = 0; thread < most_threads; ++thread) {
      past_[thread] = {};
      last_of_thread_[thread] = 0;
    }
  }
  void begin_location(unsigned location) noexcept {
    last_write_[location] = 0;
    for (std::uint16_t& read : last_read_[location]) {
      read = 0;
    }
    store_event_[location][0] = 0;
  }

  bool is_full() const noexcept {
    return depth_ + 2 >= most_decisions || event_count_ + 2 >= most_events;
  }

  /// One of `count` values.
  unsigned choose(unsigned count) noexcept {
    if (depth_ == length_) {
      decisions_[length_++] = {false, 0, static_cast<std::uint8_t>(count), 0, 0, 0, 0};
    }
    return decisions_[depth_++].chosen;
  }

  static constexpr unsigned nobody = ~0u;

  /// The thread of `enabled` that takes the next step, and accounts for that step. `steps` are
  /// those of all threads; `current` goes on if it can. `nobody` if all of them are known.
  unsigned choose_thread(ThreadSet enabled, const Step* steps, unsigned current) noexcept {
    if (depth_ == length_) {
      const unsigned candidates = enabled & ~sleep_ & 0xFFu;
      if (candidates == 0) {
        return nobody;
      }
      const unsigned chosen = current < most_threads && (candidates >> current & 1) != 0
                                  ? current
                                  : static_cast<unsigned>(__builtin_ctz(candidates));
      decisions_[length_++] = {true,   static_cast<std::uint8_t>(chosen),
                               0,      is_reduced_ ? set_of(chosen) : enabled,
                               0,      sleep_,
                               enabled};
    }
    const Decision& decision = decisions_[depth_];
    const unsigned chosen = decision.chosen;
    sleep_ = 0;
    for (unsigned thread = 0; thread < most_threads; ++thread) {
      const bool sleeps = is_reduced_ && ((decision.sleep | decision.done) >> thread & 1) != 0;
      if (sleeps && thread != chosen && !steps[thread].conflicts_with(steps[chosen])) {
        sleep_ = static_cast<ThreadSet>(sleep_ | set_of(thread));
      }
    }
    record(chosen, steps[chosen], depth_);
    ++depth_;
    return chosen;
  }

  /// True if the store `store` of `location` was in the past of the thread of the last step, apart
  /// from that step itself.
  bool was_in_past(unsigned location, unsigned store) const noexcept {
    return !is_reduced_ || is_in(past_before_, store_event_[location][store]);
  }
  void note_store(unsigned location, unsigned store) noexcept {
    store_event_[location][store] = static_cast<std::uint16_t>(event_count_);
  }

  unsigned event_count() const noexcept { return event_count_; }

 private:
  struct Decision {
    bool is_on_thread;
    std::uint8_t chosen;
    std::uint8_t count;
    ThreadSet backtrack, done, sleep, enabled;
  };
  /// Events are numbered from 1 on.
  struct Event {
    std::uint8_t thread;
    std::uint16_t time;
    std::uint16_t decision;
    Clock past;  ///< Itself included.
  };

  bool is_in(const Clock& past, unsigned event) const noexcept {
    return event == 0 || past.covers(events_[event].thread, events_[event].time);
  }

  void record(unsigned thread, const Step& step, unsigned decision) noexcept {
    Clock& past = past_[thread];
    if (step.waits_for != Step::no_store) {
      past.join(events_[store_event_[step.location][step.waits_for]].past);
    }
    past_before_ = past;
    unsigned conflicting[most_threads + 2];
    unsigned count = 0;
    const auto add = [&](unsigned event) {
      if (!is_in(past, event)) {
        conflicting[count++] = event;
      }
    };
    if (step.kind == Step::Kind::Fence) {
      for (const std::uint16_t event : last_of_thread_) {
        add(event);
      }
    } else if (step.kind == Step::Kind::PlainWrite) {
      add(last_fence_);
    } else {
      add(last_fence_);
      add(last_write_[step.location]);
      if (step.kind == Step::Kind::Write) {
        for (const std::uint16_t event : last_read_[step.location]) {
          add(event);
        }
      }
    }
    for (unsigned index = 0; index < count; ++index) {
      past.join(events_[conflicting[index]].past);
    }
    ++past.at[thread];
    const unsigned event = ++event_count_;
    events_[event] = {static_cast<std::uint8_t>(thread), past.at[thread],
                      static_cast<std::uint16_t>(decision), past};
    if (is_reduced_ && decision >= fresh_from_) {
      for (unsigned index = 0; index < count; ++index) {
        bool is_direct = true;
        for (unsigned other = 0; other < count; ++other) {
          is_direct = is_direct && (other == index || conflicting[other] == conflicting[index] ||
                                    !is_in(events_[conflicting[other]].past, conflicting[index]));
        }
        if (is_direct) {
          reverse(conflicting[index], event);
        }
      }
    }
    last_of_thread_[thread] = static_cast<std::uint16_t>(event);
    if (step.kind == Step::Kind::Fence) {
      last_fence_ = static_cast<std::uint16_t>(event);
    } else if (step.kind == Step::Kind::Read) {
      last_read_[step.location][thread] = static_cast<std::uint16_t>(event);
    } else if (step.kind == Step::Kind::Write) {
      last_write_[step.location] = static_cast<std::uint16_t>(event);
      for (std::uint16_t& read : last_read_[step.location]) {
        read = 0;
      }
    }
  }

  /// Sees to it that an execution is run in which `later` comes before `earlier`.
  void reverse(unsigned earlier, unsigned later) noexcept {
    Decision& decision = decisions_[events_[earlier].decision];
    // The events after `earlier` that do not depend on it, then `later`: its threads' first ones,
    // as far as none of the others must come before.
    unsigned first[most_threads] = {};
    unsigned initials = 0;
    for (unsigned event = earlier + 1; event <= later; ++event) {
      const unsigned thread = events_[event].thread;
      if (first[thread] != 0 || (event != later && is_in(events_[event].past, earlier))) {
        continue;
      }
      bool is_initial = true;
      for (const unsigned other : first) {
        is_initial = is_initial && (other == 0 || !is_in(events_[event].past, other));
      }
      first[thread] = event;
      initials |= is_initial ? 1u << thread : 0u;
    }
    initials &= decision.enabled;
    if ((initials & (decision.backtrack | decision.sleep)) != 0) {
      return;
    }
    const unsigned thread = events_[later].thread;
    const unsigned added = initials == 0                   ? unsigned{decision.enabled}
                           : (initials >> thread & 1) != 0 ? 1u << thread
                                                           : initials & (~initials + 1);
    decision.backtrack = static_cast<ThreadSet>(decision.backtrack | added);
  }

  Decision decisions_[most_decisions];
  unsigned length_ = 0;      ///< Decisions that are made.
  unsigned fresh_from_ = 0;  ///< Those from here on were made for the first time.
  unsigned depth_ = 0;       ///< Decisions of the execution so far.
  bool is_reduced_ = true;   ///< Else each thread is tried at each step.

  Event events_[most_events + 1];
  unsigned event_count_ = 0;
  ThreadSet sleep_ = 0;
  Clock past_[most_threads];
  Clock past_before_;
  std::uint16_t last_of_thread_[most_threads];
  std::uint16_t last_fence_ = 0;
  std::uint16_t last_write_[most_locations];
  std::uint16_t last_read_[most_locations][most_threads];
  std::uint16_t store_event_[most_locations][most_stores];
};

}  // namespace slabmalloc::explorer
