// SPDX-License-Identifier: MIT
//
// Tests of the malloc in processes that fork, exec, handle signals, load and unload libraries, and
// reach the kernel's limit on mappings. Other tests check that memory goes back. CMake builds them
// in every form of the malloc.
#include <dlfcn.h>
#include <errno.h>
#include <gtest/gtest.h>
#include <locale.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "support/pattern.hpp"

extern char** environ;

namespace {

constexpr std::size_t mebibyte = std::size_t{1} << 20;

std::size_t resident_bytes() {
  FILE* file = fopen("/proc/self/statm", "r");
  std::size_t total = 0;
  std::size_t resident = 0;
  EXPECT_EQ(fscanf(file, "%zu %zu", &total, &resident), 2);
  fclose(file);
  return resident * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

/// Allocates and frees small, medium, large and mapped blocks until it is stopped.
class Storm {
 public:
  explicit Storm(int threads) {
    for (int number = 0; number < threads; ++number) {
      threads_.emplace_back([this, number] { rage(static_cast<unsigned>(number)); });
    }
  }
  ~Storm() {
    done_ = true;
    for (std::thread& thread : threads_) {
      thread.join();
    }
  }

  /// Blocks of these busy threads, which other threads free.
  std::vector<void*> take_some() {
    const std::lock_guard lock(mutex_);
    return std::exchange(given_, {});
  }

 private:
  void rage(unsigned seed) {
    std::vector<void*> blocks(200);
    while (!done_) {
      for (int step = 0; step < 500; ++step) {
        seed = seed * 1664525 + 1013904223;
        void*& block = blocks[(seed >> 8) % blocks.size()];
        free(block);
        const unsigned kind = (seed >> 16) % 200;
        block = malloc(kind == 0   ? 40 * mebibyte
                       : kind < 4  ? 300000
                       : kind < 20 ? 20000
                                   : 1 + seed % 500);
        *static_cast<char*>(block) = 'x';
      }
      // Runs in a thread of its own, so that the heap makes and parks zones too.
      std::thread([] { free(malloc(100)); }).join();
      const std::lock_guard lock(mutex_);
      if (given_.size() < 100) {
        given_.insert(given_.end(), blocks.begin(), blocks.begin() + 50);
        std::fill(blocks.begin(), blocks.begin() + 50, nullptr);
      }
    }
    std::for_each(blocks.begin(), blocks.end(), free);
  }

  std::atomic<bool> done_{false};
  std::mutex mutex_;
  std::vector<void*> given_;
  std::vector<std::thread> threads_;
};

/// Waits for the child; true if it succeeded. An alarm ends a child that hangs.
bool ends_well(pid_t child) {
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

void allocate_and_free_everything() {
  for (const std::size_t bytes : {std::size_t{16}, std::size_t{64}, std::size_t{3000},
                                  std::size_t{20000}, std::size_t{300000}, 40 * mebibyte}) {
    void* blocks[20];
    for (void*& block : blocks) {
      block = malloc(bytes);
      if (block == nullptr) {
        _exit(10);
      }
      memset(block, 1, std::min<std::size_t>(bytes, 100));
    }
    std::for_each(std::begin(blocks), std::end(blocks), free);
  }
}

TEST(Fork, the_child_of_a_threaded_program_can_allocate_free_and_fork) {
  Storm storm(3);
  for (int round = 0; round < 250; ++round) {
    std::vector<void*> theirs = storm.take_some();
    std::vector<void*> mine;
    for (std::size_t bytes = 1; bytes < 50 * mebibyte; bytes *= 7) {
      mine.push_back(malloc(bytes));
    }
    const pid_t child = fork();
    if (child == 0) {
      alarm(20);
      std::for_each(mine.begin(), mine.end(), free);
      std::for_each(theirs.begin(), theirs.end(), free);
      allocate_and_free_everything();
      std::thread(allocate_and_free_everything).join();
      malloc_trim(0);
      if (mallinfo2().uordblks == 0) {
        _exit(11);
      }
      const pid_t grandchild = fork();
      if (grandchild == 0) {
        alarm(20);
        allocate_and_free_everything();
        _exit(0);
      }
      _exit(ends_well(grandchild) ? 0 : 12);
    }
    ASSERT_TRUE(ends_well(child)) << "round " << round;
    std::for_each(mine.begin(), mine.end(), free);
    std::for_each(theirs.begin(), theirs.end(), free);
  }
}

TEST(Fork, any_thread_may_fork) {
  Storm storm(2);
  std::vector<std::thread> threads;
  for (int number = 0; number < 2; ++number) {
    threads.emplace_back([] {
      for (int round = 0; round < 100; ++round) {
        const pid_t child = fork();
        if (child == 0) {
          alarm(20);
          allocate_and_free_everything();
          _exit(0);
        }
        ASSERT_TRUE(ends_well(child));
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
}

TEST(Fork, handlers_of_the_program_may_allocate) {
  static void* block = nullptr;
  pthread_atfork([] { block = malloc(100000); }, [] { free(malloc(500)), free(block); },
                 [] { free(malloc(500)), free(block); });
  const Storm storm(1);
  for (int round = 0; round < 10; ++round) {
    const pid_t child = fork();
    if (child == 0) {
      alarm(20);
      allocate_and_free_everything();
      _exit(0);
    }
    ASSERT_TRUE(ends_well(child));
  }
}

/// Calls of `work` on a thread of their own, until the end.
class Repeated {
 public:
  explicit Repeated(std::function<void()> work)
      : thread_([this, work] {
          while (!done_) {
            work();
            ++calls_;
            usleep(50);  // The C library's locks are not fair: fork() would wait for long.
          }
        }) {}
  ~Repeated() {
    done_ = true;
    thread_.join();
    EXPECT_GT(calls_, 0);
  }

 private:
  std::atomic<bool> done_{false};
  std::atomic<int> calls_{0};
  std::thread thread_;
};

/// Forks children that use the heap and streams, from two threads of their own.
void fork_child_that_opens_a_file() {
  const pid_t child = fork();
  if (child == 0) {
    alarm(20);
    allocate_and_free_everything();
    for (const bool on_thread : {false, true}) {
      const auto use_file = [] { fclose(fopen("/dev/null", "r")); };
      on_thread ? std::thread(use_file).join() : use_file();
    }
    _exit(fflush(nullptr) == 0 ? 0 : 13);
  }
  ASSERT_TRUE(ends_well(child));
}

// The C library holds locks of its own while it allocates: those of streams, of the list of
// streams, of the loader, of the environment, and of locales.
TEST(Fork, works_while_other_threads_allocate_inside_of_the_c_library) {
  const int kept_alarm = static_cast<int>(alarm(100));
  char path[] = "/tmp/slabmalloc_line_XXXXXX";
  const int descriptor = mkstemp(path);
  const std::string line(400'000, 'x');
  ASSERT_EQ(write(descriptor, line.data(), line.size()), static_cast<ssize_t>(line.size()));
  close(descriptor);
  FILE* const file = fopen(path, "r");
  {
    const Repeated read([&] {
      rewind(file);
      char* text = nullptr;
      std::size_t room = 0;
      EXPECT_GT(getline(&text, &room, file), 0);
      free(text);
    });
    const Repeated flush([] { fflush(nullptr); });
    const Repeated load([] { dlclose(dlopen(SLABMALLOC_TEST_PLUGIN, RTLD_NOW | RTLD_LOCAL)); });
    const Repeated set([] {
      setenv("SLABMALLOC_TEST_VARIABLE", std::string(2000, 'v').c_str(), 1);
      unsetenv("SLABMALLOC_TEST_VARIABLE");
    });
    const Repeated change_locale([] {
      if (const locale_t one = newlocale(LC_ALL_MASK, "C.UTF-8", nullptr)) {
        freelocale(one);
      }
    });
    for (int round = 0; round < 30; ++round) {
      fork_child_that_opens_a_file();
      if (round % 5 == 0) {
        pclose(popen("true", "r"));
      }
    }
  }
  fclose(file);
  unlink(path);
  alarm(static_cast<unsigned>(kept_alarm));
}

TEST(Fork, the_child_of_a_program_with_one_thread_may_start_threads_that_use_streams) {
  // gtest itself starts no thread: this is the process's only one, if the test runs alone.
  fork_child_that_opens_a_file();
}

/// Lets SIGALRM come once, soon, at another moment each time.
void alarm_soon() {
  static int calls = 0;
  const itimerval once{{0, 0}, {0, 200 + ++calls * 37 % 500}};
  setitimer(ITIMER_REAL, &once, nullptr);
}

/// Ends a child, or becomes another program, as the number of the child decides.
[[noreturn]] void end_child(int number) {
  char name[] = "/bin/true";
  char* arguments[] = {name, nullptr};
  if (number % 10 == 0) {
    execve(name, arguments, environ);
  }
  _exit(number % 10 == 0 ? 1 : 0);
}

/// Forks in a handler of SIGALRM, which interrupts the malloc, as often as it can meanwhile.
template <class Work>
void fork_in_handlers(int forks, const Work& work) {
  static std::atomic<int> children;
  static std::atomic<int> failures;
  children = 0;
  failures = 0;
  struct sigaction action = {};
  struct sigaction before = {};
  action.sa_handler = [](int) {
    const int kept = errno;
    const pid_t child = fork();
    if (child == 0) {
      end_child(children);
    }
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    failures += status != 0;
    alarm_soon();
    ++children;
    errno = kept;
  };
  ASSERT_EQ(sigaction(SIGALRM, &action, &before), 0);
  alarm_soon();
  while (children < forks) {
    work();
  }
  const itimerval never{};
  setitimer(ITIMER_REAL, &never, nullptr);
  signal(SIGALRM, SIG_IGN);  // Discards one that is on its way.
  sigaction(SIGALRM, &before, nullptr);
  EXPECT_EQ(failures, 0);
}

TEST(Fork, a_signal_handler_may_fork_and_exec_while_its_thread_is_inside_of_the_malloc) {
  fork_in_handlers(500, [] {
    for (const std::size_t bytes : {std::size_t{100}, std::size_t{300'000}, 40 * mebibyte}) {
      free(malloc(bytes));
    }
    malloc_trim(0);
  });
  allocate_and_free_everything();
}

TEST(Fork, a_signal_handler_may_fork_and_exec_while_other_threads_wait_for_its_thread) {
  // The other threads inherit the mask, so that the handler runs in this one.
  sigset_t alarms;
  sigemptyset(&alarms);
  sigaddset(&alarms, SIGALRM);
  pthread_sigmask(SIG_BLOCK, &alarms, nullptr);
  const Storm storm(2);
  pthread_sigmask(SIG_UNBLOCK, &alarms, nullptr);
  fork_in_handlers(100, [] { free(malloc(300'000)); });
  allocate_and_free_everything();
}

// ---- cancellation -------------------------------------------------------------------------------

// A request for cancellation stays pending until its thread calls a function that is a point of
// cancellation. None of the malloc's is one.
TEST(Cancellation, no_function_is_a_point_of_it) {
  char path[] = "/tmp/slabmalloc_xml_XXXXXX";
  FILE* const file = fdopen(mkstemp(path), "w");
  unlink(path);
  setvbuf(file, nullptr, _IONBF, 0);
  const int saved_stderr = dup(2);
  dup2(fileno(file), 2);
  const std::function<void()> calls[] = {
      [] { free(malloc(100)); },
      [] { free(malloc(100'000)); },
      [] { free(malloc(50 * mebibyte)); },
      [] { free(calloc(1000, 1000)); },
      [] { free(realloc(realloc(malloc(10), 100 * mebibyte), 200 * mebibyte)); },
      [] { free(reallocarray(nullptr, 10, 10)); },
      [] { free(aligned_alloc(65536, 65536)); },
      [] { free(valloc(10)); },
      [] { delete[] new char[100'000]; },
      [] { malloc_trim(0); },
      [] { malloc_stats(); },
      [&] { malloc_info(0, file); },
      [] { (void)mallinfo2(); },
      [] { malloc_usable_size(nullptr); },
      [] { mallopt(0, 0); },
  };
  for (const std::function<void()>& call : calls) {
    bool goes_on = false;
    std::thread([&] {
      int before = 0;
      pthread_cancel(pthread_self());
      call();
      pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
      goes_on = before == PTHREAD_CANCEL_ENABLE;
    }).join();
    EXPECT_TRUE(goes_on) << &call - calls;
  }
  dup2(saved_stderr, 2);
  close(saved_stderr);
  fclose(file);
}

TEST(Exec, programs_are_started_under_load) {
  const Storm storm(2);
  char name[] = "/bin/true";
  char* arguments[] = {name, nullptr};
  for (int round = 0; round < 15; ++round) {
    pid_t child = 0;
    ASSERT_EQ(posix_spawn(&child, name, nullptr, nullptr, arguments, environ), 0);
    EXPECT_TRUE(ends_well(child));
    child = vfork();
    if (child == 0) {
      execve(name, arguments, environ);
      _exit(1);
    }
    EXPECT_TRUE(ends_well(child));
    child = fork();
    if (child == 0) {
      free(malloc(1000));
      execve(name, arguments, environ);
      _exit(1);
    }
    EXPECT_TRUE(ends_well(child));
    EXPECT_EQ(system("true"), 0);
  }
}

// ---- memory that goes back ----------------------------------------------------------------------

class MemoryGoesBack : public testing::TestWithParam<std::size_t> {
 protected:
  /// Fills 256 MiB with blocks of the parameter's size and frees them.
  void fill_and_free() {
    std::vector<void*> blocks;
    for (std::size_t total = 0; total < 256 * mebibyte; total += GetParam()) {
      blocks.push_back(malloc(GetParam()));
      memset(blocks.back(), 1, GetParam());
    }
    ASSERT_GT(resident_bytes(), 256 * mebibyte);
    std::for_each(blocks.begin(), blocks.end(), free);
  }
  const std::size_t before_ = resident_bytes();
};

INSTANTIATE_TEST_SUITE_P(Sizes, MemoryGoesBack,
                         testing::Values(200, 4000, 100000, 1 << 20, 64 << 20),
                         [](const auto& size) { return "in_" + std::to_string(size.param); });

TEST_P(MemoryGoesBack, at_once_when_trimmed) {
  fill_and_free();
  malloc_trim(0);
  // The records and pages of the table of blocks stay.
  EXPECT_LT(resident_bytes(), before_ + 8 * mebibyte);
}

TEST_P(MemoryGoesBack, after_a_while_by_itself) {
  fill_and_free();
  std::this_thread::sleep_for(std::chrono::milliseconds(1300));
  for (int count = 0; count < 10; ++count) {
    free(malloc(mebibyte));
  }
  EXPECT_LT(resident_bytes(), before_ + 16 * mebibyte);
}

/// Page faults of this process until now.
long page_faults() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_minflt;
}

TEST(MemoryStays, while_a_heap_is_filled_and_emptied_again_and_again) {
  constexpr std::size_t heap_bytes = 32 * mebibyte;
  constexpr int rounds = 10;
  for (const std::size_t bytes : {std::size_t{200}, std::size_t{5000}, std::size_t{30000}}) {
    std::vector<void*> blocks(heap_bytes / bytes);
    const auto fill_and_empty = [&] {
      for (void*& block : blocks) {
        block = malloc(bytes);
        memset(block, 1, bytes);
      }
      std::for_each(blocks.begin(), blocks.end(), free);
    };
    fill_and_empty();
    const long before = page_faults();
    for (int round = 0; round < rounds; ++round) {
      fill_and_empty();
    }
    // One round needs 8192 where OS pages have 4 KiB. Some are for the time that passes.
    EXPECT_LT(page_faults() - before, rounds * 8192 / 3) << bytes;
  }
}

// ---- the kernel's limit on mappings -------------------------------------------------------------

TEST(MappingLimit, at_it_blocks_are_still_given_or_refused_and_freed) {
  void* mapped[20];
  for (void*& block : mapped) {
    block = malloc(40 * mebibyte);
    memset(block, 1, 100);
  }
  // Makes every second page readable: each page becomes a mapping.
  const std::size_t page = 4096;
  const std::size_t pages = 140000;
  auto* region = static_cast<char*>(
      mmap(nullptr, pages * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  ASSERT_NE(static_cast<void*>(region), MAP_FAILED);
  bool is_full = false;
  for (std::size_t number = 0; number < pages && !is_full; number += 2) {
    is_full = mprotect(region + number * page, page, PROT_READ) != 0;
  }
  if (!is_full) {
    munmap(region, pages * page);
    GTEST_SKIP() << "this kernel's limit on mappings is higher than usual";
  }
  errno = EXDEV;
  std::for_each(std::begin(mapped), std::end(mapped), free);
  EXPECT_EQ(errno, EXDEV);
  std::vector<void*> blocks;
  for (int round = 0; round < 3; ++round) {
    for (const std::size_t bytes : {std::size_t{64}, std::size_t{5000}, mebibyte, 40 * mebibyte}) {
      for (int count = 0; count < 5; ++count) {
        errno = 0;
        void* block = calloc(1, bytes);
        if (block == nullptr) {
          EXPECT_EQ(errno, ENOMEM);
        } else {
          EXPECT_TRUE(slabmalloc::test::holds_zeroes(block, std::min<std::size_t>(bytes, 4096)));
          memset(block, 1, std::min<std::size_t>(bytes, 4096));
        }
        blocks.push_back(block);
      }
    }
    std::for_each(blocks.begin(), blocks.end(), free);
    blocks.clear();
  }
  munmap(region, pages * page);
  malloc_trim(0);
  void* block = malloc(200 * mebibyte);
  EXPECT_NE(block, nullptr);
  free(block);
}

// ---- signals ------------------------------------------------------------------------------------

TEST(Signals, handlers_interrupt_every_call_unharmed) {
  struct sigaction action = {};
  struct sigaction before = {};
  action.sa_handler = [](int) {
    const int kept = errno;
    errno = EDOM;
    errno = kept;
  };
  ASSERT_EQ(sigaction(SIGALRM, &action, &before), 0);
  const itimerval often{{0, 200}, {0, 200}};
  ASSERT_EQ(setitimer(ITIMER_REAL, &often, nullptr), 0);
  {
    const Storm storm(2);
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(300);
    while (std::chrono::steady_clock::now() < end) {
      errno = EXDEV;
      allocate_and_free_everything();
      EXPECT_EQ(errno, EXDEV);
    }
  }
  const itimerval never{};
  setitimer(ITIMER_REAL, &never, nullptr);
  sigaction(SIGALRM, &before, nullptr);
}

// ---- libraries that come and go -----------------------------------------------------------------

TEST(Libraries, may_be_loaded_and_unloaded_while_their_blocks_live_on) {
  const std::size_t before = mallinfo2().uordblks;
  for (int round = 0; round < 30; ++round) {
    void* library = dlopen(SLABMALLOC_TEST_PLUGIN, RTLD_NOW | RTLD_LOCAL);
    ASSERT_NE(library, nullptr) << dlerror();
    auto* work = reinterpret_cast<void* (*)()>(dlsym(library, "plugin_work"));
    ASSERT_NE(work, nullptr);
    void* blocks[2] = {work(), nullptr};
    std::thread([&] { blocks[1] = work(); }).join();
    ASSERT_EQ(dlclose(library), 0);
    for (void* block : blocks) {
      EXPECT_STREQ(static_cast<char*>(block), "made by a plugin");
      free(block);
    }
  }
  malloc_trim(0);
  EXPECT_LT(mallinfo2().uordblks, before + mebibyte);
}

}  // namespace
