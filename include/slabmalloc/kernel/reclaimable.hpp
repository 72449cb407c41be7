// SPDX-License-Identifier: MIT
//
// Reclaimable: the list entry of a heap or an object cache that can give memory back.
//
//   constinit ObjectCache<Inode, MyKernel, MyFrames> inodes("inode", frames);
//   constinit Reclaimable inodes_entry(inodes);
//   …
//   reclaimer.add(inodes_entry);
//
// An entry needs only its own memory, and knows its target by a table of functions for its type.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "slabmalloc/kernel/cache_statistics.hpp"
#include "slabmalloc/kernel/reclaim_request.hpp"
#include "slabmalloc/kernel/tag_statistics.hpp"

namespace slabmalloc {

/// Frees objects that its client can do without, of about `request.bytes`; returns the bytes of
/// those it freed. If it can choose, it frees neighbours, so that blocks of `request.block_bytes`
/// form. Called with nothing held; it may allocate.
using ShrinkCallback = std::size_t (*)(void* argument, const ReclaimRequest& request) noexcept;
/// The same for clients that cannot choose.
using ByteShrinkCallback = std::size_t (*)(void* argument, std::size_t bytes_wanted) noexcept;

class Reclaimable {
 public:
  /// A heap. Pre: `name` and `zones` outlive it.
  template <class Zones>
  constexpr Reclaimable(const char* name, Zones& zones) noexcept
      : name_(name), target_(&zones), operations_(operations_for_heap<Zones>()) {}
  /// An object cache, by its own name. Pre: `cache` outlives it.
  template <class Cache>
  constexpr explicit Reclaimable(Cache& cache) noexcept
      : target_(&untyped(cache)),
        operations_(operations_for_cache<std::remove_reference_t<decltype(untyped(cache))>>()) {}
  Reclaimable(const Reclaimable&) = delete;
  Reclaimable& operator=(const Reclaimable&) = delete;

  /// Sets the callback that frees objects under memory pressure. Pre: the entry is in no list.
  constexpr void set_shrink(ShrinkCallback callback, void* argument) noexcept {
    shrink_ = callback;
    shrink_bytes_ = nullptr;
    shrink_argument_ = argument;
  }
  constexpr void set_shrink(ByteShrinkCallback callback, void* argument) noexcept {
    shrink_ = nullptr;
    shrink_bytes_ = callback;
    shrink_argument_ = argument;
  }
  /// Removes the callback. Pre: as above.
  constexpr void set_shrink(std::nullptr_t, void* = nullptr) noexcept {
    set_shrink(ShrinkCallback{nullptr}, nullptr);
  }

  const char* name() const noexcept {
    return name_ != nullptr ? name_ : operations_->name_of(target_);
  }

  // ---- the operations; see CpuZones ------------------------------------------------------------

  bool drain_this_cpu() noexcept { return operations_->drain_this_cpu(target_); }
  void drain_later() noexcept { operations_->drain_later(target_); }
  std::size_t give_back() noexcept { return operations_->give_back(target_); }
  std::size_t trim() noexcept { return operations_->trim(target_); }
  bool enter_idle() noexcept { return operations_->enter_idle(target_); }
  bool has_shrink() const noexcept { return shrink_ != nullptr || shrink_bytes_ != nullptr; }
  /// Pre: has_shrink().
  std::size_t shrink(const ReclaimRequest& request) noexcept {
    return shrink_ != nullptr ? shrink_(shrink_argument_, request)
                              : shrink_bytes_(shrink_argument_, request.bytes);
  }

  /// The statistics number `index`: a cache has one, a heap one for each size class, one for its
  /// runs, and one for all of it; false if there are fewer. Thread: any.
  bool statistics(std::uint32_t index, CacheStatistics& result) const noexcept {
    return operations_->statistics(*this, index, result);
  }
  /// The statistics of tag `tag` of a heap; false if it has fewer. Thread: any.
  bool tag_statistics(std::uint32_t tag, TagStatistics& result) const noexcept {
    return operations_->tag_statistics(target_, tag, result);
  }

 private:
  template <class Hooks, class Atomics>
  friend class Reclaimer;

  struct Operations {
    const char* (*name_of)(const void* target) noexcept;  ///< Null where the entry has the name.
    bool (*drain_this_cpu)(void* target) noexcept;
    void (*drain_later)(void* target) noexcept;
    std::size_t (*give_back)(void* target) noexcept;
    std::size_t (*trim)(void* target) noexcept;
    bool (*enter_idle)(void* target) noexcept;
    bool (*statistics)(const Reclaimable& self, std::uint32_t index,
                       CacheStatistics& result) noexcept;
    bool (*tag_statistics)(const void* target, std::uint32_t tag, TagStatistics& result) noexcept;
  };

