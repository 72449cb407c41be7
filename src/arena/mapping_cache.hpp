// SPDX-License-Identifier: MIT
//
// MappingCache: freed mappings that are still backed by memory.
//
//     put    in a full cache, evicts the oldest
//     take   the smallest that suffices, of which the rest stays; else the largest
//
// Mappings that touch stay apart, since the kernel resizes no range of two mappings. The cache
// knows neither objects nor the operating system. DirectMap's mutex guards it.
//
// Invariants, checked by validate():
//   K1  bytes() = the sum of the bytes of all mappings
//   K2  no two mappings overlap
#pragma once

#include <cstddef>
#include <cstdint>

#include "tunables.hpp"

namespace slabmalloc {

/// A range of mapped memory; none if `bytes` is 0.
struct CachedMapping {
  std::uintptr_t base = 0;
  std::size_t bytes = 0;
  std::uint32_t stamp = 0;  ///< The time of its free, in milliseconds; wraps around.

  constexpr std::uintptr_t end() const noexcept { return base + bytes; }
};

/// Room for a few mappings (tunables.hpp).
/// Thread: every call under one mutex, but for bytes().
class MappingCache {
 public:
  constexpr MappingCache() noexcept = default;

  /// Caches a mapping. Returns the mapping that it evicts, the oldest, or none.
  CachedMapping put(const CachedMapping& mapping) noexcept {
    bytes_ += mapping.bytes;
    CachedMapping& place = free_or_oldest();
    const CachedMapping evicted = place;
    bytes_ -= evicted.bytes;
    place = mapping;
    return evicted;
  }

  /// Takes the first `bytes` of the smallest mapping that has them; else all of the largest; none
  /// if the cache is empty.
  CachedMapping take(std::size_t bytes) noexcept {
    CachedMapping* best = nullptr;
    for (CachedMapping& place : places_) {
      if (place.bytes != 0 && (best == nullptr || is_better(place.bytes, best->bytes, bytes))) {
        best = &place;
      }
    }
    if (best == nullptr) {
      return {};
    }
    const std::size_t taken = best->bytes < bytes ? best->bytes : bytes;
    const CachedMapping result{best->base, taken, best->stamp};
    *best = {best->base + taken, best->bytes - taken, best->stamp};
    bytes_ -= taken;
    return result;
  }

  /// Removes the oldest mapping and returns it; none if the cache is empty.
  CachedMapping remove_oldest() noexcept {
    CachedMapping* const place = find_oldest();
    if (place == nullptr) {
      return {};
    }
    const CachedMapping result = *place;
    *place = {};
    bytes_ -= result.bytes;
    return result;
  }

  /// Sets `stamp` to that of the oldest mapping; false if the cache is empty.
  bool find_oldest_stamp(std::uint32_t& stamp) noexcept {
    const CachedMapping* const place = find_oldest();
    stamp = place != nullptr ? place->stamp : 0;
    return place != nullptr;
  }

  std::size_t bytes() const noexcept { return bytes_; }

  std::size_t count() const noexcept {
    std::size_t count = 0;
    for (const CachedMapping& place : places_) {
      count += place.bytes != 0 ? 1 : 0;
    }
    return count;
  }

  /// True if K1 and K2 hold.
  bool validate() const noexcept {
    std::size_t bytes = 0;
    for (const CachedMapping& one : places_) {
      bytes += one.bytes;
      for (const CachedMapping& other : places_) {
        if (&one != &other && one.bytes != 0 && other.bytes != 0 && one.base < other.end() &&
            other.base < one.end()) {
          return false;  // K2
        }
      }
    }
    return bytes == bytes_;  // K1
  }

 private:
  static bool is_older(const CachedMapping& one, const CachedMapping& other) noexcept {
    return static_cast<std::int32_t>(one.stamp - other.stamp) < 0;
  }

  /// True if a mapping of `bytes` serves a request for `wanted` better than one of `other`.
  static bool is_better(std::size_t bytes, std::size_t other, std::size_t wanted) noexcept {
    const bool is_smaller = bytes < other;
    return other >= wanted ? is_smaller && bytes >= wanted : !is_smaller;
  }

  CachedMapping* find_oldest() noexcept {
    CachedMapping* result = nullptr;
    for (CachedMapping& place : places_) {
      if (place.bytes != 0 && (result == nullptr || is_older(place, *result))) {
        result = &place;
      }
    }
    return result;
  }

  CachedMapping& free_or_oldest() noexcept {
    for (CachedMapping& place : places_) {
      if (place.bytes == 0) {
        return place;
      }
    }
    return *find_oldest();
  }

  CachedMapping places_[Tunables::cached_mappings];
  std::size_t bytes_ = 0;
};

}  // namespace slabmalloc
