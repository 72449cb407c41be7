// SPDX-License-Identifier: MIT
//
// Pages: what a client gives to an allocator and takes back.
use crate::ffi::zones::{BASE_PAGE, LARGE_PAGE};
use core::fmt;
use core::marker::PhantomData;

/// A page from which an [`SCAllocator`](crate::SCAllocator) allocates.
///
/// # Safety
/// A reference to the type is a reference to `SIZE` bytes at a multiple of `SIZE`, which is 4 KiB
/// or 2 MiB, and every value of these bytes is valid.
pub unsafe trait AllocablePage {
    /// Bytes of a page.
    const SIZE: usize;
}

macro_rules! page_type {
    ($name:ident, $bytes:expr, $alignment:literal, $words:literal) => {
        #[doc = $words]
        ///
        /// Its memory holds objects, and its meta-data at an end. Any contents will do at first.
        #[repr(C, align($alignment))]
        pub struct $name<'a> {
            data: [u8; $bytes],
            owner: PhantomData<&'a mut $name<'a>>,
        }

        // SAFETY: repr(C, align) and the assertion guarantee both.
        unsafe impl<'a> AllocablePage for $name<'a> {
            const SIZE: usize = $bytes;
        }
        const _: () = assert!($bytes == $alignment);

        impl<'a> Default for $name<'a> {
            fn default() -> Self {
                $name { data: [0; $bytes], owner: PhantomData }
            }
        }
        impl<'a> fmt::Debug for $name<'a> {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(stringify!($name))
            }
        }
    };
}

page_type!(ObjectPage, BASE_PAGE, 4096, "A page of exactly 4 KiB, at a multiple of 4 KiB.");
page_type!(
    LargeObjectPage,
    LARGE_PAGE,
    2097152,
    "A page of exactly 2 MiB, at a multiple of 2 MiB."
);
