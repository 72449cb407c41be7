// SPDX-License-Identifier: MIT
// Tests of type-stable caches: memory that a reader may look at holds objects of the cache, and
// serves again before memory is exhausted.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "kernel/reading_kernel.hpp"
#include "slabmalloc/kernel.hpp"
#include "support/frames.hpp"
#include "support/misuse_recorder.hpp"
#include "support/random.hpp"
#include "support/run_threads.hpp"

namespace slabmalloc {
namespace {

using test::FrameSource;
using test::HostedCpu;
using test::Random;
using test::Readers;

/// A kernel whose waits end at once, as at a deadline.
struct HastyKernel : test::Reading<test::PatientKernel> {
  static constexpr std::uint32_t maximum_cpus = 3;
  static bool wait(WaitCondition condition) noexcept { return condition(); }
  static void wake() noexcept {}
  static std::uintptr_t thread() noexcept { return HostedCpu::number + 1; }
};

struct StableOptions : CacheOptions {
  static constexpr bool type_stable = true;
  static constexpr std::uint32_t growth_frames = 1;
  static constexpr std::uint32_t cached_frames = 1;
};

struct StableDebugOptions : DebugCacheOptions {
  static constexpr bool type_stable = true;
};

constexpr std::uint64_t magic = 0x0B1EC7;

/// An object that tells whether it is one.
struct Thing {
  Thing() noexcept { ++live; }
  ~Thing() {
    word = 0;
    --live;
  }
  Thing(const Thing&) = delete;
  Thing& operator=(const Thing&) = delete;

  std::uint64_t word = magic;
  std::uint64_t rest[89] = {};

  static inline std::size_t live = 0;
};

/// The frames that each open section may look at: those with an object that was in use since it
/// opened.
class Model {
 public:
  static constexpr std::size_t readers = 3;

  ~Model() { Readers::close_all(); }

  void toggle(std::size_t reader) {
    if (Readers::is_open(reader)) {
      Readers::close(reader);
      seen_[reader].clear();
    } else {
      Readers::open(reader);
      for (const auto& [frame, count] : used_) {
        seen_[reader].insert(frame);
      }
    }
  }
  void close_all() {
    for (std::size_t reader = 0; reader < readers; ++reader) {
      if (Readers::is_open(reader)) {
        toggle(reader);
      }
    }
  }
  void use(std::uintptr_t frame) {
    ++used_[frame];
    for (std::size_t reader = 0; reader < readers; ++reader) {
      if (Readers::is_open(reader)) {
        seen_[reader].insert(frame);
      }
    }
  }
  void free(std::uintptr_t frame) {
    if (--used_[frame] == 0) {
      used_.erase(frame);
    }
  }
  bool is_seen(std::uintptr_t frame) const {
    bool result = used_.contains(frame);
    for (const auto& seen : seen_) {
      result = result || seen.contains(frame);
    }
    return result;
  }

 private:
  std::map<std::uintptr_t, std::size_t> used_;
  std::array<std::set<std::uintptr_t>, readers> seen_;
};

/// A pager that expects each frame to come back after its readers left.
class WatchingFrames {
 public:
  Frame allocate_frame(std::size_t bytes) noexcept { return source.allocate_frame(bytes); }
  void deallocate_frame(void* frame, std::size_t bytes) noexcept {
    EXPECT_FALSE(model.is_seen(reinterpret_cast<std::uintptr_t>(frame)))
        << "a reader may still look at it";
    ++returned;
    source.deallocate_frame(frame, bytes);
  }

  FrameSource source;
  Model model;
  std::size_t returned = 0;
};

using Things = ObjectCache<Thing, HastyKernel, WatchingFrames, StableOptions>;
constexpr std::size_t per_page = Things::objects_per_page;

std::uintptr_t frame_of(const void* object) {
  return align_down(reinterpret_cast<std::uintptr_t>(object), Things::page_bytes);
}

/// A cache under a model of its readers.
class Trial {
 public:
  Trial() {
    HostedCpu::number = 0;
    Thing::live = 0;
  }
  ~Trial() {
    frames.model.close_all();
    HostedCpu::number = 0;
    while (!used.empty()) {
      free_some(1);
    }
    EXPECT_EQ(things.validate(), nullptr);
    EXPECT_EQ(things.destroy(), 0u);
    EXPECT_EQ(frames.source.live_bytes(), 0u);
    EXPECT_EQ(Thing::live, 0u);
  }

