// SPDX-License-Identifier: MIT
//
// os: the only interface from this library to the operating system.
//
// Every call goes through a table of functions, so that a test can install its own table and make
// any call fail:
//
//     arena, mutex, report  --->  os::interface()  --->  { map_at, purge, … }
//                                                         linux_interface, or a test's
//
// The memory calls change a range of address space as follows:
//
//     (nothing) --map, map_at--> usable, zero
//         ^                       |      ^
//         |                       |      | (stays usable)
//         |                       +-purge+
//         +--------unmap----------+
//                                 | ^
//                   forbid_access v | permit_access
//                             (inaccessible)
//
// Every function preserves errno and allocates nothing. Each works before the C library has
// started, after it has begun to stop, and in the child of a fork.
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/base/atomics.hpp"

namespace slabmalloc::os {

/// The outcome of a request to map memory at an exact address.
enum class MapOutcome : std::uint8_t {
  Mapped,
  Occupied,   ///< Something else is mapped there, or no such address exists: try another.
  Exhausted,  ///< No memory or no address space left: another address would not help.
};

/// The value of address_space_limit() that stands for no limit.
inline constexpr std::size_t unlimited = ~std::size_t{0};

/// The calls that this library needs of the operating system. The memory functions take addresses
/// and byte counts that are multiples of os_page_bytes(); name() and write() take any.
struct Interface {
  /// Proposes `bytes` of space where little is mapped, if anything, at a multiple of
  /// os_page_bytes(). The system places later mappings of its own at the far end of that space
  /// first.
  /// Fails: 0 if there is no such space.
  std::uintptr_t (*find_space)(std::size_t bytes);

  /// True if nothing is mapped in a range.
  bool (*is_empty)(void* address, std::size_t bytes);

  /// Maps readable and writable zeros at exactly `address`, never over an existing mapping.
  MapOutcome (*map_at)(void* address, std::size_t bytes);

  /// Maps readable and writable zeros at any address.
  /// Fails: null.
  void* (*map)(std::size_t bytes);

  /// Unmaps a range.
  /// Fails: false at the limit on the number of mappings, when the range is the middle of a
  /// mapping. The range is then as before.
  bool (*unmap)(void* address, std::size_t bytes);

  /// Drops the contents: the range reads as zeros and occupies no memory until it is written.
  /// Locked memory stays locked: the system backs it again at the next write.
  /// Fails: false for locked memory before Linux 5.18. Then bytes that were zero still are, and the
  /// others are undefined.
  bool (*purge)(void* address, std::size_t bytes);

  /// Drops the contents of a range, and forbids to read or write it. It stays mapped.
  /// Fails: false at the limit on the number of mappings. The range is then as before.
  bool (*forbid_access)(void* address, std::size_t bytes);

  /// Makes a range of forbid_access() usable, and zero.
  /// Fails: false, as above, or if memory is exhausted.
  bool (*permit_access)(void* address, std::size_t bytes);

  /// The bytes of a range that are backed by memory; 0 if the system does not tell.
  std::size_t (*resident_bytes)(void* address, std::size_t bytes);

  /// Allows huge pages in a range, which the system may then back in units of that length.
  void (*allow_huge_pages)(void* address, std::size_t bytes);

  /// Ends that: what a range has of huge pages stays, but it gets no more.
  void (*end_huge_pages)(void* address, std::size_t bytes);

  /// Splits the huge page that backs `address`, if one does. Then a purge of a part of it frees
  /// that part.
  void (*split_huge_page)(void* address);

  /// Resizes a mapping, moves it if it must and `may_move`, and returns its address.
  /// Fails: null; the mapping is then as before.
  void* (*remap)(void* address, std::size_t old_bytes, std::size_t new_bytes, bool may_move);

  /// Labels a range in /proc/self/maps where the kernel supports it.
  /// Pre: `label` outlives the range.
  void (*name)(void* address, std::size_t bytes, const char* label);

  /// The unit of mapping in bytes: a power of two.
  std::size_t (*os_page_bytes)();

  /// The limit on the address space of the process (RLIMIT_AS) in bytes, or `unlimited`.
  std::size_t (*address_space_limit)();

  /// Makes every thread of the process that runs now execute a full memory fence.
  /// Fails: false where the system cannot.
  bool (*fence_all_threads)();

  /// Milliseconds since an arbitrary moment: monotonic, with a resolution of a few milliseconds.
  /// Cost: no kernel entry.
  std::uint64_t (*now_milliseconds)();

  /// Random bits: the same throughout one run of the program, different in the next.
  std::uint64_t (*random_bits)();

  /// Sleeps until a wake(), if `*word` is still `expected`. It may return without a wake().
  void (*wait)(const std::uint32_t* word, std::uint32_t expected);

  /// Wakes at most `count` threads that sleep on `word`.
  void (*wake)(const std::uint32_t* word, std::uint32_t count);

  /// Sleeps for a time; a signal may end it sooner.
  void (*sleep)(std::uint32_t microseconds);

  /// Writes to a file descriptor until all is written or an error stops it; returns the bytes
  /// written.
  std::size_t (*write)(int descriptor, const char* text, std::size_t bytes);

  /// Opens a file to append to it, and creates it if needed.
  /// Fails: -1.
  int (*open_to_append)(const char* path);
  void (*close)(int descriptor);

  std::uint32_t (*process_id)();
  std::uint32_t (*thread_id)();
};

namespace detail {

[[gnu::visibility("hidden")]] extern constinit HardwareAtomics::Cell<const Interface*> current;

}  // namespace detail

/// The operating system itself.
[[gnu::visibility("hidden")]] extern const Interface linux_interface;

/// As linux_interface, but allows huge pages in the mappings of map() too, and never ends that.
[[gnu::visibility("hidden")]] extern const Interface huge_page_interface;

/// Asks the system what it tells once: later calls of these need no more. The C library's functions
/// for it may be replaced by ones that allocate.
/// Pre: the calling thread holds no mutex of this library.
void ask_system() noexcept;

/// From now on no call is made that a sandbox may punish: only mmap, munmap, mremap, madvise,
/// futex, clock_gettime, and for a report write, getpid and gettid. So there are no labels, no
/// fences, and no residency.
void expect_sandbox() noexcept;

/// The table in use.
/// Order: acquire, with the release in replace_interface(): the caller sees the table's fields.
inline const Interface& interface() noexcept { return *detail::current.load(Order::acquire); }

/// Installs `table` and returns the one before.
/// Pre: `table` outlives its use.
inline const Interface& replace_interface(const Interface& table) noexcept {
  return *detail::current.exchange(&table, Order::acq_rel);
}

}  // namespace slabmalloc::os
