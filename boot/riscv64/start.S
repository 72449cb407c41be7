# SPDX-License-Identifier: MIT
#
# The first instructions of each CPU, and its trap vector. Translation stays off (satp = 0). So
# there is one page size, and all memory is reachable as it is. A null pointer faults all the same,
# because nothing is mapped at address 0.

# Every hart enters here, a0 = hart. OpenSBI starts the first, with a1 = device tree. hart_start
# starts the others, one after the other, so that a count gives each its number. They have no
# address or argument of their own. OpenSBI before 1.3 lets a hart run before it has stored its
# address, so that a fast hart starts where the first one did.
.section .text.start, "ax"
.globl start
start:
  la t0, harts_so_far
  li t1, 1
  amoadd.w.aqrl t2, t1, (t0)
  la tp, processor_records
  slli t0, t2, 6
  add tp, tp, t0
  la sp, stacks
  li t1, SLABMALLOC_BOOT_STACK_BYTES
  add sp, sp, t1
  mul t1, t1, t2
  add sp, sp, t1
  bnez t2, 1f
  tail start_first
1:
  tail start_other

.section .bss
.balign 4
harts_so_far:
  .skip 4

.text
# All traps. The handler may change registers, so they are saved on the interrupted stack.
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
