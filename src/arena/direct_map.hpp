// SPDX-License-Identifier: MIT
//
// DirectMap: objects so large, or so strictly aligned, that each has its own mapping. A register
// finds them by address.
//
//     register   | {} | {address, bytes, mapping} | {} | {…} | …
//
//     mapping    | slack | object …                  | slack |
//                ^ mapping_base                              ^ mapping_base + mapping_bytes
//
// Slack exists only if it could not be unmapped: of an object that is aligned beyond an OS page, or
// that reuses a larger retired mapping.
//
// A freed mapping is cached, dirty, until the arena purges it or a new object takes it
// (mapping_cache.hpp). A taken mapping is resized to the object's size. A mapping with slack is not
// cached.
//
// An unmap can fail: at the limit on the number of mappings the kernel cannot split one. The
// mapping is then purged and stays in the register as retired. A later object reuses it, or a later
// give_back_retired() unmaps it.
//
// The register is a hash table with linear probing, at most half full. Removal shifts records back,
// so there are no tombstones (Knuth, The Art of Computer Programming 3, 6.4, algorithm R).
//
// In the hardened library an object lies between inaccessible OS pages, which are slack that stays.
// A freed mapping of up to 64 MiB becomes inaccessible as a whole, and is unmapped only after many
// others were freed, or when address space has run out. Objects do not grow in place.
//
//     mapping    | guard | object …                  | guard |
//
// A ring remembers the addresses of the objects freed last, so that a double free is told from a
// free of a foreign address. An address stays in the ring when it is used again. That is harmless,
// since the register is searched first.
//
// Invariants, checked by validate():
//   D1  every record is found by its address, and no address occurs twice
//   D2  count() and bytes() = the number and the object bytes of the records that are not retired
//   D3  the mapped bytes = the mapping bytes of all records + the cached bytes + the bytes of the
//       register; a quarantined mapping takes no memory and does not count
//   D4  records + cached mappings + promises <= capacity / 2
#pragma once

#include <cstddef>
#include <cstdint>

#include "arena/gauge.hpp"
#include "arena/mapping_cache.hpp"
#include "os/mutex.hpp"
#include "slabmalloc/base/atomics.hpp"
#include "tunables.hpp"

namespace slabmalloc {

/// A large object, or a freed one; none if `bytes` is 0.
struct LargePlace {
  const void* start = nullptr;
  std::size_t bytes = 0;
};

/// The objects with their own mappings.
/// Thread: any; one mutex inside.
class DirectMap {
 public:
  /// Adds the bytes that it maps to `committed` too.
  constexpr explicit DirectMap(Gauge& committed) noexcept : committed_(committed) {}

  /// The bytes of a new object, where `bytes` were asked for: OS pages, at least one; 0 if no
  /// address space has that many.
  static std::size_t size_for(std::size_t bytes) noexcept;

  /// Maps an object of at least `bytes` at a multiple of `alignment`, a power of two. Sets `usable`
  /// to its size in bytes, and `zeroed` to whether all of it is known to be zero.
  /// Fails: null if the kernel refuses.
  void* allocate(std::size_t bytes, std::size_t alignment, std::size_t& usable,
                 bool& zeroed) noexcept;

  /// As allocate(), in a cached mapping; null if none is cached. The object's bytes are undefined.
  /// An object aligned beyond the OS page gets none.
  void* allocate_cached(std::size_t bytes, std::size_t alignment, std::size_t& usable) noexcept;

  /// Frees the object that starts at `address` and returns its bytes; 0 if there is none. Caches
  /// its mapping, freed at `stamp`, in the hardened library it quarantines it; or unmaps it if not
  /// `may_keep`.
  std::size_t deallocate(const void* address, bool may_keep, std::uint32_t stamp) noexcept;

  /// The bytes of the object that starts at `address`; 0 if there is none.
  std::size_t usable_bytes(const void* address) noexcept;

  /// The object that holds `address`, else the one of the last freed or moved objects that started
  /// there; neither if its `bytes` are 0.
  /// Cost: O(objects); for diagnosis.
  LargePlace place_of(const void* address) noexcept;

  /// True if `address` lies within an object, but not at its first byte.
  /// Cost: O(objects); for diagnosis.
  bool is_inside(const void* address) noexcept;

  /// True if one of the last freed or moved objects started at `address`. A new object may start
  /// there now. For diagnosis.
  bool has_ended(const void* address) noexcept;

  /// True if an object may have started at `address` that has_ended() does not remember. For
  /// diagnosis.
  bool may_have_forgotten(const void* address) noexcept;

