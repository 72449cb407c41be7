// SPDX-License-Identifier: MIT
//
// status_of_child runs work in a process of its own, so that it does not change the test's process.
#pragma once

#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>

namespace slabmalloc::test {

/// Runs `work` in a child and returns its result, 0 to 255, at least 1 if a check failed there.
/// Returns -1 if a signal ended the child, for example the alarm after `seconds`.
template <class Work>
int status_of_child(Work work, unsigned seconds = 20) {
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    alarm(seconds);
    const int status = work();
    std::fflush(nullptr);
    // Not by _exit(), where ThreadSanitizer waits for threads that the child does not have.
    syscall(SYS_exit_group, status == 0 && testing::Test::HasFailure() ? 1 : status);
  }
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace slabmalloc::test
