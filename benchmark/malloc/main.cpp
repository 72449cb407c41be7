// SPDX-License-Identifier: MIT
//
// Runs one allocation pattern and prints its time and memory as one line of JSON.
//
//   malloc_workloads NAME [--threads N] [--percent N] [--settle MILLISECONDS]
//   malloc_workloads --list      every NAME, its numbers of threads and what it is, one a line
//
// Times cover the work without the program's start. Then the program frees everything, joins all
// threads, pauses (1 s), and reads the memory still resident. A pattern that leaves live blocks has
// four more figures, read before these are freed.
#include <charconv>
#include <cstdio>
#include <cstring>
#include <string_view>

#include "measure.hpp"
#include "workload.hpp"

namespace {

using namespace slabmalloc::benchmark;

constexpr unsigned max_threads = 256;
constexpr unsigned max_percent = 10000;
constexpr unsigned max_settle_milliseconds = 60000;

struct Arguments {
  const Workload* workload = nullptr;
  Job job;
  unsigned settle_milliseconds = 1000;
};

const Workload* find_workload(std::string_view name) {
  for (const Workload& workload : workloads())
    if (name == workload.name) return &workload;
  return nullptr;
}

bool parse_number(const char* text, unsigned least, unsigned most, unsigned& number) {
  const char* end = text + std::strlen(text);
  const auto [stop, error] = std::from_chars(text, end, number);
  return error == std::errc() && stop == end && number >= least && number <= most;
}

/// Checks the arguments against the header of this file. Fails: prints the error, returns false.
bool parse(int count, char** words, Arguments& arguments) {
  if (count < 2 || (arguments.workload = find_workload(words[1])) == nullptr) {
    std::fprintf(stderr, "malloc_workloads: no workload `%s`; see --list\n",
                 count < 2 ? "" : words[1]);
    return false;
  }
  for (int index = 2; index < count; index += 2) {
    const std::string_view option = words[index];
    const char* value = index + 1 < count ? words[index + 1] : "";
    const bool valid =
        option == "--threads"   ? parse_number(value, 1, max_threads, arguments.job.threads)
        : option == "--percent" ? parse_number(value, 1, max_percent, arguments.job.percent)
        : option == "--settle"
            ? parse_number(value, 0, max_settle_milliseconds, arguments.settle_milliseconds)
            : false;
    if (!valid) {
      std::fprintf(stderr, "malloc_workloads: cannot use `%s %s`\n", words[index], value);
      return false;
    }
  }
  return true;
}

int list() {
  for (const Workload& workload : workloads()) {
    std::printf("%s\t", workload.name);
    for (const unsigned threads : workload.threads)
      std::printf("%s%u", threads == workload.threads.front() ? "" : ",", threads);
    std::printf("\t%s\n", workload.description);
  }
  return 0;
}

void measure(const Arguments& arguments) {
  const auto start_bytes = resident_bytes();
  const double wall_start = wall_seconds();
  const double cpu_start = cpu_seconds();
  Result result = arguments.workload->run(arguments.job);
  const double wall = wall_seconds() - wall_start;
  const double cpu = cpu_seconds() - cpu_start;
  const auto peak_bytes = peak_resident_bytes();
  char held_text[200] = "";
  if (arguments.workload->measure_held != nullptr) {
    const Held held = arguments.workload->measure_held();
    result.checksum += held.checksum;
    std::snprintf(held_text, sizeof held_text,
                  "\"live_bytes\":%llu,\"least_bytes\":%llu,"
                  "\"held_bytes\":%llu,\"trimmed_bytes\":%llu,",
                  static_cast<unsigned long long>(held.live_bytes),
                  static_cast<unsigned long long>(held.least_bytes),
                  static_cast<unsigned long long>(held.later_bytes),
                  static_cast<unsigned long long>(held.trimmed_bytes));
  }
  sleep_milliseconds(arguments.settle_milliseconds);
  const auto after_bytes = resident_bytes();
  std::printf(
      "{\"workload\":\"%s\",\"threads\":%u,\"percent\":%u,\"wall_seconds\":%.6f,"
      "\"cpu_seconds\":%.6f,\"start_bytes\":%llu,\"peak_bytes\":%llu,\"after_bytes\":%llu,"
      "%s\"operations\":%llu,\"checksum\":\"%016llx\",\"malloc\":\"%s\"}\n",
      arguments.workload->name, arguments.job.threads, arguments.job.percent, wall, cpu,
      static_cast<unsigned long long>(start_bytes), static_cast<unsigned long long>(peak_bytes),
      static_cast<unsigned long long>(after_bytes), held_text,
      static_cast<unsigned long long>(result.operations),
      static_cast<unsigned long long>(result.checksum), malloc_origin());
}

}  // namespace

int main(int count, char** words) {
  if (count == 2 && std::string_view(words[1]) == "--list") return list();
  Arguments arguments;
  if (!parse(count, words, arguments)) return 2;
  measure(arguments);
  return 0;
}
