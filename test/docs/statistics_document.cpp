// SPDX-License-Identifier: MIT
//
// Prints docs/STATISTICS.md from the tables of all counters.
#include <cstdio>

#include "malloc/report.hpp"
#include "slabmalloc/kernel.hpp"

namespace {

using namespace slabmalloc;

const char* name_of(CounterKind kind) {
  switch (kind) {
    case CounterKind::Total:
      return "total";
    case CounterKind::Current:
      return "current";
    case CounterKind::Peak:
      return "peak";
    case CounterKind::Constant:
      break;
  }
  return "constant";
}

template <class Counters>
void print_section(const char* title, const char* place) {
  std::printf("\n## %s\n\n%s\n\n", title, place);
  std::puts("| name | unit | kind | meaning |\n|---|---|---|---|");
  for_each_counter<Counters>([](const auto& entry) noexcept {
    std::printf("| `%s` | %s | %s | %s |\n", entry.name, entry.unit, name_of(entry.kind),
                entry.meaning);
  });
}

}  // namespace

int main() {
  std::puts(R"(# Statistics

What the malloc and the kernel services count. This file is written by
`cmake --build build/release --target docs-statistics` from the tables in the sources;
do not edit it.

`SLABMALLOC_OPTIONS=stats` prints the process, the arena, large objects and size classes at exit,
and `stats_file:PATH` appends them to a file as one line of JSON. Names are the same everywhere.

| kind | meaning | several owners | child of a fork |
|---|---|---|---|
| total | since the start | adds up | starts at 0 |
| current | at this moment | adds up | goes on |
| peak | the highest ever | adds up to a bound: the peak of the sum is at most that | goes on |
| constant | the same for all | is the same | is the same |)");
  print_section<ProcessTotals>("Process", "`ProcessStatistics`. In JSON at the outermost level.");
  print_section<ArenaStatistics>("Arena", "`ArenaStatistics`. In JSON at the outermost level.");
  print_section<LargeStatistics>("Large objects", "`ArenaStatistics::large`. In JSON `large`.");
  print_section<ClassStatistics>("Size class", "`ClassStatistics`. In JSON an entry of `classes`.");
  print_section<ZoneStatistics>("Zone", "`ZoneStatistics`, the sums over its size classes.");
  print_section<CpuZonesStatistics>(
      "Heap of a kernel", "`CpuZonesStatistics`. Its member `zones` has the sums over all zones.");
  print_section<TagStatistics>("A tag of a kernel's heap",
                               "`TagStatistics`. The name and the number of the tag come first.");
  print_section<FrameStatistics>("Frame allocator", "`FrameStatistics`.");
  print_section<NodeStatistics>("A NUMA node", "`NodeStatistics`.");
  print_section<CacheStatistics>(
      "A line of slabinfo",
      "`CacheStatistics`: an object cache, a kernel's heap, its runs, or one of its size classes. "
      "Its\n"
      "name comes first; [PORTING](PORTING.md#how-to-read-the-report) tells how to read it.");
}
