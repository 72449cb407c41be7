// SPDX-License-Identifier: MIT
#![no_std]
#![warn(unsafe_op_in_unsafe_fn)]
#![feature(alloc_error_handler)] // Newer compilers need none.
//! A kernel in Rust for x86-64, on one CPU: frames from the loader's memory map, a global allocator
//! over them, and a zone that it gives pages by hand.
//!
//!   memory map ─► FRAMES ─► HEAP, the global allocator ─► Vec, BTreeMap, String
//!                        └► ZONE, by refill() and try_reclaim_base_pages()
extern crate alloc;

mod machine;

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::alloc::Layout;
use core::fmt::Write;
use core::panic::PanicInfo;
use machine::{end, memory_map, Console};
use slabmalloc::{
    line, AllocationError, Allocator, Context, FrameAllocator, KernelHeap, Misuse, ObjectPage,
    ZoneAllocator,
};

static FRAMES: FrameAllocator = FrameAllocator::new();
#[global_allocator]
static HEAP: KernelHeap = KernelHeap::new();
static mut ZONE: ZoneAllocator = ZoneAllocator::new();

macro_rules! print_line {
    ($($argument:tt)*) => { let _ = writeln!(Console, $($argument)*); };
}

/// Words by number, in growing vectors; each round drops half of them.
fn work(rounds: usize) {
    let mut words: BTreeMap<usize, (String, Vec<usize>)> = BTreeMap::new();
    for round in 0..rounds {
        for number in 0..1_000 {
            let (name, list) = words.entry(number).or_default();
            let _ = write!(name, "{round}:{number} ");
            list.extend((0..number % 50).map(|at| at * round));
        }
        assert!(words.values().all(|(name, _)| name.ends_with(' ')));
        words.retain(|number, _| (number + round) % 2 == 0);
        for (number, (_, list)) in &words {
            let last = list.len().saturating_sub(number % 50);
            assert!(list[last..].iter().enumerate().all(|(at, &value)| value == at * round));
        }
    }
    let large: Vec<u64> = (0..200_000).collect();
    assert_eq!(large.iter().sum::<u64>(), 199_999 * 100_000);
}

/// What an interrupt handler may do: it gets what its CPU has at hand.
fn work_as_an_interrupt_handler() {
    let layout = Layout::new::<[u64; 8]>();
    if let Some(block) = HEAP.allocate(layout, Context::Interrupt) {
        // SAFETY: the block is from the line above.
        unsafe { HEAP.deallocate(block, layout, Context::Interrupt) };
    }
}

/// Blocks of a zone, whose pages are frames.
fn use_a_zone(zone: &mut ZoneAllocator<'static>) {
    let layout = Layout::from_size_align(48, 16).unwrap();
    let mut blocks = Vec::new();
    while blocks.len() < 1_000 {
        match zone.allocate(layout) {
            Ok(block) => blocks.push(block),
            Err(AllocationError::OutOfMemory) => {
                let frame = FRAMES.allocate_frame(4096).expect("a frame");
                // SAFETY: the frame is nobody else's, and the zone is a static.
                unsafe { zone.refill(layout, frame.cast::<ObjectPage>().as_mut()) }.unwrap();
            }
            Err(error) => panic!("{error:?}"),
        }
    }
    for block in blocks.drain(..) {
        zone.deallocate(block, layout).unwrap();
    }
    // SAFETY: the zone gives up pages that nobody uses.
    zone.try_reclaim_base_pages(usize::MAX, |page| unsafe {
        FRAMES.deallocate_frame(core::ptr::NonNull::new_unchecked(page.cast()), 4096)
    });
    print_line!("zone: {} pages served 1000 blocks of 48 B", zone.counters().refills);
}

#[no_mangle]
extern "C" fn kernel_main(start_info: *const u8) -> ! {
    // SAFETY: the loader passes its start info, and no one else uses the memory of its map above
    // the image. This is the only CPU.
    let before = unsafe {
        for (address, bytes) in memory_map(start_info) {
            FRAMES.add(address, bytes).expect("frames");
        }
        let before = FRAMES.used_bytes();
        HEAP.start(&FRAMES).expect("a heap");
        before
    };
    print_line!("rust: the heap has started");
    let with_heap = FRAMES.used_bytes();
    work(20);
    work_as_an_interrupt_handler();
    // SAFETY: no other function uses the zone.
    use_a_zone(unsafe { &mut *core::ptr::addr_of_mut!(ZONE) });
    // SAFETY: this is the only CPU.
    let kept = unsafe { HEAP.drain_all() };
    assert_eq!((kept, FRAMES.used_bytes()), (0, with_heap));
    assert!(with_heap > before);
    print_line!("nothing is lost");
    end(0)
}

// ---- what the language and the library need -----------------------------------------------------

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    print_line!("PANIC: {info}");
    end(1)
}

#[alloc_error_handler]
fn no_memory(layout: Layout) -> ! {
    panic!("no memory for {layout:?}")
}

#[no_mangle]
extern "C" fn slabmalloc_hook_misuse(misuse: &Misuse) {
    panic!("{} at {:p}", misuse.reason(), misuse.address)
}
#[no_mangle]
unsafe extern "C" fn slabmalloc_hook_panic(text: *const u8) -> ! {
    // SAFETY: the library passes a line.
    panic!("{}", unsafe { line(text) })
}
#[no_mangle]
unsafe extern "C" fn slabmalloc_hook_log(text: *const u8) {
    // SAFETY: the library passes a line.
    print_line!("{}", unsafe { line(text) });
}
