// SPDX-License-Identifier: MIT
#include "slabmalloc/kernel/deferred_runs.hpp"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <set>
#include <thread>
#include <vector>

#include "kernel/hosted_kernel.hpp"
#include "support/interrupting_atomics.hpp"
#include "support/misuse_recorder.hpp"

namespace slabmalloc {
namespace {

using Runs = DeferredRuns<test::PatientKernel, HardwareAtomics>;

constexpr Layout layout = Layout::of<std::array<std::uint64_t, 2048>>();

struct Block {
  std::uint64_t words[2048];
};

TEST(DeferredRuns, come_out_as_they_went_in) {
  Runs runs;
  EXPECT_TRUE(runs.is_empty());
  EXPECT_EQ(runs.pop().address, nullptr);
  std::vector<Block> memory(3);
  for (Block& run : memory) {
    EXPECT_TRUE(runs.push(&run, layout));
  }
  EXPECT_EQ(runs.bytes(), 3 * layout.size());
  std::set<void*> popped;
  while (const void* const address = runs.pop().address) {
    popped.insert(const_cast<void*>(address));
  }
  EXPECT_EQ(popped, (std::set<void*>{&memory[0], &memory[1], &memory[2]}));
  EXPECT_EQ(runs.bytes(), 0u);
  EXPECT_TRUE(runs.push(memory.data(), layout)) << "as often as it is allocated again";
  const Runs::Run again = runs.pop();
  EXPECT_EQ(again.address, memory.data());
  EXPECT_EQ(again.layout, layout);
}

TEST(DeferredRuns, wait_once_each) {
  Runs runs;
  std::vector<Block> memory(2);
  EXPECT_TRUE(runs.push(&memory[0], layout));
  EXPECT_TRUE(runs.push(&memory[1], layout));
  EXPECT_FALSE(runs.push(&memory[1], layout));
  EXPECT_FALSE(runs.push(&memory[0], layout));
  EXPECT_EQ(runs.pop().address, &memory[1]);
  EXPECT_EQ(runs.pop().address, &memory[0]);
  EXPECT_EQ(runs.pop().address, nullptr);
}

TEST(DeferredRuns, that_are_overwritten_after_their_free_are_reported_and_not_followed) {
  // Overwrites each word of the link of a run that another one follows.
  for (std::size_t word = 0; word < 5; ++word) {
    SCOPED_TRACE(word);
    test::MisuseRecorder misuse;
    Runs runs;
    std::vector<Block> memory(3);
    runs.push(&memory[0], layout);
    runs.push(&memory[1], layout);
    memory[1].words[word] ^= 0x100;
    runs.push(&memory[2], layout);
    EXPECT_EQ(runs.pop().address, &memory[2]);
    EXPECT_EQ(runs.pop().address, nullptr);
    const std::vector<Misuse> reports = misuse.take();
    ASSERT_EQ(reports.size(), 1u);
    EXPECT_EQ(reports[0].kind, MisuseKind::DoubleFree);
    EXPECT_EQ(reports[0].address, &memory[1]);
    EXPECT_TRUE(runs.is_empty());
  }
}

TEST(DeferredRuns, that_hold_more_bytes_than_were_counted_break_an_invariant) {
  Runs runs;
  std::vector<Block> memory(2);
  runs.push(&memory[0], layout);
  runs.push(&memory[1], layout);
  EXPECT_EQ(runs.validate(), nullptr);
  // The sum of the link's words stays as it is.
  memory[0].words[1] += 1;
  memory[0].words[2] -= 1;
  EXPECT_STREQ(runs.validate(), "K4: bytes of the waiting runs <= those counted");
  memory[1].words[0] = 0;
  EXPECT_EQ(runs.validate(), nullptr) << "a run that was written to ends the walk";
}

TEST(DeferredRuns, have_room_for_a_link) {
  const Layout of_one_byte = Layout::from_size_align(1, 1).value();
  EXPECT_GE(Runs::with_link(of_one_byte).size(), 5 * sizeof(void*));
  EXPECT_GE(Runs::with_link(of_one_byte).align(), alignof(void*));
  const Layout aligned = Layout::from_size_align(1, 65536).value();
  EXPECT_EQ(Runs::with_link(aligned).align(), 65536u);
  EXPECT_EQ(Runs::with_link(layout), layout);
  EXPECT_EQ(Runs::with_link(Runs::with_link(of_one_byte)), Runs::with_link(of_one_byte));
  const Layout largest = Layout::from_size_align(PTRDIFF_MAX, 1).value();
  EXPECT_EQ(Runs::with_link(largest), largest) << "which no pager has";
}

TEST(DeferredRuns, of_several_cpus_are_each_taken_by_one) {
  constexpr std::size_t rounds = 20'000;
  Runs runs;
  // Each thread pushes its own runs and pops any run, which it then owns. CPUs do the same when
  // their pager issues runs again.
  std::vector<Block> memory(8);
  std::vector<std::thread> threads;
  std::array<std::size_t, 4> pushes{};
  for (std::size_t number = 0; number < pushes.size(); ++number) {
    threads.emplace_back([&, number] {
      std::vector<void*> own = {&memory[2 * number], &memory[2 * number + 1]};
      for (std::size_t round = 0; round < rounds; ++round) {
        if (!own.empty()) {
          static_cast<Block*>(own.back())->words[5] = number;
          EXPECT_TRUE(runs.push(own.back(), layout));
          own.pop_back();
          ++pushes[number];
        }
        if (void* const run = runs.pop().address) {
          static_cast<Block*>(run)->words[0] = round;  // As a client does.
          own.push_back(run);
        }
      }
      for (void* run : own) {
        EXPECT_TRUE(runs.push(run, layout));
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  std::set<void*> left;
  while (void* const run = runs.pop().address) {
    EXPECT_TRUE(left.insert(run).second);
  }
  EXPECT_EQ(left.size(), memory.size());
  for (const std::size_t count : pushes) {
    EXPECT_GT(count, 0u);
  }
}

/// Notes that a thread waits for a lock.
struct NotingKernel : test::PatientKernel {
  static inline std::atomic<bool> has_waited = false;
  static void relax() noexcept {
    has_waited = true;
    PatientKernel::relax();
  }
};

TEST(DeferredRuns, are_not_popped_and_pushed_again_while_another_cpu_pops) {
  bool came = true;
  for (std::size_t access = 1; came; ++access) {
    SCOPED_TRACE(access);
    DeferredRuns<NotingKernel, test::InterruptingAtomics<HardwareAtomics>> list;
    std::vector<Block> memory(3);
    for (Block& run : memory) {
      EXPECT_TRUE(list.push(&run, layout));
    }
    std::multiset<void*> popped;
    std::thread other;
    std::atomic<bool> is_done = false;
    NotingKernel::has_waited = false;
    test::Interruption::arm(access, [&] {
      other = std::thread([&] {
        void* const first = list.pop().address;
        popped.insert(list.pop().address);
        EXPECT_TRUE(list.push(first, layout));
        is_done = true;
      });
      while (!is_done && !NotingKernel::has_waited) {
        std::this_thread::yield();
      }
    });
    void* const own = list.pop().address;
    came = test::Interruption::disarm();
    if (other.joinable()) {
      other.join();
    }
    popped.insert(own);
    while (void* const run = list.pop().address) {
      popped.insert(run);
    }
    EXPECT_EQ(popped.size(), 3u);
    for (Block& run : memory) {
      EXPECT_EQ(popped.count(&run), 1u);
    }
  }
}

TEST(DeferredRuns, freed_twice_at_once_wait_once) {
  for (int round = 0; round < 500; ++round) {
    Runs runs;
    Block run{};
    std::array<bool, 2> was_pushed{};
    std::thread other([&] { was_pushed[1] = runs.push(&run, layout); });
    was_pushed[0] = runs.push(&run, layout);
    other.join();
    EXPECT_NE(was_pushed[0], was_pushed[1]);
    EXPECT_EQ(runs.pop().address, &run);
    EXPECT_EQ(runs.pop().address, nullptr);
  }
}

}  // namespace
}  // namespace slabmalloc
