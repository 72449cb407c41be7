// SPDX-License-Identifier: MIT
//
// FaultyOs replaces the operating system for as long as it lives, and fails as a test tells it to.
//
//   test::FaultyOs os;
//   os.fail_call(3);              // the third memory call from now fails, once
//   os.fail_from(3);              // it and all after it
//   os.fail_every(OsCall::Purge); // all of a kind
//   os.heal();
//   os.limit_commit(64 << 20);    // strict overcommit: no more than this is ever usable
//   os.limit_address_space(1 << 30);
//   os.limit_mappings(100);       // as the kernel counts them; before the first one
//   os.set_os_page_bytes(65536);
//   os.advance_clock(300);        // the clock stands still otherwise
//   os.before_each_purge([] {});  // other threads act here
//
// It passes calls on to the kernel and checks their arguments: aligned, nothing mapped twice. It
// counts mapped bytes, and unmaps everything at its end, so an arena needs no destructor.
#pragma once

#include <errno.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <utility>

#include "os/os.hpp"
#include "slabmalloc/base/bits.hpp"

namespace slabmalloc::test {

/// The calls that a test can make fail.
enum class OsCall : std::size_t {
  FindSpace,
  IsEmpty,
  MapAt,
  Map,
  Unmap,
  Purge,
  ForbidAccess,
  PermitAccess,
  Remap,
  Fence,
  Count
};

/// Ranges of address space that do not overlap.
class Ranges {
 public:
  void add(std::uintptr_t start, std::size_t bytes) {
    EXPECT_FALSE(overlaps(start, bytes)) << "a range is mapped twice";
    ranges_[start] = bytes;
    bytes_ += bytes;
  }
  void remove(std::uintptr_t start, std::size_t bytes) {
    std::size_t removed = 0;
    const std::uintptr_t end = start + bytes;
    for (auto range = first_overlapping(start); range != ranges_.end() && range->first < end;) {
      const std::uintptr_t range_start = range->first;
      const std::uintptr_t range_end = range_start + range->second;
      range = ranges_.erase(range);
      if (range_start < start) {
        ranges_[range_start] = start - range_start;
      }
      if (range_end > end) {
        ranges_[end] = range_end - end;
      }
      removed += (range_end < end ? range_end : end) - (range_start > start ? range_start : start);
    }
    EXPECT_EQ(removed, bytes) << "what was never mapped is unmapped";
    bytes_ -= removed;
  }
  bool overlaps(std::uintptr_t start, std::size_t bytes) {
    const auto range = first_overlapping(start);
    return range != ranges_.end() && range->first < start + bytes;
  }
  bool contains(std::uintptr_t start, std::size_t bytes) {
    const auto range = first_overlapping(start);
    return range != ranges_.end() && range->first <= start &&
           start + bytes <= range->first + range->second;
  }
  std::size_t bytes() const { return bytes_; }
  void unmap_all() {
    for (const auto& [start, bytes] : ranges_) {
      munmap(reinterpret_cast<void*>(start), bytes);
    }
  }

 private:
  std::map<std::uintptr_t, std::size_t>::iterator first_overlapping(std::uintptr_t start) {
    auto range = ranges_.upper_bound(start);
    if (range != ranges_.begin()) {
      const auto before = std::prev(range);
      if (before->first + before->second > start) {
        return before;
      }
    }
    return range;
  }

  std::map<std::uintptr_t, std::size_t> ranges_;
  std::size_t bytes_ = 0;
};

/// Mappings as the kernel counts them: neighbours with the same access are one.
class Mappings {
 public:
  enum class Access : std::uint8_t { None, Usable, Forbidden };

  void set(std::uintptr_t start, std::size_t bytes, Access access) {
    const std::uintptr_t end = start + bytes;
    const Access behind = access_at(end);
    from_.erase(from_.lower_bound(start), from_.upper_bound(end));
    begin(start, access);
    begin(end, behind);
  }
  std::size_t count() const {
    std::size_t mappings = 0;
    for (const auto& [start, access] : from_) {
      mappings += access != Access::None ? 1 : 0;
    }
    return mappings;
  }

