// SPDX-License-Identifier: MIT
//
// PageSource supplies pages of any type for refills by hand. The file also lists the page types
// that tests of SCAllocator run over.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>

#include "slabmalloc/page/beside_page.hpp"
#include "slabmalloc/page/embedded_page.hpp"
#include "slabmalloc/zone/sc_allocator.hpp"
#include "support/chunk_table.hpp"
#include "support/frames.hpp"

namespace slabmalloc::test {

/// Supplies pages of type `Page`. Frees, at its end, the pages that a test did not return.
template <class Page>
class PageSource {
 public:
  Page* page() { return frames_.template page<Page>(); }
  void take_back(Page* page) { frames_.take_page(page); }
  std::size_t live_pages() const { return frames_.live_frames(); }

 private:
  FrameSource frames_;
};

/// The frames of a table that all sources share: one source at a time.
template <class Atomics>
class PageSource<BesidePage<SmallChunkTable<Atomics>>> {
 public:
  using Table = SmallChunkTable<Atomics>;
  using Page = BesidePage<Table>;

  PageSource() { Table::reset(); }
  PageSource(const PageSource&) = delete;
  PageSource& operator=(const PageSource&) = delete;
  ~PageSource() { Table::reset(); }

  Page* page() { return static_cast<Page*>(frames_.allocate_frame(Table::chunk_bytes).address); }
  void take_back(Page* page) { frames_.deallocate_frame(page, Table::chunk_bytes); }
  std::size_t live_pages() const { return frames_.live_bytes() / Table::chunk_bytes; }

 private:
  ChunkPager<Table> frames_;
};

/// Every combination of meta-data placement, granule and atomics policy.
using PageTypes = testing::Types<
    ObjectPage, ObjectPage16K, ObjectPage64K, EmbeddedPage<4 * kibibyte, SingleCpuAtomics>,
    BesidePage<SmallChunkTable<HardwareAtomics>>, BesidePage<SmallChunkTable<SingleCpuAtomics>>>;

/// Refills `allocator` with so many pages.
template <class Page>
void refill(SCAllocator<Page>& allocator, PageSource<Page>& source, std::size_t pages) {
  for (std::size_t page = 0; page < pages; ++page) {
    ASSERT_TRUE(allocator.refill(source.page()));
  }
}

/// Reclaims every empty page; returns how many.
template <class Page>
std::size_t reclaim_all(SCAllocator<Page>& allocator, PageSource<Page>& source) {
  return allocator.try_reclaim_pages(~std::size_t{0}, [&](Page* page) { source.take_back(page); });
}

}  // namespace slabmalloc::test
