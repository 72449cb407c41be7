/* SPDX-License-Identifier: MIT
 *
 * A heap of its own in C: blocks of any size under a limit, figures, and an end of all at once.
 */
#include <slabmalloc/slabmalloc.h>
#include <stdio.h>
#include <string.h>

struct line {
  struct line* next;
  char text[40];
};

int main(void) {
  slabmalloc_heap* const heap = slabmalloc_heap_create("document");
  slabmalloc_statistics now;
  struct line* lines = NULL;
  int count = 0;
  char* title;
  if (heap == NULL) {
    return 1;
  }
  slabmalloc_heap_set_limit(heap, 256 * 1024);
  title = slabmalloc_heap_allocate(heap, 6, 1);
  if (title == NULL) {
    return 2;
  }
  strcpy(title, "title");
  title = slabmalloc_heap_reallocate(heap, title, 10000, 1);
  if (title == NULL || strcmp(title, "title") != 0) {
    return 3;
  }
  slabmalloc_heap_deallocate(heap, title);
  for (;;) {
    struct line* const line = slabmalloc_heap_allocate(heap, sizeof *line, sizeof(void*));
    if (line == NULL) {
      break;
    }
    snprintf(line->text, sizeof line->text, "line %d", count++);
    line->next = lines;
    lines = line;
  }
  slabmalloc_heap_statistics(heap, &now);
  printf("%s: %d lines, %lu of %lu bytes held are in use\n", slabmalloc_heap_name(heap), count,
         (unsigned long)now.used_bytes, (unsigned long)now.held_bytes);
  slabmalloc_heap_destroy(heap); /* with all lines */
  return count > 3000 && now.held_bytes <= 256 * 1024 ? 0 : 4;
}