 private:
  Access access_at(std::uintptr_t address) const {
    const auto after = from_.upper_bound(address);
    return after != from_.begin() ? std::prev(after)->second : Access::None;
  }
  void begin(std::uintptr_t start, Access access) {
    if (access_at(start) != access) {
      from_[start] = access;
    }
  }

  std::map<std::uintptr_t, Access> from_;  ///< The access from an address up to the next one.
};

/// See the top of the file. Only one may exist. Thread: any thread may call the operating system.
class FaultyOs {
 public:
  FaultyOs() : table_(os::linux_interface) {
    active_ = this;
    table_.find_space = &on_find_space;
    table_.is_empty = &on_is_empty;
    table_.map_at = &on_map_at;
    table_.map = &on_map;
    table_.unmap = &on_unmap;
    table_.purge = &on_purge;
    table_.forbid_access = &on_forbid_access;
    table_.permit_access = &on_permit_access;
    table_.remap = &on_remap;
    table_.fence_all_threads = &on_fence;
    table_.os_page_bytes = [] { return active_->os_page_bytes_; };
    table_.address_space_limit = [] { return active_->address_space_limit_; };
    table_.now_milliseconds = [] {
      const std::lock_guard lock(active_->mutex_);
      return active_->clock_;
    };
    table_.random_bits = [] { return std::uint64_t{5}; };
    previous_ = &os::replace_interface(table_);
  }
  FaultyOs(const FaultyOs&) = delete;
  FaultyOs& operator=(const FaultyOs&) = delete;
  ~FaultyOs() {
    os::replace_interface(*previous_);
    usable_.unmap_all();
    active_ = nullptr;
  }

  /// Makes the k-th memory call from now on fail, counting from 1.
  void fail_call(std::size_t k) { fail_between(k, k); }
  void fail_from(std::size_t k) { fail_between(k, ~std::size_t{0}); }
  void fail_every(OsCall call) { refused_[static_cast<std::size_t>(call)] = true; }
  void heal() {
    fail_between(~std::size_t{0}, 0);
    for (bool& refused : refused_) {
      refused = false;
    }
  }

  void limit_commit(std::size_t bytes) { commit_limit_ = bytes; }
  void limit_address_space(std::size_t bytes) { address_space_limit_ = bytes; }
  void limit_space(std::size_t bytes) { space_limit_ = bytes; }
  void limit_mappings(std::size_t count) { mapping_limit_ = count; }
  void set_os_page_bytes(std::size_t bytes) { os_page_bytes_ = bytes; }
  std::size_t os_page_bytes() const { return os_page_bytes_; }
  void advance_clock(std::uint64_t milliseconds) {
    const std::lock_guard lock(mutex_);
    clock_ += milliseconds;
  }

  /// The purging thread calls `work` before each purge. Thread: no other thread may call the
  /// operating system meanwhile.
  void before_each_purge(std::function<void()> work) { before_purge_ = std::move(work); }

  /// Memory calls since the last fail_…() or heal(), and the number of failed calls in all.
  std::size_t calls() const { return calls_; }
  std::size_t failures() const { return failures_; }
  std::size_t purges() const { return purges_; }
  /// The number of calls that a limit refused.
  std::size_t refusals() const { return refusals_; }
  /// Bytes that are readable and writable now.
  std::size_t usable_bytes() const { return usable_.bytes(); }

 private:
  void fail_between(std::size_t first, std::size_t last) {
    calls_ = 0;
    first_failing_ = first;
    last_failing_ = last;
  }

  /// Counts a call, with the mutex held; true if it must fail.
  bool fails(OsCall call, const void* address, std::size_t bytes) {
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(address) % os_page_bytes_, 0u);
    EXPECT_EQ(bytes % os_page_bytes_, 0u);
    EXPECT_NE(bytes, 0u);
    ++calls_;
    const bool failing = (first_failing_ <= calls_ && calls_ <= last_failing_) ||
                         refused_[static_cast<std::size_t>(call)];
    failures_ += failing ? 1 : 0;
    return failing;
  }
  /// True if the limits allow `bytes` more of address space.
  bool allowed(std::size_t bytes) {
    const bool fits =
        usable_.bytes() + bytes <= commit_limit_ && usable_.bytes() + bytes <= address_space_limit_;
    refusals_ += fits ? 0 : 1;
    return fits;
  }
  /// Notes the access of a range, unless there are too many mappings then. The kernel allows what
  /// adds none.
  bool note_access(std::uintptr_t start, std::size_t bytes, Mappings::Access access) {
    if (mapping_limit_ == os::unlimited) {
      return true;
    }
    Mappings after = mappings_;
    after.set(start, bytes, access);
    if (after.count() > mapping_limit_ && after.count() > mappings_.count()) {
      ++refusals_;
      return false;
    }
    mappings_ = std::move(after);
    return true;
  }

