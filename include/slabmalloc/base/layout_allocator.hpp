// SPDX-License-Identifier: MIT
//
// LayoutAllocator: the common interface of zones and stand-alone size classes.
#pragma once

#include <concepts>

#include "slabmalloc/base/layout.hpp"
#include "slabmalloc/base/result.hpp"

namespace slabmalloc {

/// An allocator by layout, for one owner at a time.
template <class A>
concept LayoutAllocator = requires(A& allocator, void* object, Layout layout) {
  { allocator.allocate(layout) } noexcept -> std::same_as<Result<void*>>;
  { allocator.deallocate(object, layout) } noexcept;
  { allocator.drain() } noexcept;
};

}  // namespace slabmalloc
