// SPDX-License-Identifier: MIT
//
// Incorrect programs of a few lines each; their names describe the mistake. The program
//
//   misuse_program NAME BYTES same|other
//
// writes the misused address to stdout and then misuses it, from its only thread or from another.
// It exits with 3 if nobody stopped it, and with 4 if it could not set the misuse up.
#include <malloc.h>
#include <pthread.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <semaphore>
#include <thread>
#include <vector>

// Of C23. The C library may lack them, and the loader finds the malloc's.
extern "C" {
[[gnu::weak]] void free_sized(void* block, std::size_t bytes);
[[gnu::weak]] void free_aligned_sized(void* block, std::size_t alignment, std::size_t bytes);
}

namespace {

std::size_t bytes = 0;
bool from_another_thread = false;
/// Receives results that the program does not use.
void* volatile unused = nullptr;

/// The program starts this thread before any free, since starting a thread allocates.
std::binary_semaphore may_act(0);
std::binary_semaphore has_acted(0);
void* wrong_address = nullptr;
void (*wrong_call)(void*) = nullptr;

void act() {
  wrong_call(wrong_address);
  // At the latest, the heap finds the misuse when it drains remote frees.
  malloc_trim(0);
}

/// Calls `call` with `address`, which is misuse.
void be_wrong(void* address, void (*call)(void*)) {
  std::printf("%p\n", address);
  wrong_address = address;
  wrong_call = call;
  if (from_another_thread) {
    may_act.release();
    has_acted.acquire();
  } else {
    act();
  }
  malloc_trim(0);
}

char* block() {
  auto* address = static_cast<char*>(std::malloc(bytes));
  std::memset(address, 'x', bytes < 100 ? bytes : 100);
  return address;
}

void use_other_sizes() {
  std::vector<void*> blocks;
  for (std::size_t other = 500; other < 3000; other += 16) {
    blocks.push_back(std::malloc(other));
  }
  for (void* one : blocks) {
    std::free(one);
  }
}

void frees_twice_at_once() {
  char* address = block();
  std::free(address);
  be_wrong(address, std::free);
}

void frees_twice_with_its_neighbours_alive() {
  unused = block();
  char* address = block();
  unused = block();
  std::free(address);
  be_wrong(address, std::free);
}

void frees_twice_after_a_while() {
  char* address = block();
  std::free(address);
  use_other_sizes();
  be_wrong(address, std::free);
}

void frees_twice_with_another_free_in_between() {
  char* first = block();
  char* second = block();
  std::free(first);
  std::free(second);
  be_wrong(first, std::free);
}

void frees_a_block_that_another_thread_freed() {
  char* address = block();
  std::thread([&] { std::free(address); }).join();
  be_wrong(address, std::free);
}

/// The stale free itself frees the new owner's block, since the heap cannot distinguish them. The
/// heap reports the new owner's free.
void frees_a_reused_block_that_a_stale_free_has_freed() {
  char* stale = block();
  std::free(stale);
  std::vector<char*> others;
  for (int attempt = 0; attempt < 5000; ++attempt) {
    char* fresh = static_cast<char*>(std::malloc(bytes));
    if (fresh == stale) {
      std::free(stale);
      be_wrong(fresh, std::free);
      return;
    }
    others.push_back(fresh);
    if (bytes > 100000 && attempt > 50) {
      break;
    }
  }
  std::exit(4);
}

/// The request for cancellation comes first, since it allocates.
void frees_twice_while_its_cancellation_is_pending() {
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, nullptr);
  pthread_cancel(pthread_self());
  char* address = block();
  std::free(address);
  be_wrong(address, [](void* one) {
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, nullptr);
    std::free(one);
  });
}

/// The other blocks are freed after this one, and have other addresses.
void frees_twice_after_many_others() {
  char* address = block();
  std::vector<void*> others;
  for (int other = 0; other < 65; ++other) {
    others.push_back(std::malloc(bytes));
  }
  std::free(address);
  for (void* one : others) {
    std::free(one);
  }
  be_wrong(address, std::free);
}

