// SPDX-License-Identifier: MIT
//
// A correct program that allocates and frees at unusual times of its life. `lifetime_program NAME`
// exits with 0 if all went well.
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <map>
#include <semaphore>
#include <string>
#include <thread>
#include <vector>

namespace {

void expect(bool is_so, const char* what) {
  if (!is_so) {
    fprintf(stderr, "not so: %s (errno %d)\n", what, errno);
    _exit(1);
  }
}

void allocate_and_free() {
  std::map<int, std::string> words;
  for (int number = 0; number < 100; ++number) {
    words[number] = std::string(static_cast<std::size_t>(number * number), 'x');
  }
}

// ---- late ---------------------------------------------------------------------------------------

std::vector<void*>* of_ended_threads = nullptr;

/// Frees its block in its destructor, after main has returned or at the end of a thread.
extern struct Late late;
struct Late {
  ~Late() {
    for (void* block : blocks) {
      free(block);
    }
    allocate_and_free();
    if (this == &late && of_ended_threads != nullptr) {
      for (void* block : *of_ended_threads) {
        free(block);
      }
      delete of_ended_threads;
    }
  }
  std::vector<void*> blocks;
};
Late late;
thread_local Late late_of_thread;

void frees_after_main() {
  of_ended_threads = new std::vector<void*>;
  std::thread([] {
    for (int count = 0; count < 1000; ++count) {
      of_ended_threads->push_back(malloc(static_cast<std::size_t>(count) * 10));
      late_of_thread.blocks.push_back(malloc(77));
    }
  }).join();
  late.blocks.push_back(malloc(10));
  late.blocks.push_back(malloc(1000000));
  late.blocks.push_back(malloc(100000000));
  late_of_thread.blocks.push_back(malloc(10));
  atexit([] {
    free(malloc(100));
    allocate_and_free();
  });
  on_exit([](int, void* block) { free(block); }, malloc(500));
  pthread_key_t key = 0;
  pthread_key_create(&key, free);
  pthread_setspecific(key, malloc(10));
}

void threads_run_on_while_the_process_ends() {
  for (int number = 0; number < 3; ++number) {
    std::thread([] {
      for (;;) {
        allocate_and_free();
      }
    }).detach();
  }
  usleep(20000);
}

void main_thread_ends_first() {
  static pthread_t main_thread;
  static void* block;
  main_thread = pthread_self();
  block = malloc(1000);
  late_of_thread.blocks.push_back(malloc(20));
  std::thread([] {
    pthread_join(main_thread, nullptr);
    free(block);
    allocate_and_free();
    malloc_trim(0);
    exit(0);
  }).detach();
  pthread_exit(nullptr);
}

/// The sleeping thread has remote frees when other threads scavenge it.
void trims_while_a_thread_sleeps() {
  std::vector<void*> blocks;
  std::binary_semaphore sleeps{0};
  std::binary_semaphore may_wake{0};
  std::thread sleeper([&] {
    for (int count = 0; count < 1000; ++count) {
      blocks.push_back(malloc(1000));
    }
    sleeps.release();
    may_wake.acquire();
  });
  sleeps.acquire();
  for (void* block : blocks) {
    free(block);
  }
  malloc_trim(0);
  may_wake.release();
  sleeper.join();
}

// ---- early --------------------------------------------------------------------------------------

void frees_blocks_that_a_library_allocated_before_the_start() {
  auto* take = reinterpret_cast<char* (*)()>(dlsym(RTLD_DEFAULT, "take_early_block"));
  expect(take != nullptr, "the early library is preloaded");
  char* block = take();
  expect(strcmp(block, "made early") == 0, "the early block is whole");
  expect(malloc_usable_size(block) == 112, "the early block is of the malloc under test");
  free(block);
}

void runs_on_a_wrapped_malloc() {
  auto* calls = reinterpret_cast<int (*)()>(dlsym(RTLD_DEFAULT, "wrapped_calls"));
  expect(calls != nullptr, "the wrapper is preloaded");
  std::thread(allocate_and_free).join();
  allocate_and_free();
  for (int count = 0; count < 200; ++count) {
    free(strdup("text"));
  }
  expect(calls() > 100, "the wrapper was called");
}

void starts_threads_at_once() {
  std::atomic<bool> go{false};
  std::vector<std::thread> threads;
  for (int number = 0; number < 16; ++number) {
    threads.emplace_back([&] {
      while (!go) {
      }
      allocate_and_free();
    });
  }
  go = true;
  for (std::thread& thread : threads) {
    thread.join();
  }
}

// ---- limits -------------------------------------------------------------------------------------

void allocates_until_refused() {
  for (int round = 0; round < 3; ++round) {
    for (const size_t bytes : {size_t{100000}, size_t{1} << 20, size_t{40} << 20}) {
      void** newest = nullptr;
      size_t count = 0;
      for (;;) {
        errno = 0;
        auto* block = static_cast<void**>(malloc(bytes));
        if (block == nullptr) {
          break;
        }
        memset(static_cast<void*>(block), 1, 100);
        block[0] = newest;
        newest = block;
        expect(++count * bytes < size_t{8} << 30, "memory ends");
      }
      expect(errno == ENOMEM, "errno is ENOMEM");
      expect(count * bytes > size_t{30} << 20, "most of the memory is given");
      while (newest != nullptr) {
        auto* next = static_cast<void**>(newest[0]);
        free(newest);
        newest = next;
      }
    }
  }
}

/// The first number of /proc/self/statm: mapped memory, in bytes.
size_t mapped_bytes() {
  FILE* file = fopen("/proc/self/statm", "r");
  expect(file != nullptr, "/proc/self/statm can be read");
  unsigned long pages = 0;
  expect(fscanf(file, "%lu", &pages) == 1, "/proc/self/statm starts with a number");
  fclose(file);
  return pages * static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

[[gnu::noinline]] size_t use_stack(size_t bytes) {
  volatile char frame[4096];
  frame[0] = 1;
  return static_cast<size_t>(frame[0]) +
         (bytes > sizeof(frame) ? use_stack(bytes - sizeof(frame)) : 0);
}

/// Maps where blocks of the malloc may lie.
void maps_while_it_allocates() {
  for (int count = 0; count < 100; ++count) {
    void* mapping = mmap(nullptr, 1 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    expect(mapping != MAP_FAILED, "the program can map");
    for (int block = 0; block < 10; ++block) {
      void* memory = malloc(100000);
      expect(memory != nullptr, "the program can allocate");
      memset(memory, 1, 100000);
    }
  }
}

void fills_frees_and_asks_for_zeros() {
  for (const size_t bytes : {size_t{100}, size_t{5000}, size_t{100'000}, size_t{40} << 20}) {
    std::vector<void*> blocks(bytes < 10'000 ? 20'000 : 10);
    for (int round = 0; round < 3; ++round) {
      for (void*& block : blocks) {
        block = malloc(bytes);
        expect(block != nullptr, "memory is given");
        memset(block, 1, bytes);
      }
      for (void* block : blocks) {
        free(block);
      }
      malloc_trim(0);
      for (void*& block : blocks) {
        block = calloc(1, bytes);
        const auto* const first = static_cast<const char*>(block);
        expect(first != nullptr && first[0] == 0 && memcmp(first, first + 1, bytes - 1) == 0,
               "calloc gives zeros");
      }
      for (void* block : blocks) {
        free(block);
      }
    }
  }
}

void bounds_its_own_address_space() {
  allocate_and_free();
  const size_t mapped = mapped_bytes();
  expect(mapped < size_t{512} << 20, "no more is mapped than has a use");
  const rlimit limit{mapped + (size_t{300} << 20), RLIM_INFINITY};
  expect(setrlimit(RLIMIT_AS, &limit) == 0, "the address space can be bounded");
  expect(use_stack(size_t{6} << 20) > 1000, "the stack can grow");
  std::thread(allocate_and_free).join();
  void* mapping = mmap(nullptr, size_t{64} << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  expect(mapping != MAP_FAILED, "the program can map");
  munmap(mapping, size_t{64} << 20);
  allocates_until_refused();
}

// ---- sandboxes ----------------------------------------------------------------------------------

/// From now on, a system call outside of the list ends the process. The list is that of a program
/// which knows what a malloc needs, and needs little itself.
void enter_sandbox() {
#define ALLOW(name)                                      \
  BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##name, 0, 1), \
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
  sock_filter steps[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      ALLOW(mmap),
      ALLOW(munmap),
      ALLOW(mremap),
      ALLOW(madvise),
      ALLOW(futex),
      ALLOW(clock_gettime),
      ALLOW(exit_group),
      ALLOW(write),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
  };
#undef ALLOW
  const sock_fprog filter{sizeof steps / sizeof steps[0], steps};
  expect(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "no new privileges");
  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0) {
    _exit(77);
  }
}

/// Holds 64 MiB of small blocks, blocks of a growing size, and then does what it takes to scavenge.
void allocates_in_a_sandbox() {
  std::counting_semaphore<> may_go(0);
  std::counting_semaphore<> is_ready(0);
  std::thread sleeping([&] {
    void* block = malloc(100);
    is_ready.release();
    may_go.acquire();
    free(block);
  });
  is_ready.acquire();
  enter_sandbox();
  std::vector<void*> blocks(1 << 16);
  for (int round = 0; round < 4; ++round) {
    for (void*& block : blocks) {
      block = malloc(1000);
      memset(block, 1, 1000);
    }
    for (void* block : blocks) {
      free(block);
    }
    timespec begin{};
    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (timespec now = begin;
         (now.tv_sec - begin.tv_sec) * 1000 + (now.tv_nsec - begin.tv_nsec) / 1000000 < 700;
         clock_gettime(CLOCK_MONOTONIC, &now)) {
      free(malloc(20'000));
    }
  }
  void* growing = nullptr;
  for (size_t bytes = 100; bytes < size_t{64} << 20; bytes *= 2) {
    growing = realloc(growing, bytes);
    memset(growing, 1, bytes);
  }
  free(growing);
  malloc_trim(0);
  _exit(0);
}

// ---- plug-ins -----------------------------------------------------------------------------------

void frees_blocks_of_a_deeply_bound_plugin() {
  void* const library = dlopen(SLABMALLOC_TEST_PLUGIN, RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
  expect(library != nullptr, "the plug-in can be opened");
  auto* const work = reinterpret_cast<void* (*)()>(dlsym(library, "plugin_work"));
  expect(work != nullptr, "the plug-in has its function");
  free(work());
  dlclose(library);
}

void opens_a_library_by_the_runpath_of_another() {
  void* const opener = dlopen(SLABMALLOC_TEST_OPENER, RTLD_NOW | RTLD_LOCAL);
  expect(opener != nullptr, "the opener can be opened");
  auto* const open = reinterpret_cast<void* (*)(const char*)>(dlsym(opener, "open_by_runpath"));
  expect(open != nullptr, "the opener has its function");
  expect(dlopen("libmalloc_plugin_beside.so", RTLD_NOW) == nullptr, "the program does not find it");
  void* const library = open("libmalloc_plugin_beside.so");
  expect(library != nullptr, "the opener finds it");
  dlclose(library);
}

// ---- wrappers -----------------------------------------------------------------------------------

/// The library is preloaded: its functions are found by name. The thread that ends visits the heap.
void use_a_heap() {
  auto* const create =
      reinterpret_cast<void* (*)(const char*)>(dlsym(RTLD_DEFAULT, "slabmalloc_heap_create"));
  auto* const allocate = reinterpret_cast<void* (*)(void*, size_t, size_t)>(
      dlsym(RTLD_DEFAULT, "slabmalloc_heap_allocate"));
  auto* const destroy =
      reinterpret_cast<void (*)(void*)>(dlsym(RTLD_DEFAULT, "slabmalloc_heap_destroy"));
  void* const heap = create("wrapped");
  std::thread([&] { expect(allocate(heap, 100, 8) != nullptr, "a heap gives memory"); }).join();
  destroy(heap);
}

void does_everything_once() {
  auto* const calls_of =
      reinterpret_cast<int (*)(const char*)>(dlsym(RTLD_DEFAULT, "wrapped_calls_of"));
  expect(calls_of != nullptr, "the wrapper is preloaded");
  for (int round = 0; round < 3; ++round) {
    std::thread(allocate_and_free).join();
    for (size_t bytes = 10; bytes < size_t{100} << 20; bytes *= 3) {
      void* block = realloc(calloc(1, bytes), bytes * 2);
      expect(block != nullptr, "memory is given");
      free(block);
    }
    use_a_heap();
    malloc_trim(0);
    const pid_t child = fork();
    if (child == 0) {
      allocate_and_free();
      _exit(0);
    }
    int status = 1;
    waitpid(child, &status, 0);
    expect(status == 0, "the child ends well");
  }
  malloc_stats();
  char* text = nullptr;
  size_t bytes = 0;
  FILE* const stream = open_memstream(&text, &bytes);
  malloc_info(0, stream);
  fclose(stream);
  free(text);
  expect(calls_of("memcpy") > 0 && calls_of("__errno_location") > 0, "the wrapper was called");
}

/// The wrapper refuses the first calls of some functions.
void forks_amid_allocations() {
  auto* const accepted =
      reinterpret_cast<int (*)(const char*)>(dlsym(RTLD_DEFAULT, "accepted_calls_of"));
  expect(accepted != nullptr, "the wrapper is preloaded");
  std::atomic<bool> done{false};
  std::thread other([&done] {
    while (!done) {
      free(malloc(size_t{200} << 10));
      free(malloc(size_t{40} << 20));
      std::thread(allocate_and_free).join();
    }
  });
  for (int count = 0; count < 30; ++count) {
    free(malloc(size_t{200} << 10));
    const pid_t child = fork();
    if (child == 0) {
      alarm(20);
      free(malloc(size_t{200} << 10));
      allocate_and_free();
      _exit(0);
    }
    int status = 1;
    waitpid(child, &status, 0);
    expect(status == 0 || accepted("__register_atfork") == 0, "the child ends well");
  }
  done = true;
  other.join();
  expect(accepted("__register_atfork") > 0, "the handlers of fork are registered in the end");
  expect(accepted("pthread_key_create") > 0, "the thread's key is made in the end");
}

// ---- misuse seen by the program -----------------------------------------------------------------

void allocates_and_forks_in_its_handler_of_sigabrt() {
  signal(SIGABRT, [](int) {
    for (size_t bytes = 1; bytes < 100000000; bytes *= 3) {
      free(malloc(bytes));
    }
    const pid_t child = fork();
    if (child == 0) {
      free(malloc(100));
      _exit(0);
    }
    int status = 1;
    waitpid(child, &status, 0);
    _exit(status == 0 ? 42 : 1);
  });
  void* block = malloc(100);
  free(block);
  free(block);
}

void says_whether_its_caller_is_trusted() {
  puts(getauxval(AT_SECURE) == 0 ? "trusted" : "secure");
}

void forks() {
  for (int count = 0; count < 1000; ++count) {
    free(malloc(10));
  }
  const pid_t child = fork();
  if (child == 0) {
    for (int count = 0; count < 5; ++count) {
      free(malloc(700));
    }
    exit(0);
  }
  waitpid(child, nullptr, 0);
}

// ---- emulators ----------------------------------------------------------------------------------

/// Prints the largest resident size of the process in KiB. Under an emulator, that is the
/// emulator's.
void says_its_largest_size() {
  allocate_and_free();
  char text[4096] = {};
  const int file = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
  expect(file >= 0 && read(file, text, sizeof text - 1) > 0, "the status can be read");
  close(file);
  const char* const line = strstr(text, "VmHWM:");
  expect(line != nullptr, "the status has the largest size");
  printf("%d\n", atoi(line + strlen("VmHWM:")));
}

// ---- options ------------------------------------------------------------------------------------

bool is_resident(void* address) {
  const auto page_bytes = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  unsigned char flags = 0;
  void* const page =
      reinterpret_cast<void*>(reinterpret_cast<uintptr_t>(address) & ~(page_bytes - 1));
  expect(mincore(page, 1, &flags) == 0, "the address is mapped");
  return (flags & 1) != 0;
}

/// Prints whether the memory is resident right after a free, and after 400 ms.
void says_whether_freed_memory_is_resident() {
  constexpr size_t bytes = size_t{512} << 10;
  char* const block = static_cast<char*>(malloc(bytes));
  char* volatile last_page = block + bytes - 1;
  memset(block, 1, bytes);
  free(block);
  printf("%d ", is_resident(last_page));
  usleep(400'000);
  // The next call of the arena reads the clock. It takes the first half of that memory.
  free(malloc(bytes / 2));
  printf("%d\n", is_resident(last_page));
}

int threads_of_this_process() {
  char text[4096] = {};
  const int file = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
  expect(file >= 0 && read(file, text, sizeof text - 1) > 0, "the status can be read");
  close(file);
  const char* const line = strstr(text, "Threads:");
  return line != nullptr ? atoi(line + strlen("Threads:")) : 0;
}

/// Prints whether memory is resident after it was freed and nobody called the malloc for a while.
void say_whether_idle_memory_is_resident() {
  constexpr size_t bytes = size_t{8} << 20;
  char* const block = static_cast<char*>(malloc(bytes));
  char* volatile last_page = block + bytes - 1;
  memset(block, 1, bytes);
  free(block);
  // Some slow calls, at which a child of a fork starts its thread.
  for (int number = 0; number < 1000; ++number) {
    free(malloc(size_t{40} << 10));
  }
  for (int waits = 0; waits < 100 && is_resident(last_page); ++waits) {
    usleep(20'000);
  }
  printf("%d %d threads\n", is_resident(last_page), threads_of_this_process());
  fflush(stdout);
}

void says_whether_idle_memory_is_resident() {
  say_whether_idle_memory_is_resident();
  const pid_t child = fork();
  if (child == 0) {
    say_whether_idle_memory_is_resident();
    _exit(0);
  }
  waitpid(child, nullptr, 0);
}

void leaves_a_block_in_use() {
  static void* volatile block = malloc((size_t{1} << 20) + 1);
  expect(block != nullptr, "malloc");
}

void closes_stderr_at_its_end() {
  atexit([] { fclose(stderr); });
}

/// The program also closes the malloc's copy of stderr, and reuses its descriptor.
void closes_all_files_at_its_end() {
  atexit([] {
    for (int descriptor = 2; descriptor < 1000; ++descriptor) {
      close(descriptor);
    }
    for (int descriptor = 3; descriptor < 200; ++descriptor) {
      dup2(STDOUT_FILENO, descriptor);
    }
  });
}

struct Program {
  const char* name;
  void (*run)();
};

constexpr Program programs[] = {
    {"does_nothing", [] {}},
    {"allocates_and_frees", allocate_and_free},
    {"frees_after_main", frees_after_main},
    {"threads_run_on_while_the_process_ends", threads_run_on_while_the_process_ends},
    {"main_thread_ends_first", main_thread_ends_first},
    {"trims_while_a_thread_sleeps", trims_while_a_thread_sleeps},
    {"frees_blocks_that_a_library_allocated_before_the_start",
     frees_blocks_that_a_library_allocated_before_the_start},
    {"runs_on_a_wrapped_malloc", runs_on_a_wrapped_malloc},
    {"starts_threads_at_once", starts_threads_at_once},
    {"bounds_its_own_address_space", bounds_its_own_address_space},
    {"maps_while_it_allocates", maps_while_it_allocates},
    {"allocates_until_refused", allocates_until_refused},
    {"allocates_and_forks_in_its_handler_of_sigabrt",
     allocates_and_forks_in_its_handler_of_sigabrt},
    {"says_whether_its_caller_is_trusted", says_whether_its_caller_is_trusted},
    {"forks", forks},
    {"says_whether_freed_memory_is_resident", says_whether_freed_memory_is_resident},
    {"says_whether_idle_memory_is_resident", says_whether_idle_memory_is_resident},
    {"says_its_largest_size", says_its_largest_size},
    {"fills_frees_and_asks_for_zeros", fills_frees_and_asks_for_zeros},
    {"allocates_in_a_sandbox", allocates_in_a_sandbox},
    {"frees_blocks_of_a_deeply_bound_plugin", frees_blocks_of_a_deeply_bound_plugin},
    {"opens_a_library_by_the_runpath_of_another", opens_a_library_by_the_runpath_of_another},
    {"does_everything_once", does_everything_once},
    {"forks_amid_allocations", forks_amid_allocations},
    {"leaves_a_block_in_use", leaves_a_block_in_use},
    {"closes_stderr_at_its_end", closes_stderr_at_its_end},
    {"closes_all_files_at_its_end", closes_all_files_at_its_end},
};

}  // namespace

int main(int count, char** arguments) {
  for (const Program& program : programs) {
    if (count == 2 && strcmp(program.name, arguments[1]) == 0) {
      program.run();
      return 0;
    }
  }
  return 2;
}
