// SPDX-License-Identifier: MIT
//
// DirectMap: objects so large, or so strictly aligned, that each has a mapping of its own, and the
// register by which an address is known to be one.
//
//     register   | {} | {address, bytes, mapping} | {} | {…} | …
//
//     mapping    | slack | object …                  | slack |
//                ^ mapping_base                              ^ mapping_base + mapping_bytes
//
// Slack is there only if the object is aligned beyond an OS page and cutting the slack off failed.
//
// Giving a mapping back can fail: at the limit on the number of mappings the kernel will not cut
// one out of the middle of another. Such a mapping is purged and kept in the register as retired,
// to be used for a later object or given back by a later give_back_retired().
//
// The register is a hash table with linear probing, at most half full, and removal by shifting back
// (Knuth, The Art of Computer Programming 3, 6.4, algorithm R), so that there are no tombstones.
//
// The addresses of the objects that ended last are remembered in a ring, so that a second free is
// told from a free of what never was an object. Nothing takes an address out of it: one that is an
// object's again is found in the register first.
//
// Invariants, checked by validate():
//   D1  every record is found by its address, and no address is there twice
//   D2  count() and bytes() are the number and the object bytes of the records that are not retired
//   D3  the mapped bytes = the mapping bytes of all records + the bytes of the register
//   D4  records and promises together number at most half the capacity
#pragma once

#include <cstddef>
#include <cstdint>

#include "arena/gauge.hpp"
#include "os/mutex.hpp"
#include "slabmalloc/base/atomics.hpp"
#include "tunables.hpp"

namespace slabmalloc {

/// Objects with a mapping each. Thread: every function from any thread; one mutex inside.
class DirectMap {
 public:
  /// Counts the bytes that it maps into `committed` too.
  constexpr explicit DirectMap(Gauge& committed) noexcept : committed_(committed) {}

  /// Maps an object of at least `bytes` at a multiple of `alignment`, a power of two. `usable` is
  /// set to the bytes it has, `zeroed` to whether every one is known to be zero. Null if refused.
  void* allocate(std::size_t bytes, std::size_t alignment, std::size_t& usable,
                 bool& zeroed) noexcept;

  /// Ends the object at `address` and returns its bytes; 0 if there is none at that very address.
  std::size_t deallocate(const void* address) noexcept;

  /// The bytes of the object at that very address; 0 if there is none.
  std::size_t usable_bytes(const void* address) noexcept;

  /// True if `address` lies within an object, but not at its first byte. Cost: O(objects); for
  /// diagnosis.
  bool is_inside(const void* address) noexcept;

  /// True if an object at that very address was one of the last to end, by deallocate() or by
  /// moving away. It may be an object again. For diagnosis.
  bool has_ended(const void* address) noexcept;

  /// Resizes the object at `address`, moving it if it must; its new address, or null if refused,
  /// the object then being as before. A smaller size is never refused. Objects aligned beyond the
  /// OS page do not move. Pre: `address` is a multiple of `alignment`, and stays one.
  void* resize(void* address, std::size_t bytes, std::size_t alignment = 1) noexcept;

  /// Gives back what could not be given back when it was freed; the bytes given back.
  std::size_t give_back_retired() noexcept;

  /// The objects now, and their bytes.
  std::size_t count() const noexcept { return live_count_.load(Order::relaxed); }
  std::size_t bytes() const noexcept { return live_bytes_.load(Order::relaxed); }

  /// Holds the mutex across a fork. In the child what other threads had under way is forgotten.
  void prepare_fork() noexcept { mutex_.lock(); }
  void parent_after_fork() noexcept { mutex_.unlock(); }
  void child_after_fork() noexcept {
    promised_ = 0;
    mutex_.reinitialise_after_fork();
  }

  /// True if D1 to D4 hold. Thread: no other call may be under way.
  bool validate() noexcept;

 private:
  struct Record {
    std::uintptr_t address = 0;  ///< 0: no record.
    std::size_t bytes = 0;       ///< Of the object; 0 if retired.
    std::uintptr_t mapping_base = 0;
    std::size_t mapping_bytes = 0;
  };

  static bool map(std::size_t bytes, std::size_t alignment, Record& record) noexcept;

  // These with the mutex held.
  std::size_t slot_for(std::uintptr_t address) const noexcept;
  Record* find(const void* address) noexcept;
  bool promise_room() noexcept;
  bool enlarge() noexcept;
  void insert(const Record& record) noexcept;
  void remove(Record* record) noexcept;
  bool reuse_retired(std::size_t bytes, std::size_t alignment, Record& record) noexcept;
  bool take(const void* address, Record& record) noexcept;
  void remember_end(std::uintptr_t address) noexcept;

  // These without.
  void put(const Record& record) noexcept;
  void retire(Record record) noexcept;
  void note_mapped(std::size_t before, std::size_t after) noexcept;

  os::Mutex mutex_;
  Gauge& committed_;
  Record* records_ = nullptr;
  std::size_t capacity_ = 0;  ///< A power of two, or 0.
  std::size_t count_ = 0;     ///< Records, retired ones included.
  std::size_t promised_ = 0;  ///< Room held for records that are being mapped, resized or unmapped.
  std::size_t retired_ = 0;
  HardwareAtomics::Cell<std::size_t> live_count_;
  HardwareAtomics::Cell<std::size_t> live_bytes_;
  HardwareAtomics::Cell<std::size_t> mapped_bytes_;
  std::uintptr_t ended_[Tunables::remembered_ends] = {};  ///< 0 where fewer have ended.
  std::size_t ends_ = 0;                        ///< So many in all; the next goes to this place.
};

}  // namespace slabmalloc
