/* SPDX-License-Identifier: MIT
 *
 * The malloc from C: the process heap with sizes and alignments, what it holds, and a handler of
 * bad frees. Link libslabmalloc. */
#include <slabmalloc/slabmalloc.h>
#include <stdio.h>
#include <string.h>

static int bad_frees;

/* If it returns, the bad call does nothing. */
static void note(slabmalloc_misuse_kind kind, const void* address) {
  printf("bad free of %p: %s\n", address,
         kind == SLABMALLOC_DOUBLE_FREE ? "it is free" : "it is no block");
  ++bad_frees;
}

int main(void) {
  slabmalloc_statistics before, after;
  char* line;

  printf("slabmalloc %s\n", slabmalloc_version());
  slabmalloc_process_statistics(&before);
  /* A size and an alignment, as a vector unit may want them. All bytes are zero. */
  line = slabmalloc_allocate_zeroed(100, 64);
  if (line == NULL) {
    return 1;
  }
  strcpy(line, "a line that grows");
  /* The old size spares the heap a look at the block. */
  line = slabmalloc_reallocate(line, 100, 100000, 64);
  if (line == NULL || strcmp(line, "a line that grows") != 0 || (size_t)line % 64 != 0) {
    return 1;
  }
  slabmalloc_process_statistics(&after);
  printf("%zu usable bytes; the heap has %zu more in use\n", slabmalloc_usable_size(line),
         after.used_bytes - before.used_bytes);

  slabmalloc_set_misuse_handler(note);
  slabmalloc_deallocate(line, 100000, 64);
  slabmalloc_deallocate(line, 100000, 64);
  slabmalloc_set_misuse_handler(NULL);
  return bad_frees == 1 ? 0 : 1;
}
