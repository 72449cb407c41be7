/* SPDX-License-Identifier: MIT
 *
 * slabmalloc for kernels in C, Rust and every language that can call C. Link
 * libslabmalloc_kernel.a. It needs memcpy, memmove, memset, memcmp and the hooks that
 * kernel_hooks.h declares, no more.
 *
 *   static slabmalloc_frame_allocator frames;                 // all zero: ready for use
 *   slabmalloc_frame_allocator_add(&frames, regions, count);
 *   slabmalloc_kernel_pager pager = slabmalloc_frame_allocator_pager(&frames);
 *   slabmalloc_cpu_zones* heap = slabmalloc_cpu_zones_create(memory, "heap", &pager);
 *   void* block = slabmalloc_cpu_zones_allocate(heap, 100, 8, SLABMALLOC_MAY_WAIT);
 *
 *   early_memory ──hand over──► frame_allocator ──pager──► cpu_zones ──► cache
 *                                              ╲──pager──► paged_zone
 *            your pages ──refill──► zone_allocator, sc_allocator
 *
 * Objects whose type has members here need no call to begin. Zero bytes, or the initialiser that
 * is named, make one in any memory. The first call that gets it puts it into use, and from then on
 * it must not move. It ends without a call. Use no member.
 *
 * Sizes are in bytes. An alignment is a power of two; with another one an allocation fails, and a
 * free is misuse. Each function may be called from any CPU in any context, unless its section says
 * otherwise. docs/PORTING.md says more of each service: the functions are those of C++.
 */
#ifndef SLABMALLOC_KERNEL_H
#define SLABMALLOC_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "slabmalloc/kernel_hooks.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- frames -------------------------------------------------------------------------------------
 * All page frames of a machine, from its memory map. Thread: any, but NMIs; the first add() before
 * all other calls. */

#define SLABMALLOC_FRAME_ALLOCATOR_BYTES 128
typedef struct __attribute__((aligned(8))) slabmalloc_frame_allocator {
  unsigned char room[SLABMALLOC_FRAME_ALLOCATOR_BYTES - sizeof(size_t)];
  size_t is_in_use;
} slabmalloc_frame_allocator;

/* Adds the whole frames of regions in any order, which may overlap. The memory is mapped and
 * nobody else's: meta-data is written there. Fails: OUT_OF_MEMORY, and nothing changed. */
slabmalloc_error slabmalloc_frame_allocator_add(slabmalloc_frame_allocator* frames,
                                                const slabmalloc_region* regions, size_t count);

/* A frame of `bytes`, rounded up to a power of two and to 4 KiB, aligned to its size; or null. */
void* slabmalloc_frame_allocator_allocate_frame(slabmalloc_frame_allocator* frames, size_t bytes);
void slabmalloc_frame_allocator_deallocate_frame(slabmalloc_frame_allocator* frames, void* frame,
                                                 size_t bytes);

/* Memory of `bytes`, rounded up to frames of 4 KiB, at `alignment`; or null. */
void* slabmalloc_frame_allocator_allocate_run(slabmalloc_frame_allocator* frames, size_t bytes,
                                              size_t alignment);
/* That very memory; null if a frame of it is not free. It reserves memory that add() got. */
void* slabmalloc_frame_allocator_allocate_run_at(slabmalloc_frame_allocator* frames, void* address,
                                                 size_t bytes);
/* False for a bad free. */
bool slabmalloc_frame_allocator_deallocate_run(slabmalloc_frame_allocator* frames, void* run,
                                               size_t bytes);

/* True if `address` lies in memory that add() got, whoever uses it. */
bool slabmalloc_frame_allocator_owns(slabmalloc_frame_allocator* frames, const void* address);
/* The frame or run around `address`. */
slabmalloc_block slabmalloc_frame_allocator_find(slabmalloc_frame_allocator* frames,
                                                 const void* address);
/* The allocator as a pager, which it outlives. */
slabmalloc_kernel_pager slabmalloc_frame_allocator_pager(slabmalloc_frame_allocator* frames);

