// SPDX-License-Identifier: MIT
//
// The process heap of slabmalloc.h.
use crate::ffi::heap as ffi;
use crate::unwinding::without_unwinding;
use core::alloc::{GlobalAlloc, Layout};
use core::ffi::c_void;
use core::mem::transmute;
use core::sync::atomic::{AtomicPtr, Ordering};

/// The process heap: a value for `#[global_allocator]`.
///
/// A free states its size and alignment, which the heap checks. Each thread has free blocks of its
/// own, and any thread frees any block.
#[derive(Clone, Copy, Debug, Default)]
pub struct SlabMalloc;

// SAFETY: the heap gives each block to one client, at the size and alignment of the layout, and no
// function of it unwinds.
unsafe impl GlobalAlloc for SlabMalloc {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        unsafe { ffi::slabmalloc_allocate(layout.size(), layout.align()) }
    }
    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        unsafe { ffi::slabmalloc_deallocate(block, layout.size(), layout.align()) }
    }
    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        unsafe { ffi::slabmalloc_allocate_zeroed(layout.size(), layout.align()) }
    }
    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_bytes: usize) -> *mut u8 {
        unsafe { ffi::slabmalloc_reallocate(block, layout.size(), new_bytes, layout.align()) }
    }
}

/// Figures of the process heap.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Bytes of live blocks, rounded up to their size classes.
    pub used_bytes: usize,
    /// Bytes held for blocks, free or not.
    pub held_bytes: usize,
    /// The peak of `held_bytes`.
    pub held_bytes_high_water: usize,
    /// Blocks allocated since the start.
    pub allocations: usize,
    /// Blocks freed since the start.
    pub frees: usize,
    /// The frees among these by other threads than the owner.
    pub remote_frees: usize,
}

/// What was wrong with a call.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MisuseKind(u32);

impl MisuseKind {
    /// The block is free already.
    pub const DOUBLE_FREE: MisuseKind = MisuseKind(0);
    /// The address lies inside a block.
    pub const MISALIGNED_FREE: MisuseKind = MisuseKind(1);
    /// No block starts at the address.
    pub const FOREIGN_POINTER: MisuseKind = MisuseKind(2);
    /// The size belongs to another size class than the block.
    pub const SIZE_MISMATCH: MisuseKind = MisuseKind(3);
    /// A page is misaligned or in use already.
    pub const INVALID_PAGE: MisuseKind = MisuseKind(4);
    /// A write beyond the block.
    pub const OVERFLOW: MisuseKind = MisuseKind(5);
    /// A write into a freed block.
    pub const WRITE_AFTER_FREE: MisuseKind = MisuseKind(6);
    /// The free belongs to another kind of allocation.
    pub const MISMATCHED_FREE: MisuseKind = MisuseKind(7);
    /// A write before the block.
    pub const UNDERFLOW: MisuseKind = MisuseKind(8);
}

/// Receives a bad call, in the context of that call. It may use the process heap. If it returns,
/// the bad call does nothing; if it panics, the program ends.
pub type MisuseHandler = fn(MisuseKind, *const u8);

static HANDLER: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

extern "C" fn tell_handler(kind: MisuseKind, address: *const c_void) {
    let handler = HANDLER.load(Ordering::Acquire);
    if !handler.is_null() {
        // SAFETY: only set_misuse_handler() stores here.
        let handler: MisuseHandler = unsafe { transmute(handler) };
        without_unwinding(|| handler(kind, address.cast()));
    }
}

impl SlabMalloc {
    /// Figures of the heap; exact if no other thread allocates meanwhile.
    pub fn statistics() -> Statistics {
        let mut result = Statistics::default();
        // SAFETY: the pointer is valid for the call.
        unsafe { ffi::slabmalloc_process_statistics(&mut result) };
        result
    }

    /// Gives unused memory back to the operating system; returns its size in bytes.
    pub fn trim() -> usize {
        // SAFETY: any thread may call it at any time.
        unsafe { ffi::slabmalloc_trim() }
    }

    /// Guards one allocation in `one_in`, and one for each `mean_bytes` of small blocks, at random
    /// against wrong accesses; 0 for none of either kind.
    pub fn guard(one_in: usize, mean_bytes: usize) {
        // SAFETY: any thread may call it at any time.
        unsafe { ffi::slabmalloc_guard(one_in, mean_bytes) }
    }

    /// The usable bytes of a block; 0 for null.
    ///
    /// # Safety
    /// `block` is null or a live block of this heap.
    pub unsafe fn usable_size(block: *const u8) -> usize {
        unsafe { ffi::slabmalloc_usable_size(block) }
    }

    /// Replaces the handler of bad calls. `None` restores the default, which reports and aborts.
    pub fn set_misuse_handler(handler: Option<MisuseHandler>) {
        let address = handler.map_or(core::ptr::null_mut(), |function| function as *mut ());
        HANDLER.store(address, Ordering::Release);
        let own = handler.map(|_| tell_handler as ffi::Handler);
        // SAFETY: the handler is valid for ever, and does not unwind.
        unsafe { ffi::slabmalloc_set_misuse_handler(own) };
    }

    /// The version of the linked library, "MAJOR.MINOR.PATCH".
    pub fn version() -> &'static str {
        // SAFETY: it is a constant of ASCII letters that ends with a zero byte.
        unsafe {
            let first = ffi::slabmalloc_version();
            let bytes = (0..).take_while(|&at| *first.add(at) != 0).count();
            core::str::from_utf8_unchecked(core::slice::from_raw_parts(first, bytes))
        }
    }
}
