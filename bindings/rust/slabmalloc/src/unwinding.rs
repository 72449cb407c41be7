// SPDX-License-Identifier: MIT
//
// A panic must not unwind through frames of C++, which have no tables for it.

/// Ends the program if a panic drops it: a panic during a panic aborts.
struct StopsUnwinding;

impl Drop for StopsUnwinding {
    fn drop(&mut self) {
        panic!("a panic in a callback of slabmalloc ends the program");
    }
}

/// Calls `f` below a frame of C++.
#[allow(dead_code)] // Each feature alone has another user.
pub fn without_unwinding<R>(f: impl FnOnce() -> R) -> R {
    let stop = StopsUnwinding;
    let result = f();
    core::mem::forget(stop);
    result
}