typedef struct slabmalloc_frame_counters {
  size_t managed_bytes; /* free_bytes + used_bytes + metadata_bytes */
  size_t free_bytes;
  size_t used_bytes;
  size_t used_bytes_high_water;
  size_t metadata_bytes;
  size_t allocations;
  size_t frees;
  size_t failures; /* Allocations for which there was nothing. */
} slabmalloc_frame_counters;
slabmalloc_frame_counters slabmalloc_frame_allocator_counters(slabmalloc_frame_allocator* frames);
/* The first broken invariant, or null. */
const char* slabmalloc_frame_allocator_validate(slabmalloc_frame_allocator* frames);

/* ---- early memory -------------------------------------------------------------------------------
 * Memory from the first instruction on, until there is a frame allocator. Thread: one at a time. */

#define SLABMALLOC_EARLY_MEMORY_BYTES 2176
typedef struct __attribute__((aligned(8))) slabmalloc_early_memory {
  unsigned char room[SLABMALLOC_EARLY_MEMORY_BYTES - sizeof(size_t)];
  size_t is_in_use;
} slabmalloc_early_memory;

/* Adds memory, and keeps a region from being allocated or handed over, in any order. Both fail with
 * OUT_OF_MEMORY if the table is full, and change nothing. */
slabmalloc_error slabmalloc_early_memory_add(slabmalloc_early_memory* early,
                                             slabmalloc_region region);
slabmalloc_error slabmalloc_early_memory_reserve(slabmalloc_early_memory* early,
                                                 slabmalloc_region region);
/* The highest free memory that ends at or below `limit`, as it is; null if there is none. Pre:
 * everything in use is reserved. */
void* slabmalloc_early_memory_allocate(slabmalloc_early_memory* early, size_t bytes,
                                       size_t alignment, uintptr_t limit);
/* Gives all free memory to `frames`. Pre: as allocate(); all memory is mapped. Fails:
 * OUT_OF_MEMORY, and the memory is still here. */
slabmalloc_error slabmalloc_early_memory_hand_over(slabmalloc_early_memory* early,
                                                   slabmalloc_frame_allocator* frames);

/* ---- zones without a pager ----------------------------------------------------------------------
 * One owner at a time, such as a CPU or a holder of a lock, calls all functions but
 * deallocate_remote(). Its client gives pages and takes them back: a page is a frame of
 * SLABMALLOC_BASE_PAGE or SLABMALLOC_LARGE_PAGE bytes, aligned to its size.
 *
 * An allocation returns null if it fails, and stores the reason in `*error` unless that pointer is
 * null. OUT_OF_MEMORY: refill and try again. A free names the size and alignment of the
 * allocation; of a null pointer it does nothing. A bad free is misuse. */

#define SLABMALLOC_BASE_PAGE ((size_t)4096)
#define SLABMALLOC_LARGE_PAGE ((size_t)2097152)
#define SLABMALLOC_MAX_BASE_ALLOC_SIZE ((size_t)256)
#define SLABMALLOC_MAX_ALLOC_SIZE ((size_t)131072)

typedef struct slabmalloc_zone_counters {
  size_t used_bytes; /* Slots of live objects. */
  size_t page_bytes; /* All pages. */
  size_t allocations;
  size_t frees;
  size_t remote_frees; /* The frees among these by others than the owner. */
  size_t refills;      /* Pages taken in. */
  size_t reclaims;     /* Pages given up. */
} slabmalloc_zone_counters;

/* Objects of one size, on pages of one size. */
#define SLABMALLOC_SC_ALLOCATOR_BYTES 512
typedef struct __attribute__((aligned(64))) slabmalloc_sc_allocator {
  unsigned char room[SLABMALLOC_SC_ALLOCATOR_BYTES - 4 * sizeof(size_t)];
  size_t object_bytes;
  size_t alignment; /* 0 counts as 8. */
  size_t page_bytes;
  size_t is_in_use;
} slabmalloc_sc_allocator;
/* The initialiser: `page_bytes` is SLABMALLOC_BASE_PAGE or SLABMALLOC_LARGE_PAGE; any other value,
 * as in zero bytes, counts as the first. */
#define SLABMALLOC_SC_ALLOCATOR(object_bytes, alignment, page_bytes) \
  {{0}, (object_bytes), (alignment), (page_bytes), 0}

/* INVALID_LAYOUT: its slots are smaller, or less aligned. */
void* slabmalloc_sc_allocator_allocate(slabmalloc_sc_allocator* allocator, size_t bytes,
                                       size_t alignment, slabmalloc_error* error);
