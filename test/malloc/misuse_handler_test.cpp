// SPDX-License-Identifier: MIT
//
// A client's misuse handler may allocate, free and fork wherever the heap finds the misuse.
#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <functional>
#include <set>
#include <vector>

#include "malloc/blocks.hpp"
#include "malloc/report.hpp"
#include "malloc/thread_zones.hpp"
#include "slabmalloc/slabmalloc.h"

namespace slabmalloc {
namespace {

constexpr std::size_t bytes = 100;

/// The action of the handler. While it runs, no other misuse reaches the handler.
std::function<void()> in_handler;
int heard = 0;

class MisuseHandlerOfClient : public testing::Test {
 protected:
  MisuseHandlerOfClient() {
    heard = 0;
    slabmalloc_set_misuse_handler([](slabmalloc_misuse_kind kind, const void*) {
      EXPECT_EQ(kind, SLABMALLOC_DOUBLE_FREE);
      ++heard;
      in_handler();
    });
  }
  ~MisuseHandlerOfClient() override {
    slabmalloc_set_misuse_handler(nullptr);
    free_all(blocks);
    heap::trim();
    EXPECT_EQ(process_statistics().live_objects, 0u);
  }

  /// Allocates, and lets other threads free one block of each page twice. The calling thread's
  /// zone, or the shared one, finds the second free at its next allocation.
  void prepare(void (*drain)()) {
    allocate_many(blocks, bytes, 8 * chunk_bytes);
    std::vector<void*> freed;
    for (std::size_t number = 0; number < blocks.size(); number += chunk_bytes / bytes) {
      freed.push_back(blocks[number]);
      blocks[number] = nullptr;
    }
    run_thread([freed]() mutable { free_all(freed); });
    drain();
    run_thread([freed]() mutable { free_all(freed); });
  }

  std::vector<void*> blocks;
};

/// Calls `work` in a thread whose zone was parked. Its blocks belong to the zone that such threads
/// share.
void run_late(const std::function<void()>& work) {
  heap::deallocate(heap::allocate(1));  // The heap's key is older, so its destructor runs before.
  static const std::function<void()>* late_work;
  late_work = &work;
  pthread_key_t key = 0;
  ASSERT_EQ(pthread_key_create(&key, [](void*) { (*late_work)(); }), 0);
  run_thread([&] {
    get_own_zone();
    pthread_setspecific(key, &key);
  });
  pthread_key_delete(key);
}

void allocate_and_free() {
  std::vector<void*> many;
  allocate_many(many, bytes, 16 * chunk_bytes);
  allocate_many(many, 50000, mebibyte);
  free_all(many);
  heap::trim();
}

void trim_own() { thread_heap.zone->trim(); }
void trim_shared() { thread_zones.trim_shared(); }

TEST_F(MisuseHandlerOfClient, may_allocate_and_free_in_the_middle_of_an_allocation) {
  in_handler = allocate_and_free;
  prepare(trim_own);
  allocate_many(blocks, bytes, 16 * chunk_bytes);
  EXPECT_GE(heard, 4);
  EXPECT_EQ(thread_heap.zone->validate(), nullptr);
  std::erase(blocks, nullptr);
  EXPECT_EQ(std::set<void*>(blocks.begin(), blocks.end()).size(), blocks.size());
}

TEST_F(MisuseHandlerOfClient, may_keep_its_own_blocks_and_free_those_of_the_thread) {
  heap::deallocate(heap::allocate(1));
  void* mine = nullptr;
  in_handler = [&] {
    heap::deallocate(mine);
    mine = heap::allocate(bytes);
  };
  prepare(trim_own);
  allocate_many(blocks, bytes, 16 * chunk_bytes);
  EXPECT_GE(heard, 4);
  blocks.push_back(mine);
}

TEST_F(MisuseHandlerOfClient, may_allocate_and_free_where_an_ending_thread_finds_misuse) {
  in_handler = allocate_and_free;
  run_late([&] {
    ASSERT_EQ(thread_heap.zone, &empty_zone) << "the test wants its zone to be parked";
    prepare(trim_shared);
    allocate_many(blocks, bytes, 16 * chunk_bytes);
    EXPECT_EQ(thread_heap.zone, &empty_zone);
  });
  EXPECT_GE(heard, 4);
}

TEST_F(MisuseHandlerOfClient, may_fork_where_an_ending_thread_finds_misuse) {
  in_handler = [] {
    const pid_t child = fork();
    if (child == 0) {
      in_handler = allocate_and_free;
      allocate_and_free();
      // The rest of the thread's end is for the parent: sanitizers do not follow a child there.
      _exit(HasFailure() ? 1 : 0);
    }
    int status = -1;
    waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
    in_handler = [] {};
  };
  run_late([&] {
    prepare(trim_shared);
    allocate_many(blocks, bytes, 16 * chunk_bytes);
  });
  EXPECT_GE(heard, 4);
}

}  // namespace
}  // namespace slabmalloc
