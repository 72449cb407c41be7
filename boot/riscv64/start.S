# SPDX-License-Identifier: MIT
#
# The first instructions of each CPU, and where its traps arrive. Translation stays off (satp = 0): there is one page
# size, all memory is reachable as it is, and nothing is mapped at address 0, so a null pointer faults all the same.

.macro to_stack_of index, scratch
  la sp, stacks
  li \scratch, SLABMALLOC_BOOT_STACK_BYTES
  add sp, sp, \scratch
  mul \scratch, \scratch, \index
  add sp, sp, \scratch
.endm

# OpenSBI enters here: a0 = hart, a1 = device tree.
.section .text.start, "ax"
.globl start
start:
  mv tp, zero
  to_stack_of tp, t0
  tail start_first

# hart_start enters here: a0 = hart, a1 = what start_cpu() passed on, the CPU's number.
.text
.globl start_secondary
start_secondary:
  mv tp, a1
  to_stack_of tp, t0
  tail start_other

# All traps. What the handler may change is kept on the stack of whatever was interrupted.
.balign 4
.globl trap_entry
trap_entry:
  addi sp, sp, -128
  .set slot, 0
  .irp register, ra, t0, t1, t2, t3, t4, t5, t6, a0, a1, a2, a3, a4, a5, a6, a7
  sd \register, slot(sp)
  .set slot, slot + 8
  .endr
  csrr a0, scause
  csrr a1, sepc
  csrr a2, stval
  call handle_trap
  .set slot, 0
  .irp register, ra, t0, t1, t2, t3, t4, t5, t6, a0, a1, a2, a3, a4, a5, a6, a7
  ld \register, slot(sp)
  .set slot, slot + 8
  .endr
  addi sp, sp, 128
  sret
