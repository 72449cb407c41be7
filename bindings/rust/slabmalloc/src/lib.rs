// SPDX-License-Identifier: MIT
#![no_std]
#![deny(missing_docs)]
#![warn(unsafe_op_in_unsafe_fn)]
//! slabmalloc for Rust, over the C interfaces of the C++ library.
//!
//! A program takes the process heap as its global allocator:
//!
//! ```
//! #[global_allocator]
//! static HEAP: slabmalloc::SlabMalloc = slabmalloc::SlabMalloc;
//!
//! let words = vec![1, 2, 3];
//! assert!(slabmalloc::SlabMalloc::statistics().used_bytes > 0);
//! # drop(words);
//! ```
//!
//! A kernel gives pages to a zone, and takes them back. See [`ZoneAllocator`].
//!
//! | feature | default | gives |
//! |---|---|---|
//! | `heap` | yes | [`SlabMalloc`]; Linux |
//! | `override` | no | the process heap also replaces C's `malloc` and C++'s `new` |
//! | `zones` | yes | [`ZoneAllocator`], [`SCAllocator`], [`KernelHeap`] and others, for kernels |
//! | `hooks` | yes | definitions of the kernel hooks that zones need |
//!
//! A kernel says `default-features = false, features = ["zones"]`, and defines the functions of
//! `slabmalloc/kernel_hooks.h`. Zones need two of them: `slabmalloc_hook_misuse()` and
//! `slabmalloc_hook_panic()`. [`FrameAllocator`] and [`KernelHeap`] need the others too, so
//! programs that use those define them.

mod ffi;
mod unwinding;

#[cfg(feature = "heap")]
mod heap;
#[cfg(feature = "heap")]
pub use heap::{MisuseHandler, MisuseKind, SlabMalloc, Statistics};

#[cfg(feature = "hooks")]
mod hooks;
#[cfg(feature = "zones")]
mod kernel;
#[cfg(feature = "zones")]
mod misuse;
#[cfg(feature = "zones")]
mod pages;
#[cfg(feature = "zones")]
mod sc_allocator;
#[cfg(feature = "zones")]
mod zone_allocator;
#[cfg(feature = "zones")]
pub use {
    kernel::{Context, FrameAllocator, KernelHeap},
    misuse::{line, Misuse},
    pages::{AllocablePage, LargeObjectPage, ObjectPage},
    sc_allocator::SCAllocator,
    zone_allocator::{AllocationError, Allocator, Counters, ZoneAllocator},
};
