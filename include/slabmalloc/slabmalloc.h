/* SPDX-License-Identifier: MIT
 *
 * slabmalloc for C, and for everything that speaks C: the process heap, zones over a pager of the
 * caller's, and statistics. Link libslabmalloc.
 *
 *   void *block = slabmalloc_allocate(100, 16);
 *   slabmalloc_deallocate(block, 100, 16);
 *
 * malloc(), free() and the rest of <stdlib.h> are this library's, too, where it is linked or preloaded; a
 * block of the process heap may be freed by either way.
 *
 * Sizes are in bytes. An alignment is a power of two; what is not one is refused like exhausted memory,
 * by a null pointer. Nothing here sets errno.
 */
#ifndef SLABMALLOC_H
#define SLABMALLOC_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- the process heap ---------------------------------------------------------------------------
 * Thread: any. */

/* A block of `bytes` (0 counts as 1) at a multiple of `alignment`, or null. */
void *slabmalloc_allocate(size_t bytes, size_t alignment);

/* The same, all zero. */
void *slabmalloc_allocate_zeroed(size_t bytes, size_t alignment);

/* Makes `block`, of `old_bytes` and `alignment`, one of `new_bytes` and the same alignment, moved if need
 * be. The first min(old, new) bytes stay. Null if memory is exhausted: then the block is untouched.
 * A null `block` is allocated anew. */
void *slabmalloc_reallocate(void *block, size_t old_bytes, size_t new_bytes, size_t alignment);

/* Frees a block; a null pointer is none. `bytes` and `alignment` are those it was asked for with; they are
 * not checked: the block's address tells. */
void slabmalloc_deallocate(void *block, size_t bytes, size_t alignment);

/* The bytes that may be used of a live block; 0 for a null pointer. */
size_t slabmalloc_usable_size(const void *block);

/* Gives memory that is not in use back to the operating system; the bytes given back. */
size_t slabmalloc_trim(void);

/* ---- zones --------------------------------------------------------------------------------------
 * A zone allocates from frames that its pager supplies. One thread at a time may use a zone, its owner;
 * slabmalloc_zone_deallocate_remote() is for everyone else. */

typedef struct slabmalloc_zone slabmalloc_zone;

/* Where a zone's memory comes from. `context` is handed to each call. Frames are of 4 KiB, 64 KiB and
 * 2 MiB, aligned to their size; null when there is none. The last two may be null: then requests above
 * 128 KiB are refused. */
typedef struct slabmalloc_pager {
  void *context;
  void *(*allocate_frame)(void *context, size_t bytes);
  void (*deallocate_frame)(void *context, void *frame, size_t bytes);
  void *(*allocate_run)(void *context, size_t bytes, size_t alignment);
  void (*deallocate_run)(void *context, void *run, size_t bytes, size_t alignment);
} slabmalloc_pager;

/* A zone over `pager`, which is copied; its own few KiB come from the process heap. Null if memory is
 * exhausted or a function that must be there is null. */
slabmalloc_zone *slabmalloc_zone_create(const slabmalloc_pager *pager);

/* Ends a zone: every frame goes back to its pager, whatever is still in it. Runs must have been freed
 * before. A null pointer is no zone. */
void slabmalloc_zone_destroy(slabmalloc_zone *zone);

void *slabmalloc_zone_allocate(slabmalloc_zone *zone, size_t bytes, size_t alignment);
void *slabmalloc_zone_allocate_zeroed(slabmalloc_zone *zone, size_t bytes, size_t alignment);
void *slabmalloc_zone_reallocate(slabmalloc_zone *zone, void *block, size_t old_bytes,
                                 size_t new_bytes, size_t alignment);

/* Frees a block of this or any other zone, with the size and alignment it was asked for. A null pointer
 * is no block. */
void slabmalloc_zone_deallocate(slabmalloc_zone *zone, void *block, size_t bytes, size_t alignment);

/* Frees a block of at most 128 KiB of any zone. Thread: any; lock-free. */
void slabmalloc_zone_deallocate_remote(void *block, size_t bytes, size_t alignment);

/* Takes in what other threads freed; allocation does so by itself when it runs out. */
void slabmalloc_zone_drain(slabmalloc_zone *zone);

/* Gives every empty page back to the pager; the bytes given back. */
size_t slabmalloc_zone_trim(slabmalloc_zone *zone);

/* ---- looking ------------------------------------------------------------------------------------ */

typedef struct slabmalloc_statistics {
  size_t used_bytes;            /* bytes of live blocks, rounded up to their size classes */
  size_t held_bytes;            /* bytes held for blocks, free or not */
  size_t held_bytes_high_water; /* the most of these */
  size_t allocations;           /* blocks given out since the beginning */
  size_t frees;
  size_t remote_frees; /* of these: by others than the owner */
} slabmalloc_statistics;

/* The process heap. Exact when no other thread allocates meanwhile. */
void slabmalloc_process_statistics(slabmalloc_statistics *result);

/* One zone; without its runs. */
void slabmalloc_zone_statistics(const slabmalloc_zone *zone, slabmalloc_statistics *result);

/* ---- misuse ------------------------------------------------------------------------------------- */

typedef enum slabmalloc_misuse_kind {
  SLABMALLOC_DOUBLE_FREE,
  SLABMALLOC_MISALIGNED_FREE,
  SLABMALLOC_FOREIGN_POINTER,
  SLABMALLOC_SIZE_MISMATCH,
  SLABMALLOC_INVALID_PAGE
} slabmalloc_misuse_kind;

typedef void (*slabmalloc_misuse_handler)(slabmalloc_misuse_kind kind, const void *address);

/* Replaces what hears of bad calls, for the process heap and all zones; null restores the default, which
 * writes a line on stderr and aborts. The handler may return: the bad call then does nothing. It may use the
 * process heap, but not the zone that found the bad call; slabmalloc/base/misuse.hpp says where it is called and
 * what else it may do. Returns the one before, null for the default. */
slabmalloc_misuse_handler slabmalloc_set_misuse_handler(slabmalloc_misuse_handler handler);

/* "MAJOR.MINOR.PATCH" */
const char *slabmalloc_version(void);

#ifdef __cplusplus
}
#endif

#endif
