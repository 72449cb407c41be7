// SPDX-License-Identifier: MIT
#include "arena/decay.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "support/random.hpp"

namespace slabmalloc {
namespace {

constexpr std::size_t mebibyte = std::size_t{1} << 20;
constexpr std::uint32_t decay_time = 800;  ///< Milliseconds: eight epochs of 100.
constexpr std::uint32_t epoch = decay_time / 8;

/// A heap that frees all its memory just before an epoch begins, and is idle from then on.
class IdleHeap {
 public:
  explicit IdleHeap(std::size_t bytes) : dirty_(bytes) {
    decay_.note(bytes, 0, start, decay_time);
    decay_.note(0, bytes, start + epoch - 1, decay_time);
  }

  /// Purges what is due `time` after that and returns what stays.
  std::size_t purge(std::uint32_t time) {
    const std::uint32_t now = start + epoch + time;
    decay_.note(0, dirty_, now, decay_time);
    const std::size_t purged = std::max(decay_.due(), dirty_ - std::min(dirty_, decay_.limit()));
    decay_.note_purged(purged);
    dirty_ -= purged;
    decay_.note(0, dirty_, now, decay_time);
    return dirty_;
  }

 private:
  static constexpr std::uint32_t start = 1000 * epoch;
  Decay decay_;
  std::size_t dirty_;
};

TEST(Decay, an_idle_heap_gives_memory_back_in_equal_steps_after_a_quarter_of_the_decay_time) {
  IdleHeap heap(600 * mebibyte);
  for (std::uint32_t now = 0; now < 3 * epoch; ++now) {
    ASSERT_EQ(heap.purge(now), 600 * mebibyte) << now;
  }
  for (std::uint32_t step = 3; step <= 8; ++step) {
    ASSERT_EQ(heap.purge(step * epoch), (8 - step) * 100 * mebibyte) << step;
    ASSERT_EQ(heap.purge(step * epoch + epoch - 1), (8 - step) * 100 * mebibyte) << step;
  }
}

TEST(Decay, a_heap_that_sleeps_gives_all_back_after_the_decay_time) {
  for (const std::uint32_t slept : {decay_time, 5 * decay_time, ~std::uint32_t{0} / 2}) {
    EXPECT_EQ(IdleHeap(600 * mebibyte).purge(slept), 0u) << slept;
  }
  EXPECT_EQ(IdleHeap(600 * mebibyte).purge(5 * epoch), 300 * mebibyte);
}

TEST(Decay, memory_that_is_used_again_in_time_stays_whatever_its_size) {
  Decay decay;
  for (std::uint32_t now = 0; now < 20 * decay_time; now += 2 * epoch) {
    decay.note(900 * mebibyte, 0, now, decay_time);
    decay.note(0, 900 * mebibyte, now + 1, decay_time);
    decay.note(0, 900 * mebibyte, now + 2 * epoch - 1, decay_time);
    ASSERT_EQ(decay.due(), 0u) << now;
    ASSERT_GE(decay.limit(), 900 * mebibyte) << now;
  }
}

TEST(Decay, of_memory_that_comes_and_goes_the_unneeded_rest_decays) {
  Decay decay;
  std::size_t dirty = 300 * mebibyte;
  decay.note(600 * mebibyte, 0, 0, decay_time);
  std::size_t purged = 0;
  for (std::uint32_t now = 0; now < 3 * decay_time; now += epoch / 2) {
    decay.note(300 * mebibyte, dirty, now, decay_time);
    decay.note(500 * mebibyte, dirty - 200 * mebibyte, now + 1, decay_time);
    decay.note(300 * mebibyte, dirty, now + 2, decay_time);
    purged += decay.due();
    dirty -= decay.due();
    decay.note_purged(decay.due());
  }
  EXPECT_EQ(purged, 100 * mebibyte);
}

TEST(Decay, dirty_memory_hardly_raises_the_peak) {
  Decay decay;
  decay.note(640 * mebibyte, 0, 0, decay_time);
  for (std::size_t dirty = 0; dirty <= 20; ++dirty) {
    decay.note(640 * mebibyte, dirty * mebibyte, 1, decay_time);
    EXPECT_EQ(decay.limit(), 11 * mebibyte) << "a sixty-fourth and 1 MiB";
  }
  decay.note(64 * mebibyte, 0, 2, decay_time);
  EXPECT_EQ(decay.limit(), 587 * mebibyte) << "the recent peak counts";
  decay.note(64 * mebibyte, 0, 2 + 2 * decay_time, decay_time);
  EXPECT_EQ(decay.limit(), 2 * mebibyte) << "for a decay time";
}

TEST(Decay, with_a_decay_time_of_0_no_dirty_memory_may_stay) {
  Decay decay;
  for (const std::uint32_t now : {0u, 1u, 77u}) {
    decay.note(mebibyte, 5 * mebibyte, now, 0);
    EXPECT_EQ(decay.limit(), 0u);
  }
}

TEST(Decay, what_stayed_below_an_old_peak_decays_and_is_no_excess) {
  Decay decay;
  decay.note(640 * mebibyte, 0, 0, decay_time);
  decay.note(0, 640 * mebibyte, 1, decay_time);
  decay.note(0, 640 * mebibyte, 5 * decay_time, decay_time);
  EXPECT_GE(decay.limit(), 640 * mebibyte);
  EXPECT_EQ(decay.due(), 640 * mebibyte);
}

TEST(Decay, memory_that_cannot_be_purged_is_due_again_in_the_next_epoch) {
  Decay decay;
  decay.note(0, mebibyte, 0, decay_time);
  decay.note(0, mebibyte, 2 * decay_time, decay_time);
  EXPECT_EQ(decay.due(), mebibyte);
  decay.postpone();
  decay.note(0, mebibyte, 2 * decay_time + epoch - 1, decay_time);
  EXPECT_EQ(decay.due(), 0u);
  decay.note(0, mebibyte, 2 * decay_time + epoch, decay_time);
  EXPECT_EQ(decay.due(), mebibyte);
}

/// What was noted, since a time.
struct Moment {
  std::uint64_t time;
  std::size_t dirty;
  std::size_t purged;  ///< Until then, in all.
};

/// The definition in the header, over the whole history; `boundary` is the start of an epoch.
std::size_t expected_due(const std::vector<Moment>& history, std::uint64_t boundary) {
  const std::size_t purged_until_now = history.back().purged;
  std::size_t due = 0;
  for (std::uint64_t age = 0; age <= 8 && age * epoch <= boundary; ++age) {
    const std::uint64_t since = boundary - age * epoch;
    // The amounts at the start of the epoch are those of the last moment before it.
    auto first = std::find_if(history.begin(), history.end(),
                              [&](const Moment& moment) { return moment.time >= since; });
    first = first == history.begin() ? first : first - 1;
    const std::size_t purged_before = first->purged;
    std::size_t unneeded = first->dirty;
    for (auto moment = first; moment != history.end(); ++moment) {
      unneeded = std::min(unneeded, moment->dirty + moment->purged - purged_before);
    }
    const std::size_t part = age == 8   ? unneeded
                             : age <= 2 ? 0
                                        : unneeded / 6 * static_cast<std::size_t>(age - 2);
    const std::size_t purged = purged_until_now - purged_before;
    due = std::max(due, part > purged ? part - purged : 0);
  }
  return due;
}

TEST(Decay, agrees_with_its_definition_over_the_whole_history) {
  test::Random random;
  for (int history_number = 0; history_number < 40; ++history_number) {
    Decay decay;
    std::vector<Moment> history{{0, 0, 0}};
    std::uint64_t time = 0;
    std::size_t dirty = 0;
    std::size_t purged = 0;
    decay.note(0, 0, 0, decay_time);
    for (int step = 0; step < 600; ++step) {
      const std::uint64_t before = time;
      time += random.one_in(3) ? random.below(random.one_in(20) ? 2 * decay_time : epoch) : 0;
      decay.note(0, dirty, static_cast<std::uint32_t>(time), decay_time);
      if (time / epoch != before / epoch) {
        ASSERT_EQ(decay.due(), expected_due(history, time / epoch * epoch)) << "step " << step;
      }
      if (random.one_in(3) && decay.due() != 0) {
        const std::size_t bytes = random.one_in(2) ? decay.due() : random.below(decay.due() + 1);
        decay.note_purged(bytes);
        dirty -= bytes;
        purged += bytes;
      } else {
        dirty = random.one_in(4) ? random.below(1000) : dirty + random.below(100);
      }
      decay.note(0, dirty, static_cast<std::uint32_t>(time), decay_time);
      history.push_back({time, dirty, purged});
    }
  }
}

}  // namespace
}  // namespace slabmalloc
