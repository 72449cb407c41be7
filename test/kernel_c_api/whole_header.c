/* SPDX-License-Identifier: MIT
 *
 * All of kernel.h in C11, by a kernel of one CPU in a few MiB: returns 0, or the line of the first
 * call that did not do what the header says. */
#include "slabmalloc/kernel.h"
#include "slabmalloc/slabmalloc.h"

#define REQUIRE(condition) \
  do {                     \
    if (!(condition)) {    \
      return __LINE__;     \
    }                      \
  } while (0)

#define IS_OF_STATED_SIZE(type, BYTES, alignment) \
  _Static_assert(sizeof(type) == (BYTES) && _Alignof(type) == (alignment), #type)
IS_OF_STATED_SIZE(slabmalloc_frame_allocator, SLABMALLOC_FRAME_ALLOCATOR_BYTES, 8);
IS_OF_STATED_SIZE(slabmalloc_early_memory, SLABMALLOC_EARLY_MEMORY_BYTES, 8);
IS_OF_STATED_SIZE(slabmalloc_sc_allocator, SLABMALLOC_SC_ALLOCATOR_BYTES, 64);
IS_OF_STATED_SIZE(slabmalloc_zone_allocator, SLABMALLOC_ZONE_ALLOCATOR_BYTES, 64);
IS_OF_STATED_SIZE(slabmalloc_paged_zone, SLABMALLOC_PAGED_ZONE_BYTES, 64);

enum { MEMORY = 16 << 20 };
int use_whole_header(unsigned char* memory);

static slabmalloc_early_memory early;
static slabmalloc_frame_allocator frames;
static slabmalloc_zone_allocator zone;
static slabmalloc_sc_allocator objects = SLABMALLOC_SC_ALLOCATOR(24, 8, SLABMALLOC_BASE_PAGE);
static slabmalloc_kernel_pager pager;
static slabmalloc_paged_zone paged = SLABMALLOC_PAGED_ZONE(&pager);

static void give_frame(void* argument, void* page) {
  slabmalloc_frame_allocator_deallocate_frame(&frames, page, *(size_t*)argument);
}
static size_t shrink(void* argument, size_t bytes_wanted) {
  (void)argument;
  (void)bytes_wanted;
  return 0;
}
static void at_limit(void* argument) { ++*(int*)argument; }
static void count_line(void* argument, const char* line) { *(int*)argument += line[0] != '\0'; }
static bool construct(void* place, slabmalloc_context context, void* argument) {
  (void)context;
  *(int*)place = 5;
  ++*(int*)argument;
  return true;
}
static void destroy(void* object, void* argument) { *(int*)argument -= *(int*)object == 5; }

static int use_frames(unsigned char* memory) {
  const slabmalloc_region all = {(uintptr_t)memory, MEMORY / 2};
  const slabmalloc_region more = {(uintptr_t)memory + MEMORY / 2, MEMORY / 2};
  const slabmalloc_region image = {(uintptr_t)memory, 100000};
  REQUIRE(slabmalloc_early_memory_add(&early, all) == SLABMALLOC_OK);
  REQUIRE(slabmalloc_early_memory_reserve(&early, image) == SLABMALLOC_OK);
  REQUIRE(slabmalloc_early_memory_allocate(&early, 100, 64, UINTPTR_MAX) != NULL);
  REQUIRE(slabmalloc_early_memory_hand_over(&early, &frames) == SLABMALLOC_OK);
  REQUIRE(slabmalloc_frame_allocator_add(&frames, &more, 1) == SLABMALLOC_OK);
  void* const frame = slabmalloc_frame_allocator_allocate_frame(&frames, 65536);
  REQUIRE(frame != NULL && (uintptr_t)frame % 65536 == 0);
  REQUIRE(slabmalloc_frame_allocator_owns(&frames, frame));
  REQUIRE(slabmalloc_frame_allocator_find(&frames, frame).use == SLABMALLOC_USE_FRAME);
  slabmalloc_frame_allocator_deallocate_frame(&frames, frame, 65536);
  REQUIRE(slabmalloc_frame_allocator_allocate_run_at(&frames, frame, 5000) == frame);
  REQUIRE(slabmalloc_frame_allocator_deallocate_run(&frames, frame, 5000));
  void* const run = slabmalloc_frame_allocator_allocate_run(&frames, 20000, 4096);
  REQUIRE(run != NULL && slabmalloc_frame_allocator_deallocate_run(&frames, run, 20000));
  REQUIRE(slabmalloc_frame_allocator_counters(&frames).used_bytes == 0);
  REQUIRE(slabmalloc_frame_allocator_validate(&frames) == NULL);
  pager = slabmalloc_frame_allocator_pager(&frames);
  return 0;
}

static int use_sizes(void) {
  size_t bytes = SLABMALLOC_BASE_PAGE;
  slabmalloc_error error = SLABMALLOC_OK;
  void* const page = slabmalloc_frame_allocator_allocate_frame(&frames, bytes);
  REQUIRE(slabmalloc_sc_allocator_allocate(&objects, 24, 8, &error) == NULL);
  REQUIRE(error == SLABMALLOC_OUT_OF_MEMORY);
  REQUIRE(slabmalloc_sc_allocator_refill(&objects, page) == SLABMALLOC_OK);
  REQUIRE(slabmalloc_sc_allocator_usable_size(&objects) == 24);
  void* const one = slabmalloc_sc_allocator_allocate(&objects, 20, 8, NULL);
  void* const other = slabmalloc_sc_allocator_allocate(&objects, 24, 4, NULL);
  REQUIRE(slabmalloc_sc_allocator_counters(&objects).used_bytes == 48);
  slabmalloc_sc_allocator_deallocate(&objects, one, 20, 8);
  slabmalloc_sc_allocator_deallocate_remote(&objects, other, 24, 4);
  REQUIRE(slabmalloc_sc_allocator_validate(&objects) == NULL);
  REQUIRE(slabmalloc_sc_allocator_try_reclaim_pages(&objects, 2, give_frame, &bytes) == 1);
  return 0;
}

static int use_zone(void) {
  size_t base = SLABMALLOC_BASE_PAGE;
  size_t large = SLABMALLOC_LARGE_PAGE;
  REQUIRE(slabmalloc_get_max_size(20) == 32);
  REQUIRE(slabmalloc_zone_allocator_page_bytes(256, 8) == base);
  REQUIRE(slabmalloc_zone_allocator_page_bytes(257, 8) == large);
  REQUIRE(slabmalloc_zone_allocator_refill(
              &zone, 100, 8, slabmalloc_frame_allocator_allocate_frame(&frames, base)) ==
          SLABMALLOC_OK);
  REQUIRE(slabmalloc_zone_allocator_refill_large(
              &zone, 900, 8, slabmalloc_frame_allocator_allocate_frame(&frames, large)) ==
          SLABMALLOC_OK);
  void* block = slabmalloc_zone_allocator_allocate(&zone, 100, 8, NULL);
  block = slabmalloc_zone_allocator_reallocate(&zone, block, 100, 900, 8, NULL);
  REQUIRE(block != NULL);
  slabmalloc_zone_allocator_deallocate(&zone, block, 900, 8);
  block = slabmalloc_zone_allocator_allocate(&zone, 900, 8, NULL);
  slabmalloc_zone_allocator_deallocate_remote(block, 900, 8);
  REQUIRE(slabmalloc_zone_allocator_validate(&zone) == NULL);
  REQUIRE(slabmalloc_zone_allocator_try_reclaim_base_pages(&zone, 9, give_frame, &base) == 1);
  REQUIRE(slabmalloc_zone_allocator_try_reclaim_large_pages(&zone, 9, give_frame, &large) == 1);
  REQUIRE(slabmalloc_zone_allocator_counters(&zone).remote_frees == 1);
  return 0;
}

static int use_paged_zone(void) {
  void* block = slabmalloc_paged_zone_allocate(&paged, 100, 8);
  unsigned char* const zeros = slabmalloc_paged_zone_allocate_zeroed(&paged, 5000, 8);
  REQUIRE(block != NULL && zeros != NULL && zeros[4999] == 0);
  block = slabmalloc_paged_zone_reallocate(&paged, block, 100, 200, 8);
  slabmalloc_paged_zone_deallocate(&paged, block, 200, 8);
  slabmalloc_paged_zone_deallocate_remote(zeros, 5000, 8);
  REQUIRE(slabmalloc_paged_zone_counters(&paged).page_bytes != 0);
  REQUIRE(slabmalloc_paged_zone_validate(&paged) == NULL);
  REQUIRE(slabmalloc_paged_zone_trim(&paged) != 0);
  slabmalloc_paged_zone_release_all(&paged);
  REQUIRE(slabmalloc_frame_allocator_counters(&frames).used_bytes == 0);
  return 0;
}

static int use_heap(slabmalloc_cpu_zones* heap) {
  int lines = 0, limits = 0;
  slabmalloc_cpu_zones_set_shrink(heap, shrink, NULL);
  slabmalloc_cpu_zones_set_waiting(heap, false);
  REQUIRE(slabmalloc_cpu_zones_reserve_for_interrupts(heap, 64, 8, 2) == SLABMALLOC_OK);
  REQUIRE(slabmalloc_cpu_zones_reserve_frames(heap, 64, 8, 1) == SLABMALLOC_OK);
  slabmalloc_cpu_zones_set_limit(heap, MEMORY / 2, at_limit, &limits);
  REQUIRE(slabmalloc_cpu_zones_allocate(heap, MEMORY, 8, SLABMALLOC_MAY_WAIT) == NULL);
  REQUIRE(limits != 0);
  void* block = slabmalloc_cpu_zones_allocate(heap, 100, 8, SLABMALLOC_MAY_WAIT);
  unsigned char* const zeros =
      slabmalloc_cpu_zones_allocate_zeroed(heap, 20000, 8, SLABMALLOC_MAY_NOT_WAIT);
  REQUIRE(block != NULL && zeros != NULL && zeros[19999] == 0);
  REQUIRE(slabmalloc_cpu_zones_usable_size(heap, block) >= 100);
  block = slabmalloc_cpu_zones_reallocate(heap, block, 900, 8, SLABMALLOC_MAY_WAIT);
  slabmalloc_cpu_zones_deallocate(heap, block, 900, 8, SLABMALLOC_INTERRUPT);
  slabmalloc_cpu_zones_free(heap, zeros, SLABMALLOC_EMERGENCY);
  REQUIRE(slabmalloc_cpu_zones_counters_of(heap).deferred_bytes == 20480);
  slabmalloc_cpu_zones_slabinfo(heap, count_line, &lines);
  REQUIRE(lines >= 4);
  REQUIRE(slabmalloc_cpu_zones_reserve_for_interrupts(heap, 64, 8, 0) == SLABMALLOC_OK);
  REQUIRE(slabmalloc_cpu_zones_reserve_frames(heap, 64, 8, 0) == SLABMALLOC_OK);
  REQUIRE(slabmalloc_cpu_zones_enter_idle(heap));
  REQUIRE(slabmalloc_cpu_zones_drain_this_cpu(heap));
  slabmalloc_cpu_zones_trim(heap);
  slabmalloc_cpu_zones_reclaim(heap, 4096);
  REQUIRE(slabmalloc_cpu_zones_drain_all(heap) == 0);
  REQUIRE(slabmalloc_cpu_zones_frame_bytes(heap) == 0);
  REQUIRE(slabmalloc_cpu_zones_validate(heap) == NULL);
  return 0;
}

static int use_cache(slabmalloc_cpu_zones* heap) {
  int constructed = 0, limits = 0;
  void* several[10];
  const slabmalloc_cache_parameters parameters = {.name = "object",
                                                  .object_bytes = 40,
                                                  .construct = construct,
                                                  .destroy = destroy,
                                                  .argument = &constructed};
  slabmalloc_error error = SLABMALLOC_OK;
  slabmalloc_cache* const cache = slabmalloc_cache_create(heap, &parameters, &error);
  REQUIRE(cache != NULL && error == SLABMALLOC_OK);
  slabmalloc_cache_set_waiting(cache, false);
  slabmalloc_cache_set_limit(cache, 100000, at_limit, &limits);
  REQUIRE(slabmalloc_cache_reserve(cache, 1) == SLABMALLOC_OK);
  REQUIRE(slabmalloc_cache_reserve_for_interrupts(cache, 1) == SLABMALLOC_OK);
  int* const object = slabmalloc_cache_allocate(cache, SLABMALLOC_MAY_WAIT);
  REQUIRE(object != NULL && *object == 5 && constructed != 0);
  slabmalloc_cache_deallocate(cache, object);
  REQUIRE(slabmalloc_cache_allocate_many(cache, several, 10, SLABMALLOC_MAY_WAIT) == 10);
  REQUIRE(slabmalloc_cache_destroy(cache) == 10);
  slabmalloc_cache_deallocate_many(cache, several, 10);
  REQUIRE(slabmalloc_cache_counters_of(cache).objects_in_use == 0);
  REQUIRE(slabmalloc_cache_validate(cache) == NULL);
  REQUIRE(slabmalloc_cache_destroy(cache) == 0 && constructed == 0 && limits == 0);
  REQUIRE(slabmalloc_cpu_zones_drain_all(heap) == 0);
  return 0;
}

/* `memory` has MEMORY bytes, aligned to large pages. */
int use_whole_header(unsigned char* memory) {
  int line = use_frames(memory);
  line = line != 0 ? line : use_sizes();
  line = line != 0 ? line : use_zone();
  line = line != 0 ? line : use_paged_zone();
  void* const storage = slabmalloc_frame_allocator_allocate_run(
      &frames, slabmalloc_cpu_zones_bytes(), SLABMALLOC_CPU_ZONES_ALIGNMENT);
  slabmalloc_cpu_zones* const heap = slabmalloc_cpu_zones_create(storage, "heap", &pager);
  REQUIRE(heap != NULL && slabmalloc_maximum_cpus() == 64);
  REQUIRE(slabmalloc_describe_error(SLABMALLOC_TOO_LARGE)[0] != '\0');
  REQUIRE(slabmalloc_describe_misuse(SLABMALLOC_MISUSE_DOUBLE_FREE)[0] == 'd');
  line = line != 0 ? line : use_heap(heap);
  return line != 0 ? line : use_cache(heap);
}
