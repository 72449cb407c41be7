/* SPDX-License-Identifier: MIT
 *
 * slabmalloc for C and for every language that can call C: the process heap, heaps of their own,
 * zones over a client's pager, and statistics. Link libslabmalloc.
 *
 *   void *block = slabmalloc_allocate(100, 16);
 *   slabmalloc_deallocate(block, 100, 16);
 *
 * Where this library is linked or preloaded, malloc(), free() and the rest of <stdlib.h> are its
 * own. Either interface may free a block of the process heap.
 *
 * Sizes are in bytes. An alignment is a power of two; any other value fails like exhausted memory,
 * with a null pointer. No function sets errno.
 */
#ifndef SLABMALLOC_H
#define SLABMALLOC_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- the process heap ---------------------------------------------------------------------------
 * Thread: any. */

/* Allocates `bytes` (0 counts as 1) at a multiple of `alignment`; null if memory is exhausted. */
void* slabmalloc_allocate(size_t bytes, size_t alignment);

/* The same, with all bytes zero. */
void* slabmalloc_allocate_zeroed(size_t bytes, size_t alignment);

/* Resizes `block`, of `old_bytes` and `alignment`, to `new_bytes`, and moves it if necessary. The
 * first min(old, new) bytes stay. A null `block` is allocated anew. Returns null if memory is
 * exhausted; the block is then untouched. */
void* slabmalloc_reallocate(void* block, size_t old_bytes, size_t new_bytes, size_t alignment);

/* Frees a block; null is allowed. `bytes` and `alignment` are those of its allocation: a size of
 * another size class is misuse. */
void slabmalloc_deallocate(void* block, size_t bytes, size_t alignment);

/* The usable bytes of a live block; 0 for null. */
size_t slabmalloc_usable_size(const void* block);

/* Gives unused memory back to the operating system; returns its size in bytes. */
size_t slabmalloc_trim(void);

/* Guards one allocation in `one_in`, and one for each `mean_bytes` of blocks up to 32 KiB, chosen
 * at random; 0 for none of either kind. A guarded block lies between inaccessible OS pages, and is
 * inaccessible after its free. So an access beyond it or after its free stops the program, after a
 * report of the access, the allocation and the free. The call sets handlers of SIGSEGV and SIGBUS,
 * which pass other faults on to those before. A thread notices it after at most about 1000 further
 * allocations. The options guard_one_in and guard_bytes do the same at the start. The hardened
 * library guards none. */
void slabmalloc_guard(size_t one_in, size_t mean_bytes);

/* ---- heaps --------------------------------------------------------------------------------------
 * A heap of its own for a part of a program: it has a limit and figures, and ends as a whole. Any
 * thread may allocate from it, and free its blocks. It gets its memory from the operating system,
 * and not from the process heap: neither frees blocks of the other. Thread: any, where not said
 * otherwise. slabmalloc/hosted/heap.hpp says what signal handlers may do, and what holds after
 * fork(). */

typedef struct slabmalloc_heap slabmalloc_heap;

/* Creates a heap. It copies up to 31 characters of `name`, which may be null. Returns null if the
 * system has no memory. */
slabmalloc_heap* slabmalloc_heap_create(const char* name);

/* Ends a heap. All its memory goes back to the system, that of live blocks too. Nobody may use it
 * or its blocks any more. Null is allowed. */
void slabmalloc_heap_destroy(slabmalloc_heap* heap);

const char* slabmalloc_heap_name(const slabmalloc_heap* heap);

/* Allocates `bytes` (0 counts as 1) at a multiple of `alignment`; null at the limit, or if memory
 * is exhausted. */
void* slabmalloc_heap_allocate(slabmalloc_heap* heap, size_t bytes, size_t alignment);

/* The same, with all bytes zero. */
void* slabmalloc_heap_allocate_zeroed(slabmalloc_heap* heap, size_t bytes, size_t alignment);

/* Resizes `block` to `new_bytes` at `alignment`, and moves it if necessary. The first bytes stay:
 * as many as both have. A null `block` is allocated anew. Returns null if memory is exhausted; the
 * block is then untouched. */
void* slabmalloc_heap_reallocate(slabmalloc_heap* heap, void* block, size_t new_bytes,
                                 size_t alignment);

/* Frees a block of this heap; null is allowed. */
void slabmalloc_heap_deallocate(slabmalloc_heap* heap, void* block);

/* The same. `bytes` and `alignment` are those of its allocation: a size of another size class is
 * misuse. */
void slabmalloc_heap_deallocate_sized(slabmalloc_heap* heap, void* block, size_t bytes,
                                      size_t alignment);

/* The usable bytes of a live block; 0 for null. */
size_t slabmalloc_heap_usable_size(slabmalloc_heap* heap, void* block);

/* 1 if `address` lies in the heap's memory, in a block or not; else 0. */
int slabmalloc_heap_owns(const slabmalloc_heap* heap, const void* address);

/* Bounds the bytes held for blocks, SIZE_MAX for no bound. What is held stays. */
void slabmalloc_heap_set_limit(slabmalloc_heap* heap, size_t bytes);

/* Bounds the free memory that is not back at the system: `bytes`, 64 MiB at first, and a quarter of
 * the bytes held for blocks beside. With 0 all goes back at once. */
void slabmalloc_heap_set_kept(slabmalloc_heap* heap, size_t bytes);

/* Gives free memory back to the system; returns its size in bytes. */
size_t slabmalloc_heap_trim(slabmalloc_heap* heap);

/* Leaves the calling thread's free memory to the other threads, until it allocates again. For a
 * thread that is about to sleep for long. */