void slabmalloc_sc_allocator_deallocate(slabmalloc_sc_allocator* allocator, void* object,
                                        size_t bytes, size_t alignment);
/* The same, from any thread and any context: lock-free. */
void slabmalloc_sc_allocator_deallocate_remote(slabmalloc_sc_allocator* allocator, void* object,
                                               size_t bytes, size_t alignment);
/* Gives it an empty page. INVALID_LAYOUT: no object fits, or the page is misuse. */
slabmalloc_error slabmalloc_sc_allocator_refill(slabmalloc_sc_allocator* allocator, void* page);
/* Hands at most `limit` wholly empty pages to `callback`; returns how many. */
size_t slabmalloc_sc_allocator_try_reclaim_pages(slabmalloc_sc_allocator* allocator, size_t limit,
                                                 slabmalloc_page_callback callback, void* argument);
/* Bytes of a slot, all of which a client may use; 0 if none fits a page. */
size_t slabmalloc_sc_allocator_usable_size(slabmalloc_sc_allocator* allocator);
slabmalloc_zone_counters slabmalloc_sc_allocator_counters(slabmalloc_sc_allocator* allocator);
const char* slabmalloc_sc_allocator_validate(slabmalloc_sc_allocator* allocator);

/* Every size up to SLABMALLOC_MAX_ALLOC_SIZE: up to SLABMALLOC_MAX_BASE_ALLOC_SIZE on base pages,
 * the others on large pages. */
#define SLABMALLOC_ZONE_ALLOCATOR_BYTES 14336
typedef struct __attribute__((aligned(64))) slabmalloc_zone_allocator {
  unsigned char room[SLABMALLOC_ZONE_ALLOCATOR_BYTES - sizeof(size_t)];
  size_t is_in_use;
} slabmalloc_zone_allocator;

/* INVALID_LAYOUT: above SLABMALLOC_MAX_ALLOC_SIZE. */
void* slabmalloc_zone_allocator_allocate(slabmalloc_zone_allocator* zone, size_t bytes,
                                         size_t alignment, slabmalloc_error* error);
void slabmalloc_zone_allocator_deallocate(slabmalloc_zone_allocator* zone, void* block,
                                          size_t bytes, size_t alignment);
/* Frees a block of any zone_allocator, from any thread and any context: lock-free. */
void slabmalloc_zone_allocator_deallocate_remote(void* block, size_t bytes, size_t alignment);
/* Makes a block one of `new_bytes`, at the same alignment, and moves it if the slot requires that.
 * The first bytes stay. Null: the old block is untouched. */
void* slabmalloc_zone_allocator_reallocate(slabmalloc_zone_allocator* zone, void* block,
                                           size_t old_bytes, size_t new_bytes, size_t alignment,
                                           slabmalloc_error* error);
/* Gives an empty base or large page to the class of `bytes` and `alignment`. INVALID_LAYOUT: the
 * class lives on pages of the other size, or the page is misuse. */
slabmalloc_error slabmalloc_zone_allocator_refill(slabmalloc_zone_allocator* zone, size_t bytes,
                                                  size_t alignment, void* page);
slabmalloc_error slabmalloc_zone_allocator_refill_large(slabmalloc_zone_allocator* zone,
                                                        size_t bytes, size_t alignment, void* page);
/* The bytes of the pages for such blocks: which of the two to call; 0 if no class serves them. */
size_t slabmalloc_zone_allocator_page_bytes(size_t bytes, size_t alignment);
/* As slabmalloc_sc_allocator_try_reclaim_pages(). */
size_t slabmalloc_zone_allocator_try_reclaim_base_pages(slabmalloc_zone_allocator* zone,
                                                        size_t limit,
                                                        slabmalloc_page_callback callback,
                                                        void* argument);
size_t slabmalloc_zone_allocator_try_reclaim_large_pages(slabmalloc_zone_allocator* zone,
                                                         size_t limit,
                                                         slabmalloc_page_callback callback,
                                                         void* argument);
/* The largest size that fits the slot of a block of `bytes`: a reallocation up to it stays in
 * place. 0 above SLABMALLOC_MAX_ALLOC_SIZE. */
size_t slabmalloc_get_max_size(size_t bytes);
slabmalloc_zone_counters slabmalloc_zone_allocator_counters(slabmalloc_zone_allocator* zone);
const char* slabmalloc_zone_allocator_validate(slabmalloc_zone_allocator* zone);

