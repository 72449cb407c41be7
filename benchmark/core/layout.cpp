// SPDX-License-Identifier: MIT
//
// Prints the share of a page that its slots take, for every size class, as CSV:
// class,page,slots,usable.
#include <cstddef>
#include <cstdio>

#include "slabmalloc/slabmalloc.hpp"

namespace {

using slabmalloc::FineSizeClasses;
using slabmalloc::LargeObjectPage;
using slabmalloc::ObjectPage;

template <class Page>
void print(std::size_t object_bytes) {
  const std::size_t slots = Page::geometry(object_bytes).slots;
  std::printf("layout/%zu/%zu,%zu,%.4f\n", sizeof(Page), object_bytes, slots,
              static_cast<double>(slots * object_bytes) / static_cast<double>(sizeof(Page)));
}

}  // namespace

int main() {
  for (std::uint32_t index = 0; index < FineSizeClasses::count; ++index) {
    const std::size_t size = FineSizeClasses::size_of(index);
    if (size <= 1024) {
      print<ObjectPage>(size);
    }
    print<LargeObjectPage>(size);
  }
}
