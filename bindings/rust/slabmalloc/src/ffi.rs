// SPDX-License-Identifier: MIT
//
// The functions of slabmalloc.h and kernel.h, and the sizes of their types.

#[cfg(feature = "heap")]
pub mod heap {
    use crate::{MisuseKind, Statistics};
    use core::ffi::c_void;

    pub type Handler = extern "C" fn(MisuseKind, *const c_void);

    extern "C" {
        pub fn slabmalloc_allocate(bytes: usize, alignment: usize) -> *mut u8;
        pub fn slabmalloc_allocate_zeroed(bytes: usize, alignment: usize) -> *mut u8;
        pub fn slabmalloc_reallocate(
            block: *mut u8,
            old_bytes: usize,
            new_bytes: usize,
            alignment: usize,
        ) -> *mut u8;
        pub fn slabmalloc_deallocate(block: *mut u8, bytes: usize, alignment: usize);
        pub fn slabmalloc_usable_size(block: *const u8) -> usize;
        pub fn slabmalloc_trim() -> usize;
        pub fn slabmalloc_guard(one_in: usize, mean_bytes: usize);
        pub fn slabmalloc_process_statistics(result: *mut Statistics);
        pub fn slabmalloc_set_misuse_handler(handler: Option<Handler>) -> Option<Handler>;
        pub fn slabmalloc_version() -> *const u8;
    }
}

#[cfg(feature = "zones")]
pub mod zones {
    use crate::Counters;
    use core::ffi::c_void;

    // The sizes of kernel.h, as constants.
    include!(concat!(env!("OUT_DIR"), "/constants.rs"));

    pub const OK: u32 = 0;
    pub const OUT_OF_MEMORY: u32 = 1;

    #[repr(C, align(64))]
    pub struct Zone {
        pub room: [u8; ZONE_ALLOCATOR_BYTES - WORD],
        pub is_in_use: usize,
    }

    #[repr(C, align(64))]
    pub struct Sizes {
        pub room: [u8; SC_ALLOCATOR_BYTES - 4 * WORD],
        pub object_bytes: usize,
        pub alignment: usize,
        pub page_bytes: usize,
        pub is_in_use: usize,
    }

    #[repr(C, align(8))]
    pub struct Frames {
        pub room: [u8; FRAME_ALLOCATOR_BYTES - WORD],
        pub is_in_use: usize,
    }

    #[repr(C)]
    pub struct Region {
        pub address: usize,
        pub bytes: usize,
    }

    #[repr(C)]
    pub struct FrameCounters {
        pub managed_bytes: usize,
        pub free_bytes: usize,
        pub used_bytes: usize,
        pub others: [usize; 5],
    }

    /// The argument and the functions of a slabmalloc_kernel_pager.
    #[repr(C)]
    pub struct Pager([*mut c_void; 6]);

    pub const WORD: usize = core::mem::size_of::<usize>();

    pub type PageCallback = unsafe extern "C" fn(*mut c_void, *mut c_void);

    extern "C" {
        pub fn slabmalloc_sc_allocator_allocate(
            allocator: *mut Sizes,
            bytes: usize,
            alignment: usize,
            error: *mut u32,
        ) -> *mut u8;
        pub fn slabmalloc_sc_allocator_deallocate(
            allocator: *mut Sizes,
            object: *mut u8,
            bytes: usize,
            alignment: usize,
        );
        pub fn slabmalloc_sc_allocator_refill(allocator: *mut Sizes, page: *mut c_void) -> u32;
        pub fn slabmalloc_sc_allocator_try_reclaim_pages(
            allocator: *mut Sizes,
            limit: usize,
            callback: PageCallback,
            argument: *mut c_void,
        ) -> usize;
        pub fn slabmalloc_sc_allocator_counters(allocator: *mut Sizes) -> Counters;

        pub fn slabmalloc_zone_allocator_allocate(
            zone: *mut Zone,
            bytes: usize,
            alignment: usize,
            error: *mut u32,
        ) -> *mut u8;
        pub fn slabmalloc_zone_allocator_deallocate(
            zone: *mut Zone,
            block: *mut u8,
            bytes: usize,
            alignment: usize,
        );
        pub fn slabmalloc_zone_allocator_deallocate_remote(
            block: *mut u8,
            bytes: usize,
            alignment: usize,
        );
        pub fn slabmalloc_zone_allocator_refill(
            zone: *mut Zone,
            bytes: usize,
            alignment: usize,
            page: *mut c_void,
        ) -> u32;
        pub fn slabmalloc_zone_allocator_refill_large(
            zone: *mut Zone,
            bytes: usize,
            alignment: usize,
            page: *mut c_void,
        ) -> u32;
        pub fn slabmalloc_zone_allocator_page_bytes(bytes: usize, alignment: usize) -> usize;
        pub fn slabmalloc_zone_allocator_try_reclaim_base_pages(
            zone: *mut Zone,
            limit: usize,
            callback: PageCallback,
            argument: *mut c_void,
        ) -> usize;
        pub fn slabmalloc_zone_allocator_try_reclaim_large_pages(
            zone: *mut Zone,
            limit: usize,
            callback: PageCallback,
            argument: *mut c_void,
        ) -> usize;
        pub fn slabmalloc_get_max_size(bytes: usize) -> usize;
        pub fn slabmalloc_zone_allocator_counters(zone: *mut Zone) -> Counters;

        pub fn slabmalloc_frame_allocator_add(
            frames: *mut Frames,
            regions: *const Region,
            count: usize,
        ) -> u32;
        pub fn slabmalloc_frame_allocator_allocate_frame(
            frames: *mut Frames,
            bytes: usize,
        ) -> *mut c_void;
        pub fn slabmalloc_frame_allocator_deallocate_frame(
            frames: *mut Frames,
            frame: *mut c_void,
            bytes: usize,
        );
        pub fn slabmalloc_frame_allocator_pager(frames: *mut Frames) -> Pager;
        pub fn slabmalloc_frame_allocator_counters(frames: *mut Frames) -> FrameCounters;

        pub fn slabmalloc_cpu_zones_bytes() -> usize;
        pub fn slabmalloc_cpu_zones_create(
            memory: *mut c_void,
            name: *const u8,
            pager: *const Pager,
        ) -> *mut c_void;
        pub fn slabmalloc_cpu_zones_allocate(
            zones: *mut c_void,
            bytes: usize,
            alignment: usize,
            context: u32,
        ) -> *mut u8;
        pub fn slabmalloc_cpu_zones_deallocate(
            zones: *mut c_void,
            block: *mut u8,
            bytes: usize,
            alignment: usize,
            context: u32,
        );
        pub fn slabmalloc_cpu_zones_drain_all(zones: *mut c_void) -> usize;
    }
}