  bool allocate(Context context) {
    Thing* const thing = things.allocate(context);
    if (thing == nullptr) {
      return false;
    }
    EXPECT_EQ(thing->word, magic) << "it stayed constructed";
    frames.model.use(frame_of(thing));
    used.push_back(thing);
    return true;
  }
  void free_some(std::size_t count) {
    for (; count != 0 && !used.empty(); --count) {
      Thing* const thing = used.front();
      used.erase(used.begin());
      frames.model.free(frame_of(thing));
      things.deallocate(thing);
    }
  }
  std::size_t parked() { return things.zones().parked_frame_bytes() / Things::page_bytes; }
  void expect_sound() {
    ASSERT_EQ(things.validate(), nullptr);
    ASSERT_EQ(Thing::live, frames.source.live_frames() * per_page);
    ASSERT_EQ(things.zones().frame_bytes(), frames.source.live_bytes());
  }

  WatchingFrames frames;
  Things things{"thing", frames};
  std::vector<Thing*> used;
};

TEST(TypeStable, each_short_sequence_of_steps_keeps_frames_until_their_readers_left) {
  constexpr std::size_t steps = 6;
  constexpr std::size_t kinds = 7;
  std::size_t sequences = 1;
  for (std::size_t step = 0; step < steps; ++step) {
    sequences *= kinds;
  }
  std::size_t returned = 0;
  for (std::size_t sequence = 0; sequence < sequences; ++sequence) {
    Trial trial;
    for (std::size_t rest = sequence, step = 0; step < steps; ++step, rest /= kinds) {
      switch (rest % kinds) {
        case 0:
          for (std::size_t count = 0; count < per_page; ++count) {
            ASSERT_TRUE(trial.allocate(Context::MayWait));
          }
          break;
        case 1:
          trial.free_some(per_page);
          break;
        case 2:
          trial.things.zones().trim();
          break;
        case 3:
          trial.things.zones().run_deferred();
          break;
        case 4:
          trial.frames.source.set_exhausted(sequence % 2 == 0);
          if (!trial.allocate(Context::MayNotWait)) {
            ASSERT_EQ(trial.parked(), 0u) << "a parked frame serves before memory is exhausted";
          }
          trial.frames.source.set_exhausted(false);
          break;
        default:
          trial.frames.model.toggle(rest % kinds - 5);
      }
    }
    ASSERT_NO_FATAL_FAILURE(trial.expect_sound());
    ASSERT_FALSE(testing::Test::HasFailure()) << "sequence " << sequence;
    returned += trial.frames.returned;
  }
  EXPECT_GT(returned, 500u) << "frames went back";
}

TEST(TypeStable, a_random_load_on_all_cpus_agrees_with_a_model_of_its_readers) {
  Random random;
  Trial trial;
  std::size_t most_parked = 0;
  for (int turn = 0; turn < 30'000; ++turn) {
    HostedCpu::number = random.below(HastyKernel::maximum_cpus);
    const std::uint32_t kind = random.below(20);
    if (kind < 8) {
      trial.frames.source.set_exhausted(random.one_in(8));
      const Context context = random.one_in(2) ? Context::MayWait : Context::MayNotWait;
      for (std::size_t count = random.below(2 * per_page); count != 0; --count) {
        if (!trial.allocate(context)) {
          ASSERT_EQ(trial.parked(), 0u);
          break;
        }
      }
      trial.frames.source.set_exhausted(false);
    } else if (kind < 16) {
      trial.free_some(random.below(trial.used.size() > 300 ? 100 : 2 * per_page));
    } else if (kind < 18) {
      trial.frames.model.toggle(random.below(Model::readers));
    } else if (random.one_in(2)) {
      trial.things.zones().trim();
    } else if (random.one_in(2)) {
      EXPECT_TRUE(trial.things.reserve(random.below(4) * per_page));
    } else {
      trial.things.enter_idle();
    }
    most_parked = trial.parked() > most_parked ? trial.parked() : most_parked;
    if (turn % 50 == 0) {
      ASSERT_NO_FATAL_FAILURE(trial.expect_sound());
    }
    ASSERT_FALSE(testing::Test::HasFailure()) << "turn " << turn;
  }
  EXPECT_TRUE(trial.things.reserve(0));
  EXPECT_GT(most_parked, 3u);
  EXPECT_GT(trial.frames.returned, 100u);
}

TEST(TypeStable, parked_frames_serve_before_the_pager_and_against_the_limit) {
  for (const Context context : {Context::MayWait, Context::MayNotWait}) {
    Trial trial;
    constexpr std::size_t pages = 5;
    trial.things.set_limit(pages * per_page);
    while (trial.allocate(context)) {
    }
    ASSERT_EQ(trial.used.size(), pages * per_page);
    trial.frames.model.toggle(0);
    trial.free_some(pages * per_page);
    trial.things.zones().trim();
    EXPECT_EQ(trial.parked(), pages);
    EXPECT_EQ(trial.things.zones().statistics().parked_frame_bytes, pages * Things::page_bytes);
    EXPECT_EQ(trial.things.statistics().pages, pages) << "they count against the limit";
    EXPECT_EQ(trial.things.zones().trim(), 0u) << "the reader is still there";
    const std::size_t constructed = Thing::live;
    while (trial.allocate(context)) {
    }
    EXPECT_EQ(trial.used.size(), pages * per_page);
    EXPECT_EQ(trial.parked(), 0u);
    EXPECT_EQ(Thing::live, constructed) << "none was constructed anew";
    EXPECT_EQ(trial.frames.returned, 0u);
    trial.free_some(pages * per_page);
    trial.things.zones().trim();
    // A frame that was reused waits anew: for a reader that came meanwhile too.
    trial.frames.model.toggle(1);
    trial.frames.model.toggle(0);
    trial.things.zones().trim();
    trial.frames.model.close_all();
    for (int batch = 0; batch < 3; ++batch) {
      trial.things.zones().trim();
    }
    EXPECT_EQ(trial.frames.returned, pages) << "all are back after a period without readers";
  }
}

TEST(TypeStable, a_reserve_takes_parked_frames_and_an_idle_cpu_gives_passed_ones_back) {
  Trial trial;
  for (std::size_t count = 0; count < 3 * per_page; ++count) {
    ASSERT_TRUE(trial.allocate(Context::MayWait));
  }
  trial.frames.model.toggle(0);
  trial.free_some(3 * per_page);
  trial.things.zones().trim();
  EXPECT_EQ(trial.parked(), 3u);
  trial.frames.source.set_exhausted(true);
  EXPECT_TRUE(trial.things.reserve(2));
  EXPECT_EQ(trial.parked(), 1u);
  EXPECT_TRUE(trial.things.reserve(0));
  trial.things.zones().trim();
  EXPECT_EQ(trial.parked(), 3u);
  trial.frames.model.close_all();
  EXPECT_TRUE(trial.things.enter_idle());
  EXPECT_EQ(trial.parked(), 0u);
  EXPECT_EQ(trial.frames.returned, 3u);
}

TEST(TypeStable, destroy_waits_for_readers_and_else_counts_the_objects_that_they_may_see) {
  Trial trial;
  for (std::size_t count = 0; count < 2 * per_page; ++count) {
    ASSERT_TRUE(trial.allocate(Context::MayWait));
  }
  EXPECT_EQ(trial.things.destroy(), 2 * per_page) << "they are in use";
  trial.frames.model.toggle(0);
  Thing* const seen = trial.used.front();
  trial.free_some(2 * per_page);
  EXPECT_EQ(trial.things.destroy(), 2 * per_page) << "the reader does not leave in time";
  EXPECT_EQ(seen->word, magic) << "it is still an object";
  EXPECT_EQ(trial.things.validate(), nullptr);
  ASSERT_TRUE(trial.allocate(Context::MayWait)) << "the cache may be used again";
  trial.free_some(1);
  EXPECT_TRUE(trial.things.zones().drain_this_cpu());
  EXPECT_FALSE(trial.things.zones().drain_parked());
  trial.frames.model.close_all();
  EXPECT_TRUE(trial.things.zones().drain_parked());
  EXPECT_EQ(trial.frames.source.live_bytes(), 0u);
  for (std::size_t count = 0; count < 2 * per_page; ++count) {
    ASSERT_TRUE(trial.allocate(Context::MayWait));
  }
  trial.free_some(2 * per_page);
  trial.things.zones().release_all();
  EXPECT_EQ(trial.frames.source.live_bytes(), 0u) << "without readers it waits for nobody";
  EXPECT_EQ(trial.things.destroy(), 0u);
}

TEST(TypeStable, each_failure_of_the_pager_leaves_frames_parked_or_served) {
  for (std::size_t call = 1; call <= 12; ++call) {
    Trial trial;
    trial.frames.source.fail_call(call);
    for (int round = 0; round < 3; ++round) {
      for (std::size_t count = 0; count < 4 * per_page; ++count) {
        trial.allocate(Context::MayNotWait);
      }
      trial.frames.model.toggle(0);
      trial.free_some(trial.used.size());
      trial.things.zones().trim();
      ASSERT_NO_FATAL_FAILURE(trial.expect_sound());
    }
  }
}

TEST(TypeStable, a_debug_mode_lets_readers_write_freed_objects) {
  test::MisuseRecorder misuse;
  FrameSource frames;
  HostedCpu::number = 0;
  ObjectCache<Thing, HastyKernel, FrameSource, StableDebugOptions> things("thing", frames);
  Thing* const thing = things.allocate();
  things.deallocate(thing);
  thing->rest[3] = 1;  // A lock in it, for instance.
  things.zones().drain_and_leave_current();
  EXPECT_EQ(things.zones().check_blocks(), 0u);
  reinterpret_cast<std::byte*>(thing)[sizeof(Thing)] = std::byte{1};
  EXPECT_EQ(things.destroy(), 0u);
  EXPECT_EQ(misuse.take_kinds(), std::vector{MisuseKind::WriteAfterFree}) << "its red zone counts";
}

// ---- threads ------------------------------------------------------------------------------------

/// What readers find by its key, and check after that.
struct Session {
  Session() noexcept { word.store(magic, std::memory_order_relaxed); }
  ~Session() { word.store(0, std::memory_order_relaxed); }

