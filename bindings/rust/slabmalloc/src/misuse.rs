// SPDX-License-Identifier: MIT
//
// A bad call, as slabmalloc_hook_misuse() receives it, and lines of the library.

/// A bad call of a kernel's client: slabmalloc_misuse of kernel_hooks.h.
#[repr(C)]
#[derive(Debug)]
pub struct Misuse {
    reason: u32,
    state: u32,
    /// The address in the call.
    pub address: *const u8,
    /// The first byte of the block there; null if it is not known.
    pub block: *const u8,
    /// Bytes of a slot of its page; 0 if it has no page.
    pub object_bytes: usize,
    /// The size in the call, where that is wrong; else 0.
    pub given_bytes: usize,
    /// An earlier call on any CPU was bad; this one delivers its free.
    pub is_late: bool,
}

extern "C" {
    fn slabmalloc_describe_misuse(reason: u32) -> *const u8;
}

impl Misuse {
    /// The reason, in words.
    pub fn reason(&self) -> &'static str {
        // SAFETY: the library returns constant lines.
        unsafe { line(slabmalloc_describe_misuse(self.reason)) }
    }
}

/// The text of a line that the library passes to a hook.
///
/// # Safety
/// `first` points to bytes that end with a zero byte, and live as long as `'a`.
pub unsafe fn line<'a>(first: *const u8) -> &'a str {
    // SAFETY: see above.
    let bytes = unsafe {
        let count = (0..).take_while(|&at| *first.add(at) != 0).count();
        core::slice::from_raw_parts(first, count)
    };
    core::str::from_utf8(bytes).unwrap_or("a line that is not UTF-8")
}
