// SPDX-License-Identifier: MIT
// Tests of zones whose threads free each other's objects. ThreadSanitizer runs them too. The tests
// write objects by plain stores, so a missing order is a race there.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/time.h>

#include <array>
#include <atomic>
#include <barrier>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "support/frames.hpp"
#include "support/jitter_atomics.hpp"
#include "support/misuse_recorder.hpp"
#include "support/random.hpp"
#include "support/run_threads.hpp"
#include "zone/zone_configs.hpp"

namespace slabmalloc::test {
namespace {

/// The default configuration on base pages, with a pause between the steps of a remote free.
struct JitterConfig : CommonConfig {
  using Atomics = JitterAtomics;
  using SizeClasses = SizeClassTable<SmallSpec>;
  using BasePage = EmbeddedPage<4 * kibibyte, JitterAtomics>;
  using Pages = PageKinds<PageKind<BasePage, 1024>>;
  static constexpr std::uint32_t depot_pages = 0;
};

struct Block {
  std::uint64_t* words;
  Layout layout;
  std::uint64_t key;
};

void fill(const Block& block) {
  for (std::size_t word = 0; word < block.layout.size() / 8; ++word) {
    block.words[word] = block.key + word;
  }
}

/// True if the block holds the bytes of fill(). Then overwrites it, as a last user does before a
/// free.
bool check_and_clear(const Block& block) {
  bool intact = true;
  for (std::size_t word = 0; word < block.layout.size() / 8; ++word) {
    intact = intact && block.words[word] == block.key + word;
    block.words[word] = 0;
  }
  return intact;
}

/// Blocks in transit from one thread to another.
class Mailbox {
 public:
  void put(const std::vector<Block>& blocks) {
    const std::lock_guard lock(mutex_);
    for (const Block& block : blocks) {
      blocks_.push_back(block);
    }
  }
  std::vector<Block> take() {
    const std::lock_guard lock(mutex_);
    return std::exchange(blocks_, {});
  }

 private:
  std::mutex mutex_;
  std::vector<Block> blocks_;
};

template <class Config>
class ZoneThreads : public testing::Test {
 protected:
  using Pager = typename PagerFor<Config>::Type;
  using Zone = PagedZone<Pager, Config>;
  static constexpr std::size_t zone_count = 4;

  static Layout random_layout(Random& random) {
    return layout_of(8 * random.between(1, random.one_in(20) ? 128 : 16), 8);
  }

  Block allocate(std::size_t zone, Layout layout, std::uint64_t key) {
    void* object = zones_[zone].allocate(layout).value_or(nullptr);
    EXPECT_NE(object, nullptr);
    const Block block{static_cast<std::uint64_t*>(object), layout, key};
    fill(block);
    return block;
  }

  /// Drains all frees in transit; then no zone has an object, and no frame is left.
  void expect_all_accounted_for() {
    for (Zone& zone : zones_) {
      zone.drain();
    }
    std::size_t remote_frees = 0;
    for (Zone& zone : zones_) {
      zone.drain();
      EXPECT_EQ(zone.validate(), nullptr);
      const ZoneStatistics sums = zone.statistics();
      EXPECT_EQ(sums.used_bytes, 0u);
      EXPECT_EQ(sums.buffered_bytes, 0u);
      EXPECT_EQ(sums.allocations, sums.frees);
      remote_frees += sums.remote_frees;
    }
    EXPECT_EQ(remote_frees, remote_frees_.load());
    for (Zone& zone : zones_) {
      zone.trim();
    }
    EXPECT_EQ(pager_.live_bytes(), 0u) << "every frame is accounted for";
  }

