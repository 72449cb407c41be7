// SPDX-License-Identifier: MIT
//
// The core and the kernel services. This header includes all of them.
#pragma once

#include "slabmalloc/kernel/block_lookup.hpp"
#include "slabmalloc/kernel/cache.hpp"
#include "slabmalloc/kernel/cache_config.hpp"
#include "slabmalloc/kernel/cpu_zones.hpp"
#include "slabmalloc/kernel/debug_config.hpp"
#include "slabmalloc/kernel/debug_report.hpp"
#include "slabmalloc/kernel/early_memory.hpp"
#include "slabmalloc/kernel/fallback_runs.hpp"
#include "slabmalloc/kernel/frame_allocator.hpp"
#include "slabmalloc/kernel/hooks.hpp"
#include "slabmalloc/kernel/kernel_config.hpp"
#include "slabmalloc/kernel/mapped_runs.hpp"
#include "slabmalloc/kernel/node_frames.hpp"
#include "slabmalloc/kernel/object_cache.hpp"
#include "slabmalloc/kernel/per_cpu.hpp"
#include "slabmalloc/kernel/reclaimer.hpp"
#include "slabmalloc/kernel/retired_objects.hpp"
#include "slabmalloc/kernel/slabinfo.hpp"
#include "slabmalloc/kernel/spin_lock.hpp"
#include "slabmalloc/slabmalloc.hpp"
