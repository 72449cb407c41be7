// SPDX-License-Identifier: MIT
//
// operator new and delete over a zone: every container and string of the program then lives in a
// static buffer. Requests of up to 1 KiB come from the zone's pages. The zone passes larger ones,
// of about a page and more, straight to the pager. One lock protects both. With a zone for each
// thread the common case needs no lock (thread_zones.cpp).
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <map>
#include <mutex>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "slabmalloc/slabmalloc.hpp"

namespace {

using slabmalloc::Layout;
using slabmalloc::ObjectPage;

/// Gives frames and runs of frames of a static buffer, first fit. It stores the length of each run,
/// so that a block can be freed by its address alone.
class BufferPager {
 public:
  static constexpr std::size_t frame_bytes = ObjectPage::size_bytes;

  slabmalloc::Frame allocate_frame(std::size_t bytes) noexcept {
    return take(bytes / frame_bytes, false);
  }
  void deallocate_frame(void* frame, std::size_t bytes) noexcept {
    release(frame, bytes / frame_bytes);
  }

  slabmalloc::Frame allocate_run(std::size_t bytes, std::size_t alignment) noexcept {
    const bool too_large = bytes > buffer_bytes || alignment > frame_bytes;
    return too_large ? nullptr : take((bytes + frame_bytes - 1) / frame_bytes, true);
  }
  void deallocate_run(void* run, std::size_t, std::size_t) noexcept {
    release(run, run_frames_[frame_of(run)]);
  }

  /// The bytes of the run that starts at `block`; 0 if it lies in a page of the zone.
  std::size_t run_bytes(const void* block) const noexcept {
    return run_frames_[frame_of(block)] * frame_bytes;
  }

 private:
  static constexpr std::size_t buffer_bytes = 32 * slabmalloc::mebibyte;
  static constexpr std::size_t frame_count = buffer_bytes / frame_bytes;

  static std::size_t frame_of(const void* block) noexcept {
    return static_cast<std::size_t>(static_cast<const std::byte*>(block) - buffer_) / frame_bytes;
  }

  void* take(std::size_t wanted, bool is_run) noexcept {
    std::size_t free_in_a_row = 0;
    for (std::size_t frame = 0; frame < frame_count; ++frame) {
      free_in_a_row = used_[frame] ? 0 : free_in_a_row + 1;
      if (free_in_a_row == wanted) {
        const std::size_t first = frame + 1 - wanted;
        mark(first, wanted, true);
        run_frames_[first] = is_run ? wanted : 0;
        return &buffer_[first * frame_bytes];
      }
    }
    return nullptr;
  }

  void release(const void* block, std::size_t frames) noexcept {
    mark(frame_of(block), frames, false);
    run_frames_[frame_of(block)] = 0;
  }

  void mark(std::size_t first, std::size_t frames, bool used) noexcept {
    for (std::size_t frame = first; frame < first + frames; ++frame) {
      used_[frame] = used;
    }
  }

  alignas(frame_bytes) static inline std::byte buffer_[buffer_bytes];
  bool used_[frame_count] = {};
  std::size_t run_frames_[frame_count] = {};
};

using Zone = slabmalloc::PagedZone<BufferPager, slabmalloc::BasePageConfig>;

// Constructors of other objects may allocate, so the compiler initialises all of these.
constinit std::mutex lock;
constinit BufferPager pager;
constinit Zone zone(pager);
constinit std::size_t live_blocks = 0;

void* allocate(std::size_t size, std::size_t align) {
  const std::lock_guard guard(lock);
  const slabmalloc::Result<Layout> layout = Layout::from_size_align(size, align);
  void* block = layout ? zone.allocate(*layout).value_or(nullptr) : nullptr;
  if (block == nullptr) {
    throw std::bad_alloc();
  }
  ++live_blocks;
  return block;
}

/// C++ code may free without the size, so this looks it up. The pager knows its runs. Any other
/// block lies in a page of the zone, whose header has the size class.
void deallocate(void* block) noexcept {
  if (block == nullptr) {
    return;
  }
  const std::lock_guard guard(lock);
  std::size_t bytes = pager.run_bytes(block);
  if (bytes == 0) {
    bytes = Zone::SizeClasses::size_of(ObjectPage::header_of(block)->class_index);
  }
  zone.deallocate(block, Layout::from_size_align(bytes, 1).value());
  --live_blocks;
}

}  // namespace

// The array forms and the nothrow forms of the standard library call these.
void* operator new(std::size_t size) { return allocate(size, __STDCPP_DEFAULT_NEW_ALIGNMENT__); }
void* operator new(std::size_t size, std::align_val_t align) {
  return allocate(size, static_cast<std::size_t>(align));
}
void operator delete(void* block) noexcept { deallocate(block); }
void operator delete(void* block, std::size_t) noexcept { deallocate(block); }
void operator delete(void* block, std::align_val_t) noexcept { deallocate(block); }
void operator delete(void* block, std::size_t, std::align_val_t) noexcept { deallocate(block); }

namespace {

struct alignas(256) Wide {
  int value;
};

/// Uses containers in two threads, like a program that knows nothing of slabmalloc.
bool use_the_standard_library() {
  std::vector<int> numbers;
  std::thread other([&numbers] {
    for (int number = 0; number < 1'000'000; ++number) {
      numbers.push_back(
          number);  // Grows to 4 MiB: 20 times a longer run, the shorter one given back.
    }
  });
  std::map<std::string, std::vector<std::string>> words;
  for (int number = 0; number < 5000; ++number) {
    words["a key that is longer than a short string, " + std::to_string(number % 100)].push_back(
        std::to_string(number));
  }
  other.join();
  const std::vector<Wide> wide(100);
  return numbers[999'999] == 999'999 && words.size() == 100 && words.begin()->second.size() == 50 &&
         reinterpret_cast<std::uintptr_t>(wide.data()) % alignof(Wide) == 0;
}

}  // namespace

int main() {
  const std::size_t before = live_blocks;
  const bool works = use_the_standard_library();
  const slabmalloc::ZoneStatistics statistics = zone.statistics();
  std::printf("%zu small blocks allocated, %zu freed; pages took at most %zu KiB\n",
              statistics.allocations, statistics.frees,
              statistics.frame_bytes_high_water / slabmalloc::kibibyte);
  const bool nothing_leaked = live_blocks == before && zone.validate() == nullptr;
  return works && nothing_leaked && statistics.allocations > 5000 ? 0 : 1;
}
