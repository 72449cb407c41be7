// SPDX-License-Identifier: MIT
//
// A library to be preloaded in front of the malloc: it allocates before anything else has started,
// and hands what it has to the program.
#include <pthread.h>

#include <cstdlib>
#include <cstring>
#include <string>

namespace {

char* early_block = nullptr;
std::string* early_string = nullptr;
pthread_key_t key = 0;

[[gnu::constructor(101)]] void start() {
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
