// SPDX-License-Identifier: MIT
//
// The fixture of MappedRuns tests: frames are pages of a memory file, and the map really maps them.
//
//   memory file  | frame | frame | …  ──► direct map, where the frame allocator has them
//                                     ──► range, where MappedRuns maps them one by one
//
// The map fails the running test if a page is mapped twice, or unmapped when it is not mapped. So
// do the frames if one comes back that is mapped, or was unmapped without a flush since.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <set>

#include "kernel/frame_fixture.hpp"
#include "slabmalloc/kernel.hpp"

namespace slabmalloc::test {

/// Counts calls, of which one may fail, once.
class CallPlan {
 public:
  /// The `call`-th call from now fails; 0: none.
  void fail_call(std::size_t call) noexcept { failing_ = call == 0 ? 0 : calls_ + call; }
  std::size_t calls() const noexcept { return calls_; }
  bool fails() noexcept { return ++calls_ == failing_; }

 private:
  std::size_t calls_ = 0;
  std::size_t failing_ = 0;
};

/// Page tables over a memory file. Thread: any.
class MemoryFileMap {
 public:
  /// Called for each page on its way in.
  std::function<void(void*)> on_map;

  static constexpr std::size_t page = 4 * kibibyte;

  MemoryFileMap(std::size_t memory_bytes, std::size_t range_bytes)
      : file_(::memfd_create("frames", 0)), memory_bytes_(memory_bytes), range_bytes_(range_bytes) {
    EXPECT_EQ(::ftruncate(file_, static_cast<off_t>(memory_bytes)), 0);
    memory_ = map_anywhere(memory_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file_);
    range_ = map_anywhere(range_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
  }
  MemoryFileMap(const MemoryFileMap&) = delete;
  MemoryFileMap& operator=(const MemoryFileMap&) = delete;
  ~MemoryFileMap() {
    EXPECT_TRUE(mapped_.empty());
    ::munmap(memory_, memory_bytes_);
    ::munmap(range_, range_bytes_);
    ::close(file_);
  }

  bool map(void* address, void* frame, std::size_t bytes) noexcept {
    const std::lock_guard lock(mutex_);
    if (plan.fails()) {
      return false;
    }
    EXPECT_EQ(bytes, page);
    if (on_map) {
      on_map(address);
    }
    EXPECT_TRUE(mapped_.emplace(address, frame).second) << "mapped twice: " << address;
    EXPECT_TRUE(frames_in_use_.insert(frame).second) << "frame mapped twice: " << frame;
    const auto offset = static_cast<std::byte*>(frame) - static_cast<std::byte*>(memory_);
    EXPECT_EQ(::mmap(address, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file_, offset),
              address);
    return true;
  }
  void unmap(void* address, std::size_t bytes) noexcept {
    const std::lock_guard lock(mutex_);
    for (std::size_t offset = 0; offset < bytes; offset += page) {
      const auto found = mapped_.find(static_cast<std::byte*>(address) + offset);
      if (found == mapped_.end()) {
        ADD_FAILURE() << "unmapped, but not mapped: " << address << " + " << offset;
        return;
      }
      unflushed_.insert(found->second);
      mapped_.erase(found);
    }
    EXPECT_NE(bytes, 0u);
    EXPECT_EQ(::mmap(address, bytes, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0),
              address);
  }
  void flush() noexcept {
    const std::lock_guard lock(mutex_);
    ++flushes;
    for (void* const frame : unflushed_) {
      frames_in_use_.erase(frame);
    }
    unflushed_.clear();
  }

  /// True if a CPU may still reach the frame by the range.
  bool uses(void* frame) const {
    const std::lock_guard lock(mutex_);
    return frames_in_use_.contains(frame);
  }
  /// The system refuses to read the byte at `address`.
  static bool faults(const void* address) {
    int ends[2];
    EXPECT_EQ(::pipe(ends), 0);
    const bool failed = ::write(ends[1], address, 1) != 1;
    ::close(ends[0]);
    ::close(ends[1]);
    return failed;
  }
  std::size_t mapped_pages() const {
    const std::lock_guard lock(mutex_);
    return mapped_.size();
  }
  MemoryRegion memory() const { return {reinterpret_cast<std::uintptr_t>(memory_), memory_bytes_}; }
  MemoryRegion range() const { return {reinterpret_cast<std::uintptr_t>(range_), range_bytes_}; }

  CallPlan plan;
  std::size_t flushes = 0;

 private:
  static void* map_anywhere(std::size_t bytes, int protection, int flags, int file) {
    void* const address = ::mmap(nullptr, bytes, protection, flags, file, 0);
    EXPECT_NE(address, MAP_FAILED);
    return address;
  }

  mutable std::mutex mutex_;
  int file_;
  std::size_t memory_bytes_;
  std::size_t range_bytes_;
  void* memory_;
  void* range_;
  std::map<void*, void*> mapped_;
  std::set<void*> frames_in_use_;  ///< Mapped, or unmapped and not flushed.
  std::set<void*> unflushed_;
};

/// Frames that check what comes back. Thread: any.
class CheckedFrames {
 public:
  static constexpr std::size_t base_bytes = MemoryFileMap::page;

  explicit CheckedFrames(MemoryFileMap& map) : map_(map) {
    const MemoryRegion memory = map.memory();
    EXPECT_TRUE(frames.add(&memory, 1));
  }

  Frame allocate_frame(std::size_t bytes) noexcept {
    return fails() ? Frame() : frames.allocate_frame(bytes);
  }
  void deallocate_frame(void* frame, std::size_t bytes) noexcept {
    EXPECT_FALSE(map_.uses(frame)) << "a CPU may still reach " << frame;
    frames.deallocate_frame(frame, bytes);
  }
  Frame allocate_run(std::size_t bytes, std::size_t alignment) noexcept {
    return fails() ? Frame() : frames.allocate_run(bytes, alignment);
  }
  bool deallocate_run(void* run, std::size_t bytes, std::size_t alignment) noexcept {
    return frames.deallocate_run(run, bytes, alignment);
  }
  PagerBlock block_at(const void* address) const noexcept { return frames.block_at(address); }

  std::size_t used_bytes() const { return frames.statistics().used_bytes; }

  Frames frames;
  CallPlan plan;

 private:
  bool fails() noexcept {
    const std::lock_guard lock(mutex_);
    return plan.fails();
  }

  std::mutex mutex_;
  MemoryFileMap& map_;
};

}  // namespace slabmalloc::test
