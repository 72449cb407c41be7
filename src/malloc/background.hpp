// SPDX-License-Identifier: MIT
//
// Background: a thread that purges and scavenges where the program makes no calls.
//
// Without it, the next caller does that work, so an idle process keeps its dirty memory. The option
// `background_thread` starts it. It sleeps for scavenge_ms between two rounds, and for up to
// sixteen times as long while nothing is dirty.
#pragma once

namespace slabmalloc::background {

/// Starts the thread if the option asks for it and it does not run. A child of fork() lacks it, so
/// slow paths call this again. It may allocate.
/// Pre: no lock is held.
/// Thread: any.
/// Fails: silently; the next call tries again.
void start_if_wanted() noexcept;

/// Forgets the thread, in the child of a fork.
void child_after_fork() noexcept;

}  // namespace slabmalloc::background