/* ---- zones over a pager -------------------------------------------------------------------------
 * Every size for one owner at a time; above SLABMALLOC_MAX_ALLOC_SIZE blocks are runs. Allocations
 * and frees call the pager with SLABMALLOC_MAY_WAIT. */

#define SLABMALLOC_PAGED_ZONE_BYTES 14336
typedef struct __attribute__((aligned(64))) slabmalloc_paged_zone {
  unsigned char room[SLABMALLOC_PAGED_ZONE_BYTES - 2 * sizeof(size_t)];
  const slabmalloc_kernel_pager* pager;
  size_t is_in_use;
} slabmalloc_paged_zone;
/* The initialiser. The zone copies `*pager` when it comes into use. */
#define SLABMALLOC_PAGED_ZONE(pager) {{0}, (pager), 0}

/* Null if it fails. */
void* slabmalloc_paged_zone_allocate(slabmalloc_paged_zone* zone, size_t bytes, size_t alignment);
void* slabmalloc_paged_zone_allocate_zeroed(slabmalloc_paged_zone* zone, size_t bytes,
                                            size_t alignment);
void slabmalloc_paged_zone_deallocate(slabmalloc_paged_zone* zone, void* block, size_t bytes,
                                      size_t alignment);
/* As of zone_allocator. Blocks above SLABMALLOC_MAX_ALLOC_SIZE are misuse. */
void slabmalloc_paged_zone_deallocate_remote(void* block, size_t bytes, size_t alignment);
void* slabmalloc_paged_zone_reallocate(slabmalloc_paged_zone* zone, void* block, size_t old_bytes,
                                       size_t new_bytes, size_t alignment);
/* Drains the frees of others, and gives every empty page back; returns their bytes. */
size_t slabmalloc_paged_zone_trim(slabmalloc_paged_zone* zone);
/* Gives all pages back, also those with live objects. Pre: nobody uses these any more. */
void slabmalloc_paged_zone_release_all(slabmalloc_paged_zone* zone);
slabmalloc_zone_counters slabmalloc_paged_zone_counters(slabmalloc_paged_zone* zone);
const char* slabmalloc_paged_zone_validate(slabmalloc_paged_zone* zone);

/* ---- zones of CPUs ------------------------------------------------------------------------------
 * A heap of all sizes for all CPUs. Any CPU frees any block in any context, NMIs included; blocks
 * above 8 KiB are runs. It also lists its caches: the functions that say so act on all of them. */

typedef struct slabmalloc_cpu_zones slabmalloc_cpu_zones;
#define SLABMALLOC_CPU_ZONES_ALIGNMENT ((size_t)64)

/* The library is compiled for that many CPUs, by default -DSLABMALLOC_MAXIMUM_CPUS=64. */
uint32_t slabmalloc_maximum_cpus(void);
/* The bytes of a slabmalloc_cpu_zones: about 11 KiB for each of those CPUs. */
size_t slabmalloc_cpu_zones_bytes(void);

/* Makes a heap in `memory`, of the bytes and alignment above: for example a run, or an array of the
 * image. It copies `*pager`. Pre: the memory and `name` outlive it. Thread: before other calls. */
slabmalloc_cpu_zones* slabmalloc_cpu_zones_create(void* memory, const char* name,
                                                  const slabmalloc_kernel_pager* pager);

/* A block, or null. `context` says how it may get memory. */
void* slabmalloc_cpu_zones_allocate(slabmalloc_cpu_zones* zones, size_t bytes, size_t alignment,
                                    slabmalloc_context context);
void* slabmalloc_cpu_zones_allocate_zeroed(slabmalloc_cpu_zones* zones, size_t bytes,
                                           size_t alignment, slabmalloc_context context);
/* Frees a block of that size and alignment; null is allowed. `context` matters for runs: with
 * INTERRUPT and EMERGENCY they wait for a call that may call the pager. */
void slabmalloc_cpu_zones_deallocate(slabmalloc_cpu_zones* zones, void* block, size_t bytes,
                                     size_t alignment, slabmalloc_context context);
/* By the address alone, as kfree(), ksize() and krealloc(). The pager's find() is called in every
 * context, so NMIs may not call these. The second returns 0 for null and for misuse. The third
 * allocates for a null block, and leaves the block untouched where it returns null. */
