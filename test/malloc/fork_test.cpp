// SPDX-License-Identifier: MIT
//
// Tests that the handlers of fork hold calls back in the parent and repair the child. The program
// links all of the heap, so that start-up registers these handlers. process_test.cpp tests whole
// programs.
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <vector>

#include "malloc/blocks.hpp"
#include "malloc/heap.hpp"
#include "os/os.hpp"
#include "support/child.hpp"

namespace slabmalloc {
namespace {

constexpr std::size_t mebibyte = std::size_t{1} << 20;

int allocate_and_free() {
  for (const std::size_t bytes :
       {std::size_t{16}, std::size_t{3000}, std::size_t{100000}, mebibyte, 40 * mebibyte}) {
    void* blocks[50];
    for (void*& block : blocks) {
      block = heap::allocate(bytes);
      if (block == nullptr) {
        return 1;
      }
      *static_cast<char*>(block) = 'x';
    }
    for (void* block : blocks) {
      heap::deallocate(block);
    }
  }
  return 0;
}

std::atomic<bool> is_mapping{false};

TEST(Fork, waits_for_arena_calls_of_other_threads) {
  static os::Interface slow = os::linux_interface;
  slow.map_at = [](void* address, std::size_t bytes) {
    is_mapping = true;
    usleep(10000);
    const os::MapOutcome outcome = os::linux_interface.map_at(address, bytes);
    is_mapping = false;
    return outcome;
  };
  const os::Interface& before = os::replace_interface(slow);
  for (int round = 0; round < 3; ++round) {
    std::thread grower([] { (void)heap::allocate(30 * mebibyte); });
    while (!is_mapping) {
    }
    EXPECT_EQ(test::status_of_child([] { return is_mapping ? 2 : allocate_and_free(); }), 0);
    grower.join();
  }
  os::replace_interface(before);
}

TEST(Fork, waits_while_another_thread_opens_the_heap) {
  if (process_arena.committed_chunks() != 0) {
    GTEST_SKIP() << "the heap is in use already";
  }
  static os::Interface slow = os::linux_interface;
  slow.find_space = [](std::size_t bytes) {
    is_mapping = true;
    usleep(10000);
    const std::uintptr_t space = os::linux_interface.find_space(bytes);
    is_mapping = false;
    return space;
  };
  const os::Interface& before = os::replace_interface(slow);
  std::thread first([] { (void)heap::allocate(1); });
  while (!is_mapping) {
  }
  EXPECT_EQ(test::status_of_child([] { return is_mapping ? 2 : allocate_and_free(); }), 0);
  first.join();
  os::replace_interface(before);
}

TEST(Fork, the_child_frees_blocks_of_threads_that_it_does_not_have) {
  std::atomic<bool> done{false};
  std::vector<void*> of_others[3];
  std::atomic<int> ready{0};
  std::vector<std::thread> threads;
  for (std::vector<void*>& blocks : of_others) {
    threads.emplace_back([&] {
      for (int count = 0; count < 500; ++count) {
        blocks.push_back(heap::allocate(static_cast<std::size_t>(count) * 20));
      }
      ++ready;
      while (!done) {
        allocate_and_free();
      }
    });
  }
  while (ready != 3) {
  }
  for (int round = 0; round < 20; ++round) {
    EXPECT_EQ(test::status_of_child([&] {
                for (const std::vector<void*>& blocks : of_others) {
                  for (void* block : blocks) {
                    heap::deallocate(block);
                  }
                }
                const int status = allocate_and_free();
                heap::trim();
                return status;
              }),
              0);
  }
  done = true;
  for (std::thread& thread : threads) {
    thread.join();
  }
}

TEST(Fork, the_child_has_its_own_zone_and_gives_up_those_of_other_threads) {
  std::atomic<bool> done{false};
  std::thread other([&] {
    void* block = heap::allocate(100);
    while (!done) {
      usleep(100);
    }
    heap::deallocate(block);
  });
  get_own_zone();
  EXPECT_EQ(test::status_of_child([] {
              ArenaZone* const mine = thread_heap.zone;
              const bool works = allocate_and_free() == 0 && thread_heap.zone == mine;
              return works && mine->validate() == nullptr ? 0 : 1;
            }),
            0);
  done = true;
  other.join();
}

}  // namespace
}  // namespace slabmalloc
