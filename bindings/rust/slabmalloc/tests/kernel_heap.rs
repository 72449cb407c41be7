// SPDX-License-Identifier: MIT
//! A heap for all CPUs over frames. Threads act as CPUs.
#![cfg(feature = "hooks")]
#![warn(unsafe_op_in_unsafe_fn)]

use slabmalloc::{Context, FrameAllocator, KernelHeap};
use std::alloc::{alloc, GlobalAlloc, Layout};
use std::cell::Cell;
use std::ptr::NonNull;
use std::sync::Mutex;

thread_local! { static CPU: Cell<u32> = Cell::new(0); }

#[no_mangle]
extern "C" fn slabmalloc_hook_cpu() -> u32 {
    CPU.with(Cell::get)
}
#[no_mangle]
extern "C" fn slabmalloc_hook_save_interrupts() -> usize {
    0
}
#[no_mangle]
extern "C" fn slabmalloc_hook_restore_interrupts(_: usize) {}
#[no_mangle]
extern "C" fn slabmalloc_hook_log(_: *const u8) {}
/// The holder of a lock may wait for this thread's processor.
#[no_mangle]
extern "C" fn slabmalloc_hook_relax() {
    std::thread::yield_now();
}

static FRAMES: FrameAllocator = FrameAllocator::new();
static HEAP: KernelHeap = KernelHeap::new();

#[test]
fn cpus_free_the_blocks_of_each_other_and_every_frame_comes_back() {
    let layout_of = |number: usize| {
        Layout::from_size_align(1 + number * 37 % 20_000, 1 << (number % 7)).unwrap()
    };
    assert!(HEAP.allocate(layout_of(1), Context::MayWait).is_none());
    let machine = Layout::from_size_align(64 << 20, 2 << 20).unwrap();
    // SAFETY: the memory is new and stays; this is the first use of both.
    unsafe {
        FRAMES.add(alloc(machine) as usize, machine.size()).unwrap();
        HEAP.start(&FRAMES).unwrap();
    }
    let started = FRAMES.used_bytes();

    let passed: Mutex<Vec<(usize, usize)>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for cpu in 0..4 {
            let passed = &passed;
            scope.spawn(move || {
                CPU.with(|own| own.set(cpu));
                for number in 0..1_500 {
                    let layout = layout_of(number);
                    // SAFETY: each block is freed once, with its layout, after a look at its bytes.
                    unsafe {
                        let block = HEAP.alloc(layout);
                        assert!(!block.is_null() && block as usize % layout.align() == 0);
                        block.write_bytes(number as u8, layout.size());
                        let mut passed = passed.lock().unwrap();
                        passed.push((block as usize, number));
                        let at = number * 7 % passed.len();
                        if passed.len() > 300 {
                            let (block, number) = passed.swap_remove(at);
                            drop(passed);
                            free(block, number, layout_of(number));
                        }
                    }
                }
            });
        }
    });
    assert!(FRAMES.used_bytes() > started);
    // SAFETY: as above; the threads have ended.
    unsafe {
        passed.into_inner().unwrap().into_iter().for_each(|(b, n)| free(b, n, layout_of(n)));
        assert_eq!((HEAP.drain_all(), FRAMES.used_bytes()), (0, started));
    }
}

unsafe fn free(block: usize, number: usize, layout: Layout) {
    let block = block as *mut u8;
    unsafe {
        let bytes = std::slice::from_raw_parts(block, layout.size());
        assert!(bytes.iter().all(|&byte| byte == number as u8));
        let context = if number % 2 == 0 { Context::MayWait } else { Context::MayNotWait };
        HEAP.deallocate(NonNull::new(block).unwrap(), layout, context);
    }
}
