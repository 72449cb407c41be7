// SPDX-License-Identifier: MIT
//
// run_threads runs the same work on several threads at once.
#pragma once

#include <atomic>
#include <cstddef>
#include <thread>
#include <vector>

namespace slabmalloc::test {

/// Runs `work(thread)` on so many threads, numbered from 0, which all start together. Returns when
/// all have ended.
template <class Work>
void run_threads(std::size_t count, Work work) {
  std::atomic<std::size_t> waiting = count;
  std::vector<std::thread> threads;
  for (std::size_t thread = 0; thread < count; ++thread) {
    threads.emplace_back([&, thread] {
      waiting.fetch_sub(1);
      while (waiting.load() != 0) {
        std::this_thread::yield();
      }
      work(thread);
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
}

}  // namespace slabmalloc::test