  static std::uintptr_t number(void* address) { return reinterpret_cast<std::uintptr_t>(address); }

  static std::uintptr_t on_find_space(std::size_t bytes) {
    const std::lock_guard lock(active_->mutex_);
    const bool refused = active_->fails(OsCall::FindSpace, nullptr, bytes) ||
                         bytes > active_->space_limit_ ||
                         active_->usable_.bytes() + bytes > active_->address_space_limit_;
    const std::size_t slack = active_->os_page_bytes_ - os::linux_interface.os_page_bytes();
    const std::uintptr_t space = refused ? 0 : os::linux_interface.find_space(bytes + slack);
    return align_up(space, active_->os_page_bytes_);
  }

  static bool on_is_empty(void* address, std::size_t bytes) {
    const std::lock_guard lock(active_->mutex_);
    return !active_->fails(OsCall::IsEmpty, address, bytes) &&
           os::linux_interface.is_empty(address, bytes);
  }

  static bool on_fence() {
    const std::lock_guard lock(active_->mutex_);
    return !active_->fails(OsCall::Fence, nullptr, active_->os_page_bytes_) &&
           os::linux_interface.fence_all_threads();
  }

  static os::MapOutcome on_map_at(void* address, std::size_t bytes) {
    const std::lock_guard lock(active_->mutex_);
    if (active_->fails(OsCall::MapAt, address, bytes) || !active_->allowed(bytes)) {
      return os::MapOutcome::Exhausted;
    }
    const os::MapOutcome outcome = map_exactly(address, bytes);
    if (outcome == os::MapOutcome::Mapped &&
        !active_->note_access(number(address), bytes, Mappings::Access::Usable)) {
      munmap(address, bytes);
      return os::MapOutcome::Exhausted;
    }
    if (outcome == os::MapOutcome::Mapped) {
      active_->usable_.add(number(address), bytes);
    }
    return outcome;
  }

  static void* on_map(std::size_t bytes) {
    const std::lock_guard lock(active_->mutex_);
    if (active_->fails(OsCall::Map, nullptr, bytes) || !active_->allowed(bytes)) {
      return nullptr;
    }
    void* const address = active_->aligned(os::linux_interface.map, bytes);
    if (address != nullptr &&
        !active_->note_access(number(address), bytes, Mappings::Access::Usable)) {
      munmap(address, bytes);
      return nullptr;
    }
    if (address != nullptr) {
      active_->usable_.add(number(address), bytes);
    }
    return address;
  }

  static bool on_unmap(void* address, std::size_t bytes) {
    const std::lock_guard lock(active_->mutex_);
    if (active_->fails(OsCall::Unmap, address, bytes) ||
        !active_->note_access(number(address), bytes, Mappings::Access::None)) {
      return false;
    }
    active_->usable_.remove(number(address), bytes);
    return os::linux_interface.unmap(address, bytes);
  }

  static bool on_purge(void* address, std::size_t bytes) {
    if (active_->before_purge_) {
      active_->before_purge_();
    }
    const std::lock_guard lock(active_->mutex_);
    EXPECT_TRUE(active_->usable_.overlaps(number(address), bytes));
    if (active_->fails(OsCall::Purge, address, bytes)) {
      return false;
    }
    ++active_->purges_;
    return os::linux_interface.purge(address, bytes);
  }

