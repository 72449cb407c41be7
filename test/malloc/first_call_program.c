// SPDX-License-Identifier: MIT
//
// Makes one call of the malloc as the first of its process, then as the first of a thread. It is
// written in C, since the C++ library allocates before main().
//
//   first_call_program list     prints the names of the calls
//   first_call_program NAME     exits with 0 if all went well
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

// Functions that the C library lacks, and operators of C++. They are weak, since the preloaded form
// finds them only when it runs.
#define WEAK __attribute__((weak))
WEAK void free_sized(void* block, size_t bytes);
WEAK void free_aligned_sized(void* block, size_t alignment, size_t bytes);
WEAK void cfree(void* block);
WEAK void* _Znwm(size_t bytes);
WEAK void* _Znam(size_t bytes);
WEAK void* _ZnwmSt11align_val_t(size_t bytes, size_t alignment);
WEAK void* _ZnwmRKSt9nothrow_t(size_t bytes, const void* nothrow);
WEAK void _ZdlPv(void* block);
WEAK void _ZdaPv(void* block);
WEAK void _ZdlPvSt11align_val_t(void* block, size_t alignment);

static void expect(int is_so, const char* what) {
  if (!is_so) {
    fprintf(stderr, "not so: %s (errno %d)\n", what, errno);
    _exit(1);
  }
}

/// Uses a block at a multiple of `alignment`, and returns it.
static void* used(void* block, size_t bytes, size_t alignment) {
  expect(block != NULL && (uintptr_t)block % alignment == 0, "the block is given and aligned");
  memset(block, 1, bytes < 4096 ? bytes : 4096);
  ((char*)block)[bytes - 1] = 1;
  return block;
}

static void* zero(void* block, size_t bytes) {
  static const char zeroes[100] = {0};
  expect(block != NULL && memcmp(block, zeroes, sizeof zeroes) == 0, "the block is zero");
  return used(block, bytes, 16);
}

/// Makes every kind of call.
static void use_heap(void) {
  static const size_t sizes[] = {100, 5000, 100000, 500000, 40000000};
  for (size_t number = 0; number < sizeof sizes / sizeof sizes[0]; ++number) {
    const size_t bytes = sizes[number];
    void* const block = used(malloc(bytes), bytes, 16);
    free(zero(calloc(1, bytes), bytes));
    free(bytes < 1000000 ? used(realloc(block, 2 * bytes), 2 * bytes, 16) : block);
  }
}

// A block of the main thread, where the call is the first of another thread.
static void* of_main = NULL;

