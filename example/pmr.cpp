// SPDX-License-Identifier: MIT
//
// Containers of std::pmr over a zone: a table of words and the lines that they occur in. The zone
// tells what the table takes, and gives all of it back at once.
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory_resource>
#include <string>
#include <vector>

#include "slabmalloc/adaptors/memory_resource.hpp"
#include "slabmalloc/adaptors/mmap_pager.hpp"
#include "slabmalloc/adaptors/resource_pager.hpp"

namespace {

using slabmalloc::PoolConfig;
using slabmalloc::ScopedZone;

using Lines = std::pmr::vector<int>;
using Index = std::pmr::map<std::pmr::string, Lines, std::less<>>;

constexpr const char* text[] = {"the quick brown fox", "jumps over the lazy dog",
                                "the dog is not amused and considers an incomprehensibility"};

/// The lines of `text` that each word occurs in, all of it in memory from `resource`.
Index index_of_words(std::pmr::memory_resource* resource) {
  Index index(resource);
  for (int number = 0; const char* line : text) {
    ++number;
    while (*line != '\0') {
      const std::size_t length = std::strcspn(line, " ");
      index[std::pmr::string(line, length, resource)].push_back(number);
      line += length;
      line += *line == ' ' ? 1 : 0;
    }
  }
  return index;
}

}  // namespace

int main() {
  // Memory from the operating system. Arrays above 8 KiB are runs of the pager, so nothing goes
  // upstream.
  slabmalloc::MmapPager pager;
  {
    ScopedZone<slabmalloc::MmapPager, PoolConfig> zone(pager);
    slabmalloc::ZoneResource resource(zone);
    const Index index = index_of_words(&resource);
    for (const auto& [word, lines] : index) {
      std::printf("%-20s lines: %zu, first %d\n", word.c_str(), lines.size(), lines.front());
    }
    const slabmalloc::ZoneStatistics statistics = zone.statistics();
    std::printf("%zu blocks of %zu bytes\n", statistics.allocations - statistics.frees,
                statistics.used_bytes);
    if (index.size() != 15 || statistics.used_bytes == 0) {
      return 1;
    }
  }

  // The same in a buffer of the program, and never beyond it.
  alignas(64 * 1024) static std::byte buffer[2 * 1024 * 1024];
  std::pmr::monotonic_buffer_resource memory(buffer, sizeof buffer,
                                             std::pmr::null_memory_resource());
  slabmalloc::ResourcePager buffer_pager(&memory);
  ScopedZone<slabmalloc::ResourcePager, PoolConfig> zone(buffer_pager);
  slabmalloc::ZoneResource resource(zone);
  return index_of_words(&resource).size() == 15 ? 0 : 1;
}
