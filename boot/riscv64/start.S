# SPDX-License-Identifier: MIT
#
# The first instructions of each CPU, and where its traps arrive. Translation stays off (satp = 0): there is one page
# size, all memory is reachable as it is, and nothing is mapped at address 0, so a null pointer faults all the same.

# Every hart enters here, a0 = hart: the first from OpenSBI, with a1 = device tree; the others by hart_start, one after
# the other, so that counting them gives each its number. They are not given an address or an argument of their own:
# OpenSBI before 1.3 has a hart go before it has written down where to, and who is quick goes where the first one went.
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
