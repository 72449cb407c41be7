// SPDX-License-Identifier: MIT
//
// QEMU's machine `pc` with one CPU: the first instructions in 64-bit mode, the console, the memory
// map of the PVH loader, interrupts, the end, and the functions of memory that compilers call.
use core::arch::{asm, global_asm};
use core::fmt;

// boot/x86_64/start.S calls this with the start info in rdi. Debian's libcore uses SSE.
global_asm!(
    ".globl start_first, start_other, stacks",
    "start_first:",
    "mov rax, cr0",
    "and rax, -5", // no emulation
    "or rax, 2",   // monitor coprocessor
    "mov cr0, rax",
    "mov rax, cr4",
    "or rax, 0x600", // FXSAVE, SSE exceptions
    "mov cr4, rax",
    "jmp kernel_main", // with the stack as this call left it
    "start_other:",
    "hlt",
    "jmp start_other",
    ".globl memcpy, memmove, memset, memcmp, bcmp",
    "memcpy:",
    "mov rax, rdi",
    "mov rcx, rdx",
    "rep movsb",
    "ret",
    "memmove:",
    "mov rcx, rdi",
    "sub rcx, rsi",
    "cmp rcx, rdx",
    "jae memcpy",
    "mov rax, rdi",
    "mov rcx, rdx",
    "lea rdi, [rdi + rdx - 1]",
    "lea rsi, [rsi + rdx - 1]",
    "std",
    "rep movsb",
    "cld",
    "ret",
    "memset:",
    "mov r8, rdi",
    "mov eax, esi",
    "mov rcx, rdx",
    "rep stosb",
    "mov rax, r8",
    "ret",
    "memcmp:",
    "bcmp:",
    "xor eax, eax",
    "mov rcx, rdx",
    "cmp rcx, rcx",
    "repe cmpsb",
    "je 2f",
    "movzx eax, byte ptr [rdi - 1]",
    "movzx ecx, byte ptr [rsi - 1]",
    "sub eax, ecx",
    "2: ret",
    ".section .bss.stacks, \"aw\", @nobits",
    ".balign 16",
    "stacks: .skip 65536",
    ".text",
);

fn write_port(port: u16, value: u8) {
    // SAFETY: the machine has these ports.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack)) };
}

/// The first serial port.
pub struct Console;

impl fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(|byte| write_port(0x3f8, byte));
        Ok(())
    }
}

/// Ends the emulator with the status 2 * `status` + 1.
pub fn end(status: u8) -> ! {
    write_port(0xf4, status);
    loop {
        // SAFETY: interrupts are disabled, so the CPU rests.
        unsafe { asm!("hlt") };
    }
}

/// Free memory above the image, as addresses and bytes.
///
/// # Safety
/// `start_info` is that of the PVH loader.
pub unsafe fn memory_map(start_info: *const u8) -> impl Iterator<Item = (usize, usize)> {
    extern "C" {
        static image_end: u8;
    }
    // SAFETY: see above; the linker script defines image_end.
    let (map, count, end) = unsafe {
        let map = start_info.add(40).cast::<*const [u64; 3]>().read();
        let count = start_info.add(48).cast::<u32>().read() as usize;
        (map, count, core::ptr::addr_of!(image_end) as usize)
    };
    (0..count).filter_map(move |at| {
        // SAFETY: the map has that many entries: address, bytes, kind.
        let [address, bytes, kind] = unsafe { *map.add(at) };
        let first = core::cmp::max(address as usize, end);
        let last = (address + bytes) as usize;
        (kind as u32 == 1 && first < last).then(|| (first, last - first))
    })
}

// ---- hooks of a machine with one CPU ------------------------------------------------------------

#[no_mangle]
extern "C" fn slabmalloc_hook_cpu() -> u32 {
    0
}
#[no_mangle]
extern "C" fn slabmalloc_hook_save_interrupts() -> usize {
    let flags: usize;
    // SAFETY: restore_interrupts() follows.
    unsafe { asm!("pushfq", "pop {}", "cli", out(reg) flags) };
    flags
}
#[no_mangle]
extern "C" fn slabmalloc_hook_restore_interrupts(flags: usize) {
    // SAFETY: the flags are those of save_interrupts().
    unsafe { asm!("push {}", "popfq", in(reg) flags) };
}

// Debian's liballoc is compiled to unwind, which this kernel never does.
#[no_mangle]
extern "C" fn rust_eh_personality() {}
#[no_mangle]
extern "C" fn _Unwind_Resume() -> ! {
    panic!("unwinding")
}