  std::atomic<std::uint64_t> word;
  std::atomic<std::uint64_t> key = 0;  ///< 0: it is free.
  std::atomic<std::uint64_t> value[60] = {};
};

struct ThreadsKernel : test::Reading<test::PatientKernel> {};

TEST(TypeStableThreads, readers_look_at_freed_objects_and_find_objects) {
  using Sessions = ObjectCache<Session, ThreadsKernel, FrameSource, StableOptions>;
  FrameSource frames;
  Sessions sessions("session", frames);
  constexpr std::size_t keys = 64;
  constexpr std::size_t writers = 2;
  constexpr std::size_t threads = 4;
  std::array<std::atomic<Session*>, keys> table{};
  std::atomic<std::size_t> found = 0;
  std::atomic<std::size_t> reused = 0;
  Random random;
  std::array<std::uint64_t, threads> seeds;
  for (std::uint64_t& seed : seeds) {
    seed = random.next();
  }
  const auto drop = [&](Session* session) {
    if (session != nullptr) {
      session->key.store(0, std::memory_order_release);
      sessions.deallocate(session);
    }
  };
  const auto write = [&](Random& own) {
    const std::size_t key = own.below(keys);
    Session* const session = own.one_in(3) ? nullptr : sessions.allocate();
    if (session != nullptr) {
      ASSERT_EQ(session->word.load(std::memory_order_relaxed), magic);
      for (auto& value : session->value) {
        value.store(key + 1, std::memory_order_relaxed);
      }
      session->key.store(key + 1, std::memory_order_release);
    }
    drop(table[key].exchange(session, std::memory_order_acq_rel));
    if (own.one_in(50)) {
      sessions.zones().trim();
    }
    if (own.one_in(200)) {
      for (auto& place : table) {
        drop(place.exchange(nullptr, std::memory_order_acq_rel));
      }
    }
  };
  const auto read = [&](Random& own, std::size_t reader) {
    const std::size_t key = own.below(keys);
    Readers::open(reader);
    if (Session* const session = table[key].load(std::memory_order_acquire)) {
      if (own.one_in(4)) {
        sched_yield();
      }
      EXPECT_EQ(session->word.load(std::memory_order_relaxed), magic) << "the type is stable";
      const std::uint64_t value = session->value[own.below(60)].load(std::memory_order_relaxed);
      const bool is_mine = session->key.load(std::memory_order_acquire) == key + 1;
      EXPECT_LE(value, keys);
      ++(is_mine ? found : reused);
    }
    Readers::close(reader);
  };
  test::run_threads(threads, [&](std::size_t thread) {
    HostedCpu::number = static_cast<std::uint32_t>(thread);
    Random own(seeds[thread]);
    for (int turn = 0; turn < 20'000; ++turn) {
      thread < writers ? write(own) : read(own, thread);
    }
  });
  HostedCpu::number = 0;
  Readers::close_all();
  for (auto& place : table) {
    drop(place.exchange(nullptr));
  }
  EXPECT_GT(found.load(), 0u);
  EXPECT_EQ(sessions.validate(), nullptr);
  EXPECT_EQ(sessions.destroy(), 0u);
  EXPECT_EQ(frames.live_bytes(), 0u);
}

}  // namespace
}  // namespace slabmalloc
