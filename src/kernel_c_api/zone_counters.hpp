// SPDX-License-Identifier: MIT
//
// The counters of a zone, for C.
#pragma once

#include "slabmalloc/kernel.h"
#include "slabmalloc/zone/statistics.hpp"

namespace slabmalloc {

constexpr slabmalloc_zone_counters for_client(const ZoneStatistics& now) noexcept {
  return {now.used_bytes,   now.page_bytes + now.depot_bytes,
          now.allocations,  now.frees,
          now.remote_frees, now.refills,
          now.reclaims};
}

}  // namespace slabmalloc