  Pager pager_;
  std::array<Zone, zone_count> zones_{Zone(pager_), Zone(pager_), Zone(pager_), Zone(pager_)};
  std::atomic<std::size_t> remote_frees_ = 0;
  std::atomic<std::size_t> torn_ = 0;
  MisuseRecorder misuse_;
};

using Configs =
    testing::Types<DefaultConfig, EagerConfig, HardenedConfig, BesideConfig, JitterConfig>;
TYPED_TEST_SUITE(ZoneThreads, Configs);

TYPED_TEST(ZoneThreads, consumer_frees_what_a_producer_allocates) {
  constexpr std::size_t rounds = 300;
  constexpr std::size_t blocks_per_round = 200;
  Mailbox mailbox;
  Random random;
  std::thread producer([&, mine = random.fork()]() mutable {
    for (std::size_t round = 0; round < rounds; ++round) {
      std::vector<Block> blocks;
      for (std::size_t number = 0; number < blocks_per_round; ++number) {
        blocks.push_back(this->allocate(0, this->random_layout(mine), mine.next()));
      }
      mailbox.put(std::move(blocks));
    }
  });
  std::thread consumer([&] {
    std::size_t freed = 0;
    while (freed < rounds * blocks_per_round) {
      for (const Block& block : mailbox.take()) {
        this->torn_ += check_and_clear(block) ? 0 : 1;
        this->zones_[1].deallocate(block.words, block.layout);
        ++freed;
      }
      std::this_thread::yield();
    }
  });
  producer.join();
  consumer.join();
  this->remote_frees_ = rounds * blocks_per_round;
  EXPECT_EQ(this->torn_, 0u);
  this->expect_all_accounted_for();
}

TYPED_TEST(ZoneThreads, each_frees_the_blocks_of_all) {
  constexpr std::size_t rounds = 120;
  std::array<Mailbox, TestFixture::zone_count> mailboxes;
  Random random;
  std::vector<Random> randoms;
  for (std::size_t number = 0; number < TestFixture::zone_count; ++number) {
    randoms.push_back(random.fork());
  }
  std::barrier finish(TestFixture::zone_count);
  run_threads(TestFixture::zone_count, [&](std::size_t me) {
    Random& mine = randoms[me];
    auto& zone = this->zones_[me];
    const auto free_received = [&] {
      for (const Block& block : mailboxes[me].take()) {
        this->torn_ += check_and_clear(block) ? 0 : 1;
        ++this->remote_frees_;
        if (mine.one_in(4)) {
          TestFixture::Zone::deallocate_remote(block.words, block.layout);
        } else {
          zone.deallocate(block.words, block.layout);
        }
      }
    };
    for (std::size_t round = 0; round < rounds; ++round) {
      std::array<std::vector<Block>, TestFixture::zone_count> sent;
      for (int number = 0; number < 150; ++number) {
        const Block block = this->allocate(me, this->random_layout(mine), mine.next());
        sent[mine.below(sent.size())].push_back(block);
      }
      for (std::size_t to = 0; to < sent.size(); ++to) {
        if (to != me) {
          mailboxes[to].put(std::move(sent[to]));
          continue;
        }
        for (const Block& block : sent[to]) {
          this->torn_ += check_and_clear(block) ? 0 : 1;
          zone.deallocate(block.words, block.layout);
        }
      }
      free_received();
      if (mine.one_in(10)) {
        zone.trim();
      }
      if (mine.one_in(10)) {
        zone.drain_and_leave_current();
      }
    }
    finish.arrive_and_wait();
    free_received();
  });
  EXPECT_EQ(this->torn_, 0u);
  this->expect_all_accounted_for();
}

TYPED_TEST(ZoneThreads, pages_are_not_given_back_under_a_free) {
  // With few objects a page, a page's last free and its way back to the pager always follow each
  // other closely. Frames are freed for good, so AddressSanitizer and ThreadSanitizer report a late
  // access.
  constexpr bool is_beside = std::is_same_v<TypeParam, BesideConfig>;
  constexpr std::size_t rounds = is_beside ? 800 : 4000;
  const Layout layout = layout_of(is_beside ? 8192 : 256, 8);
  std::array<Mailbox, 2> mailboxes;
  std::atomic<bool> done = false;
  std::thread helpers[2];
  for (std::size_t number = 0; number < 2; ++number) {
    helpers[number] = std::thread([&, number] {
      while (true) {
        const bool last = done.load();
        for (const Block& block : mailboxes[number].take()) {
          this->torn_ += check_and_clear(block) ? 0 : 1;
          ++this->remote_frees_;
          TestFixture::Zone::deallocate_remote(block.words, block.layout);
        }
        if (last) {
          break;
        }
      }
    });
  }
  auto& zone = this->zones_[0];
  // On a busy machine the helpers may sleep for long, and nothing goes back meanwhile.
  const auto is_enough = [&] { return zone.statistics().reclaims > rounds / 100; };
  for (std::size_t round = 0; round < rounds || (round < 20 * rounds && !is_enough()); ++round) {
    if (round >= rounds) {
      std::this_thread::yield();
    }
    for (std::size_t number = 0; number < 16; ++number) {
      const Block block = this->allocate(0, layout, round * 1000 + number);
      if (number % 8 == 7) {
        this->torn_ += check_and_clear(block) ? 0 : 1;
        zone.deallocate(block.words, layout);
      } else {
        mailboxes[number % 2].put({block});
      }
    }
    zone.drain_and_leave_current();
    if (round % 4 == 0) {
      zone.trim();
    }
  }
  done = true;
  for (std::thread& helper : helpers) {
    helper.join();
  }
  EXPECT_EQ(this->torn_, 0u);
  EXPECT_TRUE(is_enough());
  this->expect_all_accounted_for();
}

TYPED_TEST(ZoneThreads, exactly_one_of_two_remote_frees_of_an_object_is_reported) {
  constexpr std::size_t rounds = 400;
  constexpr std::size_t objects_per_round = 40;
  const Layout layout = layout_of(64, 8);
  void* keeper = this->zones_[0].allocate(layout).value_or(nullptr);
  std::array<void*, objects_per_round> objects;
  std::barrier step(3);
  const auto free_all = [&] {
    for (std::size_t round = 0; round < rounds; ++round) {
      step.arrive_and_wait();
      for (void* object : objects) {
        TestFixture::Zone::deallocate_remote(object, layout);
      }
      step.arrive_and_wait();
    }
  };
  std::thread first(free_all);
  std::thread second(free_all);
  for (std::size_t round = 0; round < rounds; ++round) {
    for (void*& object : objects) {
      object = this->zones_[0].allocate(layout).value_or(nullptr);
    }
    step.arrive_and_wait();
    step.arrive_and_wait();
    ASSERT_EQ(this->misuse_.take_count(MisuseKind::DoubleFree), objects_per_round);
    this->zones_[0].drain();
    ASSERT_EQ(this->misuse_.take_kinds().size(), 0u);
    ASSERT_EQ(this->zones_[0].statistics().used_bytes, 64u) << "only one of two counts";
    ASSERT_EQ(this->zones_[0].validate(), nullptr);
  }
  first.join();
  second.join();
  this->zones_[0].deallocate(keeper, layout);
  this->remote_frees_ = rounds * objects_per_round;
  this->expect_all_accounted_for();
}

TYPED_TEST(ZoneThreads, remote_double_frees_are_harmless_while_the_owner_drains) {
  // No slot is issued again, so the zone finds each second free. It finds it at the call, or at the
  // merge if the owner drained the first one in between.
  const Layout layout = layout_of(64, 8);
  auto& zone = this->zones_[0];
  std::vector<void*> keepers;
  std::vector<void*> objects;
  for (int count = 0; count < 2000; ++count) {
    void* object = zone.allocate(layout).value_or(nullptr);
    (count % 10 == 0 ? keepers : objects).push_back(object);
  }
  std::atomic<int> running = 2;
  const auto free_all = [&] {
    for (void* object : objects) {
      TestFixture::Zone::deallocate_remote(object, layout);
    }
    --running;
  };
  std::thread first(free_all);
  std::thread second(free_all);
  while (running != 0) {
    zone.drain();
  }
  first.join();
  second.join();
  zone.drain();
  EXPECT_EQ(zone.validate(), nullptr);
  EXPECT_EQ(this->misuse_.take_count(MisuseKind::DoubleFree), objects.size());
  EXPECT_EQ(zone.statistics().used_bytes, keepers.size() * 64);
  for (void* object : keepers) {
    zone.deallocate(object, layout);
  }
  zone.trim();
  EXPECT_EQ(this->pager_.live_bytes(), 0u);
}

TYPED_TEST(ZoneThreads, a_zone_is_adopted_by_another_thread) {
  const Layout layout = layout_of(64, 8);
  std::vector<Block> blocks;
  for (std::uint64_t round = 0; round < 8; ++round) {
    std::thread([&] {
      for (int count = 0; count < 500; ++count) {
        blocks.push_back(this->allocate(0, layout, round));
      }
      for (std::size_t position = 0; position < blocks.size(); position += 2) {
        this->torn_ += check_and_clear(blocks[position]) ? 0 : 1;
        this->zones_[0].deallocate(blocks[position].words, layout);
        blocks[position] = blocks.back();
        blocks.pop_back();
      }
      this->zones_[0].drain_and_leave_current();
    }).join();
  }
  EXPECT_EQ(this->torn_, 0u);
  for (const Block& block : blocks) {
    this->zones_[0].deallocate(block.words, layout);
  }
  this->expect_all_accounted_for();
}

// ---- a free during the owner's own calls --------------------------------------------------------

/// Objects that a signal handler frees on the thread that owns their zone, as an NMI would.
class InterruptedZone {
 public:
  using Zone = ScopedZone<FrameSource>;
  static constexpr std::size_t capacity = 1024;

