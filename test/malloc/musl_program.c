// SPDX-License-Identifier: MIT
//
// A program for musl, in C, since there is no C++ library for musl-gcc. The script `musl` links it
// in each way and knows what it must print.
//
//   musl_program NAME [ROUNDS]     exits with 0 if all went well
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "slabmalloc/slabmalloc.h"

// The preloaded form finds these only when it runs; musl's own malloc has none.
#pragma weak slabmalloc_version
#pragma weak slabmalloc_trim
#pragma weak slabmalloc_process_statistics

static void expect(int is_so, const char* what) {
  if (!is_so) {
    fprintf(stderr, "not so: %s (errno %d)\n", what, errno);
    _exit(1);
  }
}

static slabmalloc_statistics statistics(void) {
  slabmalloc_statistics result;
  slabmalloc_process_statistics(&result);
  return result;
}

/// Uses a block at a multiple of `alignment`, and returns it.
static void* used(void* block, size_t bytes, size_t alignment) {
  expect(block != NULL && (uintptr_t)block % alignment == 0, "the block is given and aligned");
  expect(malloc_usable_size(block) >= bytes, "the block has its bytes");
  memset(block, 0xA5, bytes);
  return block;
}

static void* zero(void* block, size_t bytes) {
  expect(block != NULL, "the block is given");
  for (size_t at = 0; at < bytes; ++at) {
    expect(((const char*)block)[at] == 0, "the block is zero");
  }
  return used(block, bytes, 16);
}

// ---- whose functions these are ------------------------------------------------------------------

/// Calls of every kind count in the statistics, also those that the C library makes.
static void is_replaced(void) {
  expect(slabmalloc_version != NULL, "the malloc is slabmalloc");
  puts(slabmalloc_version());
  const slabmalloc_statistics before = statistics();
  void* blocks[8] = {malloc(100),           calloc(10, 10), realloc(NULL, 100), memalign(64, 100),
                     aligned_alloc(64, 64), valloc(100),    strdup("text"),     NULL};
  expect(posix_memalign(&blocks[7], 64, 100) == 0, "posix_memalign succeeds");
  expect(statistics().allocations >= before.allocations + 8, "each allocation counts");
  for (size_t number = 0; number < 8; ++number) {
    free(used(blocks[number], 4, 16));
  }
  slabmalloc_trim();  // The hardened library keeps freed blocks for a while.
  expect(statistics().frees >= before.frees + 8, "each free counts");
}

/// The C library hands out blocks that the program frees.
static void c_library_allocates(void) {
  char* text = NULL;
  expect(asprintf(&text, "%0300d", 1) == 300 && strlen(text) == 300, "asprintf allocates");
  FILE* const reading = fmemopen(text, 300, "r");
  char* line = NULL;
  size_t bytes = 0;
  expect(getline(&line, &bytes, reading) == 300, "getline allocates");
  fclose(reading);
  free(used(line, bytes, 16));
  free(text);
  FILE* const writing = open_memstream(&text, &bytes);
  for (int number = 0; number < 10000; ++number) {
    fprintf(writing, "%d ", number);
  }
  fclose(writing);
  free(used(text, bytes, 16));
  free(getcwd(NULL, 0));
  free(realpath("/", NULL));
  struct dirent** entries = NULL;
  for (int left = scandir("/", &entries, NULL, alphasort); left > 0; --left) {
    free(entries[left - 1]);
  }
  free(entries);
  expect(setenv("A_NAME", "a value", 1) == 0 && unsetenv("A_NAME") == 0, "the environment changes");
}

// ---- each function ------------------------------------------------------------------------------

static void sizes_and_alignments(void) {
  static const size_t sizes[] = {1, 16, 100, 4096, 5000, 40000, 300000, 2000000};
  for (size_t number = 0; number < sizeof sizes / sizeof sizes[0]; ++number) {
    const size_t bytes = sizes[number];
    free(used(malloc(bytes), bytes, bytes < 16 ? 1 : 16));
    free(zero(calloc(1, bytes), bytes));
    for (size_t alignment = 16; alignment <= 1 << 20; alignment *= 16) {
      void* block = NULL;
      expect(posix_memalign(&block, alignment, bytes) == 0, "posix_memalign succeeds");
      free(used(block, bytes, alignment));
      free(used(aligned_alloc(alignment, bytes), bytes, alignment));
      free(used(memalign(alignment, bytes), bytes, alignment));
    }
    free(used(valloc(bytes), bytes, 4096));
  }
}

static void reallocations(void) {
  unsigned char* block = NULL;
  size_t had = 0;
  for (size_t bytes = 1; bytes < 5000000; bytes = bytes * 3 + 1) {
    block = realloc(block, bytes);
    for (size_t at = 0; at < had; ++at) {
      expect(block[at] == 0xA5, "reallocation keeps the contents");
    }
    used(block, bytes, 1);
    had = bytes;
  }
  block = realloc(block, 10);
  expect(block[9] == 0xA5, "reallocation keeps the contents");
  // As musl's own does it.
  block = realloc(block, 0);
  expect(block != NULL, "reallocation to nothing gives a block");
  block = used(realloc(block, 100), 100, 16);
  free(block);
}

