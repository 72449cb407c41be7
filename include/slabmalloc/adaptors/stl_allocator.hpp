// SPDX-License-Identifier: MIT
//
// Allocators for the standard containers: over a zone or one size, over the process heap. Hosted
// C++.
//
//   StlAllocator<T, Zone>        a pointer to a zone or an SCAllocator
//   ProcessAllocator<T>          stateless; the malloc that the program uses
//
//   PagedZone<MyPager> zone(pager);
//   std::vector<int, StlAllocator<int, PagedZone<MyPager>>> numbers(zone);
//
// Over an SCAllocator every allocation of the container must fit one slot. Lists, sets and maps
// work. Vectors and hash tables do not (SizedResource sends their arrays elsewhere).
//
// Thread: an allocator adds no lock. Only the owner of a zone uses and destroys a container over
// it. Any thread may do so over the process heap.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <type_traits>

#include "slabmalloc/adaptors/blocks.hpp"
#include "slabmalloc/zone/sc_allocator.hpp"
#include "slabmalloc/zone/zone_allocator.hpp"

namespace slabmalloc {

/// Allocates arrays of `T` from a zone. Allocators over the same zone are equal.
///
/// A move or a swap of containers moves their allocators too, so that it copies no elements. A
/// container that is copied into keeps its own zone.
template <class T, LayoutAllocator Zone>
class StlAllocator {
 public:
  using value_type = T;
  using propagate_on_container_copy_assignment = std::false_type;
  using propagate_on_container_move_assignment = std::true_type;
  using propagate_on_container_swap = std::true_type;
  using is_always_equal = std::false_type;

  /// Implicit, so that a container can be constructed from its zone.
  /// Pre: `zone` outlives all objects from this allocator.
  StlAllocator(Zone& zone) noexcept : zone_(&zone) {}
  template <class U>
  StlAllocator(const StlAllocator<U, Zone>& other) noexcept : zone_(&other.zone()) {}

  Zone& zone() const noexcept { return *zone_; }

  /// Allocates room for `count` objects.
  /// Fails: std::bad_alloc if the zone has no memory, or does not serve the size or alignment.
  /// std::bad_array_new_length if the size is not representable.
  /// Cost: a node of a list, set or map takes no call, as long as the zone has a slot at hand.
  [[nodiscard, gnu::always_inline]] T* allocate(std::size_t count) const {
    if constexpr (detail::has_class_of_one<Zone, T>) {
      if (count == 1) [[likely]] {
        return static_cast<T*>(detail::value_or_throw(zone_->template allocate_one<T>()));
      }
    }
    return static_cast<T*>(
        detail::allocate_block(*zone_, detail::array_bytes<T>(count), alignof(T)));
  }

  /// Frees an array of `count` objects from allocate() of an equal allocator.
  [[gnu::always_inline]] void deallocate(T* objects, std::size_t count) const noexcept {
    if constexpr (detail::has_class_of_one<Zone, T>) {
      if (count == 1) [[likely]] {
        zone_->deallocate_one(objects);
        return;
      }
    }
    detail::deallocate_block(*zone_, objects, count * sizeof(T), alignof(T));
  }

  template <class U>
  friend bool operator==(const StlAllocator& left, const StlAllocator<U, Zone>& right) noexcept {
    return &left.zone() == &right.zone();
  }

 private:
  Zone* zone_;
};

/// Allocates arrays of `T` from the process heap by C's functions. All are equal.
/// Thread: any.
template <class T>
class ProcessAllocator {
 public:
  using value_type = T;
  using propagate_on_container_move_assignment = std::true_type;
  using is_always_equal = std::true_type;

  constexpr ProcessAllocator() noexcept = default;
  template <class U>
  constexpr ProcessAllocator(const ProcessAllocator<U>&) noexcept {}

  /// Allocates room for `count` objects.
  /// Fails: std::bad_alloc; std::bad_array_new_length if the size is not representable.
  [[nodiscard]] T* allocate(std::size_t count) const {
    return static_cast<T*>(
        detail::allocate_process_block(detail::array_bytes<T>(count), alignof(T)));
  }

  /// Frees an array from allocate().
  void deallocate(T* objects, std::size_t) const noexcept { std::free(objects); }

  template <class U>
  friend constexpr bool operator==(const ProcessAllocator&, const ProcessAllocator<U>&) noexcept {
    return true;
  }
};

}  // namespace slabmalloc
