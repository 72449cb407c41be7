// SPDX-License-Identifier: MIT
//
// Programs with wrong accesses to blocks of 100 bytes, and right ones, for guarded_test.cpp:
//
//   guarded_program NAME
//
// It exits with 3 if nobody stopped it.
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <malloc.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

extern "C" {
[[gnu::weak]] void slabmalloc_guard(std::size_t one_in, std::size_t mean_bytes);
[[gnu::weak]] void __register_frame(void* unwind_table);

// Names that a back trace shows.
[[gnu::noinline, gnu::visibility("default")]] char* make_a_block() {
  auto* const block = static_cast<char*>(std::malloc(100));
  std::memset(block, 'x', 100);
  return block;
}
[[gnu::noinline, gnu::visibility("default")]] void drop_the_block(char* block) {
  std::free(block);
  // A call after it, so that the function stays in the back trace.
  __asm__ volatile("" ::: "memory");
}
[[gnu::noinline, gnu::visibility("default")]] void make_the_mistake(void (*mistake)(char*)) {
  mistake(make_a_block());
  __asm__ volatile("" ::: "memory");
}
}

namespace {

void touch(volatile char* byte) { (void)*byte; }

char* volatile nowhere = reinterpret_cast<char*>(8);

struct Program {
  const char* name;
  void (*mistake)(char*);
};

const Program programs[] = {
    {"reads_after_free",
     [](char* block) {
       drop_the_block(block);
       touch(block + 5);
     }},
    {"writes_after_free",
     [](char* block) {
       drop_the_block(block);
       *const_cast<volatile char*>(block + 99) = 1;
     }},
    {"runs_beyond_the_end",
     [](char* block) {
       for (volatile char* byte = block;; ++byte) {
         *byte = 1;
       }
     }},
    {"runs_before_the_start",
     [](char* block) {
       for (volatile char* byte = block;; --byte) {
         touch(byte);
       }
     }},
    {"writes_one_byte_behind",
     [](char* block) {
       // A block of 100 bytes that ends at a guard leaves 12 before it.
       *const_cast<volatile char*>(block + 100) = 1;
       drop_the_block(block);
     }},
    {"frees_twice",
     [](char* block) {
       drop_the_block(block);
       drop_the_block(block);
     }},
    {"frees_the_middle", [](char* block) { drop_the_block(block + 8); }},
    {"reallocates_after_free",
     [](char* block) {
       drop_the_block(block);
       block = static_cast<char*>(std::realloc(block, 200));
     }},
    {"faults_elsewhere", [](char*) { touch(nowhere); }},
    {"sends_itself_a_fault", [](char*) { kill(getpid(), SIGSEGV); }},
};

void make_the_mistake_called(const std::string& name) {
  for (const Program& one : programs) {
    if (name == one.name) {
      make_the_mistake(one.mistake);
    }
  }
}

// ---- handlers of faults -------------------------------------------------------------------------

/// What the next call of sigaction() that sets a handler of faults does besides.
enum class Sigaction { Plain, Refuses, MeetsAFault };
Sigaction next_sigaction = Sigaction::Plain;

/// Sets a handler of faults.
template <class Handler>
void set_handler(Handler handler, int flags = 0, int blocked = 0) {
  struct sigaction action = {};
  action.sa_flags = flags;
  if constexpr (requires { action.sa_sigaction = handler; }) {
    action.sa_sigaction = handler;
    action.sa_flags |= SA_SIGINFO;
  } else {
    action.sa_handler = handler;
  }
  if (blocked != 0) {
    sigaddset(&action.sa_mask, blocked);
  }
  sigaction(SIGSEGV, &action, nullptr);
}

constexpr int once = static_cast<int>(SA_RESETHAND);  // An unsigned constant.

void write_handled(int) { (void)!write(1, "handled\n", 8); }
void send_a_fault() { kill(getpid(), SIGSEGV); }

/// In a handler: 42, or the number of the signal that is blocked and should not be, or conversely.
int wrongly_blocked(const std::vector<int>& blocked, const std::vector<int>& others) {
  sigset_t now;
  pthread_sigmask(SIG_BLOCK, nullptr, &now);
  for (const int number : blocked) {
    if (sigismember(&now, number) == 0) {
      return number;
    }
  }
  for (const int number : others) {
    if (sigismember(&now, number) != 0) {
      return number;
    }
  }
  return 42;
}

/// Reads a byte from a pipe while another thread sends a fault, and exits with 42 if it gets it,
/// with 43 if the signal interrupts it.
[[noreturn]] void read_a_pipe_meanwhile() {
  slabmalloc_guard(1, 0);
  int ends[2];
  (void)!pipe(ends);
  const pthread_t reader = pthread_self();
  std::thread([reader, end = ends[1]] {
    usleep(50'000);
    pthread_kill(reader, SIGSEGV);
    usleep(50'000);
    (void)!write(end, "x", 1);
  }).detach();
  char byte = 0;
  _exit(read(ends[0], &byte, 1) == 1 ? 42 : 43);
}

jmp_buf before_the_fault;

/// Two threads of a child fault, and its stderr is full until both have. Copies that, and ends as
/// the child did.
[[noreturn]] void fault_on_two_threads() {
  int ends[2];
  (void)!pipe2(ends, O_NONBLOCK);
  for (const char fill[512] = {}; write(ends[1], fill, sizeof(fill)) > 0;) {
  }
  fcntl(ends[0], F_SETFL, 0);
  fcntl(ends[1], F_SETFL, 0);
  const pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], 2);
    const auto fault = [] {
      char* const block = make_a_block();
      drop_the_block(block);
      touch(block);
    };
    std::thread(fault).detach();
    usleep(100'000);
    fault();
  }
  close(ends[1]);
  usleep(300'000);
  for (char byte = 0; read(ends[0], &byte, 1) == 1;) {
    if (byte != 0) {
      (void)!write(2, &byte, 1);
    }
  }
  int status = 0;
  waitpid(child, &status, 0);
  raise(WIFSIGNALED(status) ? WTERMSIG(status) : SIGKILL);
  _exit(5);
}

/// The program's unwind table, for dl_iterate_phdr().
int find_unwind_table(dl_phdr_info* object, std::size_t, void* found) {
  for (int number = 0; number < object->dlpi_phnum; ++number) {
    const auto& part = object->dlpi_phdr[number];
    if (part.p_type == PT_GNU_EH_FRAME) {
      // Four bytes that tell the encodings; then the distance of the table from here.
      auto* const pointer = reinterpret_cast<char*>(object->dlpi_addr + part.p_vaddr) + 4;
      std::int32_t distance = 0;
      std::memcpy(&distance, pointer, sizeof(distance));
      *static_cast<void**>(found) = pointer + distance;
    }
  }
  return 1;  // The first object is the program.
}

/// The unwinder allocates when it first meets the table, under its lock.
void register_unwind_table() {
  void* table = nullptr;
  dl_iterate_phdr(&find_unwind_table, &table);
  if (__register_frame != nullptr && table != nullptr) {
    __register_frame(table);
  }
}

/// Programs with handlers of faults, or with unwind tables.
struct Handling {
  const char* name;
  void (*run)();
};

const Handling handlings[] = {
    {"resets_its_handler",
     [] {
       set_handler(&write_handled, once);
       slabmalloc_guard(1, 0);
       touch(nowhere);
     }},
    {"resets_its_handler_of_sent_signals",
     [] {
       set_handler(&write_handled, once);
       slabmalloc_guard(1, 0);
       send_a_fault();
       send_a_fault();
     }},
    {"blocks_signals_in_its_handler",
     [] {
       set_handler([](int) { _exit(wrongly_blocked({SIGSEGV, SIGUSR1}, {SIGUSR2})); }, 0, SIGUSR1);
       slabmalloc_guard(1, 0);
       touch(nowhere);
     }},
    {"lets_faults_interrupt_its_handler",
     [] {
       set_handler([](int, siginfo_t*, void*) { _exit(wrongly_blocked({SIGUSR1}, {SIGSEGV})); },
                   SA_NODEFER, SIGUSR1);
       slabmalloc_guard(1, 0);
       touch(nowhere);
     }},
    {"jumps_out_of_its_handler",
     [] {
       set_handler([](int) { longjmp(before_the_fault, 1); }, SA_NODEFER);
       slabmalloc_guard(1, 0);
       static volatile int faults = 0;
       setjmp(before_the_fault);
       faults = faults + 1;
       if (faults == 4) {
         _exit(42);
       }
       touch(nowhere);
     }},
    {"ignores_sent_faults",
     [] {
       set_handler(SIG_IGN);
       slabmalloc_guard(1, 0);
       send_a_fault();
       send_a_fault();
       write_handled(0);
       char* const block = make_a_block();
       drop_the_block(block);
       touch(block);
     }},
    {"is_interrupted_by_faults",
     [] {
       set_handler([](int) {});
       read_a_pipe_meanwhile();
     }},
    {"goes_on_after_faults",
     [] {
       set_handler([](int) {}, SA_RESTART);
       read_a_pipe_meanwhile();
     }},
    {"goes_on_after_ignored_faults",
     [] {
       set_handler(SIG_IGN);
       read_a_pipe_meanwhile();
     }},
    {"gets_a_fault_while_guarding_begins",
     [] {
       set_handler(&write_handled);
       next_sigaction = Sigaction::MeetsAFault;
       slabmalloc_guard(1, 0);
       _exit(42);
     }},
    {"guards_again_after_a_refusal",
     [] {
       next_sigaction = Sigaction::Refuses;
       slabmalloc_guard(1, 0);
       slabmalloc_guard(1, 0);
       char* const block = make_a_block();
       drop_the_block(block);
       touch(block);
     }},
    {"faults_on_two_threads", &fault_on_two_threads},
    {"frees_with_unwind_tables_of_its_own",
     [] {
       slabmalloc_guard(1, 0);
       char* const block = make_a_block();
       register_unwind_table();
       drop_the_block(block);
       _exit(42);
     }},
    {"frees_twice_with_unwind_tables_of_its_own",
     [] {
       char* const block = make_a_block();  // It is not guarded.
       slabmalloc_guard(1, 0);
       // The report uses the zone of a thread that has ended.
       std::thread([] {
         for (int count = 0; count < 1000; ++count) {
           drop_the_block(make_a_block());
         }
       }).join();
       register_unwind_table();
       drop_the_block(block);
       drop_the_block(block);
     }},
};

// ---- work ---------------------------------------------------------------------------------------

/// Uses the malloc in many ways, on several threads and in children. Exits with 0 if all is well.
int work() {
  const auto use = [] {
    std::vector<std::pair<char*, std::size_t>> blocks;
    bool is_well = true;
    for (std::size_t step = 0; step < 300; ++step) {
      const std::size_t bytes = step * 37 % 40000 + 1;
      auto* block = static_cast<char*>(
          step % 3 == 0   ? std::calloc(1, bytes)
          : step % 3 == 1 ? std::malloc(bytes)
                          : std::aligned_alloc(64, (bytes + 63) & ~std::size_t{63}));
      for (std::size_t at = 0; step % 3 == 0 && at < bytes; ++at) {
        is_well = is_well && block[at] == 0;
      }
      std::memset(block, static_cast<int>(bytes), bytes);
      block = static_cast<char*>(std::realloc(block, bytes / 2 + 1));
      is_well = is_well && malloc_usable_size(block) >= bytes / 2 + 1 &&
                block[0] == static_cast<char>(bytes);
      blocks.emplace_back(block, bytes / 2 + 1);
      if (blocks.size() > 40) {
        std::free(blocks[step % 40].first);
        blocks[step % 40] = blocks.back();
        blocks.pop_back();
      }
    }
    for (const auto& [block, bytes] : blocks) {
      std::free(block);
    }
    return is_well;
  };
  bool is_well[4] = {};
  std::vector<std::thread> threads;
  for (bool& one : is_well) {
    threads.emplace_back([&one, &use] { one = use(); });
  }
  for (int round = 0; round < 5; ++round) {
    const pid_t child = fork();
    if (child == 0) {
      _exit(use() ? 0 : 1);
    }
    int status = 0;
    if (waitpid(child, &status, 0) != child || status != 0) {
      return 1;
    }
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  for (const bool one : is_well) {
    if (!one) {
      return 2;
    }
  }
  return 0;
}

}  // namespace

/// The C library's, or it does what `next_sigaction` says.
extern "C" [[gnu::visibility("default")]] int sigaction(int number, const struct sigaction* action,
                                                        struct sigaction* before) noexcept {
  using Function = int (*)(int, const struct sigaction*, struct sigaction*);
  static const auto next = reinterpret_cast<Function>(dlsym(RTLD_NEXT, "sigaction"));
  if (number != SIGSEGV || action == nullptr || next_sigaction == Sigaction::Plain) {
    return next(number, action, before);
  }
  const Sigaction what = next_sigaction;
  next_sigaction = Sigaction::Plain;
  if (what == Sigaction::Refuses) {
    errno = EINVAL;
    return -1;
  }
  struct sigaction found;
  next(number, nullptr, &found);
  const int result = next(number, action, nullptr);
  send_a_fault();
  if (before != nullptr) {
    *before = found;
  }
  return result;
}

int main(int count, char** arguments) {
  if (count != 2 || slabmalloc_guard == nullptr) {
    return 4;
  }
  const std::string name = arguments[1];
  const std::string handled = "_with_a_handler";
  if (name == "works_with_threads_and_forks") {
    return work();
  }
  for (const Handling& one : handlings) {
    if (name == one.name) {
      one.run();
    }
  }
  if (name.size() > handled.size() && name.ends_with(handled)) {
    struct sigaction action = {};
    action.sa_handler = [](int) { _exit(42); };
    sigaction(SIGSEGV, &action, nullptr);
    slabmalloc_guard(1, 0);
    make_the_mistake_called(name.substr(0, name.size() - handled.size()));
  }
  make_the_mistake_called(name);
  return 3;
}
