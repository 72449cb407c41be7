// SPDX-License-Identifier: MIT
//
// The GNU C library.
#pragma once

// The lock of the C library's list of streams, where the library exports it. The library takes it
// in fork() too, after the handlers.
extern "C" {
[[gnu::weak]] void _IO_list_lock();
[[gnu::weak]] void _IO_list_unlock();
[[gnu::weak]] void _IO_list_resetlock();
[[gnu::weak]] extern char __libc_single_threaded;
}

/// Assembly that exports a function of this file by the further name that the library has for it.
/// Programs that call that one free the blocks by free().
#define SLABMALLOC_LIBC_NAME(name) ".globl __libc_" #name "\n.set __libc_" #name ", " #name "\n"

namespace slabmalloc {

class CLibrary {
 public:
  static constexpr bool allocates_for_threads = true;
  static constexpr bool reallocation_to_nothing_frees = true;

  /// Streams come before the malloc's mutexes: fflush(NULL) holds the list while it waits for a
  /// stream, and getline() holds a stream while it allocates. With the list taken last, as fork()
  /// does it, the three would wait for each other.
  static void lock_streams() noexcept {
    if (has_stream_list()) {
      was_single_threaded_ = &__libc_single_threaded != nullptr && __libc_single_threaded != 0;
      _IO_list_lock();
    }
  }

  static void unlock_streams() noexcept {
    if (has_stream_list()) {
      _IO_list_unlock();
    }
  }

  /// fork() has freed the lock in the child, unless the process had a single thread. Of an older C
  /// library that is not known; to free it twice does no harm outside of signal handlers.
  static void unlock_streams_in_child() noexcept {
    if (!has_stream_list()) {
      return;
    }
    if (&__libc_single_threaded == nullptr) {
      _IO_list_resetlock();
    } else if (was_single_threaded_) {
      _IO_list_unlock();
    }
  }

 private:
  static bool has_stream_list() noexcept {
    return _IO_list_lock != nullptr && _IO_list_unlock != nullptr && _IO_list_resetlock != nullptr;
  }

  static inline constinit thread_local bool was_single_threaded_ = false;
};

}  // namespace slabmalloc
