// SPDX-License-Identifier: MIT
#pragma once

#include "containers.hpp"

namespace slabmalloc::test {

/// The name of the exception that allocate() of a StlAllocator<long, TestZone> throws, or null.
/// Compiled with exceptions, unlike its caller.
const char* thrown_by_allocate(TestZone& zone, std::size_t count);

}  // namespace slabmalloc::test
