// SPDX-License-Identifier: MIT
//
// The malloc's parts that threads share without a mutex, and its mutex, for scenarios. The malloc's
// sources name their atomics, and the mutex that owners wait for. Here they get the explorer's. A
// mutex sleeps at once, since each look of a spin would be a step.
#pragma once

#include <new>

#include "explorer/scenarios.hpp"
#include "explorer/tiny_pages.hpp"
#include "slabmalloc/zone/remote_buffer.hpp"
#include "slabmalloc/zone/zone.hpp"
#include "tunables.hpp"

#define HardwareAtomics explorer::ExploredAtomics
#define mutex_spins scavenger_naps * 0
#include "arena/large_cache.hpp"
#include "malloc/asymmetric_lock.hpp"
#include "malloc/scavenger_mutex.hpp"
namespace slabmalloc {
ScavengerMutex& explored_mutex() noexcept;
}
#define scavenger_mutex explored_mutex()
#include "malloc/hole_scan.hpp"
#include "malloc/scavenged_queue.hpp"

namespace slabmalloc::explorer {

/// What the mutexes need of the system. At the end of the region.
struct System {
  ScavengerMutex mutex;
  ExploredAtomics::Cell<std::uint32_t> wakes;  ///< Calls of wake().
};
inline System& the_system() noexcept {
  return *reinterpret_cast<System*>(region() + region_bytes - sizeof(System));
}

/// A system that has the futex alone.
extern const os::Interface interface_of_tests;

/// As os::Interface::fence_all_threads; the call's place is that of the fence.
struct Fence {
  bool operator()(Place where = Place::here()) const noexcept {
    fence_all(where);
    return true;
  }
};

template <class State>
class SystemScenario : public StateScenario<State> {
 public:
  using StateScenario<State>::StateScenario;

 protected:
  static_assert(sizeof(State) + sizeof(System) <= region_bytes);

  static State& make_state() noexcept {
    new (&the_system()) System;
    os::replace_interface(interface_of_tests);
    return StateScenario<State>::make_state();
  }
};

}  // namespace slabmalloc::explorer
