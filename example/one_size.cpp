// SPDX-License-Identifier: MIT
//
// Objects of one size from one page frame that is part of the program. There is no heap and no
// operating system.
#include <cstddef>
#include <cstdio>
#include <new>

#include "slabmalloc/slabmalloc.hpp"

using slabmalloc::Layout;
using slabmalloc::ObjectPage;
using slabmalloc::SCAllocator;

namespace {

struct Connection {
  int id;
  char peer[60];
};

// A page type is exactly its frame, 4 KiB, and a frame is aligned to its size.
alignas(ObjectPage::size_bytes) ObjectPage frame;

// The compiler initialises this, so that it works before main() and in a kernel.
constinit SCAllocator<ObjectPage> connections(sizeof(Connection));

}  // namespace

int main() {
  if (!connections.refill(&frame)) {
    return 1;
  }

  const Layout layout = Layout::of<Connection>();
  const slabmalloc::Result<void*> memory = connections.allocate(layout);
  if (!memory) {
    return 1;
  }
  auto* connection = ::new (memory.value()) Connection{1, "localhost"};
  std::printf("connection %d to %s at %p\n", connection->id, connection->peer,
              static_cast<void*>(connection));

  // The object has no header with its size, so the caller gives the layout back with it.
  connections.deallocate(connection, layout);

  // One frame holds this many objects, and then reports that it is full.
  std::size_t count = 0;
  while (connections.allocate(layout)) {
    ++count;
  }
  std::printf("%zu connections fit the frame\n", count);
  const bool full =
      connections.allocate(layout).error() == slabmalloc::AllocationError::OutOfMemory;
  return full && count == connections.statistics().slots ? 0 : 1;
}
