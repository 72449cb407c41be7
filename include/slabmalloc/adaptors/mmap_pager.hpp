// SPDX-License-Identifier: MIT
//
// MmapPager: frames and runs of a hosted program, by mmap(). POSIX.
//
//   MmapPager pager;
//   ScopedZone<MmapPager, PoolConfig> zone(pager);
//
//   region (1 MiB at first, each new one twice as large, up to 32 MiB)
//   | frame | frame | frame | frame |          untouched          |
//                                   ^ next_                       ^ end_
//
// A region is address space: the operating system gives a page of it memory at the first access. A
// run has a mapping of its own. What comes back waits for its next use, since fresh memory costs a
// page fault for each OS page: frames in a stack for each size, runs in a list. Both links lie in
// the free memory itself. When the sum would exceed `kept_bytes`, memory goes back to the operating
// system at once.
//
//   frames_[k] ─► frame of 2^k bytes ─► frame ─► …
//   runs_ ─► run, with its size ─► run ─► …       at most most_runs; adjoining ones become one
//
// Invariants, each with its line in validate():
//   G1  kept_bytes_ = bytes in the stacks + bytes in the list <= kept limit
//   G2  run_count_ = runs in the list <= most_runs
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <new>

#include "slabmalloc/base/bits.hpp"
#include "slabmalloc/zone/pager.hpp"

namespace slabmalloc {

/// A RunPager over anonymous mappings. Thread: any; it has a lock. Zones of several threads can
/// share one.
class MmapPager {
 public:
  static constexpr std::size_t default_kept_bytes = std::size_t{64} << 20;

  /// Makes it keep up to `kept_bytes` of freed memory for its next use.
  explicit MmapPager(std::size_t kept_bytes = default_kept_bytes) noexcept
      : kept_limit_(kept_bytes),
        os_page_bytes_(static_cast<std::size_t>(::sysconf(_SC_PAGESIZE))) {}
  MmapPager(const MmapPager&) = delete;
  MmapPager& operator=(const MmapPager&) = delete;
  /// Unmaps what it keeps. Pre: every frame and run is back.
  ~MmapPager() {
    trim();
    unmap_rest();
  }

  /// A frame of `bytes`; none if the operating system has no memory.
  Frame allocate_frame(std::size_t bytes) noexcept {
    // On hardware with larger OS pages, a frame is a whole one.
    bytes = bytes < os_page_bytes_ ? os_page_bytes_ : bytes;
    const std::lock_guard lock(mutex_);
    Link*& stack = frames_[highest_bit(bytes)];
    if (Link* const frame = stack) {
      stack = frame->next;
      kept_bytes_ -= bytes;
      return static_cast<void*>(frame);
    }
    return {carve(bytes), true};
  }

  void deallocate_frame(void* frame, std::size_t bytes) noexcept {
    bytes = bytes < os_page_bytes_ ? os_page_bytes_ : bytes;
    const std::lock_guard lock(mutex_);
    if (!may_keep(bytes)) {
      unmap(frame, bytes);
      return;
    }
    Link*& stack = frames_[highest_bit(bytes)];
    stack = new (frame) Link{stack};
    kept_bytes_ += bytes;
  }

  /// A run of `bytes`, rounded up to OS pages; none if the operating system has no memory.
  Frame allocate_run(std::size_t bytes, std::size_t alignment) noexcept {
    if (bytes > SIZE_MAX - os_page_bytes_) {
      return {};
    }
    bytes = align_up(bytes, os_page_bytes_);
    const std::lock_guard lock(mutex_);
    void* const run = take_run(bytes, alignment);
    return run != nullptr ? Frame(run) : Frame(map(bytes, alignment), true);
  }

  void deallocate_run(void* run, std::size_t bytes, std::size_t) noexcept {
    bytes = align_up(bytes, os_page_bytes_);
    const std::lock_guard lock(mutex_);
    keep_run(run, bytes);
  }

  /// Gives all that it keeps back to the operating system; returns its size in bytes.
  std::size_t trim() noexcept {
    const std::lock_guard lock(mutex_);
    return release_kept();
  }

  /// Bytes mapped now, in use or not.
  std::size_t mapped_bytes() const noexcept {
    const std::lock_guard lock(mutex_);
    return mapped_bytes_;
  }
  /// Of these, bytes that wait for their next use.
  std::size_t kept_bytes() const noexcept {
    const std::lock_guard lock(mutex_);
    return kept_bytes_;
  }

  /// The broken invariant, as an equation, or null.
  const char* validate() const noexcept {
    const std::lock_guard lock(mutex_);
    std::size_t bytes = 0;
    for (std::uint32_t bit = 0; bit < word_bits; ++bit) {
      for (const Link* frame = frames_[bit]; frame != nullptr; frame = frame->next) {
        bytes += std::size_t{1} << bit;
      }
    }
    std::uint32_t runs = 0;
    for (const Run* run = runs_; run != nullptr; run = run->next) {
      bytes += run->bytes;
      ++runs;
    }
    if (bytes != kept_bytes_ || bytes > kept_limit_) {
      return "G1: kept bytes = bytes in the stacks and the list <= the limit";
    }
    return runs == run_count_ && runs <= most_runs ? nullptr
                                                   : "G2: runs = those in the list <= most";
  }

 private:
  struct Link {
    Link* next;
  };
  struct Run {
    Run* next;
    std::size_t bytes;

    std::byte* end() noexcept { return reinterpret_cast<std::byte*>(this) + bytes; }
  };

  /// A search looks at all of them.
  static constexpr std::uint32_t most_runs = 32;
  static constexpr std::size_t first_region_bytes = std::size_t{1} << 20;
  static constexpr std::size_t most_region_bytes = std::size_t{32} << 20;

