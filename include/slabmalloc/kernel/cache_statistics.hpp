// SPDX-License-Identifier: MIT
//
// CacheStatistics: the figures that an object cache, a heap, or a size class of a heap knows at any
// time. slabinfo.hpp prints them in the columns of this table.
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/base/counters.hpp"
#include "slabmalloc/zone/statistics.hpp"

namespace slabmalloc {

struct CacheStatistics;

/// What a line of the report is about.
enum class CacheKind : std::uint8_t {
  Cache,
  Class,  ///< A size class of a heap.
  Runs,   ///< All runs of a heap, in pages of base frames.
  Heap,   ///< All frames and runs of a heap, in pages of base frames.
};

/// A counter as a column of the report: its name is the title.
struct CacheColumn : CounterEntry<CacheStatistics> {
  std::size_t width;
  std::size_t divisor;  ///< From the counter to the unit.
  bool (*is_known)(const CacheStatistics& one) noexcept;
};

/// A snapshot. It may lag behind the work of other CPUs.
struct CacheStatistics {
  static constexpr std::size_t no_limit = ~std::size_t{0};  ///< In `limit_pages`.

  const char* name = nullptr;  ///< Of the cache or the heap.
  CacheKind kind = CacheKind::Cache;
  bool knows_use = false;  ///< `objects_in_use` is known.
  std::size_t objects_in_use = 0;
  std::size_t objects = 0;
  std::size_t object_bytes = 0;
  std::size_t objects_per_page = 0;
  std::size_t page_bytes = 0;
  std::size_t pages = 0;
  std::size_t pages_high_water = 0;
  std::size_t limit_pages = 0;
  std::size_t refills = 0;
  std::size_t remote_frees = 0;
  std::size_t nested_calls = 0;
  std::size_t failures = 0;

  /// The statistics of a size class or cache with these `counts`; without those of caches alone.
  static constexpr CacheStatistics of(const char* name, const ClassStatistics& counts,
                                      std::size_t objects_per_page, bool knows_use) noexcept {
    CacheStatistics result;
    result.name = name;
    result.limit_pages = no_limit;
    result.knows_use = knows_use;
    result.objects_in_use = counts.used;
    result.objects = counts.slots;
    result.object_bytes = counts.object_size;
    result.objects_per_page = objects_per_page;
    result.page_bytes = counts.page_bytes;
    result.pages = counts.pages;
    result.pages_high_water = counts.pages_high_water;
    result.refills = counts.refills;
    result.remote_frees = counts.remote_frees;
    return result;
  }

  /// The statistics of `bytes` in pages of `page_bytes`, whatever lies there.
  static constexpr CacheStatistics of_pages(const char* name, CacheKind kind,
                                            std::size_t page_bytes, std::size_t bytes,
                                            std::size_t most_bytes) noexcept {
    CacheStatistics result;
    result.name = name;
    result.limit_pages = no_limit;
    result.kind = kind;
    result.page_bytes = page_bytes;
    result.pages = (bytes + page_bytes - 1) / page_bytes;
    result.pages_high_water = (most_bytes + page_bytes - 1) / page_bytes;
    return result;
  }
  /// Whether a client ever used it, if it is a part of a heap.
  constexpr bool was_used() const noexcept {
    return kind == CacheKind::Cache || kind == CacheKind::Heap || pages_high_water != 0;
  }

  static constexpr bool always(const CacheStatistics&) noexcept { return true; }
  static constexpr bool if_used_is_known(const CacheStatistics& one) noexcept {
    return one.knows_use;
  }
  static constexpr bool if_limited(const CacheStatistics& one) noexcept {
    return one.limit_pages != no_limit;
  }
  static constexpr bool of_objects(const CacheStatistics& one) noexcept {
    return one.kind == CacheKind::Cache || one.kind == CacheKind::Class;
  }
  static constexpr bool of_a_whole(const CacheStatistics& one) noexcept {
    return one.kind == CacheKind::Cache || one.kind == CacheKind::Heap;
  }

  using Self = CacheStatistics;
  static constexpr CacheColumn counters[] = {
      {{&Self::objects_in_use, "in use", "objects", CounterKind::Current,
        "Held by clients. `-` where frees are not counted."},
       9,
       1,
       &Self::if_used_is_known},
      {{&Self::objects, "objects", "objects", CounterKind::Current,
        "Slots of all pages, free ones included."},
       9,
       1,
       &Self::of_objects},
      {{&Self::object_bytes, "bytes", "bytes", CounterKind::Constant,
        "From one object to the next."},
       7,
       1,
       &Self::of_objects},
      {{&Self::objects_per_page, "per page", "objects", CounterKind::Constant, "Slots of a page."},
       9,
       1,
       &Self::of_objects},
      {{&Self::page_bytes, "KiB", "KiB", CounterKind::Constant, "A page, meta-data included."},
       6,
       1024,
       &Self::always},
      {{&Self::pages, "pages", "pages", CounterKind::Current,
        "Of a cache or heap: all frames and runs. Of a class: its pages in the CPUs' zones."},
       8,
       1,
       &Self::always},
      {{&Self::pages_high_water, "most", "pages", CounterKind::Peak,
        "The most there ever were. Of a class: the sum of each CPU's."},
       8,
       1,
       &Self::always},
      {{&Self::limit_pages, "limit", "pages", CounterKind::Current,
        "By `set_limit()`. `-` without one."},
       8,
       1,
       &Self::if_limited},
      {{&Self::refills, "refills", "pages", CounterKind::Total,
        "Times that a CPU took a frame for its pages."},
       10,
       1,
       &Self::of_objects},
      {{&Self::remote_frees, "remote", "objects", CounterKind::Total,
        "Freed by other CPUs, or during a section, and drained."},
       10,
       1,
       &Self::of_objects},
      {{&Self::nested_calls, "nested", "calls", CounterKind::Total,
        "Calls during a section of their CPU. Of a class or runs: `-`."},
       8,
       1,
       &Self::of_a_whole},
      {{&Self::failures, "failed", "calls", CounterKind::Total,
        "Allocations that ended as `OutOfMemory`. Of a class or runs: `-`."},
       8,
       1,
       &Self::of_a_whole},
  };
};
// Beside the counters: the name, and the flags as wide as one.
static_assert(has_entry_for_each_counter<CacheStatistics, const char*, std::size_t>());

}  // namespace slabmalloc
