// SPDX-License-Identifier: MIT
//
// operator new and sized operator delete, as C++ containers call them. The pattern replaces random
// ones of 2000 objects of 16 to 512 B. A map of strings gains and loses entries.
// Source: sized deallocation (C++14, N3778).
#include <map>
#include <new>
#include <string>
#include <vector>

#include "block.hpp"
#include "random.hpp"
#include "threads.hpp"

namespace slabmalloc::benchmark {
namespace {

constexpr std::size_t total_replacements = 10'000'000;
constexpr std::size_t objects_per_thread = 2000;
constexpr std::size_t entries = 1000;

std::uint64_t drop_object(void* object) {
  if (object == nullptr) return 0;
  const std::uint64_t checksum = check_block(object);
  ::operator delete(object, block_bytes(object));
  return checksum;
}

Result replace(unsigned thread, std::size_t steps) {
  Random random(thread);
  Result result{.operations = steps};
  std::vector<void*> objects(objects_per_thread);
  std::map<std::size_t, std::string> texts;
  std::uint64_t serial = first_serial(thread);
  for (std::size_t step = 0; step < steps; ++step) {
    void*& object = objects[random.below(objects_per_thread)];
    result.checksum += drop_object(object);
    const std::size_t bytes = random.between(least_block_bytes, 512);
    object = require(::operator new(bytes));
    write_block(object, bytes, serial++);
    if (step % 8 == 0) {
      const std::size_t key = random.below(entries);
      const auto [entry, added] = texts.try_emplace(key, bytes / 4, 'x');
      result.checksum += entry->second.size();
      if (!added) texts.erase(entry);
    }
  }
  for (void* object : objects) result.checksum += drop_object(object);
  return result;
}

}  // namespace

Result run_sized_delete(const Job& job) {
  return run_threads(
      job.threads, [&](unsigned thread) { return replace(thread, job.share(total_replacements)); });
}

}  // namespace slabmalloc::benchmark