static void refusals(void) {
  volatile size_t huge = SIZE_MAX / 2;
  static int unchanged;
  void* block = &unchanged;
  errno = 0;
  expect(malloc(huge) == NULL && errno == ENOMEM, "malloc refuses");
  errno = 0;
  expect(calloc(huge, 3) == NULL && errno == ENOMEM, "calloc refuses a product that overflows");
  errno = 0;
  expect(reallocarray(NULL, huge, 3) == NULL && errno == ENOMEM, "and so does reallocarray");
  errno = 0;
  expect(aligned_alloc(48, 48) == NULL && errno == EINVAL, "aligned_alloc takes powers of two");
  errno = 0;
  expect(posix_memalign(&block, 4, 8) == EINVAL && errno == 0, "posix_memalign wants a multiple");
  expect(block == &unchanged, "and leaves its result alone");
  expect(malloc_usable_size(NULL) == 0, "null has no bytes");
  free(NULL);
  errno = 7;
  free(malloc(100));
  free(malloc(1000000));
  expect(errno == 7, "free keeps errno");
  expect(prctl(-1, 0, 0, 0, 0) == -1 && errno == EINVAL, "prctl tells of failure");
}

static void functions(void) {
  sizes_and_alignments();
  reallocations();
  refusals();
}

// ---- threads ------------------------------------------------------------------------------------

enum { threads_at_once = 2, own_blocks = 1024, shared_blocks = 1024 };

/// A block knows its size, at both ends.
typedef struct Block {
  uint16_t bytes;
} Block;

static Block* new_block(size_t bytes) {
  Block* const block = malloc(bytes);
  block->bytes = (uint16_t)bytes;
  ((unsigned char*)block)[bytes - 1] = (unsigned char)bytes;
  return block;
}

static void free_block(Block* block) {
  if (block != NULL) {
    expect(((unsigned char*)block)[block->bytes - 1] == (unsigned char)block->bytes,
           "the block is as its thread left it");
    free(block);
  }
}

static Block* shared[shared_blocks];
static size_t rounds = 20000;

/// In each round allocates a block of 16 to 511 bytes in the place of a random one, which it frees.
/// One in eight goes to a place that both threads use, so half of these come from the other thread.
static void* churn_of(void* number) {
  static Block* own[threads_at_once][own_blocks];
  const size_t thread = *(const size_t*)number;
  uint32_t random = (uint32_t)thread + 1;
  for (size_t round = 0; round < rounds; ++round) {
    random = random * 1664525 + 1013904223;
    const size_t place = (random >> 8) % own_blocks;
    Block* block = new_block(16 + (random >> 16) % 496);
    if (round % 8 == 0) {
      block = __atomic_exchange_n(&shared[place], block, __ATOMIC_ACQ_REL);
    } else {
      Block* const before = own[thread][place];
      own[thread][place] = block;
      block = before;
    }
    free_block(block);
  }
  for (size_t place = 0; place < own_blocks; ++place) {
    free_block(own[thread][place]);
  }
  return NULL;
}

static void run_threads(void* (*run)(void*)) {
  static size_t numbers[threads_at_once] = {0, 1};
  pthread_t threads[threads_at_once];
  for (size_t number = 0; number < threads_at_once; ++number) {
    expect(pthread_create(&threads[number], NULL, run, &numbers[number]) == 0, "a thread");
  }
  for (size_t number = 0; number < threads_at_once; ++number) {
    pthread_join(threads[number], NULL);
  }
}

/// Prints the processor time of the churn in milliseconds.
static void churn(void) {
  run_threads(churn_of);
  for (size_t place = 0; place < shared_blocks; ++place) {
    free_block(shared[place]);
  }
  struct timespec time;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  printf("%.1f\n", (double)time.tv_sec * 1e3 + (double)time.tv_nsec / 1e6);
}

/// Holds 4 MiB of blocks, of which it leaves one to the main thread.
static void* fill(void* kept) {
  enum { count = 4096, bytes = 1000 };
  void** const blocks = malloc(count * sizeof *blocks);
  for (size_t at = 0; at < count; ++at) {
    blocks[at] = used(malloc(bytes), bytes, 1);
  }
  for (size_t at = 1; at < count; ++at) {
    free(blocks[at]);
  }
  *(void**)kept = blocks[0];
  free(blocks);
  return NULL;
}

