// SPDX-License-Identifier: MIT
//
// Allocations of all sizes from pages of the client: slabmalloc_zone_allocator of kernel.h.
use crate::ffi::zones as ffi;
use crate::unwinding::without_unwinding;
use crate::{LargeObjectPage, ObjectPage};
use core::alloc::Layout;
use core::ffi::c_void;
use core::marker::PhantomData;
use core::ptr::NonNull;

/// Why an allocator did not serve a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllocationError {
    /// Nothing is free: refill and try again.
    OutOfMemory,
    /// The allocator never serves that layout, or never on a page of that size.
    InvalidLayout,
}

pub(crate) fn error_of(code: u32) -> AllocationError {
    if code == ffi::OUT_OF_MEMORY {
        AllocationError::OutOfMemory
    } else {
        AllocationError::InvalidLayout
    }
}

pub(crate) fn result_of(code: u32) -> Result<(), AllocationError> {
    if code == ffi::OK {
        Ok(())
    } else {
        Err(error_of(code))
    }
}

/// Figures of an allocator.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bytes of the slots of live objects.
    pub used_bytes: usize,
    /// Bytes of all pages.
    pub page_bytes: usize,
    /// Objects allocated.
    pub allocations: usize,
    /// Objects freed.
    pub frees: usize,
    /// The frees among these by [`ZoneAllocator::deallocate_remote`].
    pub remote_frees: usize,
    /// Pages taken in.
    pub refills: usize,
    /// Pages given up.
    pub reclaims: usize,
}

/// An allocator that gets its memory as pages.
///
/// # Safety
/// A block is at least as large and aligned as its layout, and nobody else's until its free.
pub unsafe trait Allocator<'a> {
    /// Allocates a block.
    fn allocate(&mut self, layout: Layout) -> Result<NonNull<u8>, AllocationError>;
    /// Frees a block of this allocator; `layout` is that of its allocation.
    fn deallocate(&mut self, ptr: NonNull<u8>, layout: Layout) -> Result<(), AllocationError>;
    /// Gives a page to the size class of `layout`.
    ///
    /// # Safety
    /// As of [`refill`](Allocator::refill).
    unsafe fn refill_large(
        &mut self,
        layout: Layout,
        new_page: &'a mut LargeObjectPage<'a>,
    ) -> Result<(), AllocationError>;
    /// Gives a page to the size class of `layout`.
    ///
    /// # Safety
    /// No allocator has the page. From this call on the allocator must not move.
    unsafe fn refill(
        &mut self,
        layout: Layout,
        new_page: &'a mut ObjectPage<'a>,
    ) -> Result<(), AllocationError>;
}

/// Allocates every size up to [`MAX_ALLOC_SIZE`](ZoneAllocator::MAX_ALLOC_SIZE).
///
/// ```
/// # #[cfg(feature = "hooks")] {
/// use core::alloc::Layout;
/// use slabmalloc::{AllocationError, Allocator, ObjectPage, ZoneAllocator};
///
/// let layout = Layout::from_size_align(12, 4).unwrap();
/// let mut zone = ZoneAllocator::new();
/// assert_eq!(zone.allocate(layout), Err(AllocationError::OutOfMemory));
/// let page = Box::leak(Box::new(ObjectPage::default()));
/// // SAFETY: the page is new, and the zone stays in its place.
/// unsafe { zone.refill(layout, page) }.unwrap();
/// let block = zone.allocate(layout).unwrap();
/// zone.deallocate(block, layout).unwrap();
/// # }
/// ```
#[repr(transparent)]
pub struct ZoneAllocator<'a> {
    zone: ffi::Zone,
    // Invariant in 'a, as `&'a mut ObjectPage<'a>`, which no constant function may name.
    pages: PhantomData<*mut &'a ()>,
}

// SAFETY: the zone has its pages for itself; shared references give no access to them.
unsafe impl<'a> Send for ZoneAllocator<'a> {}
unsafe impl<'a> Sync for ZoneAllocator<'a> {}

impl<'a> Default for ZoneAllocator<'a> {
    fn default() -> Self {
        ZoneAllocator::new()
    }
}

impl<'a> ZoneAllocator<'a> {
    /// The largest size of a block: on pages of 2 MiB.
    pub const MAX_ALLOC_SIZE: usize = ffi::MAX_ALLOC_SIZE;
    /// The largest size of a block on pages of 4 KiB.
    pub const MAX_BASE_ALLOC_SIZE: usize = ffi::MAX_BASE_ALLOC_SIZE;

