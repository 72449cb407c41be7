// SPDX-License-Identifier: MIT
//
// A library for LD_PRELOAD behind the malloc, so the loader starts it first. It allocates before
// any other start-up code, gives its blocks to the program, and allocates in its handlers of fork.
#include <malloc.h>
#include <pthread.h>

#include <cstdlib>
#include <cstring>
#include <string>

namespace {

char* early_block = nullptr;
std::string* early_string = nullptr;
pthread_key_t key = 0;

/// More than the caches of a thread hold, of every kind.
void allocate_much() {
  void* blocks[300] = {};
  for (void*& block : blocks) {
    block = std::malloc(30000);
  }
  for (void* block : blocks) {
    std::free(block);
  }
  std::free(std::malloc(1 << 20));
  std::free(std::malloc(64 << 20));
  malloc_trim(0);
}

[[gnu::constructor(101)]] void start() {
  pthread_atfork(allocate_much, allocate_much, allocate_much);
  early_block = static_cast<char*>(std::malloc(100));
  std::strcpy(early_block, "made early");
  early_string = new std::string(10000, 'e');
  pthread_key_create(&key, std::free);
  pthread_setspecific(key, std::calloc(1, 100));
  std::free(std::realloc(std::malloc(10), 1000000));
}

[[gnu::destructor(101)]] void finish() {
  delete early_string;
  std::free(std::malloc(100));
}

}  // namespace

extern "C" char* take_early_block() {
  char* block = early_block;
  early_block = nullptr;
  return block;
}
