// SPDX-License-Identifier: MIT
//
// LayoutAllocator: what zones and stand-alone size classes have in common for code that takes either.
#pragma once

#include <concepts>

#include "slabmalloc/base/layout.hpp"
#include "slabmalloc/base/result.hpp"

namespace slabmalloc {

/// Serves layouts, for one owner at a time.
template <class A>
concept LayoutAllocator = requires(A& allocator, void* object, Layout layout) {
  { allocator.allocate(layout) } noexcept -> std::same_as<Result<void*>>;
  { allocator.deallocate(object, layout) } noexcept;
  { allocator.drain() } noexcept;
};

}  // namespace slabmalloc