  template <class Zones>
  static bool statistics_of_class(const Reclaimable& self, std::uint32_t index,
                                  CacheStatistics& result) noexcept {
    const auto& zones = *static_cast<const Zones*>(self.target_);
    if (index >= Zones::Zone::class_count) {
      return statistics_of_pages(self.name_, zones, index - Zones::Zone::class_count, result);
    }
    result = CacheStatistics::of(self.name_, zones.class_counts(index),
                                 zones.zone_of(0).class_geometry(index).slots,
                                 Zones::Config::counts_frees);
    result.kind = CacheKind::Class;
    return true;
  }
  template <class Zones>
  static bool statistics_of_pages(const char* name, const Zones& zones, std::uint32_t index,
                                  CacheStatistics& result) noexcept {
    constexpr std::size_t page_bytes = Zones::Part::Caches::base_bytes;
    if (index == 0) {
      result = CacheStatistics::of_pages(name, CacheKind::Runs, page_bytes, zones.run_bytes(),
                                         zones.run_bytes_high_water());
      return true;
    }
    result = CacheStatistics::of_pages(name, CacheKind::Heap, page_bytes, zones.frame_bytes(),
                                       zones.frame_bytes_high_water());
    const std::size_t limit = zones.limit_bytes();
    result.limit_pages = limit != ~std::size_t{0} ? limit / page_bytes : CacheStatistics::no_limit;
    result.nested_calls = zones.nested_calls();
    result.failures = zones.failures();
    return index == 1;
  }
  template <class Zones>
  static bool statistics_of_tag(const void* target, std::uint32_t tag,
                                TagStatistics& result) noexcept {
    if constexpr (Zones::has_tags) {
      if (tag < Zones::Config::tags) {
        result = static_cast<const Zones*>(target)->tag_statistics(tag);
        return true;
      }
    }
    return false;
  }
  static bool no_statistics_of_tag(const void*, std::uint32_t, TagStatistics&) noexcept {
    return false;
  }
  template <class Cache>
  static bool statistics_of_cache(const Reclaimable& self, std::uint32_t index,
                                  CacheStatistics& result) noexcept {
    if (index != 0) {
      return false;
    }
    result = static_cast<const Cache*>(self.target_)->statistics();
    return true;
  }

  /// The part of a cache that all caches of a kernel have in common, so that they share a table.
  template <class Cache>
  static constexpr auto& untyped(Cache& cache) noexcept {
    if constexpr (requires { cache.untyped(); }) {
      return cache.untyped();
    } else {
      return cache;
    }
  }
  template <class Cache>
  static const char* name_of_cache(const void* target) noexcept {
    return static_cast<const Cache*>(target)->name();
  }

  /// `ZonesOf(target)` are the zones of the object that `target` points to.
  template <auto ZonesOf>
  static constexpr Operations make_operations(
      decltype(Operations::name_of) name_of, decltype(Operations::statistics) statistics,
      decltype(Operations::tag_statistics) tag_statistics) noexcept {
    return {name_of,
            [](void* target) noexcept { return ZonesOf(target).drain_this_cpu(); },
            [](void* target) noexcept { ZonesOf(target).drain_later(); },
            [](void* target) noexcept { return ZonesOf(target).give_back(); },
            [](void* target) noexcept { return ZonesOf(target).trim(); },
            [](void* target) noexcept { return ZonesOf(target).enter_idle(); },
            statistics,
            tag_statistics};
  }
  template <class Zones>
  static Zones& zones_itself(void* target) noexcept {
    return *static_cast<Zones*>(target);
  }
  template <class Cache>
  static typename Cache::Zones& zones_of_cache(void* target) noexcept {
    return static_cast<Cache*>(target)->zones();
  }
  template <class Zones>
  static constexpr Operations operations_of_zones =
      make_operations<&Reclaimable::zones_itself<Zones>>(nullptr, &statistics_of_class<Zones>,
                                                         &statistics_of_tag<Zones>);
  template <class Cache>
  static constexpr Operations operations_of_cache =
      make_operations<&Reclaimable::zones_of_cache<Cache>>(
          &name_of_cache<Cache>, &statistics_of_cache<Cache>, &no_statistics_of_tag);
  /// The table; for a target without one, the one message that says why.
  template <class Zones>
  static constexpr const Operations* operations_for_heap() noexcept {
    constexpr bool is_heap = requires { typename Zones::Zone; };
    static_assert(is_heap, "a cache has a name of its own: Reclaimable(cache); this is for heaps");
    if constexpr (is_heap) {
      return &operations_of_zones<Zones>;
    }
    return nullptr;
  }
  template <class Cache>
  static constexpr const Operations* operations_for_cache() noexcept {
    constexpr bool is_cache = requires { typename Cache::Zones; };
    static_assert(is_cache, "a heap is given a name: Reclaimable(name, heap); this is for caches");
    if constexpr (is_cache) {
      return &operations_of_cache<Cache>;
    }
    return nullptr;
  }

  /// Null: the target has its own name, which constant expressions may not read.
  const char* name_ = nullptr;
  void* target_;
  const Operations* operations_;
  ShrinkCallback shrink_ = nullptr;
  ByteShrinkCallback shrink_bytes_ = nullptr;
  void* shrink_argument_ = nullptr;

  // For the list, under its lock.
  Reclaimable* next_ = nullptr;
  Reclaimable* previous_ = nullptr;
  std::size_t number_ = 0;  ///< Ascending in the list; 0: in none.
  std::uint32_t walkers_ = 0;
  bool leaves_ = false;
};

}  // namespace slabmalloc