  /// Gives `object` to the handler; false if there is no room.
  bool hand_over(void* object) {
    const std::size_t tail = tail_.load(std::memory_order_relaxed);
    if (tail - head_.load(std::memory_order_relaxed) == capacity) {
      return false;
    }
    ring_[tail % capacity] = object;
    std::atomic_signal_fence(std::memory_order_release);
    tail_.store(tail + 1, std::memory_order_relaxed);
    return true;
  }
  std::size_t freed() const { return head_.load(std::memory_order_relaxed); }
  std::size_t interrupts() const { return interrupts_.load(std::memory_order_relaxed); }

  /// Runs in the handler: frees some of the objects given to it.
  void free_some() {
    interrupts_.store(interrupts() + 1, std::memory_order_relaxed);
    std::size_t head = head_.load(std::memory_order_relaxed);
    const std::size_t tail = tail_.load(std::memory_order_relaxed);
    std::atomic_signal_fence(std::memory_order_acquire);
    for (int count = 0; count < 50 && head != tail; ++count, ++head) {
      Zone::deallocate_remote(ring_[head % capacity], layout);
    }
    head_.store(head, std::memory_order_relaxed);
  }

  FrameSource frames;
  Zone zone{frames};
  const Layout layout = layout_of(64, 8);

 private:
  std::array<void*, capacity> ring_{};
  std::atomic<std::size_t> head_ = 0;
  std::atomic<std::size_t> tail_ = 0;
  std::atomic<std::size_t> interrupts_ = 0;
};

InterruptedZone* interrupted_zone = nullptr;

class TimerSignal {
 public:
  explicit TimerSignal(suseconds_t microseconds) {
    struct sigaction action = {};
    action.sa_handler = [](int) { interrupted_zone->free_some(); };
    action.sa_flags = SA_RESTART;
    sigaction(SIGALRM, &action, &previous_);
    const itimerval timer{{0, microseconds}, {0, microseconds}};
    setitimer(ITIMER_REAL, &timer, nullptr);
  }
  ~TimerSignal() {
    const itimerval off{};
    setitimer(ITIMER_REAL, &off, nullptr);
    sigaction(SIGALRM, &previous_, nullptr);
  }

