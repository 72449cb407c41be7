// SPDX-License-Identifier: MIT
//
// A library that programs load and unload. Its static and thread-local objects allocate.
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>

namespace {

std::map<std::string, std::string> words{{"a", std::string(1000, 'a')}, {"b", "b"}};
thread_local std::string of_the_thread(500, 't');

}  // namespace

/// A block for the caller to free.
extern "C" void* plugin_work() {
  of_the_thread += words["a"];
  words[std::to_string(words.size())] = of_the_thread;
  auto* block = static_cast<char*>(std::malloc(100));
  std::strcpy(block, "made by a plugin");
  return block;
}
