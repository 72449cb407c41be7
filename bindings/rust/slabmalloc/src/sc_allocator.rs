// SPDX-License-Identifier: MIT
//
// Objects of one size on pages of one type: slabmalloc_sc_allocator of kernel.h.
use crate::ffi::zones as ffi;
use crate::zone_allocator::{error_of, reclaim, result_of};
use crate::{AllocablePage, AllocationError, Counters};
use core::alloc::Layout;
use core::ffi::c_void;
use core::marker::PhantomData;
use core::ptr::NonNull;

/// Allocates objects of one size, and smaller ones in slots of that size.
///
/// Slots are aligned as [`with_alignment`](SCAllocator::with_alignment) says. Without it they have
/// the largest power of two that divides the size, at least 8, and at most a 64th of the page.
/// Before the first page, [`allocate`](SCAllocator::allocate) with a larger alignment raises it.
pub struct SCAllocator<'a, P: AllocablePage> {
    sizes: ffi::Sizes,
    // Invariant in 'a and P, as `&'a mut P`, which no constant function may name.
    pages: PhantomData<*mut &'a P>,
}

// SAFETY: the allocator has its pages for itself; shared references give no access to them.
unsafe impl<'a, P: AllocablePage + Send> Send for SCAllocator<'a, P> {}
unsafe impl<'a, P: AllocablePage + Sync> Sync for SCAllocator<'a, P> {}

impl<'a, P: AllocablePage> SCAllocator<'a, P> {
    /// An allocator without pages.
    pub const fn new(size: usize) -> SCAllocator<'a, P> {
        let natural = if size == 0 { 1 } else { 1 << size.trailing_zeros() };
        let most = P::SIZE / 64;
        let most = if natural < most { natural } else { most };
        Self::with_alignment(size, if most > 8 { most } else { 8 })
    }

    /// An allocator without pages, whose slots are aligned to `alignment`, a power of two.
    pub const fn with_alignment(size: usize, alignment: usize) -> SCAllocator<'a, P> {
        assert!(alignment.is_power_of_two());
        assert!(P::SIZE == ffi::BASE_PAGE || P::SIZE == ffi::LARGE_PAGE);
        SCAllocator {
            sizes: ffi::Sizes {
                room: [0; ffi::SC_ALLOCATOR_BYTES - 4 * ffi::WORD],
                object_bytes: size,
                alignment,
                page_bytes: P::SIZE,
                is_in_use: 0,
            },
            pages: PhantomData,
        }
    }

    /// The largest size that it serves.
    pub fn size(&self) -> usize {
        self.sizes.object_bytes
    }

    /// Allocates an object.
    pub fn allocate(&mut self, layout: Layout) -> Result<NonNull<u8>, AllocationError> {
        let (bytes, alignment) = (layout.size(), layout.align());
        if !self.has_had_pages() {
            if bytes > self.size() || core::cmp::max(self.size(), alignment) >= P::SIZE {
                return Err(AllocationError::InvalidLayout);
            }
            self.sizes.alignment = core::cmp::max(self.sizes.alignment, alignment);
            return Err(AllocationError::OutOfMemory);
        }
        let mut error = ffi::OK;
        // SAFETY: the allocator has not moved since its refill().
        let object = unsafe {
            ffi::slabmalloc_sc_allocator_allocate(&mut self.sizes, bytes, alignment, &mut error)
        };
        NonNull::new(object).ok_or_else(|| error_of(error))
    }

    /// Frees an object of this allocator; `layout` is that of its allocation.
    pub fn deallocate(&mut self, ptr: NonNull<u8>, layout: Layout) -> Result<(), AllocationError> {
        let (bytes, alignment) = (layout.size(), layout.align());
        if !self.has_had_pages() || bytes > self.size() || alignment > self.sizes.alignment {
            return Err(AllocationError::InvalidLayout);
        }
        let object = ptr.as_ptr();
        // SAFETY: the allocator has not moved since its refill().
        unsafe {
            ffi::slabmalloc_sc_allocator_deallocate(&mut self.sizes, object, bytes, alignment)
        };
        Ok(())
    }

    /// Gives it an empty page. Panics if no object fits a page.
    ///
    /// # Safety
    /// No allocator has the page. From this call on the allocator must not move.
    pub unsafe fn refill(&mut self, page: &'a mut P) {
        let page: *mut P = page;
        let code = unsafe { ffi::slabmalloc_sc_allocator_refill(&mut self.sizes, page.cast()) };
        result_of(code).expect("an object that fits a page");
    }

    /// Takes at most `to_reclaim` empty pages out, gives each to `dealloc`, and returns how many.
    pub fn try_reclaim_pages<F>(&mut self, to_reclaim: usize, dealloc: &mut F) -> usize
    where
        F: FnMut(*mut P),
    {
        if !self.has_had_pages() {
            return 0;
        }
        let mut give = |page: *mut c_void| dealloc(page.cast());
        // SAFETY: see reclaim(); the allocator has not moved since its refill().
        unsafe {
            reclaim(&mut give, |callback, argument| {
                ffi::slabmalloc_sc_allocator_try_reclaim_pages(
                    &mut self.sizes,
                    to_reclaim,
                    callback,
                    argument,
                )
            })
        }
    }

    /// Figures of the allocator.
    pub fn counters(&mut self) -> Counters {
        if !self.has_had_pages() {
            return Counters::default();
        }
        // SAFETY: the allocator has not moved since its refill().
        unsafe { ffi::slabmalloc_sc_allocator_counters(&mut self.sizes) }
    }

    /// False until the first refill(). Until then no call brings it into use, so it may move.
    fn has_had_pages(&self) -> bool {
        self.sizes.is_in_use != 0
    }
}