static void call_malloc(void) { free(used(malloc(100), 100, 16)); }
static void call_malloc_of_no_bytes(void) { free(malloc(0)); }
static void call_malloc_large(void) { free(used(malloc(300000), 300000, 16)); }
static void call_malloc_mapped(void) { free(used(malloc(100000000), 100000000, 16)); }
static void call_malloc_refused(void) {
  void* const block = malloc(SIZE_MAX / 2);
  expect(block == NULL && errno == ENOMEM, "too much is refused");
}
static void call_calloc(void) { free(zero(calloc(10, 10), 100)); }
static void call_calloc_large(void) { free(zero(calloc(1000, 1000), 1000000)); }
static void call_realloc(void) { free(used(realloc(NULL, 100), 100, 16)); }
static void call_realloc_of_another(void) {
  if (of_main != NULL) {
    of_main = used(realloc(of_main, 5000), 5000, 16);
  }
}
static void call_reallocarray(void) { free(used(reallocarray(NULL, 10, 10), 100, 16)); }
static void call_posix_memalign(void) {
  void* block = NULL;
  expect(posix_memalign(&block, 4096, 100) == 0, "posix_memalign succeeds");
  free(used(block, 100, 4096));
}
static void call_aligned_alloc(void) { free(used(aligned_alloc(64, 640), 640, 64)); }
static void call_aligned_alloc_much(void) {
  free(used(aligned_alloc((size_t)1 << 30, 10), 10, (size_t)1 << 30));
}
static void call_memalign(void) { free(used(memalign(64, 100), 100, 64)); }
static void call_valloc(void) { free(used(valloc(100), 100, 4096)); }
static void call_free(void) { free(NULL); }
static void call_free_of_another(void) {
  free(of_main);
  of_main = NULL;
}
static void call_free_sized(void) { free_sized(NULL, 10); }
static void call_free_aligned_sized(void) { free_aligned_sized(NULL, 16, 10); }
static void call_malloc_usable_size(void) {
  expect(malloc_usable_size(NULL) == 0, "null has none");
}
#ifdef __GLIBC__  // Functions that it alone has.
static void call_pvalloc(void) { free(used(pvalloc(100), 4096, 4096)); }
static void call_cfree(void) { cfree(NULL); }
static void call_malloc_trim(void) { malloc_trim(0); }
static void call_mallopt(void) { mallopt(0, 0); }
static void call_mallinfo2(void) { (void)mallinfo2(); }
static void call_malloc_stats(void) { malloc_stats(); }
static void call_malloc_info(void) { expect(malloc_info(0, stdout) == 0, "malloc_info succeeds"); }
#endif
static void call_new(void) { _ZdlPv(used(_Znwm(100), 100, 16)); }
static void call_new_array(void) { _ZdaPv(used(_Znam(100), 100, 16)); }
static void call_new_aligned(void) {
  _ZdlPvSt11align_val_t(used(_ZnwmSt11align_val_t(100, 256), 100, 256), 256);
}
static void call_new_nothrow(void) { _ZdlPv(used(_ZnwmRKSt9nothrow_t(100, ""), 100, 16)); }
static void call_delete(void) { _ZdlPv(NULL); }
static void call_fork(void) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(20);
    use_heap();
    _exit(0);
  }
  int status = 1;
  expect(waitpid(child, &status, 0) == child && status == 0, "the child can use the heap");
}

#define CALL(name) {#name, call_##name}
static const struct {
  const char* name;
  void (*make)(void);
} calls[] = {
    CALL(malloc),
    CALL(malloc_of_no_bytes),
    CALL(malloc_large),
    CALL(malloc_mapped),
    CALL(malloc_refused),
    CALL(calloc),
    CALL(calloc_large),
    CALL(realloc),
    CALL(realloc_of_another),
    CALL(reallocarray),
    CALL(posix_memalign),
    CALL(aligned_alloc),
    CALL(aligned_alloc_much),
    CALL(memalign),
    CALL(valloc),
    CALL(free),
    CALL(free_of_another),
    CALL(free_sized),
    CALL(free_aligned_sized),
    CALL(malloc_usable_size),
#ifdef __GLIBC__
    CALL(pvalloc),
    CALL(cfree),
    CALL(malloc_trim),
    CALL(mallopt),
    CALL(mallinfo2),
    CALL(malloc_stats),
    CALL(malloc_info),
#endif
    CALL(new),
    CALL(new_array),
    CALL(new_aligned),
    CALL(new_nothrow),
    CALL(delete),
    CALL(fork),
};

static void* make_call_and_use_heap(void* number) {
  calls[*(const size_t*)number].make();
  use_heap();
  return NULL;
}

int main(int count, char** arguments) {
  for (size_t number = 0; number < sizeof calls / sizeof calls[0] && count == 2; ++number) {
    if (strcmp(arguments[1], "list") == 0) {
      puts(calls[number].name);
    } else if (strcmp(arguments[1], calls[number].name) == 0) {
      make_call_and_use_heap(&number);
      of_main = malloc(100);
      pthread_t thread;
      expect(pthread_create(&thread, NULL, make_call_and_use_heap, &number) == 0, "a thread");
      pthread_join(thread, NULL);
      free(of_main);
      return 0;
    }
  }
  return count == 2 && strcmp(arguments[1], "list") == 0 ? 0 : 2;
}
