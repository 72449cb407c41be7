// SPDX-License-Identifier: MIT
//
// status_of_child: work in a process of its own, for what a test must not do to its own process.
#pragma once

#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>

namespace slabmalloc::test {

/// Runs `work` in a child and returns what it returns, 0 to 255: 1 at least if a check failed in
/// it; -1 if a signal ended it, that of its alarm after `seconds` for one.
template <class Work>
int status_of_child(Work work, unsigned seconds = 20) {
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    alarm(seconds);
    const int status = work();
    std::fflush(nullptr);
    // Not by _exit(), where ThreadSanitizer asks after the threads that the child does not have.
    syscall(SYS_exit_group, status == 0 && testing::Test::HasFailure() ? 1 : status);
  }
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace slabmalloc::test
