/* SPDX-License-Identifier: MIT
 *
 * What a kernel supplies to libslabmalloc_kernel.a: hooks, pagers, callbacks; and the values in
 * calls. kernel.h has the services, and includes this header.
 */
#ifndef SLABMALLOC_KERNEL_HOOKS_H
#define SLABMALLOC_KERNEL_HOOKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Before C++17 a function's type has no exception specification. */
#if defined(__cplusplus) && __cplusplus >= 201703L
#define SLABMALLOC_NOEXCEPT noexcept
#else
#define SLABMALLOC_NOEXCEPT
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- values ---------------------------------------------------------------------------------- */

typedef enum slabmalloc_error {
  SLABMALLOC_OK,
  SLABMALLOC_OUT_OF_MEMORY,  /* Nothing is free: refill and try again. */
  SLABMALLOC_INVALID_LAYOUT, /* This allocator never serves that size and alignment. */
  SLABMALLOC_TOO_MANY,       /* A limit of the library is reached, although memory is free. */
  /* Of slabmalloc_cache_create() alone: */
  SLABMALLOC_NO_SIZE,             /* Objects of 0 bytes. */
  SLABMALLOC_ALIGNMENT_NOT_POWER, /* The alignment is no power of two. */
  SLABMALLOC_TOO_LARGE            /* Above 8 KiB, rounded up to the alignment. */
} slabmalloc_error;

/* The words for a message. */
const char* slabmalloc_describe_error(slabmalloc_error error);

/* The ways in which a call may get memory or give it back. */
typedef enum slabmalloc_context {
  SLABMALLOC_MAY_WAIT,     /* Threads: the pager may wait; searches all memory and reclaims. */
  SLABMALLOC_MAY_NOT_WAIT, /* The pager is called but must not wait; the time is bounded. */
  SLABMALLOC_INTERRUPT,    /* Interrupt handlers, NMIs, the pager itself: it is not called. */
  SLABMALLOC_EMERGENCY     /* The same, plus reserved frames: panic, frees that need memory. */
} slabmalloc_context;

typedef struct slabmalloc_region {
  uintptr_t address; /* By which the kernel reaches the memory. */
  size_t bytes;
} slabmalloc_region;

/* Receives one line of a report. */
typedef void (*slabmalloc_line_callback)(void* argument, const char* line) SLABMALLOC_NOEXCEPT;
/* Receives an empty page. */
typedef void (*slabmalloc_page_callback)(void* argument, void* page) SLABMALLOC_NOEXCEPT;
/* Frees objects of about `bytes_wanted`; returns the bytes that it freed. One is called at a time,
 * with nothing held, and it may wait, allocate and free. */
typedef size_t (*slabmalloc_shrink_callback)(void* argument,
                                             size_t bytes_wanted) SLABMALLOC_NOEXCEPT;
/* An allocation would pass a limit, in its context. It may free, and must not allocate there. */
typedef void (*slabmalloc_limit_callback)(void* argument) SLABMALLOC_NOEXCEPT;

/* ---- hooks --------------------------------------------------------------------------------------
 * The kernel defines these functions, which the linker finds. So a call costs no load of a pointer,
 * and there is no moment at which an NMI finds them absent. None may call into the library, but for
 * what slabmalloc_hook_misuse() says. A kernel in C++ says noexcept, as here.
 *
 * A kernel that compiles the library itself can have them inlined. It defines
 * SLABMALLOC_KERNEL_HOOKS and has a header slabmalloc_kernel_hooks.h in the compiler's path, which
 * the library includes after this one. There each function is `inline`, with SLABMALLOC_NOEXCEPT.
 * Those that are not there stay functions. */

/* The number of the CPU that runs the caller, below slabmalloc_maximum_cpus(). Context: any from
 * which the library is called, NMIs included, with interrupts saved. */
uint32_t slabmalloc_hook_cpu(void) SLABMALLOC_NOEXCEPT;

/* From here on the caller stays on its CPU, and no other thread runs there, until
 * slabmalloc_hook_restore_interrupts() of what this returned. Pairs nest. It disables interrupts,
 * or at least preemption. But handlers need the first that use frame allocators, shrink callbacks,
 * frees by the address alone, or functions that reach every cache, as drain_this_cpu() does. Both
 * also keep the compiler from moving accesses of memory out. Context: any, NMIs included. */
uintptr_t slabmalloc_hook_save_interrupts(void) SLABMALLOC_NOEXCEPT;
void slabmalloc_hook_restore_interrupts(uintptr_t state) SLABMALLOC_NOEXCEPT;

/* Ends the kernel: an invariant of the library is broken, or a CPU's number too large. Context:
 * any, possibly with a lock of the library held. */
void slabmalloc_hook_panic(const char* line) SLABMALLOC_NOEXCEPT __attribute__((noreturn));

/* Prints a line of a report. Context: that of the call that writes the report. */
void slabmalloc_hook_log(const char* line) SLABMALLOC_NOEXCEPT;

typedef enum slabmalloc_misuse_reason {
  SLABMALLOC_MISUSE_DOUBLE_FREE,     /* The block is free already, or was never allocated. */
  SLABMALLOC_MISUSE_MISALIGNED_FREE, /* The address lies inside a block or frame. */
  SLABMALLOC_MISUSE_FOREIGN_POINTER, /* No block starts at the address, or one of another heap. */
  SLABMALLOC_MISUSE_SIZE_MISMATCH,   /* The size belongs to another size class than the block. */
  SLABMALLOC_MISUSE_INVALID_PAGE     /* A page is misaligned, null, or in use already. */
} slabmalloc_misuse_reason;

