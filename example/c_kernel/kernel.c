/* SPDX-License-Identifier: MIT
 *
 * A kernel in C on libslabmalloc_kernel.a, for QEMU's riscv64 `virt` under OpenSBI. All harts and
 * their timer handlers make packets, and put each in the place of another, which they free:
 *
 *   run_hart()  MAY_WAIT   ─┐            ┌─ packet: cache
 *   trap()      INTERRUPT  ─┴─► make() ──┴─ data: heap ──► table[random] ──► drop()
 */
#include "slabmalloc/kernel.h"

enum {
  MAXIMUM_HARTS = 8, /* As the library was compiled for. */
  PLACES = 256,
  PACKETS_OF_HART = 3000,
  HANDLER_WORDS = 8,
  TIMER_TICKS = 2000, /* Of 100 ns. */
  STOPPED = 0x5555,   /* Words for the test device, which gives the emulator its status. */
  FAILED = 0x13333
};
static const uint64_t set_timer = 0x54494D45, start_hart = 0x48534D; /* Firmware extensions. */

/* ---- the machine ----------------------------------------------------------------------------- */

/* Calls function 0 of a firmware's extension; returns the error, 0 for none. */
static uint64_t call_firmware(uint64_t extension, uint64_t first, uint64_t second) {
  register uint64_t a0 __asm__("a0") = first;
  register uint64_t a1 __asm__("a1") = second;
  register uint64_t a6 __asm__("a6") = 0;
  register uint64_t a7 __asm__("a7") = extension;
  __asm__ volatile("ecall" : "+r"(a0), "+r"(a1) : "r"(a6), "r"(a7) : "memory");
  return a0;
}
static __attribute__((noreturn)) void power_off(uint32_t word) {
  for (;;) {
    *(volatile uint32_t*)0x100000 = word;
  }
}

/* ---- the hooks of the library ---------------------------------------------------------------- */

uint32_t slabmalloc_hook_cpu(void) {
  uint64_t tp; /* start.S sets it to the number of the hart. */
  __asm__ volatile("mv %0, tp" : "=r"(tp));
  return (uint32_t)tp;
}
uintptr_t slabmalloc_hook_save_interrupts(void) {
  uintptr_t before;
  __asm__ volatile("csrrci %0, sstatus, 2" : "=r"(before) : : "memory");
  return before & 2;
}
void slabmalloc_hook_restore_interrupts(uintptr_t before) {
  __asm__ volatile("csrs sstatus, %0" : : "r"(before) : "memory");
}
void slabmalloc_hook_log(const char* line) {
  while (*line != 0) {
    call_firmware(1, (unsigned char)*line++, 0);
  }
  call_firmware(1, '\n', 0);
}
void slabmalloc_hook_panic(const char* line) {
  slabmalloc_hook_save_interrupts();
  slabmalloc_hook_log("PANIC:");
  slabmalloc_hook_log(line);
  power_off(FAILED);
}
static const void* expected_double_free; /* The kernel makes one on purpose. */
void slabmalloc_hook_misuse(const slabmalloc_misuse* misuse) {
  if (misuse->reason == SLABMALLOC_MISUSE_DOUBLE_FREE && misuse->address == expected_double_free) {
    expected_double_free = NULL;
    return;
  }
  slabmalloc_hook_panic(slabmalloc_describe_misuse(misuse->reason));
}
static void require(bool condition, const char* what) {
  if (!condition) {
    slabmalloc_hook_panic(what);
  }
}

/* ---- packets --------------------------------------------------------------------------------- */

/* Constructed and free, it has no data. Else all words of its data are its number. */
typedef struct packet {
  uint64_t* data;
  size_t words;
  uint64_t number;
  uint32_t hart; /* That made it. */
} packet;

static slabmalloc_early_memory early;
static slabmalloc_frame_allocator frames;
static slabmalloc_cpu_zones* heap;
static slabmalloc_cache* packets;
static packet* table[PLACES];
static uint64_t harts = 1, finished, stopped, living, made, by_handlers, refused, by_others;

static uint64_t count(uint64_t* counter, uint64_t more) {
  return __atomic_add_fetch(counter, more, __ATOMIC_ACQ_REL);
}
static uint64_t value(const uint64_t* counter) {
  return __atomic_load_n(counter, __ATOMIC_ACQUIRE);
}
static uint64_t random_of(uint64_t number) {
  number = (number ^ number >> 31) * 0x9E3779B97F4A7C15;
  return (number ^ number >> 29) * 0xBF58476D1CE4E5B9;
}

