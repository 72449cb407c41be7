// SPDX-License-Identifier: MIT
//
// A kernel's frames and its heap for all CPUs: slabmalloc_frame_allocator and slabmalloc_cpu_zones
// of kernel.h. They need all hooks of kernel_hooks.h.
use crate::ffi::zones as ffi;
use crate::zone_allocator::result_of;
use crate::AllocationError;
use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::ptr::{null_mut, NonNull};
use core::sync::atomic::{AtomicPtr, Ordering};

/// All page frames of a machine. Any CPU may use it, but no NMI.
pub struct FrameAllocator(UnsafeCell<ffi::Frames>);

// SAFETY: the allocator locks itself.
unsafe impl Sync for FrameAllocator {}
// SAFETY: it moves only before the first add().
unsafe impl Send for FrameAllocator {}

impl Default for FrameAllocator {
    fn default() -> Self {
        FrameAllocator::new()
    }
}

impl FrameAllocator {
    /// An allocator without memory.
    pub const fn new() -> FrameAllocator {
        let room = [0; ffi::FRAME_ALLOCATOR_BYTES - ffi::WORD];
        FrameAllocator(UnsafeCell::new(ffi::Frames { room, is_in_use: 0 }))
    }

    /// Adds the whole frames of a region.
    ///
    /// # Safety
    /// The memory is mapped, and nobody else's. The first call is before all others, and from it on
    /// the allocator must not move.
    pub unsafe fn add(&self, address: usize, bytes: usize) -> Result<(), AllocationError> {
        let region = ffi::Region { address, bytes };
        result_of(unsafe { ffi::slabmalloc_frame_allocator_add(self.0.get(), &region, 1) })
    }

    /// A frame of `bytes`, rounded up to a power of two and to 4 KiB, aligned to its size.
    pub fn allocate_frame(&self, bytes: usize) -> Option<NonNull<u8>> {
        // SAFETY: any CPU may call it.
        NonNull::new(unsafe {
            ffi::slabmalloc_frame_allocator_allocate_frame(self.0.get(), bytes).cast()
        })
    }

    /// Frees a frame.
    ///
    /// # Safety
    /// Nobody uses it, and `bytes` is the size of its allocation.
    pub unsafe fn deallocate_frame(&self, frame: NonNull<u8>, bytes: usize) {
        unsafe {
            ffi::slabmalloc_frame_allocator_deallocate_frame(
                self.0.get(),
                frame.as_ptr().cast(),
                bytes,
            )
        }
    }

    /// Bytes of all frames and runs in use.
    pub fn used_bytes(&self) -> usize {
        // SAFETY: any CPU may call it.
        unsafe { ffi::slabmalloc_frame_allocator_counters(self.0.get()).used_bytes }
    }
}

/// The ways in which a call may get memory or give it back.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// Threads: searches all memory.
    MayWait = 0,
    /// The same in bounded time.
    MayNotWait = 1,
    /// Interrupt handlers and NMIs: what their CPU has at hand.
    Interrupt = 2,
    /// The same, plus reserved frames.
    Emergency = 3,
}

/// A heap of all sizes for all CPUs: a value for `#[global_allocator]` of a kernel.
///
/// As a `GlobalAlloc` it allocates and frees in [`Context::MayWait`]. Before
/// [`start`](KernelHeap::start) every allocation fails.
pub struct KernelHeap(AtomicPtr<c_void>);

impl Default for KernelHeap {
    fn default() -> Self {
        KernelHeap::new()
    }
}

impl KernelHeap {
    /// A heap without memory.
    pub const fn new() -> KernelHeap {
        KernelHeap(AtomicPtr::new(null_mut()))
    }

    /// Starts the heap over `frames`, which also holds its meta-data, of about 11 KiB a CPU.
    ///
    /// # Safety
    /// It is the first call, and one CPU makes it once.
    pub unsafe fn start(&self, frames: &'static FrameAllocator) -> Result<(), AllocationError> {
        unsafe {
            let bytes = ffi::slabmalloc_cpu_zones_bytes();
            let memory = frames.allocate_frame(bytes).ok_or(AllocationError::OutOfMemory)?;
            let pager = ffi::slabmalloc_frame_allocator_pager(frames.0.get());
            let name = b"heap\0".as_ptr();
            let zones = ffi::slabmalloc_cpu_zones_create(memory.as_ptr().cast(), name, &pager);
            self.0.store(zones, Ordering::Release);
        }
        Ok(())
    }

    /// Allocates a block.
    pub fn allocate(&self, layout: Layout, context: Context) -> Option<NonNull<u8>> {
        let (bytes, alignment) = (layout.size(), layout.align());
        let zones = NonNull::new(self.0.load(Ordering::Acquire))?;
        // SAFETY: the heap has started. Any CPU may call it.
        NonNull::new(unsafe {
            ffi::slabmalloc_cpu_zones_allocate(zones.as_ptr(), bytes, alignment, context as u32)
        })
    }

    /// Frees a block, on any CPU.
    ///
    /// # Safety
    /// It is a live block of this heap, and `layout` that of its allocation.
    pub unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout, context: Context) {
        let (bytes, alignment) = (layout.size(), layout.align());
        let zones = self.0.load(Ordering::Acquire);
        unsafe {
            ffi::slabmalloc_cpu_zones_deallocate(
                zones,
                block.as_ptr(),
                bytes,
                alignment,
                context as u32,
            )
        }
    }

    /// Gives all empty frames back, and returns the bytes of the others: 0 if all was freed.
    ///
    /// # Safety
    /// Nobody else uses the heap, which has started.
    pub unsafe fn drain_all(&self) -> usize {
        unsafe { ffi::slabmalloc_cpu_zones_drain_all(self.0.load(Ordering::Acquire)) }
    }
}

// SAFETY: the heap gives each block to one client, at the size and alignment of the layout.
unsafe impl GlobalAlloc for KernelHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.allocate(layout, Context::MayWait).map_or(null_mut(), NonNull::as_ptr)
    }
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as of this function; a block is not null.
        unsafe { self.deallocate(NonNull::new_unchecked(block), layout, Context::MayWait) }
    }
}
