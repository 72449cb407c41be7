// SPDX-License-Identifier: MIT
//
// slabmalloc's core: a slab allocator that needs nothing but page frames. Freestanding C++20.
#pragma once

#include "slabmalloc/base/layout.hpp"
#include "slabmalloc/base/misuse.hpp"
#include "slabmalloc/base/result.hpp"
#include "slabmalloc/classes/size_class_table.hpp"
#include "slabmalloc/page/beside_page.hpp"
#include "slabmalloc/page/embedded_page.hpp"
#include "slabmalloc/version.hpp"
#include "slabmalloc/zone/sc_allocator.hpp"
#include "slabmalloc/zone/zone_allocator.hpp"
