// SPDX-License-Identifier: MIT
//
// os: the one place where this library touches the operating system.
//
// Everything goes through a table of functions, so that a test can put a table of its own in front
// and let any call fail:
//
//     arena, mutex, report  --->  os::interface()  --->  { map_at, purge, … }
//                                                         linux_interface, or a test's
//
// What the memory calls do to a range of address space:
//
//     (nothing) --map, map_at--> usable, zero
//         ^                       |      ^
//         |                       |      | (stays usable)
//         |                       +-purge+
//         +--------unmap----------+
//
// Every function preserves errno, allocates nothing, and may be called before the C library has
// finished starting, after it has begun to finish, and in the child of a fork.
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/base/atomics.hpp"

namespace slabmalloc::os {

/// What became of a request for an exact place in the address space.
enum class MapOutcome : std::uint8_t {
  Mapped,
  Occupied,   ///< Something else is mapped there, or the place does not exist: try another.
  Exhausted,  ///< No memory or no address space left: another place would not help.
};

/// "No limit" of address_space_limit().
inline constexpr std::size_t unlimited = ~std::size_t{0};

/// The operating system as this library uses it. Addresses and byte counts of the memory functions
/// are multiples of os_page_bytes(), except where a range of names or of output is meant.
struct Interface {
  /// The address of `bytes` of space that nothing is mapped in now, a multiple of os_page_bytes(),
  /// such that the system's own choices for later mappings come to its far end first; 0 if there is
  /// none or the process may not have so much.
  std::uintptr_t (*find_space)(std::size_t bytes);

  /// Maps readable and writable zeros at exactly `address`, never over an existing mapping.
  MapOutcome (*map_at)(void* address, std::size_t bytes);

  /// Maps readable and writable zeros anywhere; null if refused.
  void* (*map)(std::size_t bytes);

  /// Gives a range back. False at the limit on the number of mappings (the middle of a mapping
  /// would have to be cut out); the range is then as before.
  bool (*unmap)(void* address, std::size_t bytes);

  /// Drops the contents: on success the range reads as zeros and occupies no memory until it is
  /// written. False for locked memory; the contents are then undefined but for bytes that were
  /// zero.
  bool (*purge)(void* address, std::size_t bytes);

  /// Resizes a mapping, moving it if it must and `may_move`; the new address, or null if refused,
  /// the mapping then being as before.
  void* (*remap)(void* address, std::size_t old_bytes, std::size_t new_bytes, bool may_move);

  /// Labels a range in /proc/self/maps where the kernel can; `label` must outlive the range.
  void (*name)(void* address, std::size_t bytes, const char* label);

  /// The unit of mapping: a power of two.
  std::size_t (*os_page_bytes)();

  /// The bound on the process's address space (RLIMIT_AS) in bytes, or `unlimited`.
  std::size_t (*address_space_limit)();

  /// Makes every thread of the process that runs now execute a full memory fence; false where the system
  /// cannot.
  bool (*fence_all_threads)();

  /// Milliseconds since an arbitrary moment, monotonic, a few milliseconds coarse. Cost: no kernel
  /// entry.
  std::uint64_t (*now_milliseconds)();

  /// Bits that differ from run to run, the same throughout one run.
  std::uint64_t (*random_bits)();

  /// Sleeps until woken, unless `*word` is no longer `expected`. May return for no reason.
  void (*wait)(const std::uint32_t* word, std::uint32_t expected);

  /// Wakes at most `count` threads that sleep on `word`.
  void (*wake)(const std::uint32_t* word, std::uint32_t count);

  /// Writes to a file descriptor until all is written or an error stops it; the bytes written.
  std::size_t (*write)(int descriptor, const char* text, std::size_t bytes);

  std::uint32_t (*process_id)();
  std::uint32_t (*thread_id)();
};

namespace detail {

[[gnu::visibility("hidden")]] extern constinit HardwareAtomics::Cell<const Interface*> current;

}  // namespace detail

/// The operating system itself.
[[gnu::visibility("hidden")]] extern const Interface linux_interface;

/// The same, but what is mapped may be made of huge pages (of 2 MiB, say) where the system has them for who asks.
[[gnu::visibility("hidden")]] extern const Interface huge_page_interface;

/// The table in force.
/// Order: acquire, with the release in replace_interface(): the table's fields are seen as written.
inline const Interface& interface() noexcept { return *detail::current.load(Order::acquire); }

/// Puts `table` in force and returns the one before. Pre: `table` outlives its use.
inline const Interface& replace_interface(const Interface& table) noexcept {
  return *detail::current.exchange(&table, Order::acq_rel);
}

}  // namespace slabmalloc::os
