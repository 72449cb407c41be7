// SPDX-License-Identifier: MIT
//
// A libFuzzer target: the whole frames of any boot memory map, against the bytes that its regions
// name. Regions lie at the start of the address space, at its end, and anywhere.
#include <map>
#include <vector>

#include "slabmalloc/kernel/memory_map.hpp"
#include "support/fuzz.hpp"

namespace slabmalloc::test {
namespace {

constexpr std::size_t base = 256;
constexpr std::uintptr_t top = ~std::uintptr_t{0};

std::uintptr_t some_address(FuzzInput& input) {
  const std::uintptr_t offset = input.below(16 * base);
  switch (input.below(4)) {
    case 0:
      return top - offset;
    case 1:
      return (std::uintptr_t{1} << input.between(8, 63)) + offset;
    default:
      return offset;
  }
}

/// The usable bytes as disjoint stretches that do not adjoin: the end of each by its start.
std::map<std::uintptr_t, std::uintptr_t> join(const std::vector<MemoryRegion>& regions) {
  std::map<std::uintptr_t, std::uintptr_t> stretches;
  for (const MemoryRegion& region : regions) {
    std::uintptr_t begin = region.address;
    // The last byte of the address space is in no frame that the map has.
    std::uintptr_t end = region.bytes > top - begin ? top : begin + region.bytes;
    if (begin >= end) {
      continue;
    }
    for (auto one = stretches.begin(); one != stretches.end();) {
      if (one->first <= end && begin <= one->second) {
        begin = std::min(begin, one->first);
        end = std::max(end, one->second);
        one = stretches.erase(one);
      } else {
        ++one;
      }
    }
    stretches[begin] = end;
  }
  return stretches;
}

}  // namespace
}  // namespace slabmalloc::test

SLABMALLOC_FUZZ_TARGET(slabmalloc::test::FuzzInput& input) {
  using namespace slabmalloc;
  using namespace slabmalloc::test;
  std::vector<MemoryRegion> regions(input.below(12));
  for (MemoryRegion& region : regions) {
    region.address = some_address(input);
    region.bytes = some_address(input);
  }
  const MemoryRegion within = input.one_in(2)
                                  ? MemoryRegion{some_address(input), some_address(input)}
                                  : MemoryRegion{0, top};
  const MemoryMap<base> map(regions.data(), regions.size(), within);
  const std::uintptr_t within_end =
      within.bytes > top - within.address ? top : within.address + within.bytes;
  for (MemoryRegion& region : regions) {
    const std::uintptr_t end =
        region.bytes > top - region.address ? top : region.address + region.bytes;
    region.address = std::max(region.address, within.address);
    region.bytes =
        std::min(end, within_end) > region.address ? std::min(end, within_end) - region.address : 0;
  }
  FrameRange range = map.next(0);
  for (const auto& [begin, end] : join(regions)) {
    // Not the frame at 0, where a null pointer leads.
    const std::uintptr_t first =
        std::max<std::uintptr_t>(begin / base + (begin % base != 0 ? 1 : 0), 1);
    if (first >= end / base) {
      continue;
    }
    EXPECT_EQ(range.first, first);
    EXPECT_EQ(range.end, end / base);
    const std::uintptr_t middle = first + input.below(end / base - first);
    EXPECT_EQ(map.next(middle).first, middle);
    EXPECT_EQ(map.next(middle).end, end / base);
    range = map.next(range.end);
  }
  EXPECT_TRUE(range.is_empty());
}
