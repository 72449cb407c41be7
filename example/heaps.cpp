// SPDX-License-Identifier: MIT
//
// A heap for each request: what the request allocates has a limit, and goes back to the system as a
// whole at its end, whatever was forgotten. Any thread may free a block.
#include <cstddef>
#include <cstdio>
#include <map>
#include <memory_resource>
#include <string>
#include <thread>
#include <vector>

#include "slabmalloc/adaptors/heap_resource.hpp"
#include "slabmalloc/adaptors/stl_allocator.hpp"
#include "slabmalloc/hosted/heap.hpp"

namespace {

using slabmalloc::Heap;
using slabmalloc::Layout;
using slabmalloc::OwnedHeap;

/// Answers a request of so many words within so much memory; false if that does not suffice.
bool answer(const char* name, std::size_t words, std::size_t limit_bytes) {
  const OwnedHeap heap = Heap::create(name);
  if (!heap) {
    return false;
  }
  heap->set_limit(limit_bytes);
  // What the request looks up, and never frees.
  void* const scratch = heap->allocate_zeroed(Layout::of<char[4096]>()).value_or(nullptr);
  slabmalloc::HeapResource resource(*heap);
  bool is_answered = scratch != nullptr;
  try {
    std::pmr::map<int, std::pmr::string> table(&resource);
    std::vector<int, slabmalloc::StlAllocator<int, Heap>> order(*heap);
    for (std::size_t word = 0; word < words; ++word) {
      table.emplace(static_cast<int>(word), "a word that is long enough for the heap");
      order.push_back(static_cast<int>(word));
    }
  } catch (const std::bad_alloc&) {
    is_answered = false;
  }
  // Another thread ends what this one began, here without telling the size.
  std::thread([&] { heap->deallocate(scratch); }).join();

  const slabmalloc::HeapStatistics now = heap->statistics();
  std::printf("%-8s %s: at most %zu KiB held, %zu blocks, %zu B still live\n", heap->name(),
              is_answered ? "answered" : "refused ", now.held_bytes_high_water >> 10,
              now.allocations, now.used_bytes);
  return is_answered;
}

}  // namespace

int main() {
  const bool is_small_one_served = answer("small", 100, std::size_t{1} << 20);
  const bool is_large_one_refused = !answer("large", 1'000'000, std::size_t{1} << 20);
  return is_small_one_served && is_large_one_refused ? 0 : 1;
}
