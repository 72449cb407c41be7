// SPDX-License-Identifier: MIT
//! Zones and allocators of one size over pages of the test: what users of the seed rely on.
#![cfg(feature = "hooks")]

use slabmalloc::{
    AllocablePage, AllocationError, Allocator, LargeObjectPage, ObjectPage, SCAllocator,
    ZoneAllocator,
};
use std::alloc::{alloc, dealloc, Layout};
use std::collections::BTreeSet;
use std::mem::{align_of, size_of};
use std::ptr::NonNull;

/// Pages of a machine. It knows those that are given out.
#[derive(Default)]
struct Pager {
    pages: BTreeSet<usize>,
}

impl Pager {
    fn allocate<P: AllocablePage>(&mut self) -> &'static mut P {
        let layout = Layout::from_size_align(P::SIZE, P::SIZE).unwrap();
        // SAFETY: any bytes are a page. They are not zero, which an allocator must not rely on.
        unsafe {
            let page = alloc(layout);
            page.write_bytes(0xCC, P::SIZE);
            self.pages.insert(page as usize);
            &mut *page.cast()
        }
    }

    fn deallocate<P: AllocablePage>(&mut self, page: *mut P) {
        assert!(self.pages.remove(&(page as usize)), "a page comes back once");
        // SAFETY: the page came from allocate(), and nobody uses it.
        unsafe { dealloc(page.cast(), Layout::from_size_align(P::SIZE, P::SIZE).unwrap()) };
    }
}

/// The bytes of a block, from its address and a number.
fn fill(block: NonNull<u8>, bytes: usize, number: usize) {
    // SAFETY: the block is live.
    unsafe { std::slice::from_raw_parts_mut(block.as_ptr(), bytes) }.fill((number % 251) as u8);
}
fn is_filled(block: NonNull<u8>, bytes: usize, number: usize) -> bool {
    // SAFETY: the block is live, and fill() has written it.
    let bytes = unsafe { std::slice::from_raw_parts(block.as_ptr(), bytes) };
    bytes.iter().all(|&byte| byte == (number % 251) as u8)
}

#[test]
fn page_types_are_exactly_a_page() {
    assert_eq!((size_of::<ObjectPage>(), align_of::<ObjectPage>()), (4096, 4096));
    assert_eq!((size_of::<LargeObjectPage>(), align_of::<LargeObjectPage>()), (2 << 20, 2 << 20));
    assert_eq!((ObjectPage::SIZE, LargeObjectPage::SIZE), (4096, 2 << 20));
}

#[test]
fn allocators_are_constants_and_cross_threads() {
    fn crosses_threads<T: Send + Sync>() {}
    crosses_threads::<ZoneAllocator<'static>>();
    crosses_threads::<SCAllocator<'static, ObjectPage<'static>>>();
    static mut ZONE: ZoneAllocator = ZoneAllocator::new();
    static mut SIZES: SCAllocator<LargeObjectPage> = SCAllocator::new(8192);
    // SAFETY: no other function knows them.
    unsafe {
        assert_eq!(ZONE.counters(), Default::default());
        assert_eq!(SIZES.size(), 8192);
    }
}

/// Fills `count` objects, verifies and frees all, does so again with the same pages, and reclaims.
fn fill_twice<P: AllocablePage + 'static>(size: usize, alignment: usize, count: usize) {
    let layout = Layout::from_size_align(size, alignment).unwrap();
    let mut pager = Pager::default();
    let mut allocator: SCAllocator<P> = SCAllocator::new(size);
    let mut pages_of_first_round = 0;
    for round in 0..2 {
        let mut objects = Vec::new();
        while objects.len() < count {
            match allocator.allocate(layout) {
                Ok(object) => {
                    assert_eq!(object.as_ptr() as usize % alignment, 0);
                    fill(object, size, objects.len());
                    objects.push(object);
                }
                // SAFETY: the page is new, and the allocator stays in its place.
                Err(AllocationError::OutOfMemory) => unsafe { allocator.refill(pager.allocate()) },
                Err(error) => panic!("{size} at {alignment}: {error:?}"),
            }
        }
        for (number, &object) in objects.iter().enumerate() {
            assert!(is_filled(object, size, number), "{size} at {alignment}, object {number}");
        }
        let used: Vec<_> = objects.drain(..).collect();
        assert_eq!(allocator.try_reclaim_pages(usize::MAX, &mut |page| pager.deallocate(page)), 0);
        for object in used {
            allocator.deallocate(object, layout).unwrap();
        }
        if round == 0 {
            pages_of_first_round = pager.pages.len();
        }
        assert_eq!(pager.pages.len(), pages_of_first_round);
    }
    assert_eq!(allocator.counters().used_bytes, 0);
    assert_eq!(allocator.try_reclaim_pages(1, &mut |page| pager.deallocate(page)), 1);
    let rest = allocator.try_reclaim_pages(usize::MAX, &mut |page| pager.deallocate(page));
    assert_eq!((rest, pager.pages.len()), (pages_of_first_round - 1, 0));
}