static bool construct_packet(void* place, slabmalloc_context context, void* argument) {
  (void)context, (void)argument;
  ((packet*)place)->data = NULL;
  count(&living, 1);
  return true;
}
static void destroy_packet(void* object, void* argument) {
  (void)argument;
  require(((packet*)object)->data == NULL, "a packet is not in its constructed state");
  count(&living, ~UINT64_C(0));
}
/* Frees a packet of any hart, or nothing. */
static void drop(packet* one, slabmalloc_context context) {
  if (one == NULL) {
    return;
  }
  for (size_t index = 0; index < one->words; ++index) {
    require(one->data[index] == one->number, "a packet was overwritten");
  }
  count(&by_others, one->hart != slabmalloc_hook_cpu() ? 1 : 0);
  slabmalloc_cpu_zones_deallocate(heap, one->data, one->words * 8, 8, context);
  one->data = NULL;
  slabmalloc_cache_deallocate(packets, one);
}
/* Puts a packet of so many words in the place of another, unless there is no memory. */
static void make(uint64_t number, size_t words, slabmalloc_context context) {
  packet* const one = slabmalloc_cache_allocate(packets, context);
  uint64_t* const data = slabmalloc_cpu_zones_allocate(heap, words * 8, 8, context);
  if (one == NULL || data == NULL) {
    slabmalloc_cpu_zones_deallocate(heap, data, words * 8, 8, context);
    slabmalloc_cache_deallocate(packets, one);
    count(&refused, 1);
    return;
  }
  require(one->data == NULL, "a packet is not as constructed");
  *one = (packet){data, words, number, slabmalloc_hook_cpu()};
  for (size_t index = 0; index < words; ++index) {
    data[index] = number;
  }
  count(context == SLABMALLOC_INTERRUPT ? &by_handlers : &made, 1);
  drop(__atomic_exchange_n(&table[(number >> 40) % PLACES], one, __ATOMIC_ACQ_REL), context);
}

/* ---- the life of the kernel ------------------------------------------------------------------ */

/* Handles all traps; the compiler saves the registers. */
static __attribute__((interrupt("supervisor"), aligned(4))) void trap(void) {
  uint64_t cause, now;
  __asm__ volatile("csrr %0, scause\n rdtime %1" : "=r"(cause), "=r"(now));
  require(cause == (UINT64_C(1) << 63 | 5), "unexpected trap");
  call_firmware(set_timer, now + TIMER_TICKS, 0);
  make(random_of(now), HANDLER_WORDS, SLABMALLOC_INTERRUPT);
}

static uint32_t word_at(const uint8_t* at) {
  return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}
static uint64_t two_words_at(const uint8_t* at) {
  return (uint64_t)word_at(at) << 32 | word_at(at + 4);
}
/* The value of `reg` in the memory node of a device tree. */
static slabmalloc_region memory_of(const uint8_t* tree) {
  const uint8_t* const names = tree + word_at(tree + 12);
  bool is_memory = false;
  for (const uint8_t* token = tree + word_at(tree + 8); word_at(token) != 9; token += 4) {
    if (word_at(token) == 1) { /* A node: its name, and zeros up to a whole word. */
      is_memory = two_words_at(token + 4) >> 8 == 0x6D656D6F727940; /* "memory@" */
      for (token += 4; token[3] != 0; token += 4) {
      }
    } else if (word_at(token) == 3) { /* A property: bytes, place of the name, value. */
      if (is_memory && word_at(names + word_at(token + 8)) == 0x72656700) { /* "reg" */
        return (slabmalloc_region){two_words_at(token + 12), two_words_at(token + 20)};
      }
      token += 8 + (word_at(token + 4) + 3) / 4 * 4;
    }
  }
  slabmalloc_hook_panic("the device tree has no memory");
}

extern uint8_t image_end[], _start[];
void run_hart(void);
void start_kernel(const uint8_t* tree);

