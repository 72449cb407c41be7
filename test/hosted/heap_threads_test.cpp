// SPDX-License-Identifier: MIT
//
// Threads of a Heap: more than it has numbers, ends of threads, signals, fork().
#include <gtest/gtest.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "hosted/counting_memory.hpp"
#include "support/child.hpp"
#include "support/misuse_recorder.hpp"
#include "support/other_thread.hpp"
#include "support/pattern.hpp"
#include "support/random.hpp"
#include "support/run_threads.hpp"

namespace slabmalloc::test {
namespace {

constexpr std::size_t mebibytes = std::size_t{1} << 20;

struct Block {
  std::byte* address = nullptr;
  std::size_t bytes = 0;
  std::size_t alignment = 1;
};

/// Blocks that any thread takes out and puts in, each with a pattern of its address.
template <class Heap>
class Exchange {
 public:
  explicit Exchange(Heap& heap) : heap_(heap) {}

  /// Takes the block of a random place out, checks it, does something with it, and puts it back or
  /// into another place.
  void step(Random& random) {
    Block block = swap(random.below(places), {});
    check(block);
    switch (random.below(4)) {
      case 0:
        resize(block, random);
        break;
      case 1:
        break;
      default:
        free(block, random);
        block = make(random);
    }
    block = swap(random.below(places), block);
    check(block);
    free(block, random);
  }
  void free_all(Random& random) {
    for (std::size_t place = 0; place < places; ++place) {
      free(swap(place, {}), random);
    }
  }

 private:
  static constexpr std::size_t places = 300;
  struct Place {
    std::mutex mutex;
    Block block;
  };

  Block swap(std::size_t place, Block block) {
    const std::lock_guard lock(places_[place].mutex);
    return std::exchange(places_[place].block, block);
  }
  static std::size_t random_bytes(Random& random) {
    const std::size_t most = std::size_t{16} << random.below(random.one_in(30) ? 16 : 10);
    return random.between(1, most);
  }
  /// The first bytes of a block, which have a pattern.
  static std::size_t checked_bytes(const Block& block) {
    return block.bytes < 1000 ? block.bytes : 1000;
  }
  static void check(const Block& block) {
    ASSERT_TRUE(holds_pattern(block.address, checked_bytes(block), block.bytes));
  }
  Block make(Random& random) {
    const std::size_t alignment = std::size_t{1} << random.below(random.one_in(20) ? 17 : 7);
    Block block{nullptr, random_bytes(random), alignment};
    const bool is_zeroed = random.one_in(4);
    const Layout layout = layout_of(block.bytes, block.alignment);
    const Result<void*> got = is_zeroed ? heap_.allocate_zeroed(layout) : heap_.allocate(layout);
    EXPECT_TRUE(got);
    block.address = static_cast<std::byte*>(got.value_or(nullptr));
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(block.address) % alignment, 0u);
    EXPECT_TRUE(!is_zeroed || holds_zeroes(block.address, block.bytes));
    EXPECT_GE(heap_.usable_size(block.address), block.bytes);
    fill_pattern(block.address, checked_bytes(block), block.bytes);
    return block;
  }
  void resize(Block& block, Random& random) {
    const std::size_t bytes = random_bytes(random);
    const std::size_t alignment = block.address != nullptr ? block.alignment : 8;
    const Result<void*> moved = heap_.reallocate(block.address, layout_of(bytes, alignment));
    ASSERT_TRUE(moved);
    auto* const address = static_cast<std::byte*>(*moved);
    const std::size_t kept = checked_bytes(block) < bytes ? checked_bytes(block) : bytes;
    ASSERT_TRUE(holds_pattern(address, kept, block.bytes));
    block = {address, bytes, alignment};
    fill_pattern(block.address, checked_bytes(block), block.bytes);
  }
  void free(const Block& block, Random& random) {
    if (random.one_in(2)) {
      heap_.deallocate(block.address);
    } else {
      heap_.deallocate(block.address, layout_of(block.bytes, block.alignment));
    }
  }

