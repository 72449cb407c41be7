// SPDX-License-Identifier: MIT
//
// HeapResource: a std::pmr memory resource over a Heap. Hosted C++.
//
//   slabmalloc::OwnedHeap heap = slabmalloc::Heap::create("document");
//   slabmalloc::HeapResource resource(*heap);
//   std::pmr::vector<int> numbers(&resource);
//
// Containers with StlAllocator<T, Heap> need no resource. Thread: any, as for the heap.
#pragma once

#include "slabmalloc/adaptors/memory_resource.hpp"
#include "slabmalloc/hosted/heap.hpp"

namespace slabmalloc {

using HeapResource = ZoneResource<Heap>;

}  // namespace slabmalloc
