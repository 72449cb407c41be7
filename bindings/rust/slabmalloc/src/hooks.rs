// SPDX-License-Identifier: MIT
//
// The hooks that zones need, for programs. A bad free panics, as an assertion, and ends the
// program, since the panic cannot unwind through the library.
use crate::misuse::{line, Misuse};
use crate::unwinding::without_unwinding;

#[no_mangle]
extern "C" fn slabmalloc_hook_misuse(misuse: &Misuse) {
    without_unwinding(|| panic!("slabmalloc: {} at {:p}", misuse.reason(), misuse.address));
}

#[no_mangle]
unsafe extern "C" fn slabmalloc_hook_panic(text: *const u8) -> ! {
    // SAFETY: the library passes a line.
    let text = unsafe { line(text) };
    without_unwinding(|| panic!("slabmalloc: {text}"))
}
