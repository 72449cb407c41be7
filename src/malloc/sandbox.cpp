// SPDX-License-Identifier: MIT
//
// Notices that the program locks itself up. A sandbox may end a program that makes a system call
// outside of a list, and lists know of malloc's mmap, munmap, mremap, madvise and futex alone. With
// seccomp(2), a program first sets PR_SET_NO_NEW_PRIVS or PR_SET_SECCOMP, unless it has privileges.
// So this file has the C library's prctl(), which does nothing but the system call.
#include <errno.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "os/os.hpp"
#include "os/system_call.hpp"

#pragma GCC visibility push(default)
extern "C" {

int prctl(int option, ...) {  // The C library's declaration says whether it is noexcept.
  unsigned long arguments[4];
  va_list list;
  va_start(list, option);
  for (unsigned long& argument : arguments) {
    argument = va_arg(list, unsigned long);
  }
  va_end(list);
  if (option == PR_SET_NO_NEW_PRIVS || option == PR_SET_SECCOMP) {
    slabmalloc::os::ask_system();
    slabmalloc::os::expect_sandbox();
  }
  const long result = slabmalloc::os::system_call(SYS_prctl, option, arguments[0], arguments[1],
                                                  arguments[2], arguments[3]);
  if (slabmalloc::os::is_failure(result)) {
    errno = static_cast<int>(-result);
    return -1;
  }
  return static_cast<int>(result);
}

}  // extern "C"
#pragma GCC visibility pop
