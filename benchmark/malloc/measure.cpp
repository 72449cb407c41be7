// SPDX-License-Identifier: MIT
#include "measure.hpp"

#include <dlfcn.h>
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <ctime>

#include "block.hpp"

namespace slabmalloc::benchmark {
namespace {

double seconds(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

/// The number of KiB behind `key` in a file of /proc, in bytes.
std::uint64_t read_kibibytes(const char* path, const char* key) {
  char text[4096];
  const int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) fail("no /proc");
  std::size_t length = 0;
  while (length < sizeof text - 1) {
    const ssize_t count = read(file, text + length, sizeof text - 1 - length);
    if (count <= 0) break;
    length += static_cast<std::size_t>(count);
  }
  close(file);
  text[length] = '\0';
  const char* found = std::strstr(text, key);
  if (found == nullptr) fail("a field of /proc is missing");
  return std::strtoull(found + std::strlen(key), nullptr, 10) * 1024;
}

}  // namespace

double wall_seconds() { return seconds(CLOCK_MONOTONIC); }

double cpu_seconds() { return seconds(CLOCK_PROCESS_CPUTIME_ID); }

std::uint64_t resident_bytes() { return read_kibibytes("/proc/self/smaps_rollup", "\nRss:"); }

std::uint64_t peak_resident_bytes() { return read_kibibytes("/proc/self/status", "\nVmHWM:"); }

void sleep_milliseconds(unsigned milliseconds) {
  timespec left{.tv_sec = milliseconds / 1000, .tv_nsec = milliseconds % 1000 * 1000000L};
  while (nanosleep(&left, &left) != 0 && errno == EINTR) {
  }
}

const char* malloc_origin() {
  void* function = dlsym(RTLD_DEFAULT, "malloc");
  Dl_info info{};
  if (function == nullptr || dladdr(function, &info) == 0) return "unknown";
  return info.dli_fname;
}

}  // namespace slabmalloc::benchmark
