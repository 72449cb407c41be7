// SPDX-License-Identifier: MIT
//
// The first instructions of each CPU, and its exception vectors.

.macro to_record_of index
  adrp x11, processor_records
  add x11, x11, :lo12:processor_records
  add x11, x11, \index, lsl #6
  msr tpidr_el1, x11
.endm

.macro to_stack_of index
  mov x9, #SLABMALLOC_BOOT_STACK_BYTES
  add x10, \index, #1
  adrp x11, stacks
  add x11, x11, :lo12:stacks
  madd x9, x9, x10, x11
  mov sp, x9
.endm

// QEMU enters here, at EL1 with the MMU off; the device tree is at the beginning of memory.
.section .text.start, "ax"
.globl start
start:
  mov x0, xzr
  to_record_of x0
  to_stack_of x0
  b start_first

// CPU_ON enters here: x0 = the CPU's number, from start_cpu().
.text
.globl start_secondary
start_secondary:
  to_record_of x0
  to_stack_of x0
  b start_other

// The handler may change registers, so they are saved on the interrupted stack. x0: the vector.
.macro vector number, continue
  .balign 128
  stp x0, x1, [sp, #-160]!
  mov x0, #\number
  b \continue
.endm

interrupt:
  stp x2, x3, [sp, #16]
  stp x4, x5, [sp, #32]
  stp x6, x7, [sp, #48]
  stp x8, x9, [sp, #64]
  stp x10, x11, [sp, #80]
  stp x12, x13, [sp, #96]
  stp x14, x15, [sp, #112]
  stp x16, x17, [sp, #128]
  stp x18, x30, [sp, #144]
  bl handle_interrupt
  ldp x2, x3, [sp, #16]
  ldp x4, x5, [sp, #32]
  ldp x6, x7, [sp, #48]
  ldp x8, x9, [sp, #64]
  ldp x10, x11, [sp, #80]
  ldp x12, x13, [sp, #96]
  ldp x14, x15, [sp, #112]
  ldp x16, x17, [sp, #128]
  ldp x18, x30, [sp, #144]
  ldp x0, x1, [sp], #160
  eret

// Each of four origins has four kinds: synchronous, interrupt, fast interrupt, error. The second
// four are those of EL1 itself.
.balign 2048
.globl vectors
vectors:
  .set number, 0
  .rept 16
  .if number == 5
    vector 5, interrupt
  .else
    vector number, handle_exception
  .endif
  .set number, number + 1
  .endr
