// SPDX-License-Identifier: MIT
//
// The hooks that zones need, for programs. A bad free panics, as an assertion, and ends the program:
// the panic cannot unwind through the library.
use crate::unwinding::without_unwinding;

/// The first fields of slabmalloc_misuse.
#[repr(C)]
struct Misuse {
    reason: u32,
    state: u32,
    address: *const u8,
}

extern "C" {
    fn slabmalloc_describe_misuse(reason: u32) -> *const u8;
}

/// # Safety
/// `line` ends with a zero byte.
unsafe fn text<'a>(line: *const u8) -> &'a str {
    unsafe {
        let bytes = (0..).take_while(|&at| *line.add(at) != 0).count();
        core::str::from_utf8(core::slice::from_raw_parts(line, bytes)).unwrap_or("?")
    }
}

#[no_mangle]
unsafe extern "C" fn slabmalloc_hook_misuse(misuse: *const Misuse) {
    // SAFETY: the library passes a valid pointer.
    let (what, address) =
        unsafe { (text(slabmalloc_describe_misuse((*misuse).reason)), (*misuse).address) };
    without_unwinding(|| panic!("slabmalloc: {what} at {address:p}"));
}

#[no_mangle]
unsafe extern "C" fn slabmalloc_hook_panic(line: *const u8) -> ! {
    // SAFETY: the library passes a line.
    let line = unsafe { text(line) };
    without_unwinding(|| panic!("slabmalloc: {line}"))
}