/// A large block ends, and smaller ones take its memory. None of them starts at its address.
void frees_twice_after_other_blocks_took_its_memory() {
  std::vector<char*> large;
  for (int count = 0; count < 64; ++count) {
    large.push_back(block());
  }
  for (char* one : large) {
    std::free(one);
  }
  malloc_trim(0);
  std::vector<char*> smaller;
  for (int count = 0; count < 100; ++count) {
    smaller.push_back(static_cast<char*>(std::malloc(20480)));
  }
  for (char* stale : large) {
    for (const char* one : smaller) {
      if (one < stale && stale < one + 20480) {
        be_wrong(stale, std::free);
      }
    }
  }
  std::exit(4);
}

/// The last block of 64 KiB of blocks of one size, of which the program has allocated one.
void frees_a_block_that_was_never_allocated() {
  const auto start = reinterpret_cast<std::uintptr_t>(block());
  be_wrong(reinterpret_cast<void*>((start | 0xFFFF) + 1 - bytes), std::free);
}

void frees_the_stack() {
  char of_the_stack[64];
  be_wrong(of_the_stack + 16, std::free);
}

void frees_a_static() {
  alignas(64) static char of_the_program[64];
  be_wrong(of_the_program, std::free);
}

void frees_a_function() { be_wrong(reinterpret_cast<void*>(&frees_a_static), std::free); }

void frees_the_middle_of_a_block() { be_wrong(block() + bytes / 2, std::free); }

void frees_an_unaligned_address() { be_wrong(block() + 1, std::free); }

void frees_the_last_byte_of_a_block() {
  be_wrong(block() + malloc_usable_size(block()) - 1, std::free);
}

void frees_a_neighbouring_region() { be_wrong(block() + (std::size_t{8} << 30), std::free); }

void frees_a_far_address() {
  (void)block();
  be_wrong(reinterpret_cast<void*>(std::uintptr_t{0x10}), std::free);
}

void frees_an_address_of_the_kernel() {
  (void)block();
  be_wrong(reinterpret_cast<void*>(~std::uintptr_t{0xFFF}), std::free);
}

void reallocates_a_freed_block() {
  char* address = block();
  std::free(address);
  be_wrong(address, [](void* one) { unused = std::realloc(one, bytes * 2); });
}

void reallocates_a_freed_block_to_nothing() {
  char* address = block();
  std::free(address);
  be_wrong(address, [](void* one) { unused = std::realloc(one, 0); });
}

void reallocates_the_middle_of_a_block() {
  be_wrong(block() + bytes / 2, [](void* one) { unused = std::realloc(one, bytes * 2); });
}

void asks_the_size_of_a_freed_block() {
  char* address = block();
  std::free(address);
  be_wrong(address, [](void* one) { (void)malloc_usable_size(one); });
}

void asks_the_size_of_the_middle_of_a_block() {
  be_wrong(block() + bytes / 2, [](void* one) { (void)malloc_usable_size(one); });
}

void deletes_an_object_twice() {
  void* address = operator new(bytes);
  unused = address;
  operator delete(address, bytes);
  be_wrong(unused, [](void* one) { operator delete(one, bytes); });
}

void deletes_an_object_with_half_its_size() {
  be_wrong(operator new(bytes), [](void* one) { operator delete(one, bytes / 2); });
}

void frees_a_block_with_twice_its_size() {
  if (free_sized == nullptr) {
    std::exit(4);
  }
  be_wrong(block(), [](void* one) { free_sized(one, bytes * 2); });
}

void frees_an_aligned_block_with_twice_its_size() {
  if (free_aligned_sized == nullptr) {
    std::exit(4);
  }
  be_wrong(std::aligned_alloc(64, bytes),
           [](void* one) { free_aligned_sized(one, 64, bytes * 2); });
}

void deletes_what_malloc_gave() {
  be_wrong(block(), [](void* one) { operator delete(one); });
}

void writes_one_byte_behind_a_block() {
  char* const address = block();
  address[bytes] = 'x';
  be_wrong(address, std::free);
}

void writes_one_byte_before_a_block() {
  char* const address = block();
  unused = address - 1;  // Hidden from the compiler, which would warn.
  *static_cast<char*>(unused) = 'x';
  be_wrong(address, std::free);
}

void writes_into_a_freed_block() {
  char* const address = block();
  std::free(address);
  address[1] = 'x';
  be_wrong(address, [](void*) {
    for (int count = 0; count < 10000; ++count) {
      unused = std::malloc(bytes);
    }
  });
}

