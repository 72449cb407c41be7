// SPDX-License-Identifier: MIT
//
// FrameSource is a pager over the C++ heap. It counts frames, checks each returned frame, and fails
// on demand.
//
//   test::FrameSource frames;
//   frames.fail_call(3);                            // the third call from now gives nothing, once
//   frames.set_limit(8 * kibibyte);                 // no more than this at a time
//   auto* page = frames.page<ObjectPage>();         // for refills by hand
//
// At its end it frees all frames that are still out. The running test fails if a frame comes back
// twice, with another size, or from elsewhere.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <map>
#include <mutex>
#include <new>

#include "slabmalloc/zone/pager.hpp"

namespace slabmalloc::test {

/// The content of a frame when FrameSource issues it.
enum class FrameContent : std::uint8_t {
  zero,       ///< Zeroes, and the frame says so.
  garbage,    ///< 0xA5, so that nothing relies on zeroes.
  untouched,  ///< No content, for frames that a test should not touch in full.
};

/// A RunPager. Thread: any.
class FrameSource {
 public:
  explicit FrameSource(FrameContent content = FrameContent::garbage) noexcept : content_(content) {}
  FrameSource(const FrameSource&) = delete;
  FrameSource& operator=(const FrameSource&) = delete;
  ~FrameSource() {
    for (const auto& [address, block] : live_) {
      release(address, block);
    }
  }

  Frame allocate_frame(std::size_t bytes) noexcept { return obtain(bytes, bytes); }
  void deallocate_frame(void* frame, std::size_t bytes) noexcept { give_back(frame, bytes, bytes); }
  Frame allocate_run(std::size_t bytes, std::size_t alignment) noexcept {
    return obtain(bytes, alignment);
  }
  void deallocate_run(void* run, std::size_t bytes, std::size_t alignment) noexcept {
    give_back(run, bytes, alignment);
  }

  /// A frame of `bytes` aligned to its size, or null.
  void* frame(std::size_t bytes) noexcept { return obtain(bytes, bytes).address; }
  /// A frame for a page of type `Page`, for refill(), or null.
  template <class Page>
  Page* page() noexcept {
    return static_cast<Page*>(frame(Page::frame_bytes(0)));
  }
  /// Takes back a frame of page(); fits try_reclaim_pages() through a lambda.
  template <class Page>
  void take_page(Page* page) noexcept {
    const std::size_t bytes = Page::frame_bytes(0);
    give_back(page, bytes, bytes);
  }

  /// Makes the `call`-th allocation from now on fail once, 1 being the next. 0: none.
  void fail_call(std::size_t call) noexcept {
    const std::lock_guard lock(mutex_);
    failing_call_ = call == 0 ? 0 : calls_ + call;
  }
  /// Makes all allocations fail from now on, or ends that.
  void set_exhausted(bool exhausted) noexcept {
    const std::lock_guard lock(mutex_);
    exhausted_ = exhausted;
  }
  /// Limits the bytes of issued frames.
  void set_limit(std::size_t bytes) noexcept {
    const std::lock_guard lock(mutex_);
    limit_bytes_ = bytes;
  }

  /// Calls of allocate_frame, allocate_run, frame and page so far, failed ones included.
  std::size_t calls() const noexcept { return locked(calls_); }
  /// The number of failed calls, for whatever reason.
  std::size_t failures() const noexcept { return locked(failures_); }
  std::size_t live_bytes() const noexcept { return locked(live_bytes_); }
  std::size_t live_bytes_high_water() const noexcept { return locked(live_bytes_high_water_); }
  /// Frames and runs that are issued and not returned.
  std::size_t live_frames() const noexcept {
    const std::lock_guard lock(mutex_);
    return live_.size();
  }

 private:
  struct Block {
    std::size_t bytes;
    std::size_t alignment;
  };

  std::size_t locked(const std::size_t& value) const noexcept {
    const std::lock_guard lock(mutex_);
    return value;
  }

  Frame obtain(std::size_t bytes, std::size_t alignment) noexcept {
    const std::lock_guard lock(mutex_);
    ++calls_;
    const bool fails = exhausted_ || calls_ == failing_call_ || bytes > limit_bytes_ ||
                       live_bytes_ > limit_bytes_ - bytes;
    void* address =
        fails ? nullptr : ::operator new(bytes, std::align_val_t{alignment}, std::nothrow);
    if (address == nullptr) {
      ++failures_;
      return {};
    }
    if (content_ != FrameContent::untouched) {
      std::memset(address, content_ == FrameContent::zero ? 0 : 0xA5, bytes);
    }
    live_.emplace(address, Block{bytes, alignment});
    live_bytes_ += bytes;
    live_bytes_high_water_ =
        live_bytes_ > live_bytes_high_water_ ? live_bytes_ : live_bytes_high_water_;
    return {address, content_ == FrameContent::zero};
  }

  void give_back(void* address, std::size_t bytes, std::size_t alignment) noexcept {
    const std::lock_guard lock(mutex_);
    const auto found = live_.find(address);
    if (found == live_.end()) {
      ADD_FAILURE() << "frame " << address << " was given back twice or never given out";
      return;
    }
    EXPECT_EQ(found->second.bytes, bytes) << "frame " << address;
    EXPECT_EQ(found->second.alignment, alignment) << "frame " << address;
    live_bytes_ -= found->second.bytes;
    release(address, found->second);
    live_.erase(found);
  }

  static void release(void* address, const Block& block) noexcept {
    ::operator delete(address, std::align_val_t{block.alignment});
  }

  mutable std::mutex mutex_;
  std::map<void*, Block> live_;
  FrameContent content_;
  bool exhausted_ = false;
  std::size_t limit_bytes_ = std::numeric_limits<std::size_t>::max();
  std::size_t calls_ = 0;
  std::size_t failures_ = 0;
  std::size_t failing_call_ = 0;
  std::size_t live_bytes_ = 0;
  std::size_t live_bytes_high_water_ = 0;
};

static_assert(RunPager<FrameSource>);

}  // namespace slabmalloc::test
