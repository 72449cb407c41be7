// SPDX-License-Identifier: MIT
//
// System calls without the C library's functions around them. Those
//
//   - are points of cancellation, some of them: a free must not end its thread;
//   - set errno, which malloc and free must keep;
// - may be replaced: a library that is preloaded too wraps them with functions that allocate, while
//     this one holds a lock.
//
// Architectures without an instruction here use the C library's syscall(), which has the last two
// faults.
#pragma once

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace slabmalloc::os {

namespace detail {

#if defined(__x86_64__) && !defined(__ILP32__)

[[gnu::always_inline]] inline long raw_call(long number, long a, long b, long c, long d, long e,
                                            long f) noexcept {
  long result = number;
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  register long r9 __asm__("r9") = f;
  __asm__ volatile("syscall"
                   : "+a"(result)
                   : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
}

#elif defined(__aarch64__)

[[gnu::always_inline]] inline long raw_call(long number, long a, long b, long c, long d, long e,
                                            long f) noexcept {
  register long x8 __asm__("x8") = number;
  register long x0 __asm__("x0") = a;
  register long x1 __asm__("x1") = b;
  register long x2 __asm__("x2") = c;
  register long x3 __asm__("x3") = d;
  register long x4 __asm__("x4") = e;
  register long x5 __asm__("x5") = f;
  __asm__ volatile("svc 0"
                   : "+r"(x0)
                   : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                   : "memory");
  return x0;
}

#elif defined(__riscv) && __riscv_xlen == 64

[[gnu::always_inline]] inline long raw_call(long number, long a, long b, long c, long d, long e,
                                            long f) noexcept {
  register long a7 __asm__("a7") = number;
  register long a0 __asm__("a0") = a;
  register long a1 __asm__("a1") = b;
  register long a2 __asm__("a2") = c;
  register long a3 __asm__("a3") = d;
  register long a4 __asm__("a4") = e;
  register long a5 __asm__("a5") = f;
  __asm__ volatile("ecall"
                   : "+r"(a0)
                   : "r"(a7), "r"(a1), "r"(a2), "r"(a3), "r"(a4), "r"(a5)
                   : "memory");
  return a0;
}

#else

inline long raw_call(long number, long a, long b, long c, long d, long e, long f) noexcept {
  const int saved_errno = errno;
  const long result = syscall(number, a, b, c, d, e, f);
  const long answer = result == -1 ? -errno : result;
  errno = saved_errno;
  return answer;
}

#endif

inline long word(long value) noexcept { return value; }
inline long word(int value) noexcept { return value; }
inline long word(unsigned value) noexcept { return static_cast<long>(value); }
inline long word(unsigned long value) noexcept { return static_cast<long>(value); }
inline long word(const volatile void* pointer) noexcept { return reinterpret_cast<long>(pointer); }

}  // namespace detail

/// Makes system call `number` with at most six arguments: integers and pointers.
/// Fails: the negative of an errno value, above -4096.
template <class... Arguments>
inline long system_call(long number, Arguments... arguments) noexcept {
  static_assert(sizeof...(arguments) <= 6);
  long words[6] = {detail::word(arguments)...};
  return detail::raw_call(number, words[0], words[1], words[2], words[3], words[4], words[5]);
}

/// True if a system call's result tells of a failure.
constexpr bool is_failure(long result) noexcept {
  return static_cast<unsigned long>(result) > -4096ul;
}

}  // namespace slabmalloc::os
