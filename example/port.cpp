// SPDX-License-Identifier: MIT
//
// A port. A kernel or a firmware writes the code between the two lines, and gets an allocator of
// all sizes up to 1 KiB. The code uses only the core, which needs no library.
#include "slabmalloc/slabmalloc.hpp"

// ---- the port starts here ----

namespace {

/// Hands out the frames of a static buffer. Links returned frames by their first word.
class StaticPager {
 public:
  slabmalloc::Frame allocate_frame(std::size_t) noexcept {
    if (void* frame = free_) {
      free_ = *static_cast<void**>(frame);
      return frame;
    }
    return next_ < frame_count ? &frames_[next_++] : nullptr;
  }
  void deallocate_frame(void* frame, std::size_t) noexcept {
    *static_cast<void**>(frame) = free_;
    free_ = frame;
  }

 private:
  static constexpr std::size_t frame_count = 64;
  alignas(4096) static inline slabmalloc::ObjectPage frames_[frame_count];
  void* free_ = nullptr;
  std::size_t next_ = 0;
};

constinit StaticPager pager;
constinit slabmalloc::PagedZone<StaticPager, slabmalloc::BasePageConfig> zone(pager);

}  // namespace

// ---- the port ends here ----

#include <cstdio>
#include <cstring>

int main() {
  static void* objects[10000];
  bool sound = true;
  constexpr std::size_t sizes[] = {16, 100, 1024};
  for (const std::size_t size : sizes) {
    const slabmalloc::Layout layout = slabmalloc::Layout::from_size_align(size, 8).value();
    std::size_t count = 0;
    for (; count < 10000; ++count) {
      objects[count] = zone.allocate(layout).value_or(nullptr);
      if (objects[count] == nullptr) {
        break;  // The buffer is used up, which is a normal result.
      }
      std::memset(objects[count], 1, size);
    }
    std::printf("%5zu objects of %4zu B in a buffer of 256 KiB\n", count, size);
    sound = sound && (count * size > 180 * 1024 || count == 10000);
    while (count > 0) {
      zone.deallocate(objects[--count], layout);
    }
    zone.trim();
  }
  return sound && zone.statistics().page_bytes == 0 && zone.validate() == nullptr ? 0 : 1;
}