typedef enum slabmalloc_block_state {
  SLABMALLOC_STATE_UNKNOWN,
  SLABMALLOC_STATE_NO_BLOCK,       /* No block has ever started at the address. */
  SLABMALLOC_STATE_IN_USE,         /* It is allocated. */
  SLABMALLOC_STATE_FREE,           /* It was freed before, or never allocated. */
  SLABMALLOC_STATE_FREED,          /* It was freed before. */
  SLABMALLOC_STATE_NEVER_ALLOCATED /* It was not allocated since its page came into use. */
} slabmalloc_block_state;

/* One bad call. */
typedef struct slabmalloc_misuse {
  slabmalloc_misuse_reason reason;
  slabmalloc_block_state state; /* Of the block. */
  const void* address;          /* The address in the call. */
  const void* block;            /* The first byte of the block there; null if it is not known. */
  size_t object_bytes;          /* Bytes of a slot of its page; 0 if it has no page. */
  size_t given_bytes;           /* The size in the call, where that is wrong; else 0. */
  bool is_late; /* An earlier call on any CPU was bad; this one delivers its free. */
} slabmalloc_misuse;

/* Receives a bad call. If it returns, the bad call does nothing. Context: that of the call, also
 * the middle of a section with interrupts saved. It may call cpu_zones as an NMI may. If C++ code
 * of the kernel calls slabmalloc::set_misuse_handler() later, that one gets the calls. */
void slabmalloc_hook_misuse(const slabmalloc_misuse* misuse) SLABMALLOC_NOEXCEPT;

/* The words for a message. */
const char* slabmalloc_describe_misuse(slabmalloc_misuse_reason reason);

/* Optional: the archive has a definition, which the linker takes if the kernel has none. */

/* What a CPU does between two looks at a lock: pause, yield, wfe. By default nothing. Context: any
 * but NMIs, with interrupts saved. */
void slabmalloc_hook_relax(void) SLABMALLOC_NOEXCEPT;

/* What a caller waits for: holds(argument) takes no lock and changes nothing. `*deadline` is a word
 * for the hook: 0 in the first wait of an allocation, then as the hook left it. */
typedef struct slabmalloc_wait {
  bool (*holds)(const void* argument) SLABMALLOC_NOEXCEPT;
  const void* argument;
  uint64_t* deadline;
} slabmalloc_wait;

/* Sleep in place of a spin: a kernel defines all three or none. hook_wait() returns true once the
 * condition holds, which it asks at first and after each hook_wake(). It returns false at a
 * deadline of the kernel's choice. It asks, and goes to sleep, under a lock that hook_wake() takes.
 * hook_thread() is a number of the running thread, not 0. By default they spin for 2^30 looks, and
 * the CPU stands for the thread. Context: of hook_wait() MAY_WAIT; of hook_wake() contexts that may
 * call the pager, and with set_waiting(true) any; nothing held. Of hook_thread() as hook_cpu(). */
bool slabmalloc_hook_wait(const slabmalloc_wait* condition) SLABMALLOC_NOEXCEPT;
void slabmalloc_hook_wake(void) SLABMALLOC_NOEXCEPT;
uintptr_t slabmalloc_hook_thread(void) SLABMALLOC_NOEXCEPT;

/* ---- pagers -------------------------------------------------------------------------------------
 * A source of frames: a kernel's own, or slabmalloc_frame_allocator_pager(). Each call receives
 * `argument`, on the CPU that called the library, with nothing held. */

typedef enum slabmalloc_use {
  SLABMALLOC_USE_NONE,  /* Nothing that the pager gives. */
  SLABMALLOC_USE_FREE,  /* Memory that the pager may give. */
  SLABMALLOC_USE_FRAME, /* A frame. */
  SLABMALLOC_USE_RUN    /* A run. */
} slabmalloc_use;

typedef struct slabmalloc_block {
  void* address; /* Of the frame or run; null without one. */
  size_t bytes;
  slabmalloc_use use;
} slabmalloc_block;

typedef struct slabmalloc_kernel_pager {
  void* argument;
  /* A frame of `bytes`, aligned to its size, or null. cpu_zones ask for 4 KiB and 64 KiB, caches
   * for powers of two from 4 to 64 KiB, paged_zones for 4 KiB, 64 KiB and 2 MiB. */
  void* (*allocate_frame)(void* argument, size_t bytes,
                          slabmalloc_context context)SLABMALLOC_NOEXCEPT;
  void (*deallocate_frame)(void* argument, void* frame, size_t bytes) SLABMALLOC_NOEXCEPT;
  /* A run of `bytes` at `alignment`, rounded up and aligned to 4 KiB, or null; false if it refused
   * a bad free. Both null: requests above the largest size class fail, and with them
   * slabmalloc_cache_create(): a cache is such a block. */
  void* (*allocate_run)(void* argument, size_t bytes, size_t alignment,
                        slabmalloc_context context)SLABMALLOC_NOEXCEPT;
  bool (*deallocate_run)(void* argument, void* run, size_t bytes) SLABMALLOC_NOEXCEPT;
  /* The frame or run around any address. Null: cpu_zones report the functions by an address alone
   * as misuse. */
  slabmalloc_block (*find)(void* argument, const void* address) SLABMALLOC_NOEXCEPT;
} slabmalloc_kernel_pager;

#ifdef __cplusplus
}
#endif

#endif
