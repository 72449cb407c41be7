// SPDX-License-Identifier: MIT
//
// A zone for each thread: allocation takes no lock, and other threads may free the objects. The
// threads form a ring. Each allocates messages from its zone and sends them to its neighbour, which
// reads and frees them.
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

#include "slabmalloc/adaptors/mmap_pager.hpp"
#include "slabmalloc/slabmalloc.hpp"

namespace {

using slabmalloc::Layout;

// A ScopedZone gives its pages back when it ends. Any thread may call an MmapPager, so the zones
// share one.
using Zone = slabmalloc::ScopedZone<slabmalloc::MmapPager, slabmalloc::PoolConfig>;

struct Message {
  std::size_t number;
  char text[72];
};

constexpr std::size_t thread_count = 4;
constexpr std::size_t messages_per_thread = 20000;

class Mailbox {
 public:
  void put(Message* message) {
    const std::lock_guard guard(lock_);
    messages_.push_back(message);
  }
  Message* take() {
    const std::lock_guard guard(lock_);
    if (messages_.empty()) {
      return nullptr;
    }
    Message* message = messages_.front();
    messages_.pop_front();
    return message;
  }

 private:
  std::mutex lock_;
  std::deque<Message*> messages_;
};

/// Sends all its messages to `outgoing` and frees as many from `incoming`. Returns the sum of the
/// received numbers.
std::size_t send_and_receive(Zone& zone, Mailbox& outgoing, Mailbox& incoming) {
  const Layout layout = Layout::of<Message>();
  std::size_t sum = 0;
  std::size_t sent = 0;
  for (std::size_t received = 0; received < messages_per_thread;) {
    if (sent < messages_per_thread) {
      void* memory = zone.allocate(layout).value_or(nullptr);
      if (memory == nullptr) {
        std::abort();
      }
      outgoing.put(::new (memory) Message{sent++, "hello"});
    }
    if (Message* message = incoming.take()) {
      sum += message->number;
      ++received;
      // This frees another thread's message through this thread's own zone. The zone finds the
      // owner, buffers frees that lie together, and delivers them without a lock.
      zone.deallocate(message, layout);
    } else {
      std::this_thread::yield();
    }
  }
  // Before the thread ends, its zone delivers the frees that it still buffers.
  zone.drain_and_leave_current();
  return sum;
}

}  // namespace

int main() {
  slabmalloc::MmapPager pager;
  // A zone never moves. It outlives its objects, no matter which thread frees them.
  std::deque<Zone> zones;
  Mailbox mailboxes[thread_count];
  std::size_t sums[thread_count] = {};
  std::vector<std::thread> threads;
  for (std::size_t index = 0; index < thread_count; ++index) {
    zones.emplace_back(pager);
  }
  for (std::size_t index = 0; index < thread_count; ++index) {
    threads.emplace_back([&, index] {
      sums[index] =
          send_and_receive(zones[index], mailboxes[(index + 1) % thread_count], mailboxes[index]);
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }

  bool sound = true;
  std::printf("thread  allocated    freed  by others  pages' KiB, at most\n");
  for (std::size_t index = 0; index < thread_count; ++index) {
    Zone& zone = zones[index];
    // The threads are gone. This one now owns their zones and drains the last frees.
    zone.drain();
    const slabmalloc::ZoneStatistics statistics = zone.statistics();
    std::printf("%6zu  %9zu  %7zu  %9zu  %19zu\n", index, statistics.allocations, statistics.frees,
                statistics.remote_frees, statistics.frame_bytes_high_water / slabmalloc::kibibyte);
    sound = sound && statistics.allocations == messages_per_thread && statistics.used_bytes == 0 &&
            statistics.remote_frees == messages_per_thread && zone.validate() == nullptr &&
            sums[index] == messages_per_thread * (messages_per_thread - 1) / 2;
  }
  return sound ? 0 : 1;
}
