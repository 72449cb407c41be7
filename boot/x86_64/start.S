# SPDX-License-Identifier: MIT
#
# The first instructions of each CPU, up to 64-bit code on a stack of its own.
#
#   CPU 0    32-bit protected mode, by the PVH note; ebx = start_info
#   others   16-bit real mode, at the page with start_cpu()'s copy of the trampoline; the CPU's
#            number is at the end of the page
#
# Every address is mapped to itself.

.set present_writable, 0x3
.set block, 0x80

.set cr0_protected_paged, 0x80010001    # paging, write protection in kernel mode too, protected mode
.set cr4_physical_address_extension, 0x20
.set msr_efer, 0xc0000080
.set efer_long_mode, 0x100

.set code_selector, 8
.set data_selector, 16

# The entry for PVH loaders: Xen's note 18, XEN_ELFNOTE_PHYS32_ENTRY.
.section .note.pvh, "a", @note
.balign 4
.long 4, 8, 18
.asciz "Xen"
.quad start

.macro enter_long_mode
  movl $cr4_physical_address_extension, %eax
  movl %eax, %cr4
  movl $level4, %eax
  movl %eax, %cr3
  movl $msr_efer, %ecx
  movl $efer_long_mode, %eax
  xorl %edx, %edx
  wrmsr
  movl $cr0_protected_paged, %eax
  movl %eax, %cr0
.endm

.section .text.start, "ax"
.code32
.globl start
start:
  cli
  movl %ebx, %edi
  lgdt descriptor_table_pointer
  enter_long_mode
  ljmp $code_selector, $start64

.code64
start64:
  movw $data_selector, %ax
  movw %ax, %ds
  movw %ax, %es
  movw %ax, %ss
  movl $stacks + SLABMALLOC_BOOT_STACK_BYTES, %esp
  movl %edi, %edi
  call start_first

# edi: its number
start64_secondary:
  movw $data_selector, %ax
  movw %ax, %ds
  movw %ax, %es
  movw %ax, %ss
  leal 1(%rdi), %esp
  imull $SLABMALLOC_BOOT_STACK_BYTES, %esp, %esp
  addl $stacks, %esp
  call start_other

# start_cpu() copies this to a page below 1 MiB. It runs there with cs = the page's segment, ip = 0.
.code16
.globl trampoline_start, trampoline_end
trampoline_start:
  cli
  movw %cs, %ax
  movw %ax, %ds
  movl 0xffc, %edi
  lgdtl descriptor_table_pointer_copy - trampoline_start
  enter_long_mode
  ljmpl $code_selector, $start64_secondary
descriptor_table_pointer_copy:
  .word descriptor_table_end - descriptor_table - 1
  .long descriptor_table
trampoline_end:

.section .data.start, "aw"
.balign 8
descriptor_table:
  .quad 0
  .quad 0x00af9a000000ffff              # code, 64 bits
  .quad 0x00cf92000000ffff              # data
descriptor_table_end:
descriptor_table_pointer:
  .word descriptor_table_end - descriptor_table - 1
  .long descriptor_table

# 512 GiB. The first 2 MiB are in pages of 4 KiB, so that address 0 can be unmapped. The rest of the
# first GiB is in blocks of 2 MiB, everything else in blocks of 1 GiB.
.globl level1
.balign 4096
level4:
  .quad level3 + present_writable
  .fill 511, 8, 0
level3:
  .quad level2 + present_writable
  .set address, 1 << 30
  .rept 511
  .quad address + block + present_writable
  .set address, address + (1 << 30)
  .endr
level2:
  .quad level1 + present_writable
  .set address, 2 << 20
  .rept 511
  .quad address + block + present_writable
  .set address, address + (2 << 20)
  .endr
level1:
  .set address, 0
  .rept 512
  .quad address + present_writable
  .set address, address + 4096
  .endr
