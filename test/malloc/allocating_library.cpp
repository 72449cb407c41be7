// SPDX-License-Identifier: MIT
//
// A library for LD_PRELOAD that wraps every function that the malloc calls, as profilers and
// libfaketime do. Each wrapper allocates at every call, and finds the next function by dlsym(). It
// works for functions of any type, since it keeps all registers that pass arguments.
#include <dlfcn.h>
#include <stdlib.h>

#define SLABMALLOC_WRAPPED_FUNCTIONS(WRAP)                   \
  WRAP(__errno_location)                                     \
  WRAP(__register_atfork)                                    \
  WRAP(abort)                                                \
  WRAP(dl_iterate_phdr)                                      \
  WRAP(fcntl)                                                \
  WRAP(ferror)                                               \
  WRAP(fprintf)                                              \
  WRAP(fstat)                                                \
  WRAP(getauxval)                                            \
  WRAP(memchr)                                               \
  WRAP(memcmp)                                               \
  WRAP(memcpy)                                               \
  WRAP(memset)                                               \
  WRAP(pthread_attr_destroy)                                 \
  WRAP(pthread_attr_init)                                    \
  WRAP(pthread_attr_setdetachstate)                          \
  WRAP(pthread_create)                                       \
  WRAP(pthread_key_create)                                   \
  WRAP(pthread_key_delete)                                   \
  WRAP(pthread_mutex_lock)                                   \
  WRAP(pthread_mutex_unlock)                                 \
  WRAP(pthread_once)                                         \
  WRAP(pthread_self)                                         \
  WRAP(pthread_setcancelstate)                               \
  WRAP(pthread_setname_np)                                   \
  WRAP(pthread_setspecific)                                  \
  WRAP(pthread_sigmask)                                      \
  WRAP(raise)                                                \
  WRAP(sched_yield)                                          \
  WRAP(secure_getenv)                                        \
  WRAP(sigaction)                                            \
  WRAP(sigfillset)                                           \
  WRAP(strchr)                                               \
  WRAP(strlen)                                               \
  WRAP(vsnprintf)                                            \
  /* Those that others wrap, and the malloc does without. */ \
  WRAP(clock_gettime)                                        \
  WRAP(getrlimit)                                            \
  WRAP(madvise)                                              \
  WRAP(mmap)                                                 \
  WRAP(munmap)                                               \
  WRAP(mremap)                                               \
  WRAP(syscall)                                              \
  WRAP(write)

namespace {

#define SLABMALLOC_NAME(name) #name,
constexpr const char* names[] = {SLABMALLOC_WRAPPED_FUNCTIONS(SLABMALLOC_NAME)};
constexpr int count = sizeof(names) / sizeof(names[0]);

void* real[count] = {};
int calls[count] = {};
thread_local int depth = 0;

constexpr size_t sizes[] = {40, 3000, 20'000, 300'000, size_t{40} << 20};

}  // namespace

extern "C" {

/// The function behind wrapper `number`, after an allocation.
void* slabmalloc_test_allocate(int number) {
  ++depth;
  if (real[number] == nullptr) {
    real[number] = dlsym(RTLD_NEXT, names[number]);
  }
  if (depth == 1) {
    void* volatile block = malloc(sizes[++calls[number] % 5]);
    free(block);
  }
  --depth;
  return real[number];
}

/// Calls that the wrapper of `name` saw; -1 if there is none.
int wrapped_calls_of(const char* name) {
  for (int number = 0; number < count; ++number) {
    const char* one = names[number];
    const char* other = name;
    for (; *one != '\0' && *one == *other; ++one, ++other) {
    }
    if (*one == *other) {
      return calls[number];
    }
  }
  return -1;
}
}

__asm__(
    ".text\n"
    ".set slabmalloc_wrapper, 0\n"
    "slabmalloc_wrap:\n"
    "  push %rbp\n"
    "  mov %rsp, %rbp\n"
    "  push %rax\n  push %rdi\n  push %rsi\n  push %rdx\n"
    "  push %rcx\n  push %r8\n  push %r9\n  push %r10\n"
    "  sub $128, %rsp\n"
    "  movups %xmm0, (%rsp)\n  movups %xmm1, 16(%rsp)\n"
    "  movups %xmm2, 32(%rsp)\n  movups %xmm3, 48(%rsp)\n"
    "  movups %xmm4, 64(%rsp)\n  movups %xmm5, 80(%rsp)\n"
    "  movups %xmm6, 96(%rsp)\n  movups %xmm7, 112(%rsp)\n"
    "  mov %r11d, %edi\n"
    "  call slabmalloc_test_allocate@PLT\n"
    "  mov %rax, %r11\n"
    "  movups (%rsp), %xmm0\n  movups 16(%rsp), %xmm1\n"
    "  movups 32(%rsp), %xmm2\n  movups 48(%rsp), %xmm3\n"
    "  movups 64(%rsp), %xmm4\n  movups 80(%rsp), %xmm5\n"
    "  movups 96(%rsp), %xmm6\n  movups 112(%rsp), %xmm7\n"
    "  add $128, %rsp\n"
    "  pop %r10\n  pop %r9\n  pop %r8\n  pop %rcx\n"
    "  pop %rdx\n  pop %rsi\n  pop %rdi\n  pop %rax\n"
    "  pop %rbp\n"
    "  jmp *%r11\n");

#define SLABMALLOC_WRAPPER(name)                                 \
  __asm__(".globl " #name "\n.type " #name ", @function\n" #name \
          ":\n"                                                  \
          "  mov $slabmalloc_wrapper, %r11d\n"                   \
          "  jmp slabmalloc_wrap\n"                              \
          ".set slabmalloc_wrapper, slabmalloc_wrapper + 1\n");
SLABMALLOC_WRAPPED_FUNCTIONS(SLABMALLOC_WRAPPER)
