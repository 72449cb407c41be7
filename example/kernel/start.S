# SPDX-License-Identifier: MIT
# The first instructions of each hart. tp becomes the number of the CPU, in the order of arrival. All
# harts enter here, since OpenSBI before 1.3 may start one before it has noted another address.
        .section .text.start, "ax"
        .global _start, memset, memcpy
_start: la      t0, harts
        li      t1, 1
        amoadd.w.aqrl tp, t1, (t0)
        li      t1, 1 << 13     # sstatus.FS: compilers may use floating-point registers.
        csrs    sstatus, t1
        sll     t1, tp, 14
        la      sp, stacks_end
        sub     sp, sp, t1
        bnez    tp, 1f
        mv      a0, a1
        call    start_kernel
1:      call    run_hart
2:      wfi; j  2b
# Compilers call these. Calls of memmove and memcmp would not link: here there are none.
memset: add     a2, a2, a0; mv t0, a0
1:      beq     t0, a2, 2f; sb a1, (t0); addi t0, t0, 1; j 1b
memcpy: add     a2, a2, a0; mv t0, a0
1:      beq     t0, a2, 2f; lb t1, (a1); sb t1, (t0); addi a1, a1, 1; addi t0, t0, 1; j 1b
2:      ret

        .bss
harts:  .balign 16; .space 16 + (8 << 14)       # And the stacks of Kernel::maximum_cpus.
stacks_end:
