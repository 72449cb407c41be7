// SPDX-License-Identifier: MIT
//
// Frames is a pager over the frames of a trial's host. It counts frames, checks each returned
// frame, and fails on demand. At its end it returns all frames that are still out.
#pragma once

#include <cstddef>
#include <cstdint>

#include "scenarios/list.hpp"
#include "slabmalloc/page/embedded_page.hpp"
#include "slabmalloc/zone/pager.hpp"

namespace slabmalloc::scenario {

/// The content of a frame when the pager issues it.
enum class FrameContent : std::uint8_t {
  zero,       ///< Zeroes, and the frame says so.
  garbage,    ///< 0xA5, so that nothing relies on zeroes.
  untouched,  ///< Nothing but garbage at the end, for frames larger than what a scenario should
              ///< touch.
  lying,      ///< Ones, and the frame says that it is zeroed: shows unwritten bytes.
};

/// The pager does not fill larger frames.
inline constexpr std::size_t most_filled_bytes = 4 * mebibyte;
/// Bytes at the end of a frame that may hold an embedded header.
inline constexpr std::size_t most_header_bytes = 4 * kibibyte;

/// A RunPager.
class Frames {
 public:
  explicit Frames(Trial& trial, FrameContent content = FrameContent::garbage) noexcept
      : trial_(trial), live_(trial, most_frames), content_(content) {}
  Frames(const Frames&) = delete;
  Frames& operator=(const Frames&) = delete;
  ~Frames() {
    for (const Block& block : live_) {
      trial_.deallocate_frame(block.address, block.frame_bytes);
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
    give_back(page, Page::frame_bytes(0), Page::frame_bytes(0));
  }

  /// Makes `count` calls fail, starting with the `first`-th from now on, 1 being the next.
  void fail_calls(std::size_t first, std::size_t count) noexcept {
    first_failing_ = calls_ + first;
    failing_calls_ = count;
  }
  /// Limits the bytes of issued frames.
  void set_limit(std::size_t bytes) noexcept { limit_bytes_ = bytes; }

  /// Calls of allocate_frame, allocate_run, frame and page so far, failed ones included.
  std::size_t calls() const noexcept { return calls_; }
  std::size_t live_bytes() const noexcept { return live_bytes_; }
  /// Frames and runs that are issued and not returned.
  std::size_t live_frames() const noexcept { return live_.size(); }

 private:
  struct Block {
    void* address;
    std::size_t bytes;
    std::size_t alignment;
    std::size_t frame_bytes;
  };
  static constexpr std::size_t most_frames = 2048;

  bool fails(std::size_t bytes) const noexcept {
    return calls_ - first_failing_ < failing_calls_ || bytes > limit_bytes_ ||
           live_bytes_ > limit_bytes_ - bytes;
  }

  Frame obtain(std::size_t bytes, std::size_t alignment) noexcept {
    ++calls_;
    const std::size_t frame_bytes = frame_bytes_for(bytes > alignment ? bytes : alignment);
    void* address = fails(bytes) ? nullptr : trial_.allocate_frame(frame_bytes);
    if (address == nullptr) {
      return {};
    }
    const bool is_filled = content_ != FrameContent::untouched && bytes <= most_filled_bytes;
    constexpr int filling[] = {0, 0xA5, 0xA5, 0xFF};
    // A frame that keeps its content must not keep its end, which may hold an earlier scenario's
    // header.
    const std::size_t kept_bytes =
        is_filled || bytes <= most_header_bytes ? 0 : bytes - most_header_bytes;
    __builtin_memset(static_cast<std::byte*>(address) + kept_bytes,
                     filling[static_cast<std::size_t>(content_)], bytes - kept_bytes);
    const bool is_zeroed =
        is_filled && (content_ == FrameContent::zero || content_ == FrameContent::lying);
    live_.push_back({address, bytes, alignment, frame_bytes});
    live_bytes_ += bytes;
    return {address, is_zeroed};
  }

  void give_back(void* address, std::size_t bytes, std::size_t alignment) noexcept {
    std::size_t index = live_.size();
    while (index != 0 && live_[index - 1].address != address) {
      --index;
    }
    if (!trial_.check(index != 0, "a frame is given back once, and was given out")) {
      return;
    }
    const Block block = live_.remove_at(index - 1);
    trial_.equal(bytes, block.bytes, "a frame is given back with its size");
    trial_.equal(alignment, block.alignment, "a run is given back with its alignment");
    live_bytes_ -= block.bytes;
    trial_.deallocate_frame(block.address, block.frame_bytes);
  }

  Trial& trial_;
  List<Block> live_;
  FrameContent content_;
  std::size_t limit_bytes_ = ~std::size_t{0};
  std::size_t calls_ = 0;
  std::size_t first_failing_ = 0;
  std::size_t failing_calls_ = 0;
  std::size_t live_bytes_ = 0;
};

static_assert(RunPager<Frames>);

}  // namespace slabmalloc::scenario