void slabmalloc_cpu_zones_free(slabmalloc_cpu_zones* zones, void* block,
                               slabmalloc_context context);
size_t slabmalloc_cpu_zones_usable_size(slabmalloc_cpu_zones* zones, void* block);
void* slabmalloc_cpu_zones_reallocate(slabmalloc_cpu_zones* zones, void* block, size_t bytes,
                                      size_t alignment, slabmalloc_context context);

/* Each CPU keeps `objects` blocks, at most 4, for handlers that find nothing else; 0 ends it.
 * Context: as an allocation that may wait. */
slabmalloc_error slabmalloc_cpu_zones_reserve_for_interrupts(slabmalloc_cpu_zones* zones,
                                                             size_t bytes, size_t alignment,
                                                             uint32_t objects);
/* Keeps frames for such blocks for SLABMALLOC_EMERGENCY; 0 ends it. Context: as above. */
slabmalloc_error slabmalloc_cpu_zones_reserve_frames(slabmalloc_cpu_zones* zones, size_t bytes,
                                                     size_t alignment, uint32_t frames);
/* Bounds the bytes of its frames and runs; the callback may be null. SIZE_MAX ends it. */
void slabmalloc_cpu_zones_set_limit(slabmalloc_cpu_zones* zones, size_t bytes,
                                    slabmalloc_limit_callback callback, void* argument);
/* Lets allocations that may wait sleep until memory is free, or until the deadline of
 * slabmalloc_hook_wait(). Thread: while nobody allocates. */
void slabmalloc_cpu_zones_set_waiting(slabmalloc_cpu_zones* zones, bool waits);
/* Frees objects of the heap when an allocation that may wait has found nothing. Thread: before
 * other CPUs use it. */
void slabmalloc_cpu_zones_set_shrink(slabmalloc_cpu_zones* zones,
                                     slabmalloc_shrink_callback callback, void* argument);

/* For idle loops before each halt, and for a CPU that goes offline; acts on the caches too. Does
 * the CPU's deferred work, and lets others take its free memory. The CPU's next slow path ends
 * that: there is no call. False if it interrupted a section: call it again. Context: a thread that
 * may call the pager. */
bool slabmalloc_cpu_zones_enter_idle(slabmalloc_cpu_zones* zones);
/* For inter-processor interrupts under memory pressure; acts on the caches too. Makes free memory
 * of this CPU visible to all. False if it interrupted a section. */
bool slabmalloc_cpu_zones_drain_this_cpu(slabmalloc_cpu_zones* zones);
/* Drains this CPU and idle ones, gives all empty frames back, and returns their bytes; acts on the
 * caches too. The second goes on with shrink callbacks until it has `bytes`. Context: any that may
 * call the pager. */
size_t slabmalloc_cpu_zones_trim(slabmalloc_cpu_zones* zones);
size_t slabmalloc_cpu_zones_reclaim(slabmalloc_cpu_zones* zones, size_t bytes);
/* Drains all CPUs and gives all empty frames back. Returns the bytes of frames and runs that it
 * still has: 0 if every block and cache was freed. Pre: nobody else uses it. */
size_t slabmalloc_cpu_zones_drain_all(slabmalloc_cpu_zones* zones);

typedef struct slabmalloc_cpu_zones_counters {
  size_t used_bytes;  /* Slots of live blocks, without runs. */
  size_t frame_bytes; /* All frames and runs of the pager. */
  size_t frame_bytes_high_water;
  size_t cached_frame_bytes;   /* Empty frames of the CPUs. */
  size_t reserved_frame_bytes; /* By reserve_frames(). */
  size_t run_bytes;            /* Runs of clients, and those that wait. */
  size_t deferred_bytes;       /* Freed runs that wait for a call of the pager. */
  size_t allocations;          /* Without runs. */
  size_t frees;
  size_t remote_frees;       /* The frees among these by other CPUs. */
  size_t nested_allocations; /* Calls that came while their CPU's zone was in use. */
  size_t nested_frees;
  size_t searches; /* Allocations for which the pager had nothing. */
  size_t sleeps;   /* Allocations that waited until memory became free. */
  size_t failures; /* Allocations that ended as OUT_OF_MEMORY. */
} slabmalloc_cpu_zones_counters;
/* Exact while no CPU allocates or frees. Pre: nobody uses the zone of a CPU meanwhile. */
slabmalloc_cpu_zones_counters slabmalloc_cpu_zones_counters_of(slabmalloc_cpu_zones* zones);
/* Bytes of all frames and runs. */
size_t slabmalloc_cpu_zones_frame_bytes(slabmalloc_cpu_zones* zones);
/* A report of the heap's size classes and of all caches, in the manner of /proc/slabinfo. A null
 * callback stands for slabmalloc_hook_log(). */
