// SPDX-License-Identifier: MIT
//
// Programs with wrong accesses to blocks of 100 bytes, and right ones, for guarded_test.cpp:
//
//   guarded_program NAME
//
// It exits with 3 if nobody stopped it.
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

extern "C" {
[[gnu::weak]] void slabmalloc_guard(std::size_t one_in, std::size_t mean_bytes);

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

int main(int count, char** arguments) {
  if (count != 2 || slabmalloc_guard == nullptr) {
    return 4;
  }
  const std::string name = arguments[1];
  const std::string handled = "_with_a_handler";
  if (name == "works_with_threads_and_forks") {
    return work();
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
