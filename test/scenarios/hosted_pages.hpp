// SPDX-License-Identifier: MIT
//
// Support for scenarios on page types whose meta-data lies beside them, in a table that needs the
// C++ library.
#pragma once

#include "scenarios/pages.hpp"
#include "support/chunk_table.hpp"
#include "zone/zone_configs.hpp"

namespace slabmalloc::scenario {

/// The frames of a table that all sources share: one source at a time.
template <class Atomics>
class PageSource<BesidePage<test::SmallChunkTable<Atomics>>> {
 public:
  using Table = test::SmallChunkTable<Atomics>;
  using Page = BesidePage<Table>;

  explicit PageSource(Trial&) { Table::reset(); }
  PageSource(const PageSource&) = delete;
  PageSource& operator=(const PageSource&) = delete;
  ~PageSource() { Table::reset(); }

  Page* page() { return static_cast<Page*>(frames_.allocate_frame(Table::chunk_bytes).address); }
  void take_back(Page* page) { frames_.deallocate_frame(page, Table::chunk_bytes); }
  std::size_t live_pages() const { return frames_.live_bytes() / Table::chunk_bytes; }

 private:
  test::ChunkPager<Table> frames_;
};

/// The frames of the table of `Config`.
template <class Config>
  requires requires { typename Config::Table; }
struct PagerFor<Config> {
  struct Type : test::ChunkPager<typename Config::Table> {
    explicit Type(Trial&) {}
  };
};

}  // namespace slabmalloc::scenario