void slabmalloc_cpu_zones_slabinfo(slabmalloc_cpu_zones* zones, slabmalloc_line_callback callback,
                                   void* argument);
/* Pre: no CPU allocates or frees. */
const char* slabmalloc_cpu_zones_validate(slabmalloc_cpu_zones* zones);

/* ---- object caches ------------------------------------------------------------------------------
 * Objects of one size that stay constructed while they are free, as of kmem_cache_create(). */

typedef struct slabmalloc_cache slabmalloc_cache;

typedef struct slabmalloc_cache_parameters {
  const char* name; /* Outlives the cache. */
  size_t object_bytes;
  size_t alignment; /* 0 counts as 8. */
  /* Makes an object, in the context of the allocation that got its frame; false if it could not.
   * Ends one. Null: nothing. Neither may use the cache; the second must not wait for memory. */
  bool (*construct)(void* place, slabmalloc_context context, void* argument) SLABMALLOC_NOEXCEPT;
  void (*destroy)(void* object, void* argument) SLABMALLOC_NOEXCEPT;
  /* Frees objects under memory pressure; may be null. */
  slabmalloc_shrink_callback shrink;
  void* argument; /* Of all three. */
} slabmalloc_cache_parameters;

/* Makes a cache in a block of `zones`, over its pager, and lists it there. Null if it fails, with
 * the reason in `*error` unless that is null. Context: as an allocation that may wait. */
slabmalloc_cache* slabmalloc_cache_create(slabmalloc_cpu_zones* zones,
                                          const slabmalloc_cache_parameters* parameters,
                                          slabmalloc_error* error);
/* Ends a cache. Returns the number of objects in use, and then it stays; SIZE_MAX if the list is at
 * the cache just now: try again. Pre: nobody else uses it. */
size_t slabmalloc_cache_destroy(slabmalloc_cache* cache);

/* An object as its last user left it, or null. */
void* slabmalloc_cache_allocate(slabmalloc_cache* cache, slabmalloc_context context);
/* Frees an object in its constructed state, on any CPU; null is allowed. */
void slabmalloc_cache_deallocate(slabmalloc_cache* cache, void* object);
/* Several at once. The first returns how many it got. */
size_t slabmalloc_cache_allocate_many(slabmalloc_cache* cache, void** objects, size_t count,
                                      slabmalloc_context context);
void slabmalloc_cache_deallocate_many(slabmalloc_cache* cache, void* const* objects, size_t count);

/* Guarantees `objects` further allocations, whatever the pager answers; 0 ends it. The next two as
 * of cpu_zones, in objects. */
slabmalloc_error slabmalloc_cache_reserve(slabmalloc_cache* cache, size_t objects);
slabmalloc_error slabmalloc_cache_reserve_for_interrupts(slabmalloc_cache* cache, uint32_t objects);
void slabmalloc_cache_set_limit(slabmalloc_cache* cache, size_t objects,
                                slabmalloc_limit_callback callback, void* argument);
void slabmalloc_cache_set_waiting(slabmalloc_cache* cache, bool waits);

typedef struct slabmalloc_cache_counters {
  size_t objects_in_use;
  size_t objects;      /* Slots of all pages. */
  size_t object_bytes; /* From one object to the next. */
  size_t objects_per_page;
  size_t page_bytes;
  size_t pages;
  size_t pages_high_water;
  size_t remote_frees; /* Freed by other CPUs, or during a section, and drained. */
  size_t failures;     /* Allocations that ended as OUT_OF_MEMORY. */
} slabmalloc_cache_counters;
/* The figures may lag behind other CPUs. */
slabmalloc_cache_counters slabmalloc_cache_counters_of(slabmalloc_cache* cache);
const char* slabmalloc_cache_validate(slabmalloc_cache* cache);

#ifdef __cplusplus
}
#endif

#endif
