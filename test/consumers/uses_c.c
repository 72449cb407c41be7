/* SPDX-License-Identifier: MIT
 *
 *   consumer FILE     exits with 0 if malloc is that of FILE, and it works.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <slabmalloc/slabmalloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int count, char** arguments) {
  Dl_info found;
  char* expected = count == 2 ? realpath(arguments[1], NULL) : NULL;
  char* actual;
  void* zeroed;
  void* block;
  int status;
  if (expected == NULL || dladdr(dlsym(RTLD_DEFAULT, "malloc"), &found) == 0) {
    return 1;
  }
  actual = realpath(found.dli_fname, NULL);
  if (actual == NULL || strcmp(actual, expected) != 0) {
    printf("malloc comes from %s\n", found.dli_fname);
    return 2;
  }
  zeroed = calloc(1000, 1000);
  status = zeroed != NULL && *((char*)zeroed + 999999) == 0 ? 0 : 3;
  free(zeroed);
  block = slabmalloc_allocate(100, 64);
  if (block == NULL || slabmalloc_usable_size(block) < 100 || (size_t)block % 64 != 0) {
    status = 4;
  }
  slabmalloc_deallocate(block, 100, 64);
  free(actual);
  free(expected);
  return status;
}