void writes_into_a_freed_block_and_ends() {
  char* const address = block();
  std::printf("%p\n", static_cast<void*>(address));
  std::free(address);
  address[1] = 'x';
  std::exit(0);
}

void reads_a_block_of_no_bytes() {
  unused = std::malloc(0);
  be_wrong(unused, [](void* one) { (void)*static_cast<volatile char*>(one); });
}

struct Base {
  char name[20];
};
struct Derived : Base {
  char text[100];
};
void deletes_an_object_as_its_base() {
  Base* const object = new Derived;
  be_wrong(object, [](void* one) { delete static_cast<Base*>(one); });
}

struct Program {
  const char* name;
  void (*run)();
};

constexpr Program programs[] = {
    {"frees_twice_at_once", frees_twice_at_once},
    {"frees_twice_with_its_neighbours_alive", frees_twice_with_its_neighbours_alive},
    {"frees_twice_after_a_while", frees_twice_after_a_while},
    {"frees_twice_with_another_free_in_between", frees_twice_with_another_free_in_between},
    {"frees_a_block_that_another_thread_freed", frees_a_block_that_another_thread_freed},
    {"frees_a_reused_block_that_a_stale_free_has_freed",
     frees_a_reused_block_that_a_stale_free_has_freed},
    {"frees_twice_while_its_cancellation_is_pending",
     frees_twice_while_its_cancellation_is_pending},
    {"frees_twice_after_many_others", frees_twice_after_many_others},
    {"frees_twice_after_other_blocks_took_its_memory",
     frees_twice_after_other_blocks_took_its_memory},
    {"frees_a_block_that_was_never_allocated", frees_a_block_that_was_never_allocated},
    {"frees_the_stack", frees_the_stack},
    {"frees_a_static", frees_a_static},
    {"frees_a_function", frees_a_function},
    {"frees_the_middle_of_a_block", frees_the_middle_of_a_block},
    {"frees_an_unaligned_address", frees_an_unaligned_address},
    {"frees_the_last_byte_of_a_block", frees_the_last_byte_of_a_block},
    {"frees_a_neighbouring_region", frees_a_neighbouring_region},
    {"frees_a_far_address", frees_a_far_address},
    {"frees_an_address_of_the_kernel", frees_an_address_of_the_kernel},
    {"reallocates_a_freed_block", reallocates_a_freed_block},
    {"reallocates_a_freed_block_to_nothing", reallocates_a_freed_block_to_nothing},
    {"reallocates_the_middle_of_a_block", reallocates_the_middle_of_a_block},
    {"asks_the_size_of_a_freed_block", asks_the_size_of_a_freed_block},
    {"asks_the_size_of_the_middle_of_a_block", asks_the_size_of_the_middle_of_a_block},
    {"deletes_an_object_twice", deletes_an_object_twice},
    {"deletes_an_object_with_half_its_size", deletes_an_object_with_half_its_size},
    {"deletes_an_object_as_its_base", deletes_an_object_as_its_base},
    {"deletes_what_malloc_gave", deletes_what_malloc_gave},
    {"writes_one_byte_behind_a_block", writes_one_byte_behind_a_block},
    {"writes_one_byte_before_a_block", writes_one_byte_before_a_block},
    {"writes_into_a_freed_block", writes_into_a_freed_block},
    {"writes_into_a_freed_block_and_ends", writes_into_a_freed_block_and_ends},
    {"reads_a_block_of_no_bytes", reads_a_block_of_no_bytes},
    {"frees_a_block_with_twice_its_size", frees_a_block_with_twice_its_size},
    {"frees_an_aligned_block_with_twice_its_size", frees_an_aligned_block_with_twice_its_size},
};

}  // namespace

int main(int count, char** arguments) {
  if (count != 4) {
    for (const Program& program : programs) {
      std::puts(program.name);
    }
    return 0;
  }
  // Allocates the program's own memory first, so that it does not reuse the freed block.
  std::setvbuf(stdout, nullptr, _IONBF, 0);
  std::thread([] {
    may_act.acquire();
    act();
    has_acted.release();
  }).detach();
  bytes = std::strtoull(arguments[2], nullptr, 0);
  from_another_thread = std::strcmp(arguments[3], "other") == 0;
  for (const Program& program : programs) {
    if (std::strcmp(program.name, arguments[1]) == 0) {
      program.run();
      return 3;
    }
  }
  return 4;
}
