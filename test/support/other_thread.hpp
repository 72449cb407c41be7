// SPDX-License-Identifier: MIT
//
// OtherThread makes calls when it is told to, and sleeps in between. So a test takes turns with it.
//
//   test::OtherThread other;
//   other.run([&] { heap::deallocate(block); });   // returns when that is done
#pragma once

#include <functional>
#include <semaphore>
#include <thread>
#include <utility>

namespace slabmalloc::test {

/// See the top of the file. The thread ends with the object.
class OtherThread {
 public:
  OtherThread() : thread_([this] { serve(); }) {}
  ~OtherThread() {
    task_ = nullptr;
    start_.release();
    thread_.join();
  }
  OtherThread(const OtherThread&) = delete;
  OtherThread& operator=(const OtherThread&) = delete;

  /// Runs `task` on the thread, and waits for its end.
  void run(std::function<void()> task) {
    task_ = std::move(task);
    start_.release();
    done_.acquire();
  }

 private:
  void serve() {
    for (start_.acquire(); task_; start_.acquire()) {
      task_();
      done_.release();
    }
  }

  std::function<void()> task_;
  std::binary_semaphore start_{0};
  std::binary_semaphore done_{0};
  std::thread thread_;
};

}  // namespace slabmalloc::test