 private:
  struct sigaction previous_ = {};
};

TEST(ZoneInterrupts, handlers_free_into_the_zone_that_they_interrupt) {
  InterruptedZone shared;
  interrupted_zone = &shared;
  auto& zone = shared.zone;
  const Layout layout = shared.layout;
  MisuseRecorder misuse;
  std::size_t handed_over = 0;
  std::vector<void*> mine;
  {
    const TimerSignal timer(100);
    for (std::size_t step = 0; step < 3'000'000 && shared.interrupts() < 5000; ++step) {
      void* object = zone.allocate(layout).value_or(nullptr);
      if (step % 3 == 0 && shared.hand_over(object)) {
        ++handed_over;
      } else {
        mine.push_back(object);
      }
      if (mine.size() > 300) {
        for (void* freed : mine) {
          zone.deallocate(freed, layout);
        }
        mine.clear();
      }
      if (step % 1000 == 0) {
        zone.drain();
        ASSERT_EQ(zone.validate(), nullptr);
      }
      if (step % 5000 == 0) {
        zone.trim();
      }
    }
  }
  EXPECT_GT(shared.interrupts(), 10u);
  while (shared.freed() != handed_over) {
    shared.free_some();
  }
  for (void* freed : mine) {
    zone.deallocate(freed, layout);
  }
  zone.drain();
  EXPECT_EQ(zone.validate(), nullptr);
  const ZoneStatistics sums = zone.statistics();
  EXPECT_EQ(sums.used_bytes, 0u);
  EXPECT_EQ(sums.remote_frees, handed_over) << "each of the handler's frees counts once";
  zone.trim();
  EXPECT_EQ(shared.frames.live_frames(), 0u);
  interrupted_zone = nullptr;
}

}  // namespace
}  // namespace slabmalloc::test