  Heap& heap_;
  std::array<Place, places> places_;
};

/// The number of numbers: none exclusive, one, and more than threads.
template <class Numbers>
class HeapThreadsTest : public testing::Test {};
using NumbersOfThreads = testing::Types<std::integral_constant<std::uint32_t, 1>,
                                        std::integral_constant<std::uint32_t, 2>,
                                        std::integral_constant<std::uint32_t, 16>>;
TYPED_TEST_SUITE(HeapThreadsTest, NumbersOfThreads);

TYPED_TEST(HeapThreadsTest, exchange_blocks_of_all_sizes_and_lose_none) {
  using TestHeap = CountedHeap<TypeParam::value>;
  const std::size_t before = CountingMemory::mapped_bytes;
  Random random;
  std::vector<Random> seeds;
  for (int thread = 0; thread < 6; ++thread) {
    seeds.push_back(random.fork());
  }
  const MisuseRecorder misuse;
  typename TestHeap::Owner heap = TestHeap::create("exchange");
  heap->set_kept_bytes(mebibytes);
  Exchange<TestHeap> exchange(*heap);
  for (int round = 0; round < 2; ++round) {  // The second has new threads on old numbers.
    run_threads(6, [&](std::size_t thread) {
      for (int step = 0; step < 2000; ++step) {
        exchange.step(seeds[thread]);
        if (seeds[thread].one_in(500)) {
          seeds[thread].one_in(2) ? static_cast<void>(heap->trim()) : heap->enter_idle();
        }
      }
    });
    ASSERT_STREQ(heap->validate(), nullptr);
  }
  EXPECT_GT(heap->statistics().used_bytes, 0u);
  exchange.free_all(random);
  heap->trim();
  const HeapStatistics after = heap->statistics();
  EXPECT_EQ(after.used_bytes, 0u);
  EXPECT_EQ(after.allocations, after.frees);
  EXPECT_EQ(after.kept_bytes, 0u);
  EXPECT_STREQ(heap->validate(), nullptr);
  heap.reset();
  EXPECT_EQ(CountingMemory::mapped_bytes, before);
}

TEST(HeapThreads, that_end_leave_their_numbers_and_their_free_memory) {
  using TestHeap = CountedHeap<8>;
  using Hooks = TestHeap::Hooks;
  const TestHeap::Owner heap = TestHeap::create();
  heap->set_limit(2 * mebibytes);
  heap->deallocate(heap->allocate(layout_of(8)).value());
  const std::uint32_t free_before = Hooks::free_numbers();
  std::vector<void*> left;
  for (int count = 0; count < 100; ++count) {
    std::thread([&] {
      std::vector<void*> blocks;
      while (void* const block = heap->allocate(layout_of(3000)).value_or(nullptr)) {
        blocks.push_back(block);
      }
      EXPECT_GT(blocks.size() * 3000, mebibytes) << "the thread before left its memory";
      EXPECT_EQ(Hooks::free_numbers(), free_before - 1);
      // The last one is freed when its thread has ended.
      left.push_back(blocks.back());
      blocks.pop_back();
      for (void* const block : blocks) {
        heap->deallocate(block);
      }
    }).join();
    EXPECT_EQ(Hooks::free_numbers(), free_before);
    heap->deallocate(std::exchange(left, {}).back());
    void* const whole = heap->allocate(layout_of(2 * mebibytes)).value_or(nullptr);
    EXPECT_NE(whole, nullptr) << "and leaves it to threads with other numbers";
    heap->deallocate(whole);
  }
  heap->trim();
  EXPECT_EQ(heap->statistics().used_bytes, 0u);
  EXPECT_STREQ(heap->validate(), nullptr);
}

/// Rounds of destructors. In the last one ThreadSanitizer has forgotten the thread.
#if defined(__SANITIZE_THREAD__)
constexpr int rounds_of_thread = PTHREAD_DESTRUCTOR_ITERATIONS - 1;
#elif defined(__has_feature)
constexpr int rounds_of_thread = __has_feature(thread_sanitizer) ? PTHREAD_DESTRUCTOR_ITERATIONS - 1
                                                                 : PTHREAD_DESTRUCTOR_ITERATIONS;
#else
constexpr int rounds_of_thread = PTHREAD_DESTRUCTOR_ITERATIONS;
#endif

/// Uses the heap in each round of a thread's destructors, also after the heap's own one.
class LateUser {
 public:
  explicit LateUser(Heap& heap) : heap_(heap) { pthread_key_create(&key_, &run); }
  ~LateUser() { pthread_key_delete(key_); }

  void follow_this_thread() { pthread_setspecific(key_, this); }
  int rounds() const { return rounds_; }

 private:
  static void run(void* argument) {
    auto& self = *static_cast<LateUser*>(argument);
    self.heap_.deallocate(self.heap_.allocate(layout_of(64)).value());
    if (++self.rounds_ < rounds_of_thread) {
      self.follow_this_thread();
    }
  }