static void start_heap(const uint8_t* tree) {
  const slabmalloc_region memory = memory_of(tree);
  const slabmalloc_region image = {memory.address, (uintptr_t)image_end - memory.address};
  const slabmalloc_cache_parameters parameters = {.name = "packet",
                                                  .object_bytes = sizeof(packet),
                                                  .construct = construct_packet,
                                                  .destroy = destroy_packet};
  require(slabmalloc_early_memory_add(&early, memory) == SLABMALLOC_OK &&
              slabmalloc_early_memory_reserve(&early, image) == SLABMALLOC_OK &&
              slabmalloc_early_memory_hand_over(&early, &frames) == SLABMALLOC_OK,
          "no memory");
  const slabmalloc_kernel_pager pager = slabmalloc_frame_allocator_pager(&frames);
  heap = slabmalloc_cpu_zones_create(
      slabmalloc_frame_allocator_allocate_run(&frames, slabmalloc_cpu_zones_bytes(),
                                              SLABMALLOC_CPU_ZONES_ALIGNMENT),
      "heap", &pager);
  require(heap != NULL && slabmalloc_maximum_cpus() == MAXIMUM_HARTS, "no heap");
  packets = slabmalloc_cache_create(heap, &parameters, NULL);
  require(packets != NULL && slabmalloc_cache_reserve_for_interrupts(packets, 4) == SLABMALLOC_OK,
          "no cache");
  require(
      slabmalloc_cpu_zones_reserve_for_interrupts(heap, HANDLER_WORDS * 8, 8, 4) == SLABMALLOC_OK,
      "no reserve");
}
/* Frees all, and panics unless all is back. Pre: the other harts have stopped. */
static void check_that_nothing_is_lost(void) {
  for (size_t place = 0; place < PLACES; ++place) {
    drop(table[place], SLABMALLOC_MAY_WAIT);
  }
  void* const block = slabmalloc_cpu_zones_allocate(heap, 64, 8, SLABMALLOC_MAY_WAIT);
  expected_double_free = block;
  slabmalloc_cpu_zones_free(heap, block, SLABMALLOC_MAY_WAIT);
  slabmalloc_cpu_zones_free(heap, block, SLABMALLOC_MAY_WAIT);
  require(expected_double_free == NULL, "a double free was not reported");
  require(made > 0 && by_handlers > 0 && by_others > 0, "harts or handlers did nothing");
  require(refused <= made / 100, "many were refused");
  require(slabmalloc_cache_validate(packets) == NULL, "the cache is broken");
  require(slabmalloc_cache_destroy(packets) == 0 && living == 0, "a packet is lost");
  require(slabmalloc_cpu_zones_drain_all(heap) == 0, "the heap has lost memory");
  require(slabmalloc_cpu_zones_validate(heap) == NULL, "the heap is broken");
  require(slabmalloc_frame_allocator_deallocate_run(&frames, heap, slabmalloc_cpu_zones_bytes()),
          "the heap's own memory is lost");
  require(slabmalloc_frame_allocator_counters(&frames).used_bytes == 0, "a frame is lost");
}

/* The life of a hart. At its end all have done their work, and nothing interrupts this one. */
void run_hart(void) {
  __asm__ volatile("csrw stvec, %0\n csrs sie, %1" : : "r"(&trap), "r"(1 << 5));
  call_firmware(set_timer, 0, 0);
  slabmalloc_hook_restore_interrupts(2);
  for (uint64_t step = 0; step < PACKETS_OF_HART; ++step) {
    const uint64_t number = random_of(MAXIMUM_HARTS * step + slabmalloc_hook_cpu());
    const uint64_t most = number % 16 == 0 ? 4096 : UINT64_C(16) << number / 16 % 6;
    make(number, 1 + (number >> 20) % most, SLABMALLOC_MAY_WAIT);
  }
  count(&finished, 1);
  while (value(&finished) < value(&harts)) {
    slabmalloc_cpu_zones_enter_idle(heap);
    __asm__ volatile("wfi");
  }
  slabmalloc_hook_save_interrupts();
  count(&stopped, 1);
}
/* The first hart. Memory below `image_end` is that of OpenSBI and of this image. */
void start_kernel(const uint8_t* tree) {
  start_heap(tree);
  for (uint64_t hart = 0; hart < MAXIMUM_HARTS; ++hart) { /* Absent ones do not start. */
    count(&harts, call_firmware(start_hart, hart, (uintptr_t)_start) == 0 ? 1 : 0);
  }
  require(value(&harts) > 1, "there is one hart alone");
  run_hart();
  while (value(&stopped) < value(&harts)) {
  }
  slabmalloc_cpu_zones_slabinfo(heap, NULL, NULL);
  check_that_nothing_is_lost();
  slabmalloc_hook_log("nothing is lost");
  power_off(STOPPED);
}