void slabmalloc_heap_enter_idle(slabmalloc_heap* heap);

/* ---- zones --------------------------------------------------------------------------------------
 * A zone allocates from frames of its pager. One thread at a time, its owner, may use a zone; other
 * threads call slabmalloc_zone_deallocate_remote(). */

typedef struct slabmalloc_zone slabmalloc_zone;

/* The source of a zone's memory. Each call receives `context`. Frames are of 4 KiB, 64 KiB and
 * 2 MiB, aligned to their size; null means that there is none. The last two functions may be null:
 * requests above 128 KiB then fail. */
typedef struct slabmalloc_pager {
  void* context;
  void* (*allocate_frame)(void* context, size_t bytes);
  void (*deallocate_frame)(void* context, void* frame, size_t bytes);
  void* (*allocate_run)(void* context, size_t bytes, size_t alignment);
  void (*deallocate_run)(void* context, void* run, size_t bytes, size_t alignment);
} slabmalloc_pager;

/* Creates a zone over a copy of `pager`; its own few KiB come from the process heap. Returns null
 * if memory is exhausted, or if a required function is null. */
slabmalloc_zone* slabmalloc_zone_create(const slabmalloc_pager* pager);

/* Ends a zone and returns every frame to its pager, also frames with live objects. Its runs must be
 * freed before. Null is allowed. */
void slabmalloc_zone_destroy(slabmalloc_zone* zone);

void* slabmalloc_zone_allocate(slabmalloc_zone* zone, size_t bytes, size_t alignment);
void* slabmalloc_zone_allocate_zeroed(slabmalloc_zone* zone, size_t bytes, size_t alignment);
void* slabmalloc_zone_reallocate(slabmalloc_zone* zone, void* block, size_t old_bytes,
                                 size_t new_bytes, size_t alignment);

/* Frees a block of this or any other zone, with the size and alignment of its allocation. Null is
 * allowed. */
void slabmalloc_zone_deallocate(slabmalloc_zone* zone, void* block, size_t bytes, size_t alignment);

/* Frees a block of at most 128 KiB of any zone. Thread: any; lock-free. */
void slabmalloc_zone_deallocate_remote(void* block, size_t bytes, size_t alignment);

/* Drains the frees of other threads; an allocation also does so when it finds no free slot. */
void slabmalloc_zone_drain(slabmalloc_zone* zone);

/* Gives every empty page back to the pager; returns their size in bytes. */
size_t slabmalloc_zone_trim(slabmalloc_zone* zone);

/* ---- statistics ------------------------------------------------------------------------------ */

typedef struct slabmalloc_statistics {
  size_t used_bytes;            /* bytes of live blocks, rounded up to their size classes */
  size_t held_bytes;            /* bytes held for blocks, free or not */
  size_t held_bytes_high_water; /* the peak of held_bytes */
  size_t allocations;           /* blocks allocated since the start */
  size_t frees;
  size_t remote_frees; /* the frees among these by other threads than the owner */
} slabmalloc_statistics;

/* The process heap. Exact if no other thread allocates meanwhile. */
void slabmalloc_process_statistics(slabmalloc_statistics* result);

/* One heap. Exact if no other thread uses it meanwhile. */
void slabmalloc_heap_statistics(const slabmalloc_heap* heap, slabmalloc_statistics* result);

typedef struct slabmalloc_class_statistics {
  size_t size;        /* bytes of a block of the class */
  size_t used;        /* live blocks */
  size_t allocations; /* blocks allocated since the start */
  size_t frees;
  size_t pages; /* pages of the class, and the bytes of one */
  size_t page_bytes;
} slabmalloc_class_statistics;

/* The size class `index` of a heap, the smallest first. Returns 0 if there is none; else 1. Larger
 * blocks have no class. */
int slabmalloc_heap_class_statistics(const slabmalloc_heap* heap, size_t index,
                                     slabmalloc_class_statistics* result);

/* One zone, without its runs. */
void slabmalloc_zone_statistics(const slabmalloc_zone* zone, slabmalloc_statistics* result);

/* ---- misuse ---------------------------------------------------------------------------------- */

typedef enum slabmalloc_misuse_kind {
  SLABMALLOC_DOUBLE_FREE,
  SLABMALLOC_MISALIGNED_FREE,
  SLABMALLOC_FOREIGN_POINTER,
  SLABMALLOC_SIZE_MISMATCH,
  SLABMALLOC_INVALID_PAGE,
  /* Found by the hardened library, the first one also at guarded blocks: */
  SLABMALLOC_OVERFLOW,
  SLABMALLOC_WRITE_AFTER_FREE,
  SLABMALLOC_MISMATCHED_FREE,
  /* Found at guarded blocks alone: */
  SLABMALLOC_UNDERFLOW
} slabmalloc_misuse_kind;

typedef void (*slabmalloc_misuse_handler)(slabmalloc_misuse_kind kind, const void* address);

/* Replaces the handler of bad calls for the process heap, all heaps and all zones. Null restores
 * the default, which writes a report on stderr and aborts. If the handler returns, the bad call
 * does nothing. It may use the process heap, but not the heap or zone that found the bad call.
 * slabmalloc/base/misuse.hpp states its context and what else it may do. Returns the handler
 * before, null for the default. */
slabmalloc_misuse_handler slabmalloc_set_misuse_handler(slabmalloc_misuse_handler handler);

/* "MAJOR.MINOR.PATCH" */
const char* slabmalloc_version(void);

#ifdef __cplusplus
}
#endif

#endif