    /// An allocator without pages. All its bytes are zero, so a static takes no room in an image.
    pub const fn new() -> ZoneAllocator<'a> {
        ZoneAllocator {
            zone: ffi::Zone { room: [0; ffi::ZONE_ALLOCATOR_BYTES - ffi::WORD], is_in_use: 0 },
            pages: PhantomData,
        }
    }

    /// The largest size that fits the slot of a block of `current_size`.
    pub fn get_max_size(current_size: usize) -> Option<usize> {
        // SAFETY: the function computes a number.
        Some(unsafe { ffi::slabmalloc_get_max_size(current_size) }).filter(|&bytes| bytes != 0)
    }

    /// The bytes of the pages for `layout`: [`refill`](Allocator::refill) takes 4 KiB,
    /// [`refill_large`](Allocator::refill_large) 2 MiB.
    pub fn page_bytes(layout: Layout) -> Option<usize> {
        // SAFETY: the function computes a number.
        let bytes =
            unsafe { ffi::slabmalloc_zone_allocator_page_bytes(layout.size(), layout.align()) };
        Some(bytes).filter(|&bytes| bytes != 0)
    }

    /// Frees a block of any zone, from any thread, without a lock.
    ///
    /// # Safety
    /// The block is live, of that layout, and its zone has not been dropped.
    pub unsafe fn deallocate_remote(ptr: NonNull<u8>, layout: Layout) {
        let (bytes, alignment) = (layout.size(), layout.align());
        unsafe { ffi::slabmalloc_zone_allocator_deallocate_remote(ptr.as_ptr(), bytes, alignment) }
    }

    /// Takes at most `to_reclaim` empty pages of 4 KiB out, and gives each to `dealloc`.
    pub fn try_reclaim_base_pages<F>(&mut self, to_reclaim: usize, mut dealloc: F)
    where
        F: FnMut(*mut ObjectPage<'_>),
    {
        let mut give = |page: *mut c_void| dealloc(page.cast());
        if self.has_had_pages() {
            // SAFETY: see reclaim(); the zone has not moved since its refill().
            unsafe {
                reclaim(&mut give, |callback, argument| {
                    ffi::slabmalloc_zone_allocator_try_reclaim_base_pages(
                        &mut self.zone,
                        to_reclaim,
                        callback,
                        argument,
                    )
                });
            }
        }
    }

    /// Takes at most `to_reclaim` empty pages of 2 MiB out, and gives each to `dealloc`.
    pub fn try_reclaim_large_pages<F>(&mut self, to_reclaim: usize, mut dealloc: F)
    where
        F: FnMut(*mut LargeObjectPage<'_>),
    {
        let mut give = |page: *mut c_void| dealloc(page.cast());
        if self.has_had_pages() {
            // SAFETY: see reclaim(); the zone has not moved since its refill().
            unsafe {
                reclaim(&mut give, |callback, argument| {
                    ffi::slabmalloc_zone_allocator_try_reclaim_large_pages(
                        &mut self.zone,
                        to_reclaim,
                        callback,
                        argument,
                    )
                });
            }
        }
    }

    /// Figures of the zone.
    pub fn counters(&mut self) -> Counters {
        if !self.has_had_pages() {
            return Counters::default();
        }
        // SAFETY: the zone has not moved since its refill().
        unsafe { ffi::slabmalloc_zone_allocator_counters(&mut self.zone) }
    }

    /// False until the first refill(). Until then no call brings the zone into use, so it may move.
    fn has_had_pages(&self) -> bool {
        self.zone.is_in_use != 0
    }
}

// SAFETY: the zone sees to it.
unsafe impl<'a> Allocator<'a> for ZoneAllocator<'a> {
    fn allocate(&mut self, layout: Layout) -> Result<NonNull<u8>, AllocationError> {
        if !self.has_had_pages() {
            let served = Self::page_bytes(layout).is_some();
            return Err(error_of(served as u32 * ffi::OUT_OF_MEMORY));
        }
        let mut error = ffi::OK;
        let (bytes, alignment) = (layout.size(), layout.align());
        // SAFETY: the zone has not moved since its refill().
        let block = unsafe {
            ffi::slabmalloc_zone_allocator_allocate(&mut self.zone, bytes, alignment, &mut error)
        };
        NonNull::new(block).ok_or_else(|| error_of(error))
    }

    fn deallocate(&mut self, ptr: NonNull<u8>, layout: Layout) -> Result<(), AllocationError> {
        if !self.has_had_pages() || Self::page_bytes(layout).is_none() {
            return Err(AllocationError::InvalidLayout);
        }
        let (bytes, alignment) = (layout.size(), layout.align());
        // SAFETY: the zone has not moved since its refill().
        unsafe {
            ffi::slabmalloc_zone_allocator_deallocate(
                &mut self.zone,
                ptr.as_ptr(),
                bytes,
                alignment,
            )
        };
        Ok(())
    }

    unsafe fn refill(
        &mut self,
        layout: Layout,
        new_page: &'a mut ObjectPage<'a>,
    ) -> Result<(), AllocationError> {
        let page: *mut ObjectPage<'a> = new_page;
        let (bytes, alignment) = (layout.size(), layout.align());
        result_of(unsafe {
            ffi::slabmalloc_zone_allocator_refill(&mut self.zone, bytes, alignment, page.cast())
        })
    }

    unsafe fn refill_large(
        &mut self,
        layout: Layout,
        new_page: &'a mut LargeObjectPage<'a>,
    ) -> Result<(), AllocationError> {
        let page: *mut LargeObjectPage<'a> = new_page;
        let (bytes, alignment) = (layout.size(), layout.align());
        result_of(unsafe {
            ffi::slabmalloc_zone_allocator_refill_large(
                &mut self.zone,
                bytes,
                alignment,
                page.cast(),
            )
        })
    }
}

/// Calls `call` with a callback of C that passes each page to `give`.
///
/// # Safety
/// `call` uses the callback only with its argument, and only until it returns.
pub(crate) unsafe fn reclaim<G: FnMut(*mut c_void)>(
    give: &mut G,
    call: impl FnOnce(ffi::PageCallback, *mut c_void) -> usize,
) -> usize {
    unsafe extern "C" fn callback<G: FnMut(*mut c_void)>(argument: *mut c_void, page: *mut c_void) {
        // SAFETY: `argument` is the reference below.
        without_unwinding(|| unsafe { (*argument.cast::<G>())(page) });
    }
    let argument: *mut G = give;
    call(callback::<G>, argument.cast())
}
