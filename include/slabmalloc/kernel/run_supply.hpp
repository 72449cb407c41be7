// SPDX-License-Identifier: MIT
//
// RunSupply: requests of a CpuZones above the largest size class, which are runs of the pager.
//
//   allocate ───► pager ───► run
//   deallocate ─┬─────────────────────────────────────────────────────► pager
//               └─ context forbids that ─► deferred ──take_deferred──► give_back
//
// It owns the runs freed in contexts that cannot call the pager. They wait for a caller that may
// call it. A run has room for the link that it waits with (deferred_runs.hpp), even if its client
// asked for less. Invariant: that of the deferred runs.
#pragma once

#include <cstddef>

#include "slabmalloc/base/misuse.hpp"
#include "slabmalloc/base/result.hpp"
#include "slabmalloc/kernel/deferred_runs.hpp"
#include "slabmalloc/zone/pager.hpp"

namespace slabmalloc {

/// Runs of one pager, if that has them.
template <KernelHooks Hooks, Pager PagerT, class Atomics>
class RunSupply {
 public:
  using Deferred = DeferredRuns<Hooks, Atomics>;
  using Run = typename Deferred::Run;

  static constexpr bool exist = PagerRuns<PagerT>::exist;

  /// Pre: `pager` outlives it.
  constexpr explicit RunSupply(PagerT& pager) noexcept : pager_(pager) {}

  /// Asks the pager for a run, and passes it the context if the pager takes one.
  /// Thread: any that holds nothing. Context: one that may call the pager.
  /// Fails: OutOfMemory; InvalidLayout if the pager has no runs.
  Result<void*> allocate(Layout layout, [[maybe_unused]] Context context) noexcept {
    const Layout asked = Deferred::with_link(layout);
    Result<void*> run = AllocationError::OutOfMemory;
    if constexpr (requires { pager_.allocate_run(asked.size(), asked.align(), context); }) {
      if (void* const address = pager_.allocate_run(asked.size(), asked.align(), context).address) {
        run = address;
      }
    } else {
      run = PagerRuns<PagerT>::allocate(&pager_, asked).address_or_error;
    }
    if (run) {
      Deferred::begin(run.value());
    }
    return run;
  }

  /// Frees a run, or defers that. Thread: any that holds nothing, in any context.
  /// Fails: DoubleFree to the misuse hook for a run that waits already, else as the pager does.
  [[gnu::noinline]] void deallocate(void* run, Layout layout, Context context) noexcept {
    const Layout asked = Deferred::with_link(layout);
    const bool goes_to_pager = !exist || may_call_pager(context);
    // A waiting run must not reach the pager by another way, which would give it to another client.
    if (exist && run != nullptr &&
        (goes_to_pager ? deferred_.holds(run) : !deferred_.push(run, asked))) {
      report_misuse({MisuseKind::DoubleFree, run, 0, 0});
    } else if (goes_to_pager) {
      PagerRuns<PagerT>::deallocate(&pager_, run, asked);
    }
  }

  /// Thread: any; a hint.
  bool has_deferred() const noexcept { return !deferred_.is_empty(); }
  /// Bytes of the runs that wait. Thread: any; the figure may lag behind others.
  std::size_t deferred_bytes() const noexcept { return deferred_.bytes(); }
  /// A run taken off the list; its address is null if there is none. Thread: any, inside a section.
  Run take_deferred() noexcept { return deferred_.pop(); }
  /// Gives the run of take_deferred() to the pager; returns its bytes.
  /// Thread: any that holds nothing. Context: one that may call the pager.
  std::size_t give_back(const Run& run) noexcept {
    if (run.address != nullptr) {
      PagerRuns<PagerT>::deallocate(&pager_, run.address, run.layout);
    }
    return run.layout.size();
  }

  /// K4, or null. Pre: nobody uses it. Cost: O(deferred runs).
  const char* validate() const noexcept { return deferred_.validate(); }

 private:
  PagerT& pager_;
  Deferred deferred_;
};

}  // namespace slabmalloc
