// SPDX-License-Identifier: MIT
#include "with_exceptions.hpp"

#include <new>

#include "slabmalloc/adaptors/stl_allocator.hpp"

namespace slabmalloc::test {

const char* thrown_by_allocate(TestZone& zone, std::size_t count) {
  const StlAllocator<long, TestZone> allocator(zone);
  try {
    allocator.deallocate(allocator.allocate(count), count);
    return nullptr;
  } catch (const std::bad_array_new_length&) {
    return "std::bad_array_new_length";
  } catch (const std::bad_alloc&) {
    return "std::bad_alloc";
  }
}

}  // namespace slabmalloc::test
