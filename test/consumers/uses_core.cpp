// SPDX-License-Identifier: MIT
//
// Exits with 0 if a zone over a static page gives two distinct objects and takes them back.
#include <slabmalloc/slabmalloc.hpp>

static constinit slabmalloc::ZoneAllocator zone;
alignas(4096) static slabmalloc::ObjectPage page;

int main() {
  const slabmalloc::Layout layout = slabmalloc::Layout::of<long>();
  if (zone.allocate(layout) || !zone.refill(layout, &page)) {
    return 1;
  }
  void* const first = zone.allocate(layout).value_or(nullptr);
  void* const second = zone.allocate(layout).value_or(nullptr);
  if (first == nullptr || second == nullptr || first == second) {
    return 2;
  }
  zone.deallocate(first, layout);
  zone.deallocate(second, layout);
  return zone.validate() == nullptr ? 0 : 3;
}
