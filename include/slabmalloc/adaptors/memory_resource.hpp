// SPDX-License-Identifier: MIT
//
// std::pmr memory resources: over a zone or one size, over the process heap. Hosted C++.
//
//   ZoneResource<Zone>        what a zone or an SCAllocator serves; the rest goes upstream
//   ProcessResource           the malloc that the program uses
//
//   MmapPager pager;                                     // adaptors/mmap_pager.hpp
//   ScopedZone<MmapPager, PoolConfig> zone(pager);
//   ZoneResource resource(zone);
//   std::pmr::vector<int> numbers(&resource);
//
// Thread: a resource adds no lock. Only the owner of a zone or an SCAllocator uses a resource over
// it, also to deallocate. If another thread may free an object, the object belongs in that thread's
// zone or in the process heap. Any thread may use a ProcessResource.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <memory_resource>
#include <new>

#include "slabmalloc/adaptors/blocks.hpp"
#include "slabmalloc/zone/sc_allocator.hpp"
#include "slabmalloc/zone/zone_allocator.hpp"

namespace slabmalloc {

namespace detail {

/// `other` as a `Resource`, or a null pointer if it is of another class. RTTI is not needed: both
/// common ABIs begin a polymorphic object with a pointer to the table of its class. Binaries that
/// hide that table from each other have one each, so their resources differ.
template <class Resource>
const Resource* as_same_class(const Resource& resource,
                              const std::pmr::memory_resource& other) noexcept {
  const void* const objects[] = {&resource, &other};
  const bool same = std::memcmp(objects[0], objects[1], sizeof(void*)) == 0;
  return same ? static_cast<const Resource*>(&other) : nullptr;
}

}  // namespace detail

/// Memory from a zone or an SCAllocator. A block that it never serves comes from `upstream`: an
/// array above its largest class, or one that does not fit the slots of an SCAllocator. Resources
/// over the same zone and equal upstreams are equal.
/// Fails: std::bad_alloc if the zone has no memory, or no address space holds the size; upstream's
/// exceptions.
template <LayoutAllocator Zone>
class ZoneResource : public std::pmr::memory_resource {
 public:
  /// Pre: both outlive all blocks from this resource.
  explicit ZoneResource(
      Zone& zone, std::pmr::memory_resource* upstream = std::pmr::get_default_resource()) noexcept
      : zone_(&zone), upstream_(upstream) {}

  Zone& zone() const noexcept { return *zone_; }
  std::pmr::memory_resource* upstream_resource() const noexcept { return upstream_; }

 private:
  void* do_allocate(std::size_t bytes, std::size_t alignment) override {
    const Result<Layout> layout = Layout::from_size_align(bytes, alignment);
    return !layout || serves(*layout)
               ? detail::value_or_throw(layout ? zone_->allocate(*layout) : layout.error())
               : upstream_->allocate(bytes, alignment);
  }
  void do_deallocate(void* block, std::size_t bytes, std::size_t alignment) override {
    const Layout layout = Layout::from_size_align(bytes, alignment).value();
    if (serves(layout)) {
      zone_->deallocate(block, layout);
    } else {
      upstream_->deallocate(block, bytes, alignment);
    }
  }
  bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override {
    const auto* same_kind = detail::as_same_class(*this, other);
    return same_kind != nullptr && same_kind->zone_ == zone_ &&
           upstream_->is_equal(*same_kind->upstream_);
  }

  [[gnu::always_inline]] bool serves(Layout layout) const noexcept {
    if constexpr (requires { zone_->serves(layout); }) {
      return zone_->serves(layout);
    }
    return true;
  }

  Zone* zone_;
  std::pmr::memory_resource* upstream_;
};

/// Memory from the process heap by C's functions, so from the slabmalloc that the program links or
/// preloads. It bypasses operator new and its handler loop. All are equal.
/// Thread: any.
/// Fails: std::bad_alloc.
class ProcessResource : public std::pmr::memory_resource {
 private:
  void* do_allocate(std::size_t bytes, std::size_t alignment) override {
    return detail::allocate_process_block(bytes, alignment);
  }
  void do_deallocate(void* block, std::size_t, std::size_t) override { std::free(block); }
  bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override {
    return detail::as_same_class(*this, other) != nullptr;
  }
};

/// A shared ProcessResource. It is never destroyed, so objects with static storage may use it in
/// their destructors.
inline ProcessResource* process_resource() noexcept {
  alignas(ProcessResource) static std::byte place[sizeof(ProcessResource)];
  static ProcessResource* const resource = ::new (static_cast<void*>(place)) ProcessResource;
  return resource;
}

}  // namespace slabmalloc
