// SPDX-License-Identifier: MIT
//
// Starts a program under an allocator, waits for it and writes down its use of resources. Linux
// counts memory from before an exec into the peak, so this process stays small.
//
//   malloc_launch REPORT PRELOAD REPEAT PROGRAM NAME ARGUMENT...
//
// PRELOAD may be empty. The program at the path PROGRAM runs REPEAT times as NAME with the
// arguments, or until one run fails. REPORT gets one line of JSON: the sum of times, the largest
// peak, and the wait status of the last run.
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <ctime>

namespace {

struct Usage {
  double wall_seconds = 0;
  double cpu_seconds = 0;
  long peak_kibibytes = 0;
  int wait_status = 0;
};

double seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
}

double now() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

/// Runs the program once and adds its use of resources. Fails: false if it does not start or end.
bool run(const char* program, char** arguments, Usage& usage) {
  const double start = now();
  const pid_t child = fork();
  if (child == 0) {
    execv(program, arguments);
    std::perror(program);
    _exit(127);
  }
  rusage used{};
  while (child > 0 && wait4(child, &usage.wait_status, 0, &used) < 0)
    if (errno != EINTR) return false;
  usage.wall_seconds += now() - start;
  usage.cpu_seconds += seconds(used.ru_utime) + seconds(used.ru_stime);
  usage.peak_kibibytes = std::max(usage.peak_kibibytes, used.ru_maxrss);
  return child > 0;
}

bool write_report(const char* path, const Usage& usage) {
  std::FILE* file = std::fopen(path, "we");
  if (file == nullptr) return false;
  std::fprintf(file,
               "{\"wall_seconds\":%.6f,\"cpu_seconds\":%.6f,\"peak_bytes\":%ld,"
               "\"wait_status\":%d}\n",
               usage.wall_seconds, usage.cpu_seconds, usage.peak_kibibytes * 1024,
               usage.wait_status);
  return std::fclose(file) == 0;
}

}  // namespace

int main(int count, char** words) {
  if (count < 6) {
    std::fprintf(stderr, "usage: malloc_launch REPORT PRELOAD REPEAT PROGRAM NAME ARGUMENT...\n");
    return 2;
  }
  const char* report = words[1];
  const char* preload = words[2];
  if (*preload != '\0') setenv("LD_PRELOAD", preload, 1);
  Usage usage;
  for (long left = std::strtol(words[3], nullptr, 10); left > 0 && usage.wait_status == 0; --left) {
    if (!run(words[4], words + 5, usage)) {
      std::perror("malloc_launch");
      return 1;
    }
  }
  if (!write_report(report, usage)) {
    std::perror(report);
    return 1;
  }
  return 0;
}
