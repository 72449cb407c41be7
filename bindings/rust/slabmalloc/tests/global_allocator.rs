// SPDX-License-Identifier: MIT
//! The process heap as the global allocator of a program.
#![cfg(feature = "heap")]

use slabmalloc::{MisuseKind, SlabMalloc};
use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Instant;

#[global_allocator]
static HEAP: SlabMalloc = SlabMalloc;

#[test]
fn growing_vectors_keep_their_elements() {
    for count in [1, 100, 1_000, 100_000, 1_000_000] {
        let mut vector = Vec::new();
        for number in 0..count {
            vector.push(number * 7);
        }
        assert!(vector.iter().enumerate().all(|(at, &number)| number == at * 7));
        vector.truncate(count / 3);
        vector.shrink_to_fit();
        assert!(vector.iter().enumerate().all(|(at, &number)| number == at * 7));
    }
}

#[test]
fn blocks_freed_by_other_threads_are_whole() {
    let (give, take) = mpsc::channel::<(usize, Vec<usize>)>();
    let producers: Vec<_> = (0..4)
        .map(|producer| {
            let give = give.clone();
            std::thread::spawn(move || {
                for at in 0..5_000 {
                    let number = producer * 10_000 + at;
                    give.send((number, vec![number; 1 + number % 300])).unwrap();
                }
            })
        })
        .collect();
    drop(give);
    let mut kept = HashMap::new();
    for (number, words) in take {
        assert!(words.iter().all(|&word| word == number));
        kept.insert(number % 1_000, words);
    }
    producers.into_iter().for_each(|producer| producer.join().unwrap());
    assert_eq!(kept.len(), 1_000);
    assert!(kept.iter().all(|(&key, words)| words.iter().all(|word| word % 1_000 == key)));
}

#[test]
fn zeroed_and_resized_blocks_keep_layout_and_contents() {
    for size in [1, 8, 24, 100, 1_000, 5_000, 70_000, 3_000_000] {
        for alignment in [1, 8, 64, 4096] {
            let layout = Layout::from_size_align(size, alignment).unwrap();
            let larger = Layout::from_size_align(size * 2 + 1, alignment).unwrap();
            // SAFETY: the blocks are used within their layouts, and freed with them.
            unsafe {
                let block = HEAP.alloc_zeroed(layout);
                assert!(!block.is_null() && block as usize % alignment == 0);
                let bytes = std::slice::from_raw_parts_mut(block, size);
                assert!(bytes.iter().all(|&byte| byte == 0));
                assert!(SlabMalloc::usable_size(block) >= size);
                bytes.fill(0xA5);
                let block = HEAP.realloc(block, layout, larger.size());
                assert!(!block.is_null() && block as usize % alignment == 0);
                let bytes = std::slice::from_raw_parts(block, size);
                assert!(bytes.iter().all(|&byte| byte == 0xA5));
                HEAP.dealloc(block, larger);
            }
        }
    }
    // SAFETY: an impossible request, and null.
    unsafe {
        assert!(HEAP.alloc(Layout::from_size_align(isize::MAX as usize - 8, 8).unwrap()).is_null());
        assert_eq!(SlabMalloc::usable_size(std::ptr::null()), 0);
    }
}

#[test]
fn trim_gives_freed_memory_back() {
    let held = SlabMalloc::statistics().held_bytes_high_water;
    let blocks: Vec<_> = (0..1_000).map(|_| vec![1u8; 64 << 10]).collect();
    let during = SlabMalloc::statistics();
    assert!(during.used_bytes >= 64_000 << 10 && during.held_bytes >= during.used_bytes);
    assert!(during.held_bytes_high_water >= held && during.allocations >= during.frees + 1_000);
    drop(blocks);
    assert!(SlabMalloc::trim() > 0);
}

static BAD_CALLS: AtomicUsize = AtomicUsize::new(0);

fn count_double_frees(kind: MisuseKind, address: *const u8) {
    assert_eq!(kind, MisuseKind::DOUBLE_FREE);
    assert!(!address.is_null());
    BAD_CALLS.fetch_add(1, Ordering::Relaxed);
}

#[test]
fn a_double_free_reaches_the_handler_and_does_nothing() {
    let layout = Layout::from_size_align(48, 16).unwrap();
    SlabMalloc::set_misuse_handler(Some(count_double_frees));
    // SAFETY: none: the second free is the mistake that the heap must find.
    unsafe {
        let block = HEAP.alloc(layout);
        HEAP.dealloc(block, layout);
        HEAP.dealloc(block, layout);
        let (one, two) = (HEAP.alloc(layout), HEAP.alloc(layout));
        assert_ne!(one, two);
        HEAP.dealloc(one, layout);
        HEAP.dealloc(two, layout);
    }
    SlabMalloc::set_misuse_handler(None);
    assert_eq!(BAD_CALLS.load(Ordering::Relaxed), 1);
}

extern "C" {
    fn malloc(bytes: usize) -> *mut u8;
    fn free(block: *mut u8);
}

/// Other tests use at most 100 MiB.
#[test]
fn malloc_belongs_to_the_heap_only_with_the_feature_override() {
    let bytes = 1 << 30;
    // SAFETY: the block is freed once. The write keeps the calls.
    unsafe {
        let block = malloc(bytes);
        block.write_volatile(1);
        let is_counted = SlabMalloc::statistics().used_bytes >= bytes;
        free(block);
        assert_eq!(is_counted, cfg!(feature = "override"));
    }
}

#[test]
fn the_library_states_the_version_of_the_crate() {
    assert_eq!(SlabMalloc::version(), env!("CARGO_PKG_VERSION"));
}

/// Nanoseconds of an allocation and its free, the least of five runs.
fn pair_ns(heap: &impl GlobalAlloc) -> f64 {
    let layout = Layout::from_size_align(64, 8).unwrap();
    let rounds = 2_000_000;
    let run = |_| {
        let start = Instant::now();
        for _ in 0..rounds {
            // SAFETY: the block is freed with its layout. The write keeps both calls.
            unsafe {
                let block = heap.alloc(layout);
                block.write_volatile(1);
                heap.dealloc(block, layout);
            }
        }
        start.elapsed().as_nanos() as f64 / rounds as f64
    };
    (0..5).map(run).fold(f64::MAX, f64::min)
}

/// `cargo test --release -- --ignored --nocapture` prints the figures.
#[test]
#[ignore]
fn measure_a_pair_against_the_system() {
    println!("a pair of 64 B: {:.1} ns, System {:.1} ns", pair_ns(&HEAP), pair_ns(&System));
}