#[test]
fn sizes_on_base_pages_reuse_and_give_back_every_page() {
    for size in [8, 12, 13, 14, 15, 16, 24, 32, 64, 512, 1024, 2048] {
        for alignment in [1, 8, 64] {
            fill_twice::<ObjectPage>(size, alignment, 700);
        }
    }
}

#[test]
fn sizes_on_large_pages_reuse_and_give_back_every_page() {
    fill_twice::<LargeObjectPage>(8, 4096, 1_200);
    for shift in 12..=17 {
        fill_twice::<LargeObjectPage>(1 << shift, 4096, 80);
    }
}

#[test]
fn the_examples_of_the_crate_before_work() {
    let layout = Layout::from_size_align(12, 4).unwrap();
    let (mut pager, mut zone) = (Pager::default(), ZoneAllocator::new());
    // SAFETY: the pages are new, and the allocators stay in their places.
    unsafe { zone.refill(layout, pager.allocate()) }.unwrap();
    let block = zone.allocate(layout).unwrap();
    zone.deallocate(block, layout).unwrap();
    zone.try_reclaim_base_pages(1, |page| pager.deallocate(page.cast::<ObjectPage>()));

    let layout = Layout::from_size_align(10, 8).unwrap();
    let mut allocator: SCAllocator<ObjectPage> = SCAllocator::new(10);
    unsafe { allocator.refill(pager.allocate()) };
    let object = allocator.allocate(layout).unwrap();
    allocator.deallocate(object, layout).unwrap();
    allocator.try_reclaim_pages(1, &mut |page| pager.deallocate(page));
    assert!(pager.pages.is_empty());
}

#[test]
fn smaller_layouts_share_the_slots_of_a_size_and_larger_ones_fail() {
    let mut pager = Pager::default();
    let mut allocator: SCAllocator<ObjectPage> = SCAllocator::new(16);
    let layouts: Vec<_> = [1, 3, 8, 9, 16].map(|bytes| Layout::from_size_align(bytes, 1)).into();
    // SAFETY: the page is new, and the allocator stays in its place.
    unsafe { allocator.refill(pager.allocate()) };
    let mut objects = Vec::new();
    while let Ok(object) = allocator.allocate(*layouts[objects.len() % 5].as_ref().unwrap()) {
        objects.push(object);
    }
    assert!((240..=256).contains(&objects.len()), "{} slots of 16 B", objects.len());
    assert_eq!(objects.iter().collect::<BTreeSet<_>>().len(), objects.len());
    for layout in [Layout::from_size_align(17, 1), Layout::from_size_align(8, 64)] {
        let layout = layout.unwrap();
        assert_eq!(allocator.allocate(layout), Err(AllocationError::InvalidLayout));
        let freed = allocator.deallocate(objects[0], layout);
        assert_eq!(freed, Err(AllocationError::InvalidLayout));
    }
    for (at, object) in objects.into_iter().enumerate() {
        allocator.deallocate(object, *layouts[at % 5].as_ref().unwrap()).unwrap();
    }
    assert_eq!(allocator.try_reclaim_pages(2, &mut |page| pager.deallocate(page)), 1);
}

#[test]
fn a_full_page_becomes_usable_with_each_free_and_empty_with_the_last() {
    let layout = Layout::from_size_align(256, 8).unwrap();
    let mut pager = Pager::default();
    let mut allocator: SCAllocator<ObjectPage> = SCAllocator::with_alignment(256, 8);
    // SAFETY: the pages are new, and the allocator stays in its place.
    (0..3).for_each(|_| unsafe { allocator.refill(pager.allocate()) });
    let mut objects = Vec::new();
    while let Ok(object) = allocator.allocate(layout) {
        objects.push(object);
    }
    assert_eq!(objects.len(), 3 * 15);
    for at in 0..objects.len() {
        allocator.deallocate(objects[at], layout).unwrap();
        objects[at] = allocator.allocate(layout).expect("the slot that was freed");
        assert_eq!(allocator.allocate(layout), Err(AllocationError::OutOfMemory));
    }
    let page_of = |object: &NonNull<u8>| object.as_ptr() as usize & !4095;
    let pages: BTreeSet<_> = objects.iter().map(page_of).collect();
    for page in pages {
        let (on_page, others) = objects.iter().partition::<Vec<_>, _>(|&o| page_of(o) == page);
        for object in on_page {
            assert_eq!(allocator.try_reclaim_pages(9, &mut |page| pager.deallocate(page)), 0);
            allocator.deallocate(object, layout).unwrap();
        }
        let mut given = 0;
        let reclaimed = allocator.try_reclaim_pages(9, &mut |page| {
            given = page as usize;
            pager.deallocate(page);
        });
        assert_eq!((reclaimed, given), (1, page));
        objects = others;
    }
}