  static bool on_forbid_access(void* address, std::size_t bytes) {
    return change_access(OsCall::ForbidAccess, Mappings::Access::Forbidden,
                         os::linux_interface.forbid_access, address, bytes);
  }
  static bool on_permit_access(void* address, std::size_t bytes) {
    return change_access(OsCall::PermitAccess, Mappings::Access::Usable,
                         os::linux_interface.permit_access, address, bytes);
  }
  static bool change_access(OsCall call, Mappings::Access access,
                            bool (*change)(void*, std::size_t), void* address, std::size_t bytes) {
    const std::lock_guard lock(active_->mutex_);
    EXPECT_TRUE(active_->usable_.overlaps(number(address), bytes));
    return !active_->fails(call, address, bytes) &&
           active_->note_access(number(address), bytes, access) && change(address, bytes);
  }

  static void* on_remap(void* address, std::size_t old_bytes, std::size_t new_bytes,
                        bool may_move) {
    const std::lock_guard lock(active_->mutex_);
    EXPECT_TRUE(active_->usable_.contains(number(address), old_bytes));
    const std::size_t more = new_bytes > old_bytes ? new_bytes - old_bytes : 0;
    if (active_->fails(OsCall::Remap, address, new_bytes) || !active_->allowed(more)) {
      return nullptr;
    }
    // To move or grow one, the kernel wants room for a few mappings.
    if (more != 0 && active_->mapping_limit_ != os::unlimited &&
        active_->mappings_.count() + 3 > active_->mapping_limit_) {
      ++active_->refusals_;
      return nullptr;
    }
    // If the pretended OS page is larger, the kernel would move to a misaligned place.
    const bool real_pages = active_->os_page_bytes_ == os::linux_interface.os_page_bytes();
    void* const moved =
        os::linux_interface.remap(address, old_bytes, new_bytes, may_move && real_pages);
    if (moved != nullptr) {
      active_->usable_.remove(number(address), old_bytes);
      active_->usable_.add(number(moved), new_bytes);
      active_->note_access(number(address), old_bytes, Mappings::Access::None);
      active_->note_access(number(moved), new_bytes, Mappings::Access::Usable);
    }
    return moved;
  }

  /// Like linux_interface.map_at, but without the C library. For the thread sanitizer's mmap, an
  /// address that it holds itself is only a hint, so it maps at 0.
  static os::MapOutcome map_exactly(void* address, std::size_t bytes) {
    const int saved_errno = errno;
    const long got =
        syscall(SYS_mmap, address, bytes, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, static_cast<off_t>(0));
    if (got == -1) {
      return std::exchange(errno, saved_errno) == ENOMEM ? os::MapOutcome::Exhausted
                                                         : os::MapOutcome::Occupied;
    }
    return os::MapOutcome::Mapped;
  }

  /// A mapping aligned to the pretended OS page.
  void* aligned(void* (*map)(std::size_t), std::size_t bytes) const {
    const std::size_t slack = os_page_bytes_ - os::linux_interface.os_page_bytes();
    void* const got = map(bytes + slack);
    if (got == nullptr || slack == 0) {
      return got;
    }
    const std::uintptr_t start = align_up(number(got), os_page_bytes_);
    const std::size_t head = start - number(got);
    if (head != 0) {
      munmap(got, head);
    }
    if (slack != head) {
      munmap(reinterpret_cast<void*>(start + bytes), slack - head);
    }
    return reinterpret_cast<void*>(start);
  }

  static inline FaultyOs* active_ = nullptr;

  std::mutex mutex_;
  os::Interface table_;
  const os::Interface* previous_ = nullptr;
  Ranges usable_;
  std::size_t os_page_bytes_ = os::linux_interface.os_page_bytes();
  std::size_t address_space_limit_ = os::unlimited;
  std::size_t commit_limit_ = os::unlimited;
  std::size_t mapping_limit_ = os::unlimited;
  Mappings mappings_;
  /// Small enough for a sanitizer's layout of the address space.
  std::size_t space_limit_ = std::size_t{80} << 30;
  std::uint64_t clock_ = 1000;
  std::function<void()> before_purge_;
  std::size_t calls_ = 0;
  std::size_t failures_ = 0;
  std::size_t purges_ = 0;
  std::size_t refusals_ = 0;
  std::size_t first_failing_ = ~std::size_t{0};
  std::size_t last_failing_ = 0;
  bool refused_[static_cast<std::size_t>(OsCall::Count)] = {};
};

}  // namespace slabmalloc::test