  Heap& heap_;
  pthread_key_t key_{};
  int rounds_ = 0;
};

TEST(HeapThreads, use_a_heap_in_destructors_after_their_number_went) {
  const OwnedHeap heap = Heap::create();
  // The heap's key comes first, and so does its destructor in each round.
  heap->deallocate(heap->allocate(layout_of(64)).value());
  LateUser user(*heap);
  const std::uint32_t free_before = Heap::Hooks::free_numbers();
  std::thread([&] {
    heap->deallocate(heap->allocate(layout_of(64)).value());
    user.follow_this_thread();
  }).join();
  EXPECT_EQ(user.rounds(), rounds_of_thread);
  EXPECT_EQ(Heap::Hooks::free_numbers(), free_before);
  EXPECT_EQ(heap->statistics().allocations, 2u + rounds_of_thread);
  EXPECT_EQ(heap->statistics().used_bytes, 0u);
}

TEST(HeapThreads, others_get_the_memory_of_an_idle_one) {
  using TestHeap = CountedHeap<8>;
  const TestHeap::Owner heap = TestHeap::create();
  heap->set_limit(mebibytes);
  OtherThread other;
  const auto fill_and_free = [&] {
    std::vector<void*> blocks;
    while (void* const block = heap->allocate(layout_of(6000)).value_or(nullptr)) {
      blocks.push_back(block);
    }
    for (void* const block : blocks) {
      heap->deallocate(block);
    }
    return blocks.size();
  };
  other.run([&] {
    fill_and_free();
    heap->enter_idle();
  });
  void* const whole = heap->allocate(layout_of(mebibytes)).value_or(nullptr);
  EXPECT_NE(whole, nullptr);
  heap->deallocate(whole);
  other.run([&] { EXPECT_GT(fill_and_free(), 100u) << "its next call takes its part back"; });
}

class HeapSignals : public testing::Test {
 protected:
  using TestHeap = CountedHeap<4>;
  static inline TestHeap* heap = nullptr;
  static inline std::atomic<void*> mailbox = nullptr;
  static inline std::atomic<std::size_t> signals = 0;

  /// Frees a block of the interrupted thread, and leaves another one.
  static void handle(int) {
    ++signals;
    heap->deallocate(mailbox.exchange(nullptr));
    heap->deallocate(
        mailbox.exchange(heap->allocate(layout_of(200), Context::Interrupt).value_or(nullptr)));
  }
};

TEST_F(HeapSignals, handlers_free_and_allocate_amid_any_call) {
  const TestHeap::Owner owner = TestHeap::create();
  const MisuseRecorder misuse;
  heap = owner.get();
  struct sigaction action = {};
  action.sa_handler = &handle;
  ASSERT_EQ(sigaction(SIGUSR1, &action, nullptr), 0);
  // With 4 numbers and 5 threads, some share one.
  std::atomic<std::size_t> working = 4;
  std::array<std::atomic<pthread_t>, 4> threads = {};
  run_threads(5, [&](std::size_t thread) {
    heap->deallocate(heap->allocate(layout_of(8)).value());
    if (thread == 4) {
      while (working != 0) {
        for (const auto& one : threads) {
          if (const pthread_t target = one) {
            pthread_kill(target, SIGUSR1);
          }
        }
        std::this_thread::yield();
      }
      return;
    }
    threads[thread] = pthread_self();
    std::vector<void*> blocks;
    for (int step = 0; step < 20'000 || signals < 500; ++step) {
      // A run takes locks that the handler stays away from.
      heap->deallocate(step % 7 == 0 ? heap->allocate(layout_of(20'000)).value() : nullptr);
      blocks.push_back(heap->allocate(layout_of(200)).value());
      if (blocks.size() == 50) {
        for (void* const block : blocks) {
          heap->deallocate(step % 3 == 0 ? mailbox.exchange(block) : block);
        }
        blocks.clear();
      }
    }
    for (void* const block : blocks) {
      heap->deallocate(block);
    }
    threads[thread] = 0;
    --working;
    while (working != 0) {
      std::this_thread::yield();
    }
  });
  EXPECT_GE(signals, 500u);
  heap->deallocate(mailbox.exchange(nullptr));
  heap->trim();
  EXPECT_EQ(heap->statistics().used_bytes, 0u);
  EXPECT_STREQ(heap->validate(), nullptr);
}

TEST(HeapPanic, tells_the_broken_invariant) {
  EXPECT_DEATH(Heap::Hooks::panic("A = B"), "A = B\n");
}

TEST(HeapFork, the_child_goes_on_with_the_heap_and_all_other_numbers) {
  using TestHeap = CountedHeap<5>;
  const TestHeap::Owner heap = TestHeap::create();
  OtherThread other;
  void* block = nullptr;
  other.run([&] { block = heap->allocate(layout_of(100)).value(); });
  void* const own = heap->allocate(layout_of(100)).value();
  EXPECT_EQ(TestHeap::Hooks::free_numbers(), TestHeap::Hooks::exclusive_numbers - 2);
  const int status = status_of_child([&] {
    EXPECT_EQ(TestHeap::Hooks::free_numbers(), TestHeap::Hooks::exclusive_numbers - 1);
    heap->deallocate(block);
    heap->deallocate(own);
    EXPECT_EQ(heap->statistics().used_bytes, 0u);
    EXPECT_TRUE(heap->allocate(layout_of(5'000'000)));
    EXPECT_STREQ(heap->validate(), nullptr);
    return 0;
  });
  EXPECT_EQ(status, 0);
  EXPECT_EQ(TestHeap::Hooks::free_numbers(), TestHeap::Hooks::exclusive_numbers - 2);
  heap->deallocate(block);
  heap->deallocate(own);
}

}  // namespace
}  // namespace slabmalloc::test