/// Memory of ended threads goes to the next ones, and back.
static void threads_end(void) {
  enum { threads = 20 };
  void* kept[threads];
  for (size_t number = 0; number < threads; ++number) {
    pthread_t thread;
    expect(pthread_create(&thread, NULL, fill, &kept[number]) == 0, "a thread");
    pthread_join(thread, NULL);
  }
  for (size_t number = 0; number < threads; ++number) {
    free(used(kept[number], 1000, 1));
  }
  const size_t peak_bytes = statistics().held_bytes_high_water;
  expect(peak_bytes < 16 << 20, "20 threads of 4 MiB take at most 16");
  slabmalloc_trim();
  expect(statistics().held_bytes < 2 << 20, "at most 2 MiB stay of ended threads");
}

// ---- fork ---------------------------------------------------------------------------------------

static int stops = 0;

static void* allocate_until_stopped(void* number) {
  const size_t own = *(const size_t*)number;
  for (size_t turn = 0; !__atomic_load_n(&stops, __ATOMIC_RELAXED); ++turn) {
    void* blocks[64];
    for (size_t at = 0; at < 64; ++at) {
      blocks[at] = malloc(16 + (turn * 64 + at) * (own + 7) % 40000);
    }
    for (size_t at = 0; at < 64; ++at) {
      free(blocks[at]);
    }
  }
  return NULL;
}

static void* held_by_handlers[2] = {NULL, NULL};
static void allocate_earlier(void) { held_by_handlers[0] = used(malloc(300000), 300000, 16); }
static void free_earlier(void) { free(held_by_handlers[0]); }
static void allocate_later(void) { held_by_handlers[1] = used(malloc(20000), 20000, 16); }
static void free_later(void) { free(held_by_handlers[1]); }

/// Runs before the malloc's own constructor where both are in one program. So these handlers run
/// while those of the malloc hold its locks.
__attribute__((constructor(101))) static void register_earlier(void) {
  pthread_atfork(allocate_earlier, free_earlier, free_earlier);
}

static void use_heap(void) {
  for (size_t bytes = 10; bytes < 2000000; bytes *= 3) {
    void* const block = malloc(bytes);
    free(zero(calloc(1, bytes), 10));
    free(used(realloc(block, 2 * bytes), 10, 16));
  }
}

static void fork_and_wait(void) {
  void* const block = used(malloc(100), 100, 16);
  const pid_t child = fork();
  if (child == 0) {
    alarm(20);
    free(block);
    use_heap();
    if (slabmalloc_trim != NULL) {
      slabmalloc_trim();
    }
    _exit(0);
  }
  int status = 1;
  expect(waitpid(child, &status, 0) == child && status == 0, "the child can use the heap");
  free(block);
}

static void* fork_often(void* number) {
  if (*(const size_t*)number == 0) {
    return allocate_until_stopped(number);
  }
  for (int count = 0; count < 10; ++count) {
    fork_and_wait();
  }
  __atomic_store_n(&stops, 1, __ATOMIC_RELAXED);
  return NULL;
}

/// Forks with one thread, then from the second of three threads, which allocate.
static void forks(void) {
  pthread_atfork(allocate_later, free_later, free_later);
  fork_and_wait();
  run_threads(fork_often);
}

// ---- ends ---------------------------------------------------------------------------------------

static void* exit_here(void* unused) {
  (void)unused;
  free(used(malloc(100), 100, 16));
  exit(0);
}

/// Statistics are printed on a thread's stack, which musl makes 128 KiB.
static void thread_exits(void) {
  pthread_t thread;
  expect(pthread_create(&thread, NULL, exit_here, NULL) == 0, "a thread");
  pthread_join(thread, NULL);
}

static void frees_twice(void) {
  char* volatile block = malloc(100);
  free(block);
  free(block);
}
static void frees_inside(void) {
  char* volatile block = malloc(100);
  free(block + 8);
}
static void frees_static(void) {
  static char block[64];
  char* volatile address = block;
  free(address);
}
/// A guarded block lies at the end of its pages or at their start.
static void writes_beyond(void) {
  for (int count = 0; count < 64; ++count) {
    char* volatile block = malloc(64);
    block[64] = 1;
  }
}

static const struct {
  const char* name;
  void (*run)(void);
} parts[] = {
    {"is_replaced", is_replaced},     {"c_library_allocates", c_library_allocates},
    {"functions", functions},         {"churn", churn},
    {"threads_end", threads_end},     {"forks", forks},
    {"thread_exits", thread_exits},   {"frees_twice", frees_twice},
    {"frees_inside", frees_inside},   {"frees_static", frees_static},
    {"writes_beyond", writes_beyond},
};

int main(int count, char** arguments) {
  if (count == 3) {
    rounds = strtoul(arguments[2], NULL, 10);
  }
  for (size_t number = 0; number < sizeof parts / sizeof parts[0] && count > 1; ++number) {
    if (strcmp(arguments[1], parts[number].name) == 0) {
      parts[number].run();
      return 0;
    }
  }
  return 2;
}