#[test]
fn a_zone_asks_for_pages_only_when_it_must() {
    let (mut pager, mut zone) = (Pager::default(), ZoneAllocator::new());
    let mut live = Vec::new();
    for number in 0..600 {
        let layout = Layout::from_size_align([256, 48, 6, 8, 16][number % 5], 2).unwrap();
        let block = zone.allocate(layout).unwrap_or_else(|error| {
            assert_eq!(error, AllocationError::OutOfMemory);
            assert_eq!(ZoneAllocator::page_bytes(layout), Some(4096));
            // SAFETY: the page is new, and the zone stays in its place.
            unsafe { zone.refill(layout, pager.allocate()) }.unwrap();
            zone.allocate(layout).unwrap()
        });
        assert_eq!(block.as_ptr() as usize % 2, 0);
        fill(block, layout.size(), number);
        live.push((block, layout));
    }
    // 120 blocks of 256 B on pages of 15, of 48 B on pages of 84, a page for each other class.
    assert!(pager.pages.len() <= 8 + 2 + 3, "{} pages", pager.pages.len());
    for (number, &(block, layout)) in live.iter().enumerate() {
        assert!(is_filled(block, layout.size(), number));
    }
    let pages = pager.pages.len();
    zone.try_reclaim_base_pages(usize::MAX, |page| pager.deallocate(page.cast::<ObjectPage>()));
    assert_eq!(pager.pages.len(), pages);
    for (block, layout) in live {
        zone.deallocate(block, layout).unwrap();
    }
    zone.try_reclaim_base_pages(usize::MAX, |page| pager.deallocate(page.cast::<ObjectPage>()));
    assert!(pager.pages.is_empty());
}

#[test]
fn a_zone_serves_every_size_up_to_its_largest_and_refuses_wrong_pages() {
    let (mut pager, mut zone) = (Pager::default(), ZoneAllocator::default());
    let small = Layout::from_size_align(ZoneAllocator::MAX_BASE_ALLOC_SIZE, 8).unwrap();
    let large = Layout::from_size_align(ZoneAllocator::MAX_ALLOC_SIZE, 4096).unwrap();
    let beyond = Layout::from_size_align(ZoneAllocator::MAX_ALLOC_SIZE + 1, 8).unwrap();
    assert_eq!(zone.allocate(beyond), Err(AllocationError::InvalidLayout));
    assert_eq!(zone.allocate(large), Err(AllocationError::OutOfMemory));
    assert_eq!(zone.deallocate(NonNull::dangling(), small), Err(AllocationError::InvalidLayout));

    let (base, huge): (*mut ObjectPage, *mut LargeObjectPage) =
        (pager.allocate::<ObjectPage>(), pager.allocate::<LargeObjectPage>());
    // SAFETY: the pages are new, no allocator keeps a refused one, and the zone stays in its place.
    unsafe {
        assert_eq!(zone.refill(large, &mut *base), Err(AllocationError::InvalidLayout));
        assert_eq!(zone.refill_large(small, &mut *huge), Err(AllocationError::InvalidLayout));
        assert_eq!(zone.refill(beyond, &mut *base), Err(AllocationError::InvalidLayout));
        zone.refill(small, &mut *base).unwrap();
        zone.refill_large(large, &mut *huge).unwrap();
    }
    assert_eq!(zone.allocate(beyond), Err(AllocationError::InvalidLayout));
    for layout in [small, large] {
        let block = zone.allocate(layout).unwrap();
        fill(block, layout.size(), 3);
        let counters = zone.counters();
        assert!(counters.used_bytes >= layout.size() && counters.page_bytes >= 4096 + (2 << 20));
        assert_eq!(zone.deallocate(block, beyond), Err(AllocationError::InvalidLayout));
        // SAFETY: the block is live, and so is the zone.
        std::thread::scope(|scope| {
            let block = block.as_ptr() as usize;
            scope.spawn(move || unsafe {
                ZoneAllocator::deallocate_remote(NonNull::new(block as *mut u8).unwrap(), layout)
            });
        });
    }
    zone.try_reclaim_large_pages(0, |_| panic!("no page was wanted"));
    zone.try_reclaim_large_pages(2, |page| pager.deallocate(page.cast::<LargeObjectPage>()));
    zone.try_reclaim_base_pages(2, |page| pager.deallocate(page.cast::<ObjectPage>()));
    assert!(pager.pages.is_empty());
    assert_eq!(zone.counters().remote_frees, 2);
}

#[test]
fn the_largest_size_of_a_slot_holds_every_size_below_it() {
    for bytes in 0..=ZoneAllocator::MAX_ALLOC_SIZE {
        let most = ZoneAllocator::get_max_size(bytes).unwrap();
        assert!(most >= bytes && ZoneAllocator::get_max_size(most) == Some(most));
    }
    assert_eq!(ZoneAllocator::get_max_size(32768), Some(32768));
    assert_eq!(ZoneAllocator::get_max_size(ZoneAllocator::MAX_ALLOC_SIZE + 1), None);
}