  std::size_t release_kept() noexcept {
    const std::size_t kept = kept_bytes_;
    for (std::uint32_t bit = 0; bit < word_bits; ++bit) {
      while (Link* const frame = frames_[bit]) {
        frames_[bit] = frame->next;
        unmap(frame, std::size_t{1} << bit);
      }
    }
    while (Run* const run = runs_) {
      runs_ = run->next;
      unmap(run, run->bytes);
    }
    run_count_ = 0;
    kept_bytes_ = 0;
    return kept;
  }

  bool may_keep(std::size_t bytes) const noexcept { return bytes <= kept_limit_ - kept_bytes_; }

  /// A fresh frame, all zero, or null.
  void* carve(std::size_t bytes) noexcept {
    std::byte* frame = aligned(next_, bytes);
    if (next_ == nullptr || frame < next_ || frame > end_ ||
        static_cast<std::size_t>(end_ - frame) < bytes) {
      std::size_t region_bytes = region_bytes_ < bytes ? bytes : region_bytes_;
      frame = static_cast<std::byte*>(map(region_bytes, bytes));
      if (frame == nullptr && region_bytes != bytes) {
        region_bytes = bytes;
        frame = static_cast<std::byte*>(map(region_bytes, bytes));
      }
      if (frame == nullptr) {
        return nullptr;
      }
      unmap_rest();
      end_ = frame + region_bytes;
      region_bytes_ *= region_bytes_ < most_region_bytes ? 2 : 1;
    } else if (frame != next_) {
      unmap(next_, static_cast<std::size_t>(frame - next_));
    }
    next_ = frame + bytes;
    return frame;
  }
  void unmap_rest() noexcept {
    if (next_ != end_) {
      unmap(next_, static_cast<std::size_t>(end_ - next_));
    }
    next_ = end_ = nullptr;
  }

  /// The first run that is large enough, cut to `bytes`, or null.
  void* take_run(std::size_t bytes, std::size_t alignment) noexcept {
    for (Run** link = &runs_; *link != nullptr; link = &(*link)->next) {
      Run* const run = *link;
      if (run->bytes < bytes || reinterpret_cast<std::uintptr_t>(run) % alignment != 0) {
        continue;
      }
      if (run->bytes == bytes) {
        *link = run->next;
        --run_count_;
      } else {
        *link = new (reinterpret_cast<std::byte*>(run) + bytes) Run{run->next, run->bytes - bytes};
      }
      kept_bytes_ -= bytes;
      return run;
    }
    return nullptr;
  }

  void keep_run(void* address, std::size_t bytes) noexcept {
    if (!may_keep(bytes)) {
      unmap(address, bytes);
      return;
    }
    kept_bytes_ += bytes;
    auto* begin = static_cast<std::byte*>(address);
    std::size_t all_bytes = bytes;
    for (Run** link = &runs_; *link != nullptr;) {
      Run* const run = *link;
      const bool is_below = run->end() == begin;
      if (!is_below && reinterpret_cast<std::byte*>(run) != begin + all_bytes) {
        link = &run->next;
        continue;
      }
      *link = run->next;
      --run_count_;
      begin = is_below ? reinterpret_cast<std::byte*>(run) : begin;
      all_bytes += run->bytes;
    }
    if (run_count_ == most_runs) {
      kept_bytes_ -= all_bytes;
      unmap(begin, all_bytes);
      return;
    }
    runs_ = new (begin) Run{runs_, all_bytes};
    ++run_count_;
  }

  static std::byte* aligned(std::byte* address, std::size_t alignment) noexcept {
    return reinterpret_cast<std::byte*>(
        align_up(reinterpret_cast<std::uintptr_t>(address), alignment));
  }

  static void* map_anywhere(std::size_t bytes) noexcept {
    return ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  }
  /// A mapping aligned to `alignment`, or null. If the system has none, it gives back what waits,
  /// and asks once more.
  void* map(std::size_t bytes, std::size_t alignment) noexcept {
    const std::size_t spare = alignment > os_page_bytes_ ? alignment - os_page_bytes_ : 0;
    if (bytes > SIZE_MAX - spare) {
      return nullptr;
    }
    void* const mapping =
        ::mmap(nullptr, bytes + spare, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapping == MAP_FAILED) {
      return nullptr;
    }
    mapped_bytes_ += bytes + spare;
    auto* const begin = static_cast<std::byte*>(mapping);
    std::byte* const result = aligned(begin, alignment);
    const auto before = static_cast<std::size_t>(result - begin);
    if (before != 0) {
      unmap(begin, before);
    }
    if (before != spare) {
      unmap(result + bytes, spare - before);
    }
    return result;
  }
  /// A mapping in pieces may exceed the system's number of mappings, which refuses it then. The
  /// address space stays, without the memory.
  void unmap(void* address, std::size_t bytes) noexcept {
    if (::munmap(address, bytes) == 0) {
      mapped_bytes_ -= bytes;
    } else {
      ::madvise(address, bytes, MADV_DONTNEED);
    }
  }

  mutable std::mutex mutex_;
  const std::size_t kept_limit_;
  const std::size_t os_page_bytes_;
  std::byte* next_ = nullptr;
  std::byte* end_ = nullptr;
  std::size_t region_bytes_ = first_region_bytes;
  Link* frames_[word_bits] = {};
  Run* runs_ = nullptr;
  std::uint32_t run_count_ = 0;
  std::size_t kept_bytes_ = 0;
  std::size_t mapped_bytes_ = 0;
};

static_assert(RunPager<MmapPager>);

}  // namespace slabmalloc