  /// Resizes the object at `address`, and moves it if it must; returns its address. A smaller size
  /// always succeeds. An object aligned beyond the OS page does not move.
  /// Pre: `address` is a multiple of `alignment`, and stays one.
  /// Fails: null; the object is then as before.
  void* resize(void* address, std::size_t bytes, std::size_t alignment = 1) noexcept;

  /// Unmaps at most `most` bytes of the oldest cached mapping, a multiple of the OS page; returns
  /// the bytes, 0 if none is cached.
  std::size_t unmap_oldest(std::size_t most) noexcept;

  /// Unmaps all cached and retired mappings; returns the bytes unmapped.
  std::size_t trim() noexcept;

  /// The bytes of cached mappings. Thread: any.
  std::size_t cached_bytes() const noexcept { return cached_bytes_.load(Order::relaxed); }

  /// Unmaps all quarantined mappings; returns their bytes of address space.
  std::size_t end_quarantine() noexcept;

  /// Sets `stamp` to the age of the oldest cached mapping; false if none is cached.
  bool find_oldest(std::uint32_t& stamp) noexcept;

  /// The objects now, and their bytes.
  std::size_t count() const noexcept { return live_count_.load(Order::relaxed); }
  std::size_t bytes() const noexcept { return live_bytes_.load(Order::relaxed); }

  /// Holds the mutex across a fork. The child keeps what other threads' unfinished calls promised:
  /// room for a few records. It may itself be in the middle of a call, in a signal handler.
  void prepare_fork() noexcept { mutex_.lock_for_fork(); }
  void parent_after_fork() noexcept { mutex_.unlock_after_fork(); }
  void child_after_fork() noexcept { mutex_.unlock_in_child(); }
  /// True if the calling thread holds the mutex.
  bool holds_mutex() const noexcept { return mutex_.is_held(); }

  /// True if D1 to D4 hold.
  /// Thread: no other call is in progress.
  bool validate() noexcept;

 private:
  struct Record {
    std::uintptr_t address = 0;  ///< 0: no record.
    std::size_t bytes = 0;       ///< Of the object; 0 if retired.
    std::uintptr_t mapping_base = 0;
    std::size_t mapping_bytes = 0;
  };

  static bool map(std::size_t bytes, std::size_t alignment, Record& record) noexcept;
  static void unmap_slack(Record& record) noexcept;
  static std::size_t guard_bytes() noexcept;

  // With the mutex held:
  std::size_t slot_for(std::uintptr_t address) const noexcept;
  Record* find(const void* address) noexcept;
  LargePlace find_ended(const void* address) const noexcept;
  bool promise_room() noexcept;
  bool enlarge() noexcept;
  void insert(const Record& record) noexcept;
  void remove(Record* record) noexcept;
  bool reuse_retired(std::size_t bytes, std::size_t alignment, Record& record) noexcept;
  bool take(const void* address, Record& record) noexcept;
  void remember_end(std::uintptr_t address, std::size_t bytes) noexcept;

  bool cache(const Record& record, std::uint32_t stamp, Record& evicted) noexcept;
  Record quarantine(const Record& record) noexcept;

  // Without the mutex:
  void put(const Record& record) noexcept;
  std::size_t unmap_or_retire(const Record& record) noexcept;
  std::size_t give_back_retired() noexcept;
  void retire(Record record) noexcept;
  void note_mapped(std::size_t before, std::size_t after) noexcept;

  os::Mutex mutex_;
  Gauge& committed_;
  Record* records_ = nullptr;
  std::size_t capacity_ = 0;  ///< A power of two, or 0.
  std::size_t count_ = 0;     ///< Records, retired ones included.
  std::size_t promised_ = 0;  ///< Records that threads are mapping, resizing or unmapping now.
  std::size_t retired_ = 0;
  MappingCache cache_;
  HardwareAtomics::Cell<std::size_t> cached_bytes_;  ///< Those of cache_.
  HardwareAtomics::Cell<std::size_t> live_count_;
  HardwareAtomics::Cell<std::size_t> live_bytes_;
  HardwareAtomics::Cell<std::size_t> mapped_bytes_;
  /// Freed mappings that nobody may use yet, in the hardened library: a ring.
  static constexpr std::size_t quarantined_mappings =
      Tunables::hardened ? Tunables::quarantined_mappings : 0;
  struct Quarantined {
    std::uintptr_t base = 0;
    std::size_t bytes = 0;  ///< 0: none.
  };
  Quarantined quarantine_[quarantined_mappings + 1] = {};
  std::size_t quarantines_ = 0;  ///< Of all time; modulo the ring, the next place.

  LargePlace ended_[Tunables::remembered_ends] = {};  ///< None where fewer were freed.
  std::size_t ends_ = 0;  ///< Of all time; modulo the ring, the next place.
};

}  // namespace slabmalloc
